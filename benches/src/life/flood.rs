//! A program that writes as fast as it can: how soon all of it is read on the other side.

use std::error::Error;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::found::{Flood, Memory};
use crate::patience::{Deadline, PATIENCE, Patient, await_end, output_of, run_to_end};
use crate::sample::Sample;
use crate::start::memory::high_water_kib;
use crate::start::stage::{DEBIAN, Stage};
use crate::start::turns::Failures;

const NAME: &str = "hyperrun-flood";
/// What the program says when it is asked whether anybody sees it.
const HERE: &[u8; 5] = b"here\n";
/// How much of the file is read again and again, in MiB.
const FILE_MIB: u32 = 16;
/// How long each MiB may take at most.
const LEAST_RATE: Duration = Duration::from_millis(500);
/// A line of 80 bytes, as logs have them.
const LINE: &str =
    "2024-05-14T01:28:06Z INFO server: request 4711 was answered with 200 after 3 ms";

/// The program: makes a file of lines, says `here` on USR1, and writes the file `count` times on
/// USR2.
fn script(mib: u32) -> String {
    let files = ["/lines"].repeat((mib / FILE_MIB) as usize).join(" ");
    let bytes = FILE_MIB << 20;
    format!(
        "trap 'echo here' USR1; trap go=1 USR2; yes '{LINE}' | head -c {bytes} >/lines; echo here; \
         until [ \"$go\" ]; do sleep 1000 & wait; done; exec cat {files}"
    )
}

/// How the program is run, and by what its output is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    CrunRun,
    /// Attached to one without a log.
    Attach,
    /// Attached to one as it is by default.
    AttachLogged,
    PodmanLogs,
    Logs,
}

impl Way {
    fn key_and_label(self) -> (&'static str, &'static str) {
        match self {
            Self::CrunRun => ("crun_run", "crun run, cat"),
            Self::Attach => ("attach", "hyperrun attach, no log"),
            Self::AttachLogged => ("attach_logged", "hyperrun attach, and its log"),
            Self::PodmanLogs => ("podman_logs", "podman logs -f"),
            Self::Logs => ("logs", "hyperrun logs -f"),
        }
    }
}

/// Output of `mib` MiB by way of `attach`, beside `crun run`'s through a pipe.
///
/// # Errors
/// When one of them fails twice.
pub(super) fn attach(
    stage: &Stage,
    runs: usize,
    mib: u32,
    failures: &mut Failures,
) -> Result<Vec<Flood>, Box<dyn Error>> {
    stage.make_bundle("bundle-flood", &["sh", "-c", &script(mib)])?;
    take_turns(stage, &[Way::CrunRun, Way::Attach, Way::AttachLogged], runs, mib, failures)
}

/// Output of `mib` MiB by way of `logs -f`, beside podman's.
///
/// # Errors
/// When one of them fails twice.
pub(super) fn logs(
    stage: &Stage,
    runs: usize,
    mib: u32,
    failures: &mut Failures,
) -> Result<Vec<Flood>, Box<dyn Error>> {
    take_turns(stage, &[Way::PodmanLogs, Way::Logs], runs, mib, failures)
}

fn take_turns(
    stage: &Stage,
    ways: &[Way],
    runs: usize,
    mib: u32,
    failures: &mut Failures,
) -> Result<Vec<Flood>, Box<dyn Error>> {
    let mut turns: Vec<_> = ways.iter().map(|way| (*way, Vec::new(), None)).collect();
    for round in 0..=runs {
        for (way, times, memory) in &mut turns {
            let (_, label) = way.key_and_label();
            stage.tell(&format!("{label}, {mib} MiB, {round} of {runs}"));
            let flood = Flooding { stage, way: *way, mib };
            let (time, seen) = failures.forgive(|| flood.measure())?;
            // The first one does not count: it fills caches.
            if round > 0 {
                times.push(time);
                *memory = seen;
            }
        }
    }
    let flood = |(way, times, memory): (Way, _, _)| {
        let (key, label) = way.key_and_label();
        Flood { key, label, mib, times: Sample::new(times), memory }
    };
    Ok(turns.into_iter().map(flood).collect())
}

/// One container that writes; it is removed with this value.
struct Flooding<'a> {
    stage: &'a Stage,
    way: Way,
    mib: u32,
}

impl Flooding<'_> {
    /// The time from the first byte of the flood to its last, and hyperrun's memory then.
    fn measure(&self) -> Result<(Duration, Option<Memory>), Box<dyn Error>> {
        self.remove();
        self.start()?;
        let mut seer = self.seer().stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let measured = self.see(&mut seer);
        // It may have ended with what it shows.
        drop(seer.kill());
        await_end(&mut seer, PATIENCE)?;
        self.remove();
        measured
    }

    fn start(&self) -> Result<(), Box<dyn Error>> {
        let mut command = match self.way {
            Way::CrunRun => return Ok(()),
            Way::Attach | Way::AttachLogged | Way::Logs => self.stage.hyperrun(),
            Way::PodmanLogs => self.stage.podman(),
        };
        command.args(["run", "-d", "--network", "none", "--name", NAME]);
        match self.way {
            Way::Attach => command.args(["--cpus", "1", "--log-driver", "none"]),
            Way::Logs => command.args(["--cpus", "1", "--log-opt", "max-size=1g"]),
            Way::PodmanLogs => command.args(["--log-driver", "k8s-file"]),
            _ => command.args(["--cpus", "1"]),
        };
        run_to_end(command.args([DEBIAN, "sh", "-c", &script(self.mib)]))
    }

    fn seer(&self) -> Command {
        let mut command = self.peer_or_hyperrun();
        match self.way {
            Way::CrunRun => {
                command.args(["run", NAME]);
                command.current_dir(self.stage.folder().join("bundle-flood"));
            }
            Way::Attach | Way::AttachLogged => {
                command.args(["attach", "--no-stdin", "--sig-proxy=false", NAME]);
            }
            Way::PodmanLogs | Way::Logs => {
                command.args(["logs", "-f", NAME]);
            }
        }
        command
    }

    /// Waits until what the program says is seen, lets it write, and reads all of that.
    fn see(&self, child: &mut Child) -> Result<(Duration, Option<Memory>), Box<dyn Error>> {
        let process = child.id();
        let output = child.stdout.take().expect("it was piped");
        let mut output = Patient::new(output, PATIENCE);
        self.await_here(&mut output)?;
        let supervisor = self.supervisor()?;
        self.signal("USR2")?;
        let mut first = *HERE;
        while first == *HERE {
            output.read_exact(&mut first)?;
        }
        let begin = Instant::now();
        output.deadline = Deadline::after(PATIENCE + LEAST_RATE * self.mib);
        let (mut left, mut piece) = (u64::from(self.mib) * (1 << 20) - 5, vec![0; 64 << 10]);
        while left > 0 {
            let count = output.read(&mut piece)? as u64;
            if count == 0 {
                return Err(format!("{left} bytes are lost").into());
            }
            left = left.checked_sub(count).ok_or("more than was written")?;
        }
        let time = begin.elapsed();
        let memory = supervisor.and_then(|supervisor| {
            let (client_kib, supervisor_kib) =
                (high_water_kib(process)?, high_water_kib(supervisor)?);
            Some(Memory { client_kib, supervisor_kib })
        });
        Ok((time, memory))
    }

    /// Nobody says when a client is attached: the program is asked until it is heard.
    fn await_here(&self, output: &mut Patient<ChildStdout>) -> Result<(), Box<dyn Error>> {
        const BETWEEN: Duration = Duration::from_millis(500);
        let begin = Instant::now();
        while Deadline::after(BETWEEN).await_readable(output.source()).is_err() {
            if begin.elapsed() > PATIENCE {
                return Err("the program does not answer".into());
            }
            // It may not be there yet.
            drop(self.signal("USR1"));
        }
        Ok(output.read_exact(&mut [0; HERE.len()])?)
    }

    fn signal(&self, name: &str) -> Result<(), Box<dyn Error>> {
        let mut command = self.peer_or_hyperrun();
        match self.way {
            Way::CrunRun => command.args(["kill", NAME, name]),
            _ => command.args(["kill", "-s", name, NAME]),
        };
        run_to_end(&mut command)
    }

    fn supervisor(&self) -> Result<Option<u32>, Box<dyn Error>> {
        if matches!(self.way, Way::CrunRun | Way::PodmanLogs) {
            return Ok(None);
        }
        let mut inspect = self.stage.hyperrun();
        let told = output_of(inspect.args(["inspect", "-f", "{{.State.Pid}}", NAME]))?;
        Ok(Some(String::from_utf8(told)?.trim().parse()?))
    }

    fn peer_or_hyperrun(&self) -> Command {
        match self.way {
            Way::CrunRun => self.stage.bare_crun(),
            Way::PodmanLogs => self.stage.podman(),
            _ => self.stage.hyperrun(),
        }
    }

    fn remove(&self) {
        let mut command = self.peer_or_hyperrun();
        match self.way {
            Way::CrunRun => command.args(["delete", "--force", NAME]),
            _ => command.args(["rm", "-f", NAME]),
        };
        // One that is not there needs not be removed.
        drop(run_to_end(&mut command));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flood_is_as_long_as_it_says_and_is_not_taken_for_words() {
        assert_eq!(LINE.len(), 79);
        assert!(!LINE.as_bytes().starts_with(HERE));
        assert_eq!(script(256).matches("/lines").count(), 1 + 16);
        assert!(script(64).contains("head -c 16777216 "));
    }
}
