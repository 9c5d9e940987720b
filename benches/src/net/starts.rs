//! What a network adds to the start of a container from a template: starts with one and without, in turns.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bound::{Bound, times};
use crate::patience::{PATIENCE, Patient, await_end, output_within, run_to_end, what_is_there};
use crate::sample::Sample;
use crate::start::turns::Failures;
use crate::table;

/// How much longer a start may take with a network.
const MOST: f64 = 1.10;
/// So many starts teach a template what its copies write.
const WARMING: u16 = 3;
/// How long the images may take to be copied.
const SETTING: Duration = Duration::from_secs(60);
const IMAGE: &str = "busybox";

/// What is compared, as `--network` has it.
const NETWORKS: [&str; 2] = ["none", "bridge"];

/// Data folder and program, on one file system. It and its networks are gone with this value.
struct Stage {
    hyperrun: PathBuf,
    folder: PathBuf,
}

/// From the command to the first byte of output, and to its end.
#[derive(Default)]
struct Times {
    first_byte: Vec<Duration>,
    end: Vec<Duration>,
}

/// What was found, for each of [`NETWORKS`] and [`KINDS`].
pub(super) struct Samples([[Sample; 2]; 2]);

/// What is told of each start.
const KINDS: [(&str, &str); 2] =
    [("first_byte", "a start, to its first byte"), ("end", "a start, to the command's end")];

/// Starts containers of the image in `root`, which is copied to `stage`.
///
/// # Errors
/// When hyperrun fails.
pub(super) fn measure(
    hyperrun: &Path,
    root: &Path,
    stage: &Path,
    runs: u16,
    failures: &mut Failures,
) -> Result<Samples, Box<dyn Error>> {
    let stage = Stage::set_up(hyperrun, root, stage)?;
    let mut found: [Times; 2] = Default::default();
    for round in 0..WARMING + runs {
        eprintln!("==> starts, round {round} of {}", WARMING + runs);
        let mut turns = [0, 1];
        // Behind each lies what is left of the other.
        turns.rotate_left(usize::from(round % 2));
        for at in turns {
            let (first_byte, end) = failures.forgive(|| stage.start(NETWORKS[at]))?;
            if round >= WARMING {
                found[at].first_byte.push(first_byte);
                found[at].end.push(end);
            }
        }
    }
    let samples = |times: Times| [times.first_byte, times.end].map(Sample::new);
    Ok(Samples(found.map(samples)))
}

impl Stage {
    fn set_up(hyperrun: &Path, root: &Path, folder: &Path) -> Result<Self, Box<dyn Error>> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let stage = Self { hyperrun: hyperrun.to_owned(), folder: folder.to_owned() };
        output_within(Command::new("cp").arg("-a").arg(root).arg(folder), SETTING)?;
        let mut build = stage.hyperrun();
        build.args(["template", "build", "--rm", "--image", IMAGE, "--cpus", "1", "-m", "512m"]);
        output_within(&mut build, SETTING)?;
        Ok(stage)
    }

    fn hyperrun(&self) -> Command {
        let mut command = Command::new(&self.hyperrun);
        command.env("HYPERRUN_ROOT", &self.folder).env("HYPERRUN_IMAGE_TEMPLATES", "never");
        command
    }

    fn start(&self, network: &str) -> Result<(Duration, Duration), Box<dyn Error>> {
        let mut command = self.hyperrun();
        command.args(["run", "--rm", "--network", network, "--cpus", "1", "-m", "512m"]);
        command.args([IMAGE, "echo", "hello"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begin = Instant::now();
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut output = Patient::new(child.stdout.take().expect("it was piped"), PATIENCE);
        let read = output.read(&mut [0]);
        let first_byte = begin.elapsed();
        let status = await_end(&mut child, PATIENCE)?;
        let end = begin.elapsed();
        let words = what_is_there(child.stderr.take().expect("it was piped"))?;
        match read? {
            // One that has warned did something else.
            1 if status.success() && words.is_empty() => Ok((first_byte, end)),
            _ => {
                let words = String::from_utf8_lossy(&words);
                Err(format!("{command:?} failed: {status} {words}").into())
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left is the next one's to clear.
        drop(run_to_end(self.hyperrun().args(["network", "prune", "-f"])));
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Samples {
    /// A table of each kind.
    pub(super) fn show(&self) {
        for (at, (_, title)) in KINDS.iter().enumerate() {
            table::head(title, &["to none"]);
            for (network, samples) in NETWORKS.iter().zip(&self.0) {
                let label = format!("hyperrun run --network {network}");
                table::line(&label, &samples[at], &[Some(&self.0[0][at])]);
            }
            println!();
        }
    }

    /// What must hold.
    pub(super) fn bounds(&self) -> impl Iterator<Item = Bound> {
        let [without, with] = &self.0;
        KINDS.iter().enumerate().map(|(at, (_, what))| {
            times(format!("{what}, with a network"), with[at].ratio_to(&without[at]), MOST)
        })
    }

    /// Each sample with its key in the JSON file.
    pub(super) fn keyed(&self) -> impl Iterator<Item = (String, &Sample)> {
        NETWORKS.iter().zip(&self.0).flat_map(|(network, samples)| {
            let keyed = KINDS.iter().zip(samples);
            keyed.map(move |((kind, _), sample)| (format!("start_{network}_{kind}_ms"), sample))
        })
    }
}
