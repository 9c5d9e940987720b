//! `hyperrun boot`: starts what should run after a reboot.

use std::process::ExitCode;

use runtime::Attendance;

use crate::arguments::Common;
use crate::commands::{containers, each, places};
use crate::failure::Failure;

/// Start the containers that should run after a reboot of this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
These are the ones with a restart policy: `always`; `unless-stopped` that were not stopped by hand;
`on-failure` that ran, or had failed.

Example:
  hyperrun boot")]
pub(crate) struct BootArgs {}

/// Starts one after the other, the oldest first; a failure does not keep the rest from being started.
pub(crate) fn run(_: &BootArgs, common: &Common) -> Result<ExitCode, Failure> {
    let (all, places) = (containers(common)?.list()?, places(common)?);
    let wanted = all.iter().rev().filter(|found| runtime::runs_after_boot(found));
    let names: Vec<_> = wanted.map(|found| found.record.name.clone()).collect();
    each(&names, |name| {
        runtime::start(name, &places, &Attendance::Away, common.debug)?;
        Ok(())
    })
}
