//! The Debian package: installed, upgraded under a container that runs, and removed, in a copy of this
//! machine's files that vanishes.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a test that hangs shows what it was at")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperrun_tests::{Output, Running, SmallDisk, busybox_archive};

/// This machine's files, to be changed without harm.
struct Machine {
    disk: SmallDisk,
    /// Who holds the mounts that make it up.
    holder: Running,
    packages: PathBuf,
}

/// Lays a disk over the root of this machine, for whoever comes into the same namespace.
const MOUNT: &str = "set -e; mkdir upper work root; \
    mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root; \
    mount --rbind /dev root/dev; mount --rbind /proc root/proc; mount --rbind /sys root/sys; \
    mkdir root/store; mount --bind store root/store; echo ready; exec sleep 100000";

impl Machine {
    fn new() -> Self {
        let disk = SmallDisk::new(1024);
        let packages = disk.path().join("store/packages");
        fs::create_dir_all(&packages).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", MOUNT]).current_dir(disk.path());
        let mut holder = Running::start(unshare);
        holder.wait_for("ready\n");
        Self { disk, holder, packages }
    }

    fn run(&self, script: &str) -> Output {
        let mut enter = Command::new("nsenter");
        enter.args(["-m", "-t", &self.holder.id().to_string(), "chroot"]);
        enter.arg(self.disk.path().join("root")).args(["sh", "-ec", script]);
        enter.env("HYPERRUN_ROOT", "/store/root").env("HYPERRUN_IMAGE_TEMPLATES", "never");
        Output::new(script.to_owned(), enter.output().expect("there is nsenter(1)"))
    }

    #[track_caller]
    fn does(&self, script: &str) -> Output {
        println!("{script}");
        let out = self.run(script);
        out.code_is(0);
        out
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that has failed may have left some.
        drop(self.run("! hyperrun ps -aq | xargs -r hyperrun rm -f"));
        self.holder.kill();
    }
}

#[track_caller]
fn run(program: &str, words: &[&Path]) {
    let out = Command::new(program).args(words).output().unwrap();
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
}

/// The package, and one of a later version with another agent.
fn packages(machine: &Machine) -> [String; 2] {
    let made = PathBuf::from(std::env::var("HYPERRUN_TEST_PACKAGE").expect("the soak sets it"));
    let tree = machine.packages.join("tree");
    run("dpkg-deb", &[Path::new("-R"), &made, &tree]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    fs::write(&control, text.replacen("\nVersion: ", "\nVersion: 9", 1)).unwrap();
    // What the kernel unpacks is the same with zeros behind it.
    let agent = tree.join("usr/lib/hyperrun/initramfs.cpio");
    OpenOptions::new().append(true).open(agent).unwrap().write_all(&[0; 4096]).unwrap();
    let [old, new] = ["old.deb", "new.deb"].map(|name| machine.packages.join(name));
    fs::copy(made, old).unwrap();
    run("dpkg-deb", &[Path::new("-Znone"), Path::new("-b"), &tree, &new]);
    ["old.deb", "new.deb"].map(|name| format!("/store/packages/{name}"))
}

#[test]
#[ignore = "it needs scripts/package: the soak runs it"]
fn a_package_is_installed_upgraded_under_a_container_and_removed() {
    let machine = Machine::new();
    let [old, new] = packages(&machine);
    fs::copy(busybox_archive(), machine.packages.join("busybox.tar")).unwrap();
    machine.does(&format!(
        "dpkg -i --no-triggers {old} >&2; hyperrun load -i /store/packages/busybox.tar"
    ));
    machine.does("hyperrun run --rm busybox echo one").stdout_is("one\n").stderr_is("");
    machine.does("hyperrun run -d --name lasting busybox sleep 1000");
    machine.does(&format!("dpkg -i --no-triggers {new} >&2"));
    machine.does("dpkg-query -W -f '${Version}' hyperrun").stdout_has("9");
    machine.does("hyperrun exec lasting echo still").stdout_is("still\n");
    machine.does("hyperrun run --rm busybox echo two").stdout_is("two\n").stderr_is("");
    machine.does("hyperrun template ls -q | wc -l").stdout_is("2\n");
    machine.does("hyperrun stop -t 0 lasting; hyperrun start lasting");
    machine
        .does("hyperrun exec lasting echo again; hyperrun rm -f lasting")
        .stdout_is("again\nlasting\n");
    let left =
        "while read file; do [ -d $file ] || [ ! -e $file ] || echo $file; done </store/list";
    let remove = "dpkg -L hyperrun >/store/list; dpkg -r --no-triggers hyperrun >&2";
    machine.does(&format!("{remove}; {left}")).stdout_is("");
    machine.does("grep -q bin/hyperrun /store/list; [ ! -e /usr/lib/hyperrun ]");
}
