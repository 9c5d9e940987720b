//! Measures hyperrun beside its peers, all in one run on one machine, since only ratios within a
//! run mean something. `scripts/bench` prepares what is measured and calls this.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(clippy::print_stderr, reason = "a person who waits for minutes wants to know for what")]

mod bound;
mod images;
mod life;
mod net;
mod patience;
mod registry;
mod sample;
mod snapshot;
mod start;
mod table;

use std::error::Error;

use clap::Parser;

/// Measures hyperrun beside its peers.
#[derive(Parser)]
enum Arguments {
    /// How fast containers start, and what they cost.
    Start(start::StartArguments),
    /// How fast a container's commands are, and what it writes comes out.
    Life(life::LifeArguments),
    /// How fast bytes get into guests and out of them.
    Net(net::NetArguments),
    /// How fast images are pulled, and what they cost.
    Images(images::ImagesArguments),
    /// What snapshots, restores and clones cost.
    Snapshot(snapshot::SnapshotArguments),
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse() {
        Arguments::Start(arguments) => start::run(&arguments),
        Arguments::Life(arguments) => life::run(&arguments),
        Arguments::Net(arguments) => net::run(&arguments),
        Arguments::Images(arguments) => images::run(&arguments),
        Arguments::Snapshot(arguments) => snapshot::run(&arguments),
    }
}
