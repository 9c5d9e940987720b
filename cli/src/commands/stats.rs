//! `hyperrun stats`: what containers use.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use runtime::{Containers, Found, Stats, Status};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::words;

/// Show what running containers use
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun stats --no-stream")]
pub(crate) struct StatsArgs {
    /// Show those too that do not run
    #[arg(short, long)]
    all: bool,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print a table, JSON, or what a template makes of each: table, 'table TEMPLATE', json, TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or ids; none is all
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t\
            {{.BlockIO}}\t{{.PIDs}}",
    headers: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// Between two looks: the share of the CPU is that of this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks twice and prints a table, or does so until it is interrupted or those that are named are gone.
pub(crate) fn run(args: &StatsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let all = containers(common)?;
    let named = args.named(&all)?;
    let mut before = args.look(&all, &named)?;
    loop {
        std::thread::sleep(INTERVAL);
        let now = args.look(&all, &named)?;
        let rows: Vec<Value> = now.iter().map(|one| args.row(one, &before)).collect();
        let text = LISTING.lay_out(args.format.as_deref(), &rows)?;
        if args.no_stream {
            print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        if now.is_empty() && !named.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        // A terminal shows one table, in the place of the last one.
        let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
        print(&format!("{clear}{text}"))?;
        before = now;
    }
}

/// A container, and what it uses if it runs.
struct Look {
    found: Found,
    stats: Option<Stats>,
}

impl StatsArgs {
    /// The ids of those that are asked for by name.
    fn named(&self, all: &Containers) -> Result<Vec<String>, Failure> {
        self.containers.iter().map(|words| Ok(all.find(words)?.record.id)).collect()
    }

    /// Looks at those that are named, as long as they are there, or at all.
    fn look(&self, all: &Containers, named: &[String]) -> Result<Vec<Look>, Failure> {
        let mut found = Vec::new();
        for id in named {
            found.extend(all.look_again(id)?);
        }
        if named.is_empty() {
            let runs = |one: &Found| matches!(one.state.status, Status::Running | Status::Paused);
            found = all.list()?;
            found.retain(|one| self.all || runs(one));
        }
        // All at once: one whose machine does not answer holds up no other.
        let stats: Vec<Option<Stats>> = std::thread::scope(|scope| {
            let ask = |found| scope.spawn(move || runtime::stats(found).ok());
            let asked: Vec<_> = found.iter().map(ask).collect();
            // One that has ended meanwhile uses nothing.
            asked.into_iter().map(|asked| asked.join().ok().flatten()).collect()
        });
        let looks = found.into_iter().zip(stats);
        Ok(looks.map(|(found, stats)| Look { found, stats }).collect())
    }

    fn row(&self, now: &Look, before: &[Look]) -> Value {
        let record = &now.found.record;
        let id: &str = if self.no_trunc { &record.id } else { now.found.short_id() };
        let earlier = before.iter().find(|look| look.found.record.id == record.id);
        let earlier = earlier.and_then(|look| look.stats);
        let dash = || "--".to_owned();
        let both = |one: String, other: String| format!("{one} / {other}");
        let (cpu, usage, share, net, block, pids) = match now.stats {
            None => {
                let none = || both(dash(), dash());
                (dash(), none(), dash(), none(), none(), dash())
            }
            Some(stats) => {
                let used = stats.memory_bytes.saturating_sub(stats.memory_inactive_file_bytes);
                (
                    percent(cpu_share(earlier.unwrap_or_default(), stats)),
                    both(words::binary_size(used), words::binary_size(stats.memory_limit_bytes)),
                    percent(parts_of(used, stats.memory_limit_bytes)),
                    both(words::size(stats.net_received_bytes), words::size(stats.net_sent_bytes)),
                    both(
                        words::size(stats.block_read_bytes),
                        words::size(stats.block_written_bytes),
                    ),
                    stats.pids.to_string(),
                )
            }
        };
        json!({
            "Container": id,
            "ID": id,
            "Name": record.name,
            "CPUPerc": cpu,
            "MemUsage": usage,
            "MemPerc": share,
            "NetIO": net,
            "BlockIO": block,
            "PIDs": pids,
        })
    }
}

/// Ten-thousandths of one CPU.
fn cpu_share(before: Stats, now: Stats) -> u64 {
    let used = now.cpu_us.saturating_sub(before.cpu_us);
    parts_of(used, now.clock_us.saturating_sub(before.clock_us))
}

fn parts_of(part: u64, whole: u64) -> u64 {
    part.saturating_mul(10_000).checked_div(whole).unwrap_or(0)
}

fn percent(ten_thousandths: u64) -> String {
    format!("{}.{:02}%", ten_thousandths / 100, ten_thousandths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between() {
        let before = Stats { clock_us: 1_000_000, cpu_us: 500_000, ..Stats::default() };
        let now = Stats { clock_us: 2_000_000, cpu_us: 750_500, ..Stats::default() };
        assert_eq!(percent(cpu_share(before, now)), "25.05%");
        assert_eq!(percent(cpu_share(now, now)), "0.00%");
        assert_eq!(percent(cpu_share(now, before)), "0.00%");
    }
}
