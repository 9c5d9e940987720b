//! A state folder with a redis that has much data, and what is done to it.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::redis::Redis;
use super::{LONG, SnapshotArguments, Subject};
use crate::bound::{self, Bound};
use crate::patience::{await_end, output_of, output_within};

const NETWORK: &str = "bench";
const SUBNET: &str = "198.51.100.0/24";
/// Of the original, and of what is measured.
const ADDRESSES: [&str; 2] = ["198.51.100.8", "198.51.100.9"];
/// 100 MB of data.
const POPULATE: &str = "DEBUG POPULATE 100000 key 1000";
/// And so much more, by each that is saved once more.
const MORE_KEYS: u64 = 16_000;
const KEY_BYTES: u64 = 1000;
/// What a plain program writes at once.
const PIECE: usize = 2 << 20;
const REDIS: &[&str] = &[
    "services",
    "redis-server",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--enable-debug-command",
    "yes",
];

/// Who is saved once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saved {
    /// The container of which there is a snapshot.
    Original,
    /// One that goes on from that.
    Copy,
}

/// A state folder with a redis that has much data.
pub(super) struct Stage<'a> {
    arguments: &'a SnapshotArguments,
}

impl<'a> Stage<'a> {
    pub(super) fn set_up(arguments: &'a SnapshotArguments) -> Result<Self, Box<dyn Error>> {
        let _ = fs::remove_dir_all(&arguments.stage);
        fs::create_dir_all(&arguments.stage)?;
        let stage = Self { arguments };
        let image = arguments.image.display().to_string();
        output_within(&mut stage.command(&["load", "-i", &image]), LONG)?;
        output_of(&mut stage.command(&["network", "create", "--subnet", SUBNET, NETWORK]))?;
        let network = network(ADDRESSES[0]);
        let words = ["run", "-d", "--name", "store", "-m", "512m", "--network", &network];
        output_within(&mut stage.command(&[&words[..], REDIS].concat()), LONG)?;
        let mut redis = Redis::answering(ADDRESSES[0])?;
        match redis.ask(POPULATE)?.as_str() {
            "+OK" => Ok(stage),
            answer => Err(format!("redis: {answer}").into()),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.arguments.hyperrun);
        command.args(words).env("HYPERRUN_ROOT", self.arguments.stage.join("root"));
        command
    }

    /// Makes the snapshot anew; how long the original stood still, and how much was written.
    pub(super) fn snapshot(&self) -> Result<(Duration, usize), Box<dyn Error>> {
        self.forget("warm");
        output_within(&mut self.command(&["snapshot", "create", "store", "warm"]), LONG)?;
        let pause = Duration::from_micros(self.inspect("warm", "{{.PauseMicroseconds}}")?);
        Ok((pause, usize::try_from(self.inspect("warm", "{{.Written}}")?)?))
    }

    /// Removes a snapshot, if there is one.
    fn forget(&self, name: &str) {
        let _ = output_of(&mut self.command(&["snapshot", "rm", name]));
    }

    fn inspect(&self, name: &str, format: &str) -> Result<u64, Box<dyn Error>> {
        let output = output_of(&mut self.command(&["snapshot", "inspect", "-f", format, name]))?;
        Ok(String::from_utf8(output)?.trim().parse()?)
    }

    /// The time that a plain program takes to write so many bytes, which it has in its memory, to a new file
    /// there.
    pub(super) fn time_to_write(&self, bytes: usize) -> Result<Duration, Box<dyn Error>> {
        let (content, path) = (vec![1; bytes], self.arguments.stage.join("plain"));
        let begin = Instant::now();
        let mut file = File::create_new(&path)?;
        content.chunks(PIECE).try_for_each(|piece| file.write_all(piece))?;
        let time = begin.elapsed();
        fs::remove_file(&path)?;
        Ok(time)
    }

    /// The time from a command to the first answer of the redis that it begins.
    pub(super) fn time_to_answer(&self, subject: Subject) -> Result<Duration, Box<dyn Error>> {
        if subject == Subject::FirstClone {
            self.forget("warm");
        }
        let network = network(ADDRESSES[1]);
        let (words, what): (&[&str], &[&str]) = match subject {
            Subject::Start => (&["run", "-d", "-m", "512m"], REDIS),
            Subject::Restore => (&["restore", "-d"], &["warm"]),
            Subject::Clone | Subject::FirstClone => (&["clone"], &["store"]),
        };
        let own = ["--rm", "--name", "other", "--network", &network];
        let mut command = self.command(&[words, &own, what].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let mut child: Child = command.spawn()?;
        let answered = Redis::answering(ADDRESSES[1]);
        let time = begin.elapsed();
        let status = await_end(&mut child, LONG);
        self.remove_others()?;
        answered?;
        if status?.success() { Ok(time) } else { Err(format!("{subject:?} failed").into()) }
    }

    /// The time that a container takes from a template which says a word and ends.
    pub(super) fn time_to_word(&self) -> Result<Duration, Box<dyn Error>> {
        let words = ["run", "--rm", "-m", "512m", "--network", NETWORK, "services", "echo", "word"];
        let begin = Instant::now();
        output_of(&mut self.command(&words))?;
        Ok(begin.elapsed())
    }

    /// What is written when the original, or a copy, is saved once more, beside what was written in it.
    pub(super) fn save_once_more(&self, saved: Saved) -> Result<Bound, Box<dyn Error>> {
        self.forget("again");
        self.remove_others()?;
        let (what, name, address) = match saved {
            Saved::Original => ("the original", "store", ADDRESSES[0]),
            Saved::Copy => ("a copy", "other", ADDRESSES[1]),
        };
        eprintln!("==> {what} saved once more");
        if saved == Saved::Copy {
            let network = network(address);
            let words = ["restore", "-d", "--rm", "--name", name, "--network", &network, "warm"];
            output_of(&mut self.command(&words))?;
        }
        let more = format!("DEBUG POPULATE {MORE_KEYS} {name} {KEY_BYTES}");
        Redis::answering(address)?.ask(&more)?;
        output_within(&mut self.command(&["snapshot", "create", name, "again"]), LONG)?;
        let written = self.inspect("again", "{{.Written}}")?;
        self.forget("again");
        self.remove_others()?;
        let what = format!("{what} saved once more, with 16 MB more");
        Ok(bound::mebibytes(what, written >> 10, (2 * MORE_KEYS * KEY_BYTES) >> 10))
    }

    /// The memory that each of so many clones takes beside the others.
    pub(super) fn crowd(&self, clones: u16) -> Result<Bound, Box<dyn Error>> {
        self.remove_others()?;
        eprintln!("==> {clones} clones");
        let before = available_kib()?;
        let count = clones.to_string();
        output_within(&mut self.command(&["clone", "-n", &count, "--rm", "store"]), 4 * LONG)?;
        let each = before.saturating_sub(available_kib()?) / u64::from(clones);
        let what = format!("each of {clones} clones, beside a redis of 100 MB");
        Ok(bound::mebibytes(what, each, 64 << 10))
    }

    /// Removes all containers but the original, and what attempts that failed have left.
    fn remove_others(&self) -> Result<(), Box<dyn Error>> {
        let names = output_of(&mut self.command(&["ps", "-a", "--format", "{{.Names}}"]))?;
        let names = String::from_utf8(names)?;
        for name in names.lines().filter(|name| *name != "store") {
            // One with `--rm` may have gone by itself meanwhile.
            let _ = output_of(&mut self.command(&["rm", "-f", name]));
        }
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Best effort: the lab goes with all that is in it.
        let _ = self.remove_others();
        let _ = output_of(&mut self.command(&["rm", "-f", "store"]));
        let _ = output_of(&mut self.command(&["network", "rm", NETWORK]));
        let _ = fs::remove_dir_all(&self.arguments.stage);
    }
}

fn network(address: &str) -> String {
    format!("name={NETWORK},ip={address}")
}

fn available_kib() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let words = line.ok_or("/proc/meminfo tells nothing")?;
    Ok(words.trim().trim_end_matches(" kB").parse()?)
}
