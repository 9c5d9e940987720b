//! `hyperrun info`: what is here, and which defaults are in force.

use std::fs;
use std::process::ExitCode;

use runtime::doctor::{KvmVerdict, examine};
use runtime::places::Places;
use runtime::settings::{Settings, ShownSetting};
use runtime::{
    Found, GuestFile, Status, find_agent, find_kernel, find_registry, is_of_another_version,
};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::snapshot::snapshots;
use crate::commands::{containers, open_store, places, print};
use crate::failure::Failure;
use crate::{listing, words};

/// Show what is on this machine, and which defaults are in force
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun info
  hyperrun info --format '{{.ContainersRunning}} of {{.Containers}} run'
  hyperrun info -f '{{range .Defaults}}{{.Key}}={{.Value}} {{end}}'")]
pub(crate) struct InfoArgs {
    /// Print what a template makes of it, or `json` for JSON
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Prints one thing in each line.
pub(crate) fn run(args: &InfoArgs, common: &Common) -> Result<ExitCode, Failure> {
    let places = places(common)?;
    let known = Known {
        all: containers(common)?.list()?,
        images: open_store(common)?.list()?.len(),
        snapshots: snapshots(common)?.list()?.len(),
        settings: Settings::load()?,
        kvm: examine(&places).kvm,
        host: Host::look(),
        places,
    };
    let text = match args.format.as_deref() {
        None | Some("") => known.lines(),
        Some("json") => known.fields().to_string() + "\n",
        Some(format) => listing::render(&listing::parse(format)?, &known.fields())? + "\n",
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// All that is shown.
struct Known {
    all: Vec<Found>,
    images: usize,
    snapshots: usize,
    settings: Settings,
    kvm: KvmVerdict,
    host: Host,
    places: Places,
}

impl Known {
    /// The fields for `--format`, by Docker's names where it has them.
    fn fields(&self) -> Value {
        let host = &self.host;
        let (running, paused, stopped) = self.counts();
        let files = Settings::files();
        json!({
            "Containers": self.all.len(),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": stopped,
            "OtherVersions": self.others(),
            "Images": self.images,
            "Snapshots": self.snapshots,
            "LoggingDriver": self.settings.log_driver.value.to_string(),
            "DockerRootDir": self.places.data.display().to_string(),
            "ServerVersion": env!("CARGO_PKG_VERSION"),
            "KernelVersion": host.kernel,
            "OperatingSystem": host.system,
            "OSType": "linux",
            "Architecture": host.architecture,
            "NCPU": host.cpus,
            "MemTotal": host.memory_bytes,
            "Name": host.name,
            "KVM": self.kvm.word(),
            "GuestKernel": path(find_kernel()),
            "Agent": path(find_agent()),
            "RegistryClient": path(find_registry()),
            "ConfigFiles": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
            "Defaults": self.settings.shown().iter().map(default).collect::<Vec<_>>(),
        })
    }

    fn lines(&self) -> String {
        let host = &self.host;
        let (running, paused, stopped) = self.counts();
        let others = self.others().join(", ");
        let others = match others.as_str() {
            "" => String::new(),
            others => format!(" Of Another Version: {others}; restart them\n"),
        };
        let mut text = format!(
            "Containers: {}\n Running: {running}\n Paused: {paused}\n Stopped: {stopped}\n{others}\
             Images: {}\nSnapshots: {}\nVersion: {}\nKernel Version: {}\nOperating System: {}\n\
             Architecture: {}\nCPUs: {}\nTotal Memory: {}\nName: {}\nRoot Dir: {}\nKVM: {}\n\
             Guest Kernel: {}\nAgent: {}\nRegistry Client: {}\nDefaults:\n",
            self.all.len(),
            self.images,
            self.snapshots,
            env!("CARGO_PKG_VERSION"),
            host.kernel,
            host.system,
            host.architecture,
            host.cpus,
            words::binary_size(host.memory_bytes),
            host.name,
            self.places.data.display(),
            self.kvm.word(),
            path(find_kernel()),
            path(find_agent()),
            path(find_registry()),
        );
        for ShownSetting { key, value, origin } in self.settings.shown() {
            text.push_str(&format!(" {key}: {value} ({origin})\n"));
        }
        text
    }

    /// The names of those whose supervisors this hyperrun does not understand.
    fn others(&self) -> Vec<&str> {
        let others = self.all.iter().filter(|found| is_of_another_version(found));
        others.map(|found| found.record.name.as_str()).collect()
    }

    /// How many run, stand still, and do neither.
    fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: &[Status]| {
            self.all.iter().filter(|one| wanted.contains(&one.state.status)).count()
        };
        let running = count(&[Status::Running, Status::Restarting]);
        let paused = count(&[Status::Paused]);
        (running, paused, self.all.len() - running - paused)
    }
}

/// What is known about this machine; what cannot be told is empty or 0.
struct Host {
    kernel: String,
    system: String,
    architecture: &'static str,
    name: String,
    cpus: usize,
    memory_bytes: u64,
}

impl Host {
    fn look() -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            kernel: line("/proc/sys/kernel/osrelease"),
            system: system_name(&line("/etc/os-release")),
            architecture: std::env::consts::ARCH,
            name: line("/proc/sys/kernel/hostname"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: runtime::doctor::total_memory().unwrap_or(0),
        }
    }
}

/// `PRETTY_NAME` of os-release(5).
fn system_name(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

fn path(found: Result<GuestFile, runtime::Error>) -> String {
    found.map_or_else(|_| "not found".to_owned(), |file| file.path.display().to_string())
}

fn default(setting: &ShownSetting) -> Value {
    let ShownSetting { key, value, origin } = setting;
    json!({ "Key": key, "Value": value, "Origin": origin.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_has_a_name() {
        let release = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian";
        assert_eq!(system_name(release), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(system_name("ID=debian"), "Linux");
    }
}
