//! `hyperrun update`: other limits for containers that exist.

use std::io::Write;
use std::process::ExitCode;

use runtime::keeping::RestartPolicy;
use runtime::limits::{Cpus, MemorySize, Size};
use runtime::options::{CpuSet, MemorySwap};
use runtime::{Changes, update};

use crate::arguments::Common;
use crate::commands::{containers, each};
use crate::failure::Failure;

/// Change what containers may use
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A container that runs keeps its machine: its limits move within what the machine has. One that does
not run gets another machine.

Examples:
  hyperrun update -m 256m --pids-limit 100 web
  hyperrun update --restart unless-stopped $(hyperrun ps -q)")]
pub(crate) struct UpdateArgs {
    /// Memory, as 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<MemorySize>,
    /// Memory that is reclaimed last; 0 is none
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<Size>,
    /// Memory and swap together; there is no swap, so only that it fits -m matters
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<MemorySwap>,
    /// CPUs the program may keep busy
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,
    /// Weight of the CPU time, 2 to 262144; 0 is the usual
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// CPUs of the host that the machine runs on, from its next start on
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<CpuSet>,
    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// When to start it again: no, on-failure, on-failure:MOST, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// Discarded with a warning: nobody else is at a machine's disks
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Changes each, and prints its name.
pub(crate) fn run(args: &UpdateArgs, common: &Common) -> Result<ExitCode, Failure> {
    let changes = Changes {
        memory: args.memory,
        memory_reservation: args.memory_reservation,
        memory_swap: args.memory_swap,
        cpus: args.cpus,
        cpu_shares: args.cpu_shares,
        cpu_set: args.cpuset_cpus.clone(),
        pids_limit: args.pids_limit,
        restart: args.restart,
    };
    if changes == Changes::default() && args.blkio_weight.is_none() {
        let hint = "`hyperrun update --help` shows what can be changed";
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
            hint,
        ));
    }
    if args.blkio_weight.is_some() {
        let words =
            "warning: nobody else is at the disks of a machine: --blkio-weight is discarded\n";
        std::io::stderr().lock().write_all(words.as_bytes())?;
    }
    let all = containers(common)?;
    each(&args.containers, |words| Ok(update(&all, &all.find(words)?, &changes)?))
}
