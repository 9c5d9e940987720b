//! How long a pull takes beside `skopeo copy` and `umoci raw unpack`, and beside the bare work: gunzip
//! and SHA-256 of the same layers with the same libraries.

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::registry::Registry;
use crate::sample::{Sample, milliseconds};
use crate::start::memory::high_water_kib;
use crate::table;

/// Measures how fast images are pulled, and what they cost.
#[derive(clap::Args)]
pub(crate) struct ImagesArguments {
    /// How many pulls of each kind.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// The binary to measure, with its client of registries beside it.
    #[arg(long)]
    hyperrun: PathBuf,
    /// The folder of OCI layouts that `scripts/bench` prepared: `debian` (with the tags `1`, and `2`
    /// on top of it), `small` and `tiny` (`1`).
    #[arg(long)]
    layouts: PathBuf,
    /// An empty folder for stores and the registry, on the disk that is to be measured.
    #[arg(long)]
    work: PathBuf,
}

/// Measures and prints.
///
/// # Errors
/// When something that is measured does not work.
pub(crate) fn run(arguments: &ImagesArguments) -> Result<(), Box<dyn Error>> {
    let registry = Registry::start(&arguments.work.join("registry"))?;
    let bench = Bench { arguments, registry: &registry };
    for (name, tag) in [("debian", "1"), ("debian", "2"), ("small", "1"), ("tiny", "1")] {
        bench.publish(name, tag)?;
    }
    for name in ["debian", "small", "tiny"] {
        bench.compare(name)?;
    }
    bench.second_image()
}

struct Bench<'a> {
    arguments: &'a ImagesArguments,
    registry: &'a Registry,
}

/// What takes turns, in the table's order.
const SUBJECTS: [&str; 3] = ["gunzip and SHA-256, bare", "hyperrun pull", "skopeo, umoci"];

impl Bench<'_> {
    fn compare(&self, name: &str) -> Result<(), Box<dyn Error>> {
        let mut times = [const { Vec::new() }; 3];
        // The first round does not count: it fills the page cache.
        for round in 0..=self.arguments.runs {
            let round_times = [self.bare(name)?, self.pull_anew(name)?, self.peers(name)?];
            if round > 0 {
                times.iter_mut().zip(round_times).for_each(|(times, time)| times.push(time));
            }
        }
        let samples = times.map(Sample::new);
        let bytes: u64 = self.blobs(name)?.iter().map(length).sum();
        table::head(&format!("{name}, {} MB in gzip", bytes / 1_000_000), &["ratio"]);
        let [bare, pull, peers] = &samples;
        for (subject, sample) in SUBJECTS.iter().zip(&samples) {
            table::line(subject, sample, &[Some(bare)]);
        }
        println!("hyperrun is {:.1} times as fast as skopeo and umoci", peers.ratio_to(pull));
        println!("peak memory of the pull: {} KiB\n", self.peak_kib(name)?);
        Ok(())
    }

    /// An image on top of one that is there: its time and its room.
    fn second_image(&self) -> Result<(), Box<dyn Error>> {
        self.empty_store()?;
        run_to_end(&mut self.pull("debian:1"))?;
        let before = used(&self.store())?;
        sync()?;
        let time = timed(&mut self.pull("debian:2"))?;
        let room = used(&self.store())? - before;
        let layer = length(self.blobs_of("debian", "2")?.last().ok_or("an image without layers")?);
        println!(
            "a second image on debian, with {layer} bytes of its own: {:.1} ms, {} KiB of disk",
            milliseconds(time),
            room / 1024
        );
        Ok(())
    }

    /// Puts an image into the registry.
    fn publish(&self, name: &str, tag: &str) -> Result<(), Box<dyn Error>> {
        let layout = self.arguments.layouts.join(name);
        run_to_end(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"])
                .arg(format!("oci:{}:{tag}", layout.display()))
                .arg(format!("docker://{}/{name}:{tag}", self.registry.address)),
        )
    }

    fn bare(&self, name: &str) -> Result<Duration, Box<dyn Error>> {
        let program = std::env::current_exe()?.with_file_name("gunzip");
        timed(Command::new(program).args(self.blobs(name)?))
    }

    fn pull_anew(&self, name: &str) -> Result<Duration, Box<dyn Error>> {
        self.empty_store()?;
        timed(&mut self.pull(&format!("{name}:1")))
    }

    fn pull(&self, image: &str) -> Command {
        let mut command = Command::new(&self.arguments.hyperrun);
        command.arg("--root").arg(self.store()).args(["pull", "-q"]);
        command.arg(format!("{}/{image}", self.registry.address));
        command
    }

    fn peers(&self, name: &str) -> Result<Duration, Box<dyn Error>> {
        let folder = self.arguments.work.join("peers");
        remove(&folder)?;
        fs::create_dir(&folder)?;
        sync()?;
        let layout = folder.join("oci");
        let copied = timed(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false"])
                .arg(format!("docker://{}/{name}:1", self.registry.address))
                .arg(format!("oci:{}:1", layout.display())),
        )?;
        let unpacked = timed(
            Command::new("umoci")
                .args(["raw", "unpack", "--image"])
                .arg(format!("{}:1", layout.display()))
                .arg(folder.join("rootfs")),
        )?;
        remove(&folder)?;
        Ok(copied + unpacked)
    }

    /// The most memory that a pull has resident. The command becomes the client of registries, which
    /// keeps its number; what `VmHWM` says only grows, so reading it until the end finds the most.
    fn peak_kib(&self, name: &str) -> Result<u64, Box<dyn Error>> {
        self.empty_store()?;
        let mut child = silent(&mut self.pull(&format!("{name}:1"))).spawn()?;
        let mut peak = 0;
        while child.try_wait()?.is_none() {
            peak = peak.max(high_water_kib(child.id()).unwrap_or(0));
            sleep(Duration::from_millis(2));
        }
        finish(child, "a pull")?;
        if peak == 0 { Err("the memory of a pull was not seen".into()) } else { Ok(peak) }
    }

    fn store(&self) -> PathBuf {
        self.arguments.work.join("store")
    }

    fn empty_store(&self) -> Result<(), Box<dyn Error>> {
        remove(&self.store())?;
        sync()
    }

    fn blobs(&self, name: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        self.blobs_of(name, "1")
    }

    /// The layers of an image, from its layout.
    fn blobs_of(&self, name: &str, tag: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        let layout = self.arguments.layouts.join(name);
        let blob = |descriptor: &Value| -> Result<PathBuf, Box<dyn Error>> {
            let digest = descriptor["digest"].as_str().ok_or("a descriptor without a digest")?;
            Ok(layout.join("blobs").join(digest.replace(':', "/")))
        };
        let index = json(&layout.join("index.json"))?;
        let tagged = |entry: &&Value| entry["annotations"][REFERENCE] == tag;
        let entries = index["manifests"].as_array().ok_or("an index without manifests")?;
        let manifest = json(&blob(entries.iter().find(tagged).ok_or("no such tag")?)?)?;
        let layers = manifest["layers"].as_array().ok_or("a manifest without layers")?;
        layers.iter().map(blob).collect()
    }
}

/// OCI image-spec, annotations.md.
const REFERENCE: &str = "org.opencontainers.image.ref.name";

fn json(path: &Path) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_reader(File::open(path)?)?)
}

fn length(path: &PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn timed(command: &mut Command) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    run_to_end(command)?;
    Ok(start.elapsed())
}

fn run_to_end(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let told = format!("{command:?}");
    finish(silent(command).spawn()?, &told)
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped())
}

fn finish(mut child: Child, told: &str) -> Result<(), Box<dyn Error>> {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    if child.wait()?.success() { Ok(()) } else { Err(format!("{told} failed: {said}").into()) }
}

/// What is still to be written must not disturb what is measured next.
fn sync() -> Result<(), Box<dyn Error>> {
    run_to_end(&mut Command::new("sync"))
}

fn remove(folder: &Path) -> Result<(), Box<dyn Error>> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Bytes of the disk below a folder, as `du` counts.
fn used(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let about = path.symlink_metadata()?;
        bytes += about.blocks() * 512;
        if about.is_dir() {
            bytes += used(&path)?;
        }
    }
    Ok(bytes)
}
