//! A state folder with one container at most, and what must be true of it whatever happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyperrun_tests::{Output, Sandbox, Snapshot};
use rustix::process::{Pid, Signal, kill_process};

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Place {
    folder: tempfile::TempDir,
    pub(super) sandbox: Sandbox,
    before: World,
    stored: Snapshot,
}

/// What a container may have outside of its folder.
#[derive(Debug, PartialEq, Eq)]
struct World {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    temporary: BTreeSet<String>,
}

/// A process of this state folder's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) id: u32,
    pub(super) parent: u32,
}

impl Place {
    /// With templates for the machines that the tests use.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let sandbox = Sandbox::beside_others(folder.path().join("state"))
            .env("TMPDIR", temporary.to_str().unwrap());
        sandbox.does("run --rm busybox true");
        sandbox.does("run --rm -m 16m busybox true");
        // What a commit makes once for all images is made.
        sandbox.does("create --name one busybox true");
        sandbox.does("commit one made:1");
        sandbox.does("rm one");
        sandbox.does("rmi made:1");
        let (before, stored) = (World::now(folder.path()), sandbox.stored());
        Self { folder, sandbox, before, stored }
    }

    #[track_caller]
    pub(super) fn does(&self, line: &str) -> Output {
        let out = self.within(line.split(' '));
        out.code_is(0);
        out
    }

    /// Runs the binary, which answers before anybody loses patience.
    #[track_caller]
    pub(super) fn within<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Output {
        let command = self.sandbox.command(words);
        let mut timed = Command::new("timeout");
        timed.args(["-k", "1", "30"]).arg(command.get_program()).args(command.get_args());
        timed.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let out = timed.stdin(Stdio::null()).output().unwrap();
        let out = Output::new(format!("{command:?}"), out);
        assert!(!matches!(out.code, 124 | 137), "{command:?} does not answer");
        out
    }

    /// The processes that work with this state folder.
    pub(super) fn processes(&self) -> Vec<Process> {
        let mark = format!("HYPERRUN_ROOT={}", self.folder.path().join("state").display());
        let numbers = fs::read_dir("/proc").unwrap();
        let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let one = |id: u32| {
            let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
            let is_ours = environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            (is_ours && state != "Z").then_some(Process { id, parent })
        };
        numbers.filter_map(one).collect()
    }

    fn states(&self) -> Vec<String> {
        let out = self.within(["ps", "-a", "--format", "{{.State}}"]);
        out.code_is(0);
        out.stdout.lines().map(str::to_owned).collect()
    }

    /// Waits until a container runs or nothing does.
    #[track_caller]
    pub(super) fn settles(&self, when: &str) {
        self.wait(when, |place| place.processes().is_empty() || place.states() == ["running"]);
    }

    /// Waits until nothing runs.
    #[track_caller]
    pub(super) fn ends(&self, when: &str) {
        self.wait(when, |place| place.processes().is_empty());
    }

    #[track_caller]
    fn wait(&self, when: &str, wanted: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !wanted(self) {
            let processes = self.processes();
            assert!(begin.elapsed() < PATIENCE, "{when}: {:?} {processes:?}", self.states());
        }
    }

    /// `ps -a` tells what is: one that runs answers, and of any other there is no process.
    #[track_caller]
    pub(super) fn is_true(&self, when: &str) {
        for state in self.states() {
            if state == "running" {
                let out = self.within(["exec", "one", "echo", "here"]);
                // It may be about to end: then it is told so from now on.
                if out.code != 0 {
                    self.wait(when, |place| place.states() != ["running"]);
                }
            } else if state != "paused" {
                self.ends(when);
            }
        }
        // One that stood still for a commit goes on.
        self.wait(when, |place| !place.states().iter().any(|state| state == "paused"));
    }

    /// Nothing is left once it was removed.
    #[track_caller]
    pub(super) fn is_cleared(&self, when: &str) {
        let ids = self.within(["ps", "-aq"]).stdout;
        for id in ids.lines() {
            self.within(["rm", "-f", id]).code_is(0);
        }
        self.within(["ps", "-aq"]).code_is(0).stdout_is("");
        self.ends(when);
        let containers = fs::read_dir(self.folder.path().join("state/containers")).unwrap();
        let left: Vec<_> = containers.map(|entry| entry.unwrap().file_name()).collect();
        // What was being removed or made is cleared away by whoever comes next.
        if left != [".lock"] {
            println!("left for the next one: {left:?}");
            self.does("create --name next busybox true");
            self.does("rm next");
        }
        let containers = fs::read_dir(self.folder.path().join("state/containers")).unwrap();
        let left: Vec<_> = containers.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"], "{when}");
        assert_eq!(World::now(self.folder.path()), self.before, "{when}");
        self.does("system check");
    }

    /// The images are those that were there, once what was committed is removed.
    #[track_caller]
    pub(super) fn is_as_it_was(&self) {
        self.does("create --name one busybox true");
        self.does("commit one made:1");
        self.does("rm one");
        self.does("rmi made:1");
        self.does("image prune -f");
        assert_eq!(self.sandbox.stored(), self.stored);
    }
}

impl World {
    fn now(folder: &Path) -> Self {
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            // A network stays with its bridge; what of a container is on it does not.
            links: taps(names("/sys/class/net")),
            cgroups: names("/sys/fs/cgroup/hyperrun"),
            temporary: names(folder.join("tmp").to_str().unwrap()),
        }
    }
}

fn taps(mut links: BTreeSet<String>) -> BTreeSet<String> {
    links.retain(|link| !link.starts_with("hr-"));
    links
}

/// Kills a process; whether it was there.
pub(super) fn kill(id: u32) -> bool {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    kill_process(id, Signal::KILL).is_ok()
}
