//! `hyperrun network ls`: which networks there are.

use std::process::ExitCode;

use runtime::network::{Network, USER_NETWORK, user};
use serde_json::{Value, json};

use super::{BUILTIN, NO_ID, networks};
use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::filter::networks::{Shown, WantedNetworks};
use crate::listing::Listing;
use crate::words;

/// List networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun network ls --filter driver=bridge")]
pub(crate) struct LsArgs {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show only some: driver=, id=, label=KEY[=VALUE], name=, scope=, type=custom|builtin, dangling=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const LISTING: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};
const FILTERS: [&str; 7] = ["driver", "id", "label", "name", "scope", "type", "dangling"];

/// Prints a line for each network.
pub(crate) fn run(args: &LsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let wanted = WantedNetworks::read(&args.filter, &FILTERS)?;
    let networks = networks(common)?.list_all()?;
    let used: Vec<_> = containers(common)?
        .list()?
        .into_iter()
        .flat_map(|found| found.record.networks.into_iter().map(|place| place.network_id))
        .collect();
    let mut rows = Vec::new();
    for network in &networks {
        let is_used = used.contains(&network.id);
        if wanted.network(&Shown::of(network, is_used)) {
            rows.push(args.row(network));
        }
    }
    for (name, driver) in BUILTIN {
        if wanted.network(&Shown::builtin(NO_ID, name, driver)) {
            rows.push(args.builtin(name, driver));
        }
    }
    rows.sort_by_key(|row| row["Name"].as_str().unwrap_or_default().to_owned());
    let text = match &args.format {
        None if args.quiet => {
            rows.iter().filter_map(|row| Some(row["ID"].as_str()?.to_owned() + "\n")).collect()
        }
        format => LISTING.lay_out(format.as_deref(), &rows)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl LsArgs {
    fn id<'a>(&self, id: &'a str) -> &'a str {
        if self.no_trunc { id } else { words::short_id(id) }
    }

    fn row(&self, network: &Network) -> Value {
        json!({
            "ID": self.id(&network.id),
            "Name": network.name,
            "Driver": "bridge",
            "Scope": "local",
            "IPv4": "true",
            "IPv6": network.subnet6.is_some().to_string(),
            "Internal": network.internal.to_string(),
            "Labels": words::pairs(&network.labels),
            "CreatedAt": words::go_time(&network.created.to_text()),
        })
    }

    fn builtin(&self, name: &str, driver: &str) -> Value {
        let leads_out = name == USER_NETWORK;
        json!({
            "ID": self.id(NO_ID),
            "Name": name,
            "Driver": driver,
            "Scope": "local",
            "IPv4": leads_out.to_string(),
            "IPv6": (leads_out && user::speaks_six()).to_string(),
            "Internal": "false",
            "Labels": "",
            "CreatedAt": "",
        })
    }
}
