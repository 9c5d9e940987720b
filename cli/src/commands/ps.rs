//! `hyperrun ps`: which containers there are.

use std::process::ExitCode;

use runtime::{Found, HealthStatus, Record, Status};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::{containers, open_store, port, print};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::filter::containers::WantedContainers;
use crate::listing::Listing;
use crate::words;

/// List containers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun ps -a --filter exited=1
  hyperrun ps --format 'table {{.Names}}\\t{{.Status}}'")]
pub(crate) struct PsArgs {
    /// Show those too that do not run
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show the last NUMBER that were created, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Show the last one that was created, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Show how much of the disk they take
    #[arg(short, long)]
    size: bool,
    /// Show whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show only some: status=STATE, name=PART, id=ID, label=KEY[=VALUE], ancestor=IMAGE,
    /// exited=CODE, health=STATE, before=CONTAINER, since=CONTAINER, network=NETWORK,
    /// publish=PORT[/PROTOCOL], expose=PORT[/PROTOCOL]
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const FILTERS: [&str; 12] = [
    "status", "name", "id", "label", "ancestor", "exited", "health", "before", "since", "network",
    "publish", "expose",
];

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const WITH_SIZE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t\
                         {{.Ports}}\t{{.Names}}\t{{.Size}}";
/// The longest command in a table, as Docker cuts it.
const COMMAND_LETTERS: usize = 20;

/// Prints a line for each container, the youngest first.
pub(crate) fn run(args: &PsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let mut found = containers(common)?.list_unread()?;
    let wanted = if args.filter.is_empty() {
        WantedContainers::default()
    } else {
        WantedContainers::read(&args.filter, &FILTERS, &found, &open_store(common)?)?
    };
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || wanted.has_status();
    found.retain(|one| wanted.container(one) && (all || is_up(one)));
    found.truncate(last.unwrap_or(usize::MAX));
    if args.quiet && args.format.is_none() {
        print(&found.iter().map(|one| args.id(one).to_owned() + "\n").collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = found.iter().map(|one| args.row(one, common)).collect();
    let table = if args.size { WITH_SIZE } else { TABLE };
    print(&Listing { table, headers: HEADERS }.lay_out(args.format.as_deref(), &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether it counts as running.
pub(crate) fn is_up<C>(found: &Found<C>) -> bool {
    matches!(found.state.status, Status::Running | Status::Paused | Status::Restarting)
}

impl PsArgs {
    fn id<'a, C>(&self, found: &'a Found<C>) -> &'a str {
        if self.no_trunc { &found.record.id } else { found.short_id() }
    }

    fn row<C>(&self, found: &Found<C>, common: &Common) -> Value {
        let record = &found.record;
        json!({
            "ID": self.id(found),
            "Image": record.image,
            "Command": command(found, if self.no_trunc { Length::Whole } else { Length::Short }),
            "CreatedAt": words::go_time(&record.created.to_text()),
            "RunningFor": words::ago(record.created.age()),
            "Status": status(found),
            "State": found.state.status.word(),
            "Ports": port::line(&found.ports()),
            "Names": record.name,
            "Labels": words::pairs(&record.keeping.labels),
            "Mounts": "",
            "Networks": networks(record),
            "LocalVolumes": "0",
            "Size": if self.size { size(found, common) } else { String::new() },
        })
    }
}

/// The names of its networks.
fn networks<C>(record: &Record<C>) -> String {
    let names: Vec<_> = record.networks.iter().map(|place| place.network.as_str()).collect();
    if names.is_empty() { record.network_mode.clone() } else { names.join(",") }
}

/// How much of a command is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Short,
    Whole,
}

/// Program and arguments in quotes.
pub(crate) fn command<C>(found: &Found<C>, length: Length) -> String {
    let record = &found.record;
    let command = [&record.entrypoint[..], &record.command].concat().join(" ");
    let command: String = command.chars().filter(|letter| !letter.is_control()).collect();
    if length == Length::Whole || command.chars().count() <= COMMAND_LETTERS {
        return format!("\"{command}\"");
    }
    let start: String = command.chars().take(COMMAND_LETTERS - 1).collect();
    format!("\"{start}…\"")
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`.
pub(crate) fn status<C>(found: &Found<C>) -> String {
    let state = &found.state;
    let since =
        |moment: Option<runtime::Moment>| moment.map(runtime::Moment::age).unwrap_or_default();
    match state.status {
        Status::Created | Status::Starting => "Created".to_owned(),
        Status::Running => format!("Up {}{}", words::span(since(state.started)), health(found)),
        Status::Paused => format!("Up {} (Paused)", words::span(since(state.started))),
        Status::Restarting => {
            format!("Restarting ({}) {}", state.exit_code, words::ago(since(state.finished)))
        }
        Status::Exited => {
            format!("Exited ({}) {}", state.exit_code, words::ago(since(state.finished)))
        }
        Status::Dead => "Dead".to_owned(),
    }
}

/// ` (healthy)`, ` (health: starting)`, or nothing.
fn health<C>(found: &Found<C>) -> String {
    match found.health().map(|health| health.status) {
        None => String::new(),
        Some(HealthStatus::Starting) => " (health: starting)".to_owned(),
        Some(status) => format!(" ({})", status.word()),
    }
}

/// What it has written, and with its image: `1.2MB (virtual 118MB)`.
fn size<C>(found: &Found<C>, common: &Common) -> String {
    let written = found.written_bytes();
    let image = open_store(common).ok().and_then(|store| store.find(&found.record.image_id).ok());
    let whole = written + image.map_or(0, |image| image.size);
    format!("{} (virtual {})", words::size(written), words::size(whole))
}
