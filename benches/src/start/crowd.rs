//! Containers that run and wait: many started at once, idle ones, and neighbours of those that start.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::memory::{Footprint, footprint};
use super::stage::{DEBIAN, Stage};
use super::subject::{Subject, USUAL_MIB, Way};
use super::turns::{Failures, start, start_alone, within_patience};
use crate::sample::Sample;

/// How many are started at once.
pub(crate) const AT_ONCE: usize = 16;
/// How many idle ones are looked at.
const IDLE: u64 = 4;
/// How many neighbours a start has at most.
const NEIGHBOURS: [usize; 4] = [0, 10, 25, 50];
/// The neighbours' machines are as small as the smallest measured.
const NEIGHBOUR_MIB: u32 = 128;
/// No neighbour is added when the host has less than this left.
const RESERVE_KIB: u64 = 768 << 10;
/// A guest has settled when this many looks in a row, [`PAUSE`] apart, see it grow or shrink by less
/// than one in a hundred; or when [`LONGEST_SETTLING`] is over.
const QUIET_LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_SETTLING: Duration = Duration::from_secs(20);

/// Containers that wait; they end with this value.
pub(crate) struct Crowd<'a> {
    stage: &'a Stage,
    memory_mib: u32,
    waiting: Vec<(Child, ChildStdin)>,
}

impl Crowd<'_> {
    /// None yet.
    ///
    /// # Errors
    /// When their template cannot be made.
    pub(crate) fn new(stage: &Stage, memory_mib: u32) -> Result<Crowd<'_>, Box<dyn Error>> {
        stage.make_templates(DEBIAN, memory_mib)?;
        Ok(Crowd { stage, memory_mib, waiting: Vec::new() })
    }

    /// Adds one, and waits until its program runs.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn add(&mut self) -> Result<(), Box<dyn Error>> {
        let mut command = self.stage.waiting(self.memory_mib);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().expect("it was piped");
        let answered = within_patience(&mut child, |child| {
            stdin.write_all(b"x")?;
            Ok(child.stdout.as_mut().expect("it was piped").read_exact(&mut [0])?)
        });
        if answered.is_err() {
            drop(child.kill());
            drop(child.wait());
        } else {
            self.waiting.push((child, stdin));
        }
        answered
    }

    /// Ends all of them: they see the end of their input at about the same time.
    fn disperse(&mut self) {
        let children: Vec<Child> = self.waiting.drain(..).map(|(child, _)| child).collect();
        for mut child in children {
            // One that hangs is killed; how it ended is not what is measured.
            drop(within_patience(&mut child, |child| Ok(child.wait()?)));
        }
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        self.disperse();
    }
}

/// The time from the first command to the first byte of the last of [`AT_ONCE`] starts.
///
/// # Errors
/// When one of them fails twice.
pub(crate) fn at_once(
    stage: &Stage,
    runs: usize,
    failures: &mut Failures,
) -> Result<Sample, Box<dyn Error>> {
    stage.make_templates(DEBIAN, USUAL_MIB)?;
    let mut times = Vec::with_capacity(runs);
    for round in 0..=runs {
        stage.tell(&format!("{AT_ONCE} at once, {round} of {runs}"));
        let time = failures.forgive(|| all_at_once(stage))?;
        if round > 0 {
            times.push(time);
        }
    }
    Ok(Sample::new(times))
}

fn all_at_once(stage: &Stage) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    let one = || {
        let late = begin.elapsed();
        let times = start(stage, Subject::new(Way::Template)).map_err(|error| error.to_string())?;
        Ok::<_, String>(late + times.app)
    };
    let shown: Vec<_> = scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let times = shown.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(times.into_iter().max().expect("there are some"))
}

/// What one idle container costs of the host: the mean of some that are there together, since what
/// they share is not private then.
///
/// # Errors
/// When one does not start, or `/proc` cannot be read.
pub(crate) fn idle(stage: &Stage) -> Result<Footprint, Box<dyn Error>> {
    stage.tell("idle containers");
    let mut crowd = Crowd::new(stage, USUAL_MIB)?;
    // The first copy of a template is the one that is looked at: not what is measured.
    crowd.add()?;
    crowd.disperse();
    for _ in 0..IDLE {
        crowd.add()?;
    }
    Ok(settle(stage, USUAL_MIB)?.divided_by(IDLE))
}

/// Waits until containers whose guests have so much memory are idle, and take no more or less of the
/// host's memory than before: what all of them take.
///
/// # Errors
/// When `/proc` cannot be read, or there is none.
fn settle(stage: &Stage, memory_mib: u32) -> Result<Footprint, Box<dyn Error>> {
    let look = || footprint(&stage.hyperrun, memory_mib);
    let (begin, mut last, mut quiet) = (Instant::now(), look()?, 0);
    while quiet < QUIET_LOOKS && begin.elapsed() < LONGEST_SETTLING {
        sleep(PAUSE);
        let now = look()?;
        let change = now.private_kib.abs_diff(last.private_kib);
        quiet = if change < last.private_kib / 100 { quiet + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

/// How long a start takes beside other containers: their number and the times. The first number
/// is none, before and after there were others.
///
/// # Errors
/// When something fails twice.
pub(crate) fn beside_neighbours(
    stage: &Stage,
    runs: usize,
    failures: &mut Failures,
) -> Result<Vec<(usize, Sample)>, Box<dyn Error>> {
    stage.make_templates(DEBIAN, USUAL_MIB)?;
    let mut crowd = Crowd::new(stage, NEIGHBOUR_MIB)?;
    let mut measured = Vec::new();
    for count in NEIGHBOURS {
        while crowd.waiting.len() < count && available_kib()? > RESERVE_KIB {
            failures.forgive(|| crowd.add())?;
        }
        if count > 0 {
            settle(stage, NEIGHBOUR_MIB)?;
        }
        stage.tell(&format!("beside {} containers", crowd.waiting.len()));
        measured.push((crowd.waiting.len(), starts(stage, runs, failures)?));
    }
    measured.dedup_by_key(|(count, _)| *count);
    stage.tell("ending them");
    drop(crowd);
    stage.tell("alone again");
    measured[0].1.extend(starts(stage, runs, failures)?);
    Ok(measured.into_iter().map(|(count, times)| (count, Sample::new(times))).collect())
}

/// One start more than `runs`, which does not count.
fn starts(
    stage: &Stage,
    runs: usize,
    failures: &mut Failures,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut one = || failures.forgive(|| Ok(start_alone(stage, Subject::new(Way::Template))?.app));
    one()?;
    (0..runs).map(|_| one()).collect()
}

/// What the host can still give without paging anything out.
fn available_kib() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(number.ok_or("/proc/meminfo has no MemAvailable")?.trim().parse()?)
}
