//! `hyperrun events`: what happens to containers and images.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use images::{Event, format_rfc3339};
use runtime::{EventQuery, Moment, follow_events};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::places;
use crate::failure::Failure;
use crate::filter::events::WantedEvents;
use crate::filter::{Filter, time};
use crate::listing;
use crate::template::Template;

/// Show what happens to containers and images
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun events --since 1h --until 0s
  hyperrun events --filter event=die --format '{{.Actor.Attributes.name}} {{.Time}}'")]
pub(crate) struct EventsArgs {
    /// Show only some: type=container, image or network, event=ACTION, container=NAME, image=NAME,
    /// network=NAME, label=KEY[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Show what has happened since then too: a time or an age, as in 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print JSON, or what a template makes of each: json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Prints a line for each event, and waits for more.
pub(crate) fn run(args: &EventsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let moment = |text: &Option<String>, flag: &str| match text {
        Some(text) => time(text, flag).map(|time| Some(Moment(time))),
        None => Ok(None),
    };
    let (since, until) = (moment(&args.since, "--since")?, moment(&args.until, "--until")?);
    let (wanted, form) = (WantedEvents::read(&args.filter)?, Form::of(args.format.as_deref())?);
    let mut out = io::stdout().lock();
    let mut take = |event: &Event| {
        if !wanted.event(event) {
            return Ok(());
        }
        let line = form.line(event).map_err(io::Error::other)?;
        out.write_all(line.as_bytes()).and_then(|()| out.flush())
    };
    match follow_events(&places(common)?, EventQuery { since, until }, &mut take) {
        // A reader that has gone away, as `head` does, is no failure.
        Err(runtime::Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        followed => Ok(followed.map(|()| ExitCode::SUCCESS)?),
    }
}

/// How events are printed.
enum Form {
    Text,
    Json,
    Template(Template),
}

impl Form {
    fn of(format: Option<&str>) -> Result<Self, Failure> {
        match format {
            None | Some("") => Ok(Self::Text),
            // As with Docker, whose fields have other names in JSON than in templates.
            Some("json" | "{{json .}}" | "{{ json . }}") => Ok(Self::Json),
            Some(template) => Ok(Self::Template(listing::parse(template)?)),
        }
    }

    fn line(&self, event: &Event) -> Result<String, crate::template::TemplateError> {
        let line = match self {
            Self::Text => text(event),
            Self::Json => document(event).to_string(),
            Self::Template(template) => template.render(&fields(event))?,
        };
        Ok(line + "\n")
    }
}

/// `2024-05-14T01:28:06.500000000Z container start ID (image=busybox, name=web)`.
fn text(event: &Event) -> String {
    let (actor, time) = (&event.actor, fixed(event.time_ns));
    let mut line = format!("{time} {} {} {}", event.kind, event.action, actor.id);
    if !actor.attributes.is_empty() {
        let pairs = actor.attributes.iter().map(|(key, value)| format!("{key}={value}"));
        line += &format!(" ({})", pairs.collect::<Vec<_>>().join(", "));
    }
    // What a label holds stays on its line.
    line.chars().filter(|letter| !letter.is_control()).collect()
}

/// A time with all nine digits.
fn fixed(time_ns: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(time_ns).unwrap_or_default());
    let text = format_rfc3339(SystemTime::UNIX_EPOCH + since);
    let text = text.trim_end_matches('Z');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{fraction:0<9}Z")
}

/// What Docker's API sends.
fn document(event: &Event) -> Value {
    let mut document = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.actor.id, "Attributes": event.actor.attributes },
        "scope": "local",
        "time": event.time_ns / 1_000_000_000,
        "timeNano": event.time_ns,
    });
    let of_container = event.kind == "container";
    if let Some(fields) = document.as_object_mut().filter(|_| of_container || event.kind == "image")
    {
        fields.insert("status".to_owned(), event.action.clone().into());
        fields.insert("id".to_owned(), event.actor.id.clone().into());
        if let Some(image) = event.actor.attributes.get("image").filter(|_| of_container) {
            fields.insert("from".to_owned(), image.clone().into());
        }
    }
    document
}

/// The same by the names that templates use.
fn fields(event: &Event) -> Value {
    let image = event.actor.attributes.get("image").filter(|_| event.kind == "container");
    json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.actor.id, "Attributes": event.actor.attributes },
        "Scope": "local",
        "Time": event.time_ns / 1_000_000_000,
        "TimeNano": event.time_ns,
        "Status": event.action,
        "ID": event.actor.id,
        "From": image.cloned().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn event() -> Event {
        let attributes = [("name", "web"), ("image", "busybox"), ("exitCode", "3")];
        let attributes: BTreeMap<_, _> =
            attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let event = Event::now("container", "die", "abc", attributes);
        Event { time_ns: 1_715_650_086_500_000_000, ..event }
    }

    #[test]
    fn lines_are_dockers() {
        let wanted = "2024-05-14T01:28:06.500000000Z container die abc \
                      (exitCode=3, image=busybox, name=web)\n";
        assert_eq!(Form::of(None).unwrap().line(&event()).unwrap(), wanted);
        let bare = Event { time_ns: 0, ..Event::now("image", "pull", "x", BTreeMap::new()) };
        let line = Form::of(None).unwrap().line(&bare).unwrap();
        assert_eq!(line, "1970-01-01T00:00:00.000000000Z image pull x\n");
    }

    #[test]
    fn json_and_templates_have_dockers_fields() {
        let json = Form::of(Some("{{json .}}")).unwrap().line(&event()).unwrap();
        let value: Value = serde_json::from_str(&json).unwrap();
        for (field, wanted) in [
            ("status", json!("die")),
            ("id", json!("abc")),
            ("from", json!("busybox")),
            ("scope", json!("local")),
            ("time", json!(1_715_650_086)),
            ("timeNano", json!(1_715_650_086_500_000_000_i64)),
        ] {
            assert_eq!(value[field], wanted, "{field}");
        }
        let template = "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.ID}} {{.Time}}";
        let line = Form::of(Some(template)).unwrap().line(&event()).unwrap();
        assert_eq!(line, "container die 3 abc 1715650086\n");
    }
}
