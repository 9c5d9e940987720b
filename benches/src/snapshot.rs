//! What snapshots, restores and clones of a redis with much data cost, beside its start from a template:
//! from the command to the first answer, how long the original stands still, and the memory of many clones.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bound::{self, Bound};
use crate::patience::{await_end, output_of, output_within};
use crate::sample::Sample;
use crate::start::turns::Failures;
use crate::start::write;
use crate::table;

/// Measures snapshots.
#[derive(clap::Args)]
pub(crate) struct SnapshotArguments {
    /// How often each thing is done.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// How many clones there are beside each other in the end; 0 leaves them out.
    #[arg(long, default_value_t = 32)]
    clones: u16,
    /// Where to write what was found: medians in milliseconds, bounds.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The binary to measure.
    #[arg(long)]
    hyperrun: PathBuf,
    /// An archive with the image of services.
    #[arg(long)]
    image: PathBuf,
    /// A folder to make and remove, on this machine's own file system and no overlay.
    #[arg(long)]
    stage: PathBuf,
}

const NETWORK: &str = "bench";
const SUBNET: &str = "198.51.100.0/24";
/// Of the original, and of what is measured.
const ADDRESSES: [&str; 2] = ["198.51.100.8", "198.51.100.9"];
/// 100 MB of data.
const POPULATE: &str = "DEBUG POPULATE 100000 key 1000";
/// And so much more, by each that is saved once more.
const MORE_KEYS: u64 = 16_000;
const KEY_BYTES: u64 = 1000;
/// Starts until all that is made for later ones beside the first is made.
const WARM_UPS: u16 = 5;
/// How long 100 MB may take to be made or loaded, in an emulated guest.
const LONG: Duration = Duration::from_secs(120);

/// What is measured by its first answer of a redis.
const SUBJECTS: [(&str, &[&str]); 3] = [
    ("start from a template", &["run", "-d", "--rm", "--name", "other", "-m", "512m"]),
    ("restore of a snapshot", &["restore", "-d", "--rm", "--name", "other"]),
    ("clone", &["clone", "--rm", "--name", "other"]),
];
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

/// Measures, and prints a table.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &SnapshotArguments) -> Result<(), Box<dyn Error>> {
    let stage = Stage::set_up(arguments)?;
    let mut failures = Failures::default();
    for _ in 0..WARM_UPS {
        failures.forgive(|| stage.time_to_answer(SUBJECTS[0].0, SUBJECTS[0].1))?;
    }
    let found = take_turns(&stage, arguments.runs, &mut failures)?;
    found.print();
    let mut bounds = found.bounds();
    bounds.extend(stage.incremental()?);
    bounds.extend(stage.crowd(arguments.clones)?);
    bound::print(&bounds);
    println!("\n{} attempts failed and were tried again", failures.tried_again);
    write(arguments.json.as_deref(), || {
        let medians: Vec<_> = found.0.iter().map(Sample::median_ms).collect();
        let bounds: Vec<_> = bounds.iter().map(Bound::to_json).collect();
        format!("{:#}\n", json!({ "names": NAMES, "medians_ms": medians, "bounds": bounds }))
    })
}

/// Does each thing so often; the first round warms up.
fn take_turns(
    stage: &Stage<'_>,
    runs: u16,
    failures: &mut Failures,
) -> Result<Found, Box<dyn Error>> {
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..=runs {
        eprintln!("==> round {round} of {runs}");
        let pause = failures.forgive(|| stage.snapshot())?;
        let mut taken = Vec::new();
        for (name, words) in SUBJECTS {
            taken.push(failures.forgive(|| stage.time_to_answer(name, words))?);
        }
        taken.extend([pause, failures.forgive(|| stage.time_to_word())?]);
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, time)| times.push(time));
        }
    }
    Ok(Found(times.map(Sample::new)))
}

/// What was found.
struct Found([Sample; 5]);

/// What of it is what.
const NAMES: [&str; 5] = [
    SUBJECTS[0].0,
    SUBJECTS[1].0,
    SUBJECTS[2].0,
    "the original stands still",
    "start from a template, to a word",
];

impl Found {
    fn print(&self) {
        let [start, .., word] = &self.0;
        table::head("redis with 100 MB in 512 MiB", &["start", "word"]);
        for (name, sample) in NAMES.iter().zip(&self.0) {
            table::line(name, sample, &[Some(start), Some(word)]);
        }
    }

    fn bounds(&self) -> Vec<Bound> {
        let [start, restore, clone, pause, word] = &self.0;
        let bounds = [
            ("a restore, as a start", restore.ratio_to(start), 2.0),
            ("a restore, as a start to a word", restore.ratio_to(word), 2.0),
            ("a clone, as a start", clone.ratio_to(start), 2.0),
            ("the pause, as a start", pause.ratio_to(start), 1.5),
        ];
        let bound =
            |(what, value, most): (&str, f64, f64)| bound::times(what.to_owned(), value, most);
        bounds.map(bound).into()
    }
}

/// A state folder with a redis that has much data.
struct Stage<'a> {
    arguments: &'a SnapshotArguments,
}

impl<'a> Stage<'a> {
    fn set_up(arguments: &'a SnapshotArguments) -> Result<Self, Box<dyn Error>> {
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

    /// Makes the snapshot anew; how long the original stood still.
    fn snapshot(&self) -> Result<Duration, Box<dyn Error>> {
        // There is none at first.
        let _ = output_of(&mut self.command(&["snapshot", "rm", "warm"]));
        output_within(&mut self.command(&["snapshot", "create", "store", "warm"]), LONG)?;
        let words = ["snapshot", "inspect", "-f", "{{.PauseMicroseconds}}", "warm"];
        Ok(Duration::from_micros(text(output_of(&mut self.command(&words))?)?.parse()?))
    }

    /// The time from a command to the first answer of the redis that it begins.
    fn time_to_answer(&self, name: &str, words: &[&str]) -> Result<Duration, Box<dyn Error>> {
        let network = network(ADDRESSES[1]);
        let subject: &[&str] = match name {
            "clone" => &["store"],
            "restore of a snapshot" => &["warm"],
            _ => REDIS,
        };
        let words = [words, &["--network", &network], subject].concat();
        let mut command = self.command(&words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let mut child: Child = command.spawn()?;
        let answered = Redis::answering(ADDRESSES[1]);
        let time = begin.elapsed();
        let status = await_end(&mut child, LONG)?;
        output_of(&mut self.command(&["rm", "-f", "other"]))?;
        answered?;
        if status.success() { Ok(time) } else { Err(format!("{name} failed").into()) }
    }

    /// The time that a container takes from a template which says a word and ends.
    fn time_to_word(&self) -> Result<Duration, Box<dyn Error>> {
        let words = ["run", "--rm", "-m", "512m", "--network", NETWORK, "services", "echo", "word"];
        let begin = Instant::now();
        output_of(&mut self.command(&words))?;
        Ok(begin.elapsed())
    }

    /// What is written when the original, and a copy, are saved once more, beside what was written in them.
    fn incremental(&self) -> Result<Vec<Bound>, Box<dyn Error>> {
        eprintln!("==> saved once more");
        let network = network(ADDRESSES[1]);
        let words = ["restore", "-d", "--rm", "--name", "other", "--network", &network, "warm"];
        output_of(&mut self.command(&words))?;
        let mut bounds = Vec::new();
        for (what, name, address) in
            [("the original", "store", ADDRESSES[0]), ("a copy", "other", ADDRESSES[1])]
        {
            let more = format!("DEBUG POPULATE {MORE_KEYS} {name} {KEY_BYTES}");
            Redis::answering(address)?.ask(&more)?;
            let started = Instant::now();
            output_within(&mut self.command(&["snapshot", "create", name, "again"]), LONG)?;
            eprintln!("    {what}: {} ms", started.elapsed().as_millis());
            let words = ["snapshot", "inspect", "-f", "{{.Written}}", "again"];
            let written: u64 = text(output_of(&mut self.command(&words))?)?.parse()?;
            let what = format!("{what} saved once more, with 16 MB more");
            let most = 2 * MORE_KEYS * KEY_BYTES;
            bounds.push(bound::mebibytes(what, written >> 10, most >> 10));
            output_of(&mut self.command(&["snapshot", "rm", "again"]))?;
        }
        output_of(&mut self.command(&["rm", "-f", "other"]))?;
        Ok(bounds)
    }

    /// The memory that each of so many clones takes beside the others.
    fn crowd(&self, clones: u16) -> Result<Option<Bound>, Box<dyn Error>> {
        if clones == 0 {
            return Ok(None);
        }
        eprintln!("==> {clones} clones");
        let before = available_kib()?;
        let count = clones.to_string();
        output_within(&mut self.command(&["clone", "-n", &count, "--rm", "store"]), 4 * LONG)?;
        let each = before.saturating_sub(available_kib()?) / u64::from(clones);
        let what = format!("each of {clones} clones, beside a redis of 100 MB");
        Ok(Some(bound::mebibytes(what, each, 64 << 10)))
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let ids = output_of(&mut self.command(&["ps", "-aq"])).unwrap_or_default();
        let ids = String::from_utf8_lossy(&ids).into_owned();
        for id in ids.lines() {
            // Best effort: the lab goes with all that is in it.
            let _ = output_of(&mut self.command(&["rm", "-f", id]));
        }
        let _ = output_of(&mut self.command(&["network", "rm", NETWORK]));
        let _ = fs::remove_dir_all(&self.arguments.stage);
    }
}

fn network(address: &str) -> String {
    format!("name={NETWORK},ip={address}")
}

fn text(output: Vec<u8>) -> Result<String, Box<dyn Error>> {
    Ok(String::from_utf8(output)?.trim().to_owned())
}

fn available_kib() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let words = line.ok_or("/proc/meminfo tells nothing")?;
    Ok(words.trim().trim_end_matches(" kB").parse()?)
}

/// Somebody who speaks to a redis.
struct Redis(BufReader<TcpStream>);

impl Redis {
    /// The one at this address, once it answers.
    fn answering(address: &str) -> Result<Self, Box<dyn Error>> {
        let begin = Instant::now();
        let address = format!("{address}:6379").parse()?;
        while begin.elapsed() < LONG {
            let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200))
            else {
                continue;
            };
            stream.set_read_timeout(Some(LONG))?;
            let mut redis = Self(BufReader::new(stream));
            if redis.ask("PING").is_ok_and(|answer| answer == "+PONG") {
                return Ok(redis);
            }
        }
        Err(format!("no redis answers at {address}").into())
    }

    fn ask(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}
