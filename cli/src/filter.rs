//! `--filter KEY=VALUE` of lists and prunes: which images are meant.

pub(crate) mod containers;
pub(crate) mod events;
mod glob;
mod moment;
pub(crate) mod networks;
pub(crate) mod snapshots;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use images::{Image, Reference, Store};

use crate::failure::Failure;
use moment::Moment;

/// One filter, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    key: String,
    value: String,
}

impl Filter {
    /// What it is about.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.key, self.value)
    }
}

/// Text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid argument {0:?}: a filter is KEY=VALUE")]
pub(crate) struct FilterError(String);

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (key, value) = text.split_once('=').ok_or_else(|| FilterError(text.to_owned()))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
        if key.is_empty() {
            return Err(FilterError(text.to_owned()));
        }
        Ok(Self { key, value })
    }
}

/// What all filters of a command say together.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    dangling: Option<bool>,
    /// Patterns, of which one must fit.
    references: Vec<String>,
    before: Vec<Option<SystemTime>>,
    since: Vec<Option<SystemTime>>,
    until: Vec<SystemTime>,
    labels: Vec<Label>,
}

#[derive(Debug)]
struct Label {
    key: String,
    value: Option<String>,
    wanted: bool,
}

impl Wanted {
    /// Reads filters, of which only those in `allowed` make sense here.
    pub(crate) fn read(
        filters: &[Filter],
        allowed: &[&str],
        store: &Store,
    ) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for Filter { key, value } in filters {
            check_known(key, allowed)?;
            match key.as_str() {
                "dangling" => wanted.dangling = Some(truth(value)?),
                "reference" => wanted.references.push(value.clone()),
                "before" => wanted.before.push(store.find(value)?.created),
                "since" => wanted.since.push(store.find(value)?.created),
                "until" => wanted.until.push(moment(value)?),
                "label" => wanted.labels.push(Label::read(value)),
                _ => wanted.labels.push(Label { wanted: false, ..Label::read(value) }),
            }
        }
        Ok(wanted)
    }

    /// Adds a pattern for names, as `images PATTERN` does.
    pub(crate) fn named(&mut self, pattern: &str) {
        self.references.push(pattern.to_owned());
    }

    /// Only images that have no name.
    pub(crate) fn only_dangling(&mut self) {
        self.dangling = Some(true);
    }

    /// Images with a name and without one alike.
    pub(crate) fn forget_dangling(&mut self) {
        self.dangling = None;
    }

    /// Whether the filters say which images that have no name are meant.
    pub(crate) fn has_dangling(&self) -> Option<bool> {
        self.dangling
    }

    /// Whether an image is meant, by everything but its names.
    pub(crate) fn image(&self, image: &Image) -> bool {
        let labels = &image.config.labels;
        self.dangling.is_none_or(|dangling| dangling == image.references.is_empty())
            && self.before.iter().all(|moment| image.created < *moment)
            && self.since.iter().all(|moment| image.created > *moment)
            && self.until.iter().all(|moment| image.created.is_none_or(|it| it < *moment))
            && self.labels.iter().all(|label| label.fits(labels))
    }

    /// Whether a name of such an image is meant; `None` is the lack of one.
    pub(crate) fn name(&self, name: Option<&Reference>) -> bool {
        let fits = |pattern: &String| {
            name.is_some_and(|name| {
                let tagged = match name.tag() {
                    Some(tag) => format!("{}:{tag}", name.familiar_name()),
                    None => name.familiar(),
                };
                glob::fits(pattern, &tagged) || glob::fits(pattern, &name.familiar_name())
            })
        };
        self.references.is_empty() || self.references.iter().any(fits)
    }
}

impl Label {
    /// Whether labels are as this one wants them.
    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = labels
            .get(&self.key)
            .is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found));
        has == self.wanted
    }

    fn read(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.into(), value: Some(value.into()), wanted: true },
            None => Self { key: text.into(), value: None, wanted: true },
        }
    }
}

/// Only some filters make sense in a place.
fn check_known(key: &str, allowed: &[&str]) -> Result<(), Failure> {
    if allowed.contains(&key) {
        return Ok(());
    }
    let hint = format!("known here are {}", allowed.join(", "));
    Err(Failure::new(&format!("invalid filter '{key}'"), &hint))
}

fn truth(text: &str) -> Result<bool, Failure> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::new(&format!("invalid filter 'dangling={text}'"), "it is true or false")),
    }
}

fn moment(text: &str) -> Result<SystemTime, Failure> {
    time(text, &format!("filter 'until={text}'"))
}

/// Reads a length of time as Go does: `1m30s`, `500ms`, `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    moment::duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

/// Reads a time as Docker takes it: an age, seconds since 1970, or a date.
pub(crate) fn time(text: &str, place: &str) -> Result<SystemTime, Failure> {
    let moment = text.parse::<Moment>().ok().and_then(|moment| moment.from(SystemTime::now()));
    moment.ok_or_else(|| {
        let hint = "it is an age as in 24h or 1h30m, or a time as in 2024-05-14T01:28:06Z";
        Failure::new(&format!("invalid time in {place}"), hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_a_key_and_a_value() {
        let filter: Filter = "Label = a=b ".parse().unwrap();
        assert_eq!(filter, Filter { key: "label".into(), value: "a=b".into() });
        assert!("dangling".parse::<Filter>().is_err());
        assert!("=x".parse::<Filter>().is_err());
    }

    #[test]
    fn names_are_matched_with_and_without_their_tag() {
        let fits = |pattern: &str, name: &str| {
            let mut wanted = Wanted::default();
            wanted.named(pattern);
            wanted.name(Some(&name.parse().unwrap()))
        };
        for (pattern, name, wanted) in [
            ("debian", "debian:12", true),
            ("debian:12", "debian:12", true),
            ("debian:1*", "debian:12", true),
            ("deb*", "debian:12", true),
            ("debian:11", "debian:12", false),
            ("*", "quay.io/a/b:1", false),
            ("*/*/*", "quay.io/a/b:1", true),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
        assert!(Wanted::default().name(None));
    }
}
