//! `hyperrun logs`: what a container's program has written.

use std::cell::RefCell;
use std::io::{self, Write};
use std::process::ExitCode;

use runtime::Moment;
use runtime::logs::{Entry, LogQuery, Tail};

use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;
use crate::filter::time;

/// How much is written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Show what a container has written
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hyperrun logs -f --tail 100 web\n  hyperrun logs --kernel web"
)]
pub(crate) struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Show nothing older: a time or an age, as in 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show nothing younger
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show the last NUMBER lines only
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER",
        default_value = "all",
        allow_negative_numbers = true
    )]
    tail: String,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Show what the kernel of its machine has said instead, as dmesg does; the machine must run
    #[arg(long, conflicts_with_all = ["follow", "since", "until", "tail", "timestamps"])]
    kernel: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Writes what went to stdout and stderr to ours.
pub(crate) fn run(args: &LogsArgs, common: &Common) -> Result<ExitCode, Failure> {
    let found = containers(common)?.find(&args.container)?;
    if args.kernel {
        print(&shown(&runtime::kernel_log(&found)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let query = args.query()?;
    let out = RefCell::new(io::BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()));
    let mut err = io::stderr().lock();
    let mut take = |entry: &Entry<'_>| {
        let mut out = out.borrow_mut();
        let to: &mut dyn Write = if entry.stream == "stderr" {
            out.flush()?;
            &mut err
        } else {
            &mut *out
        };
        if !args.timestamps {
            return to.write_all(entry.log.as_bytes());
        }
        entry.log.split_inclusive('\n').try_for_each(|line| write!(to, "{} {line}", entry.time))
    };
    let mut flush = || out.borrow_mut().flush();
    let shown = if args.follow {
        runtime::follow_log(&found, query, &mut take, &mut flush)
    } else {
        runtime::read_log(&found, query, &mut take)
    };
    let shown = shown.and_then(|()| flush().map_err(runtime::Error::Output));
    match shown {
        // A reader that has gone away, as `head` does, is no failure.
        Err(runtime::Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        shown => Ok(shown.map(|()| ExitCode::SUCCESS)?),
    }
}

/// A kernel's words can be its program's: they are shown without what would spoil a terminal.
fn shown(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect()
}

impl LogsArgs {
    fn query(&self) -> Result<LogQuery, Failure> {
        let moment = |text: &Option<String>, flag: &str| match text {
            Some(text) => time(text, flag).map(|time| Some(Moment(time))),
            None => Ok(None),
        };
        let tail = match (self.tail.as_str(), self.tail.parse::<i64>()) {
            ("all", _) => Tail::All,
            // Docker takes fewer than none as all.
            (_, Ok(number)) => u64::try_from(number).map_or(Tail::All, Tail::Last),
            (text, Err(_)) => {
                let error = format!("invalid number of lines: {text:?}");
                return Err(Failure::new(&error, "it is a number, or `all`"));
            }
        };
        let (since, until) = (moment(&self.since, "--since")?, moment(&self.until, "--until")?);
        Ok(LogQuery { since, until, tail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_words_hold_no_control_characters() {
        assert_eq!(shown(b"[0.1] a\x1b[2J\tb\n[0.2] \xff\n"), "[0.1] a[2Jb\n[0.2] \u{fffd}\n");
    }
}
