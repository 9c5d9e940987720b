//! Where all that is measured lies, and the commands that start it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::subject::{Program, Subject, Way};
use crate::patience::{output_within, run_to_end};

/// The image that the peers have too.
pub(crate) const DEBIAN: &str = "debian:bookworm";

/// How long it may take to copy or unpack a part of it.
const SETTING: Duration = Duration::from_secs(180);

/// A folder on one file system, with everything that is started: so that nobody's files are nearer
/// than another's. It is gone with this value.
pub(crate) struct Stage {
    /// The built hyperrun, with its kernel and agent beside it.
    pub(crate) hyperrun: PathBuf,
    folder: PathBuf,
    begin: Instant,
}

impl Stage {
    /// Copies what `scripts/bench` has prepared in `work` to `folder`, which must not be on an
    /// overlay: podman's own does not go on top of one.
    ///
    /// # Errors
    /// When there is no room, or a program is not there.
    pub(crate) fn set_up(
        hyperrun: &Path,
        work: &Path,
        folder: &Path,
    ) -> Result<Stage, Box<dyn Error>> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let (hyperrun, folder) = (hyperrun.to_owned(), folder.to_owned());
        let stage = Stage { hyperrun, folder, begin: Instant::now() };
        stage.tell("setting the stage");
        let copied =
            ["root", "first-line", "first-line.cpio", "bundle-debian", "bundle-first-line"];
        let mut copy = Command::new("cp");
        copy.arg("-a").args(copied.map(|name| work.join(name))).arg(&stage.folder);
        output_within(&mut copy, SETTING)?;
        stage.unpack(&work.join("debian-rootfs.tar"), "bundle-debian/rootfs")?;
        stage.unpack(&work.join("podman.tar"), ".")?;
        Ok(stage)
    }

    /// Tells a person who waits what is being done, and how many seconds have passed.
    pub(crate) fn tell(&self, step: &str) {
        eprintln!("==> {:3} s: {step}", self.begin.elapsed().as_secs());
    }

    fn unpack(&self, archive: &Path, to: &str) -> Result<(), Box<dyn Error>> {
        let folder = self.folder.join(to);
        fs::create_dir_all(&folder)?;
        let mut unpack = Command::new("tar");
        unpack.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"]).arg(&folder);
        output_within(unpack.arg("-xpf").arg(archive), SETTING).map(drop)
    }

    /// Makes the templates that starts of an image in machines of this size make: that of all images, which also
    /// has the kernel of those that boot, and its own.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(crate) fn make_templates(
        &self,
        image: &str,
        memory_mib: u32,
    ) -> Result<(), Box<dyn Error>> {
        for words in [&[][..], &["--rm", "--image", image]] {
            let mut command = self.hyperrun();
            command.args(["template", "build"]).args(words).args(["--cpus", "1", "-m"]);
            run_to_end(command.arg(format!("{memory_mib}m")))?;
        }
        Ok(())
    }

    /// A container that says `x` back and then waits: `cat` in Debian.
    pub(crate) fn waiting(&self, memory_mib: u32) -> Command {
        let mut command = self.hyperrun();
        command.args(["run", "-i", "--rm", "--network", "none", "--cpus", "1", "-m"]);
        command.arg(format!("{memory_mib}m")).args([DEBIAN, "cat"]);
        command
    }

    /// What starts a subject, for one start.
    pub(crate) fn command(&self, subject: Subject) -> Command {
        match subject.way {
            Way::True => Command::new("/bin/true"),
            Way::Bare => Command::new(self.folder.join("first-line")),
            Way::Crun => self.crun(subject.program),
            Way::Podman => {
                let mut command = self.podman();
                command.args(["run", "--rm", "--network", "none"]);
                add_image(command, subject)
            }
            Way::Qemu => self.qemu(subject.memory_mib),
            Way::First | Way::Cold => {
                let mut command = self.run(subject);
                command.arg("--no-template");
                if subject.way == Way::First {
                    command.env("HYPERRUN_PREPARED_KERNEL", "never");
                }
                add_image(command, subject)
            }
            Way::Template => add_image(self.run(subject), subject),
        }
    }

    fn run(&self, subject: Subject) -> Command {
        let mut command = self.hyperrun();
        // None of the others has a network either.
        command.args(["run", "--rm", "--network", "none", "--timings", "--cpus", "1", "-m"]);
        command.arg(format!("{}m", subject.memory_mib));
        command
    }

    /// hyperrun, with the images that were prepared.
    pub(crate) fn hyperrun(&self) -> Command {
        let mut command = Command::new(&self.hyperrun);
        command.env("HYPERRUN_ROOT", self.folder.join("root"));
        // What is not made ahead would be made beside what is measured.
        command.env("HYPERRUN_IMAGE_TEMPLATES", "never");
        command
    }

    fn crun(&self, program: Program) -> Command {
        let bundle = match program {
            Program::FirstLine => "bundle-first-line",
            Program::Echo => "bundle-debian",
        };
        let mut command = self.bare_crun();
        command.args(["run", "hyperrun-bench"]).current_dir(self.folder.join(bundle));
        command
    }

    /// crun, without a command.
    pub(crate) fn bare_crun(&self) -> Command {
        let mut command = Command::new("crun");
        command.arg("--root").arg(self.folder.join("crun")).arg("--cgroup-manager=disabled");
        command
    }

    /// Where everything lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the bundle `name`: Debian's root file system with another program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn make_bundle(
        &self,
        name: &str,
        program: &[&str],
    ) -> Result<PathBuf, Box<dyn Error>> {
        let (debian, bundle) = (self.folder.join("bundle-debian"), self.folder.join(name));
        let mut config: Value = serde_json::from_slice(&fs::read(debian.join("config.json"))?)?;
        config["process"]["args"] = program.into();
        config["root"]["path"] = debian.join("rootfs").display().to_string().into();
        config["root"]["readonly"] = false.into();
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        Ok(bundle)
    }

    /// Without systemd and its journal, which the lab does not have.
    pub(crate) fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.folder.join("podman"));
        command.arg("--runroot").arg(self.folder.join("podman-run"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "none"]);
        command
    }

    /// As lean as QEMU gets: what its own documentation of `microvm` recommends for a fast start.
    fn qemu(&self, memory_mib: u32) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "microvm,acpi=off,rtc=off,pit=off,pic=off,x-option-roms=off"]);
        command.args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m"]);
        command.arg(memory_mib.to_string());
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-serial", "stdio", "-kernel"]);
        command.arg(self.hyperrun.with_file_name("vmlinux"));
        command.arg("-initrd").arg(self.folder.join("first-line.cpio"));
        command.args(["-append", QEMU_COMMAND_LINE]);
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The next one clears what this one cannot.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// hyperrun's own words, as far as they are not about its devices, so that the kernel does the same.
const QEMU_COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=2 panic=-1 reboot=k \
                                 tsc=reliable no_timer_check noreplace-smp random.trust_cpu=on \
                                 cryptomgr.notests rcupdate.rcu_expedited=1 dummy.numdummies=0 \
                                 swiotlb=noforce";

fn add_image(mut command: Command, subject: Subject) -> Command {
    command.arg(image(subject));
    if subject.program == Program::Echo {
        command.args(["echo", "hello"]);
    }
    command
}

/// The image that a subject is started from.
pub(crate) fn image(subject: Subject) -> String {
    match (subject.program, subject.layers) {
        (Program::FirstLine, _) => "hyperrun-bench".to_owned(),
        (Program::Echo, 1) => DEBIAN.to_owned(),
        (Program::Echo, layers) => format!("hyperrun-layers:{layers}"),
    }
}
