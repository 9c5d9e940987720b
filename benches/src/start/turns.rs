//! Starts programs, takes the times, and lets what is compared take turns.

use std::error::Error;
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::stage::Stage;
use super::subject::{Subject, Way};
use crate::patience::PATIENCE;
use crate::sample::Sample;

/// What starts a whole measurement may lose, each tried again: an emulated KVM stops a guest at times.
const MOST_FAILURES: usize = 5;
/// How long it may take to clear up behind a container that is gone.
const CLEARING: Duration = Duration::from_secs(5);

/// How many starts of each do not count.
const UNCOUNTED: usize = 2;
/// What a guest has written by its end, and more, for each processor: in small pages, and in huge ones.
const MOST_SMALL_MIB: usize = 64;
const MOST_HUGE_MIB: usize = 128;

/// When things happened after the command was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The first byte of output; the end of what has none.
    pub(crate) app: Duration,
    /// hyperrun's own clocks: the machine runs, the agent is ready.
    pub(crate) machine: Option<(Duration, Duration)>,
}

/// What a subject's turns have shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) app: Sample,
    /// Of hyperrun only: the machine runs, the agent is ready.
    pub(crate) machine: Option<(Sample, Sample)>,
}

/// What went wrong on the way.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// How many starts failed and were tried again.
    pub(crate) tried_again: usize,
    /// Peers that failed again, and why: they are left out.
    pub(crate) left_out: Vec<String>,
}

impl Failures {
    /// Does something once more if need be.
    ///
    /// # Errors
    /// When it fails again, or too much has failed before.
    pub(crate) fn forgive<T>(
        &mut self,
        mut attempt: impl FnMut() -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        attempt().or_else(|error| {
            eprintln!("==> tried again: {error}");
            self.tried_again += 1;
            if self.tried_again > MOST_FAILURES { Err(error) } else { attempt() }
        })
    }
}

/// Lets all of them take turns, so that what the machine does beside them meets all alike, in another
/// order each round, so that what a start leaves behind does too. Two starts of each that do not
/// count fill the page cache, and find out what copies of a template touch.
///
/// # Errors
/// When a start by hyperrun fails twice. A peer that does is left out.
pub(crate) fn take(
    stage: &Stage,
    subjects: &[Subject],
    runs: usize,
    failures: &mut Failures,
) -> Result<Vec<(Subject, Shown)>, Box<dyn Error>> {
    let mut turns: Vec<(Subject, Vec<Times>)> =
        subjects.iter().map(|subject| (*subject, Vec::with_capacity(runs))).collect();
    for round in 0..runs + UNCOUNTED {
        stage.tell(&format!("round {} of {}", round + 1, runs + UNCOUNTED));
        let mut failed = Vec::new();
        for index in order(turns.len(), round) {
            let (subject, times) = &mut turns[index];
            match failures.forgive(|| start_alone(stage, *subject)) {
                Ok(_) if round < UNCOUNTED => {}
                Ok(time) => times.push(time),
                Err(error) if subject.way.is_hyperrun() => return Err(error),
                Err(error) => {
                    failures.left_out.push(error.to_string());
                    failed.push(*subject);
                }
            }
        }
        turns.retain(|(subject, _)| !failed.contains(subject));
    }
    Ok(turns.into_iter().map(|(subject, times)| (subject, shown(&times))).collect())
}

/// Numbers below `count` in an order that looks random, always the same for a round.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    numbers.sort_by_cached_key(|number| {
        BuildHasherDefault::<DefaultHasher>::default().hash_one((round, number))
    });
    numbers
}

fn shown(times: &[Times]) -> Shown {
    let machines: Option<Vec<_>> = times.iter().map(|times| times.machine).collect();
    let machine = machines.map(|machines| {
        let (running, ready) = machines.into_iter().unzip();
        (Sample::new(running), Sample::new(ready))
    });
    Shown { app: Sample::new(times.iter().map(|times| times.app).collect()), machine }
}

/// Starts it once, and waits until those who clear up behind it are gone: podman's monitor starts another
/// podman, and a supervisor of hyperrun ends its machine, when the command is over already. The memory that
/// they leave is written to: an emulation of processors forgets what it had translated in it then, which
/// takes longer than a start, and whoever came next would pay for it.
///
/// # Errors
/// Those of [`start`].
pub(crate) fn start_alone(stage: &Stage, subject: Subject) -> Result<Times, Box<dyn Error>> {
    let before = at_work();
    let times = start(stage, subject)?;
    let end = Instant::now();
    while at_work() > before && end.elapsed() < CLEARING {
        thread::sleep(Duration::from_millis(10));
    }
    overwrite_what_is_left()?;
    Ok(times)
}

/// Writes to as much of the memory that is free as a guest has left. Each processor keeps some of what was given
/// back on it for itself, small pages and huge ones apart: so each writes to both kinds.
///
/// # Errors
/// When there is no room, or no processor may be used.
fn overwrite_what_is_left() -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let processors = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
    thread::scope(|scope| {
        let threads: Vec<_> = processors.map(|it| scope.spawn(move || overwrite_on(it))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}

/// Does one processor's part of it.
fn overwrite_on(processor: usize) -> io::Result<()> {
    const MIB: usize = 1 << 20;
    let mut alone = CpuSet::new();
    alone.set(processor);
    sched_setaffinity(None, &alone)?;
    let path = format!("/dev/shm/hyperrun-bench-{processor}");
    let mut file = File::create(&path)?;
    fs::remove_file(&path)?;
    io::copy(&mut io::repeat(0).take((MOST_SMALL_MIB * MIB) as u64), &mut file)?;
    drop(file);
    black_box(vec![1u8; MOST_HUGE_MIB * MIB]);
    Ok(())
}

/// How many processes there are that may clear up.
fn at_work() -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let names =
        entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok());
    names.filter(|name| ["podman", "conmon", "hyperrun"].contains(&name.trim_end())).count()
}

/// Starts it once and waits for its end.
///
/// # Errors
/// When it cannot be started, shows nothing, fails or hangs, or when hyperrun boots instead of going
/// on from a template.
pub(crate) fn start(stage: &Stage, subject: Subject) -> Result<Times, Box<dyn Error>> {
    let name = subject.label();
    let mut command = stage.command(subject);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
    let (app, words) = within_patience(&mut child, |child| watch(child, begin, subject.way))
        .map_err(|error| format!("{name} failed: {error}"))?;
    if !subject.way.is_hyperrun() {
        return Ok(Times { app, machine: None });
    }
    if words.contains("warning:") {
        return Err(format!("{name} did something else: {words}").into());
    }
    let clocks = (clock(&words, "machine running"), clock(&words, "agent ready"));
    let (Some(running), Some(ready)) = clocks else {
        return Err(format!("{name} did not tell its clocks: {words}").into());
    };
    Ok(Times { app, machine: Some((running, ready)) })
}

/// The time until the first byte, and all that was said on standard error.
fn watch(
    child: &mut Child,
    begin: Instant,
    way: Way,
) -> Result<(Duration, String), Box<dyn Error>> {
    let mut output = child.stdout.take().expect("it was piped");
    let read = output.read(&mut [0])?;
    let mut time = begin.elapsed();
    if way == Way::Qemu {
        // Without a keyboard controller a guest that restarts needs seconds to find a way.
        child.kill()?;
    }
    output.read_to_end(&mut Vec::new())?;
    let mut words = String::new();
    child.stderr.take().expect("it was piped").read_to_string(&mut words)?;
    let status = child.wait()?;
    if way == Way::True {
        time = begin.elapsed();
    } else if read == 0 {
        return Err(format!("it showed nothing: {words}").into());
    }
    if !status.success() && way != Way::Qemu {
        return Err(format!("{status}: {words}").into());
    }
    Ok((time, words))
}

/// Does something with a process, and kills it when that takes too long.
///
/// # Errors
/// When what is done fails.
pub(crate) fn within_patience<T>(
    child: &mut Child,
    work: impl FnOnce(&mut Child) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let (done, waiting) = channel::<()>();
    let id = child.id().to_string();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // Only `work` could reap it, and has not: the number is still this child's.
                drop(Command::new("kill").arg("-KILL").arg(id).status());
            }
        });
        let outcome = work(child);
        drop(done);
        outcome
    })
}

/// One line of what `--timings` says: `NAME  12.3 ms`.
fn clock(words: &str, name: &str) -> Option<Duration> {
    let line = words.lines().find_map(|line| line.strip_prefix(name))?;
    let milliseconds: f64 = line.trim().strip_suffix("ms")?.trim_end().parse().ok()?;
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_read_as_they_are_told() {
        let words = "machine running       12.3 ms\nagent ready              -\n";
        assert_eq!(clock(words, "machine running"), Some(Duration::from_micros(12_300)));
        assert_eq!(clock(words, "agent ready"), None);
        assert_eq!(clock(words, "first byte"), None);
    }

    #[test]
    fn nobody_comes_behind_the_same_one_in_each_round() {
        let orders: Vec<_> = (0..8).map(|round| order(22, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..22), "each has one turn: {order:?}");
        }
        let before_first: std::collections::BTreeSet<_> = orders
            .iter()
            .map(|order| order.iter().take_while(|number| **number != 0).last())
            .collect();
        assert!(before_first.len() > 4, "{before_first:?}");
    }

    #[test]
    fn a_failure_is_tried_again_but_not_for_ever() {
        let mut failures = Failures::default();
        for round in 0..=MOST_FAILURES {
            let mut left = 1;
            let outcome = failures.forgive(|| {
                left -= 1;
                if left == 0 { Err("lost".into()) } else { Ok(()) }
            });
            assert_eq!(outcome.is_ok(), round < MOST_FAILURES);
        }
        assert_eq!(failures.tried_again, MOST_FAILURES + 1);
        assert!(failures.forgive(|| Err::<(), _>("lost for good".into())).is_err());
    }

    #[test]
    fn what_shows_nothing_or_fails_has_no_time() {
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            within_patience(&mut child, |child| watch(child, Instant::now(), Way::Crun))
        };
        assert_eq!(run("echo out; echo err >&2").unwrap().1, "err\n");
        assert!(run("true").unwrap_err().to_string().contains("showed nothing"));
        assert!(run("echo out; exit 3").unwrap_err().to_string().contains("3"));
    }
}
