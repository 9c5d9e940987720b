//! `hyperrun snapshot inspect`: everything that is known about snapshots, as JSON.

use std::process::ExitCode;

use runtime::snapshots::Snapshot;
use serde_json::{Value, json};

use super::snapshots;
use crate::arguments::Common;
use crate::failure::Failure;
use crate::listing;

/// Show everything about snapshots
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun snapshot inspect warm
  hyperrun snapshot inspect -f '{{.PauseMicroseconds}}' warm")]
pub(crate) struct InspectArgs {
    /// Print what a template makes of each, or `json` for JSON in one line
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Prints what there is; a name that means nothing does not keep the rest from being shown.
pub(crate) fn run(args: &InspectArgs, common: &Common) -> Result<ExitCode, Failure> {
    let snapshots = snapshots(common)?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &args.names {
        match snapshots.find(name) {
            Ok(snapshot) => found.push(inspect(&snapshot)),
            Err(error) => failures.push(error),
        }
    }
    listing::show(args.format.as_deref(), &found)?;
    let mut code = ExitCode::SUCCESS;
    for error in failures {
        code = Failure::from(error).report();
    }
    Ok(code)
}

fn inspect(snapshot: &Snapshot) -> Value {
    let known = &snapshot.description;
    let record = &known.container;
    let networks: Vec<_> = record.networks.iter().map(|place| place.network.clone()).collect();
    let ports: Vec<_> = record.ports.known().iter().map(ToString::to_string).collect();
    json!({
        "Name": snapshot.name,
        "Id": known.id,
        "Created": known.created.to_text(),
        "Hyperrun": known.hyperrun,
        "Container": { "Id": record.id, "Name": record.name },
        "Image": record.image_id,
        "ImageName": record.image,
        "Memory": snapshot.memory_bytes(),
        "CPUs": record.vm.vcpus,
        "Size": snapshot.bytes(),
        "PauseMicroseconds": known.pause_us,
        "Written": known.written,
        "Parent": known.parent.as_deref().unwrap_or_default(),
        "Networks": networks,
        "Ports": ports,
        "Labels": record.keeping.labels,
    })
}
