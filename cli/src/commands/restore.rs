//! `hyperrun restore`: a container that goes on where a snapshot was taken.

use std::io::Write;
use std::process::ExitCode;

use runtime::network::DEFAULT_NETWORK;
use runtime::options::{NetworkOption, NetworkOptions, Ports, Publish};
use runtime::snapshots::{self, Copying, Snapshots};
use runtime::spec::{ContainerName, Hostname};
use runtime::{Attendance, Error, Stopwatch, terminal_size};

use crate::arguments::Common;
use crate::commands::attach::AttendingArgs;
use crate::commands::{places, print};
use crate::failure::Failure;

/// Go on where a snapshot was taken, in a new container
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The snapshot stays: it can be restored any number of times, side by side. Nothing is published unless
it is asked for.

Examples:
  hyperrun restore -d --name web2 -p 8080:80 warm
  hyperrun restore --rm warm")]
pub(crate) struct RestoreArgs {
    /// Print the container's id once its program goes on, and leave it alone
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    attending: AttendingArgs,
    /// Name the container
    #[arg(long)]
    name: Option<ContainerName>,
    #[command(flatten)]
    copy: CopyArgs,
    /// Name the host the program sees [default: as the container]
    #[arg(long, value_name = "NAME")]
    hostname: Option<Hostname>,
    /// Say on standard error how long each step of the start took
    #[arg(long)]
    timings: bool,
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
}

/// What copies of a container have of their own, all alike.
#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Connect it to this network, or to none, instead of those of the original
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<NetworkOption>,
    /// Answer at a port of the host for one of the container, as 8080:80 or 127.0.0.1:53:53/udp
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/PROTOCOL]")]
    publish: Vec<Publish>,
    /// Publish every port that the original's image or flags name, each at a free port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
}

impl CopyArgs {
    /// What they mean.
    pub(crate) fn copying(self) -> Result<Copying, Error> {
        let network = if self.network.is_empty() {
            None
        } else {
            let first = NetworkOption::default();
            Some(NetworkOptions::decide(self.network, first, DEFAULT_NETWORK)?)
        };
        let ports = Ports {
            published: self.publish.into_iter().flat_map(|Publish(ports)| ports).collect(),
            all: self.publish_all,
            ..Ports::default()
        };
        Ok(Copying { network, ports, auto_remove: self.rm, ..Copying::default() })
    }
}

/// Goes on; becomes the program's exit code, unless it is left alone.
pub(crate) fn run(
    args: RestoreArgs,
    common: &Common,
    stopwatch: Stopwatch,
) -> Result<ExitCode, Failure> {
    let places = places(common)?;
    let attendance = match args.detach {
        true => Attendance::Away,
        false => here(&args, &Snapshots::of(&places))?,
    };
    let copying = Copying {
        name: args.name,
        hostname: args.hostname,
        input_once: !args.detach,
        ..args.copy.copying().map_err(Failure::of_run)?
    };
    let restored = snapshots::restore(&args.snapshot, &copying, &places, common.debug);
    let created = restored.map_err(Failure::of_run)?;
    let id = created.id().to_owned();
    let outcome = created.start(&attendance, stopwatch).map_err(Failure::of_run)?;
    if args.detach {
        print(&(id + "\n"))?;
    }
    if args.timings {
        // Where stderr is closed nobody wants to know.
        let _ = write!(std::io::stderr().lock(), "{}", outcome.clocks);
    }
    Ok(ExitCode::from(outcome.code))
}

/// Somebody who types if the original's program reads.
fn here(args: &RestoreArgs, snapshots: &Snapshots) -> Result<Attendance, Failure> {
    let snapshot = snapshots.find(&args.snapshot).map_err(Failure::of_run)?;
    let process = &snapshot.description.container.container.process;
    if process.stdin && process.terminal.is_some() && terminal_size().is_none() {
        return Err(Failure::of_run(Error::NotATerminal));
    }
    Ok(args.attending.here(process.stdin))
}
