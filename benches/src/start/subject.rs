//! How long programs take from their start to the first byte of what they run.

use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One way to start [`first-line`](../bin/first-line.rs), and where its time is told.
pub(crate) struct Subject {
    /// What a person reads in the table.
    pub(crate) name: &'static str,
    /// The key in the JSON file.
    pub(crate) key: &'static str,
    command: Command,
}

/// Where everything that is measured lies.
pub(crate) struct Places<'a> {
    /// The built hyperrun, with its kernel and agent beside it.
    pub(crate) hyperrun: &'a Path,
    /// What `scripts/bench` prepared: an OCI bundle, an initramfs, the program.
    pub(crate) work: &'a Path,
}

impl Places<'_> {
    /// All ways, in the table's order.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        vec![
            Subject { name: "the program itself", key: "true_ms", command: self.bare() },
            Subject { name: "crun run", key: "crun_run_ms", command: self.crun() },
            Subject { name: "QEMU microvm, to init", key: "qemu_init_ms", command: self.qemu() },
            Subject { name: "hyperrun, booted", key: "cold_app_ms", command: self.hyperrun_cold() },
            Subject { name: "hyperrun run", key: "template_app_ms", command: self.hyperrun() },
        ]
    }

    fn bare(&self) -> Command {
        Command::new(self.work.join("first-line"))
    }

    fn crun(&self) -> Command {
        let mut command = Command::new("crun");
        command.arg("--root").arg(self.work.join("crun"));
        command.args(["--cgroup-manager=disabled", "run", "hyperrun-bench"]);
        command.current_dir(self.work.join("bundle"));
        command
    }

    /// As lean as QEMU gets: what its own documentation of `microvm` recommends for a fast start.
    fn qemu(&self) -> Command {
        let kernel = self.hyperrun.with_file_name("vmlinux");
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "microvm,acpi=off,rtc=off,pit=off,pic=off,x-option-roms=off"]);
        command.args(["-accel", "kvm", "-cpu", "host", "-m", "512", "-smp", "1"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-serial", "stdio"]);
        command.arg("-kernel").arg(kernel);
        command.arg("-initrd").arg(self.work.join("first-line.cpio"));
        command.args(["-append", QEMU_COMMAND_LINE]);
        command
    }

    fn hyperrun(&self) -> Command {
        let mut command = Command::new(self.hyperrun);
        command.args(["run", "--rm", "-m", "512m", "--cpus", "1", "hyperrun-bench"]);
        command
    }

    fn hyperrun_cold(&self) -> Command {
        let mut command = Command::new(self.hyperrun);
        command.args(["run", "--rm", "--no-template", "-m", "512m", "--cpus", "1"]);
        command.arg("hyperrun-bench");
        command
    }
}

/// hyperrun's own words, as far as they are not about its devices, so that the kernel does the same.
const QEMU_COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=2 panic=-1 reboot=k \
                                 tsc=reliable no_timer_check noreplace-smp random.trust_cpu=on \
                                 cryptomgr.notests rcupdate.rcu_expedited=1 dummy.numdummies=0";

impl Subject {
    /// Starts it once and waits for its end; the time is that to the first byte of its output.
    ///
    /// # Errors
    /// When it cannot be started, or shows nothing.
    pub(crate) fn run(&mut self) -> Result<Duration, Box<dyn Error>> {
        let begin = Instant::now();
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.name))?;
        let mut output = child.stdout.take().expect("it was piped");
        let mut first = [0];
        let read = output.read(&mut first)?;
        let time = begin.elapsed();
        let mut rest = Vec::new();
        output.read_to_end(&mut rest)?;
        let ended = child.wait_with_output()?;
        if read == 0 {
            let words = String::from_utf8_lossy(&ended.stderr);
            return Err(format!("{} showed nothing: {words}", self.name).into());
        }
        Ok(time)
    }
}
