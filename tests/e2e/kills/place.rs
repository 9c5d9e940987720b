//! A state folder with a few containers, and what must be true of it whatever happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hyperrun_tests::{Output, Running, Sandbox, Snapshot, environment_of};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Place {
    folder: tempfile::TempDir,
    pub(super) sandbox: Sandbox,
    before: World,
    stored: Snapshot,
}

/// What containers may have outside of their folders.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct World {
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
    /// It answers for all containers, and ends with the last of them.
    is_resolver: bool,
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
        timed.envs(environment_of(&command));
        let out = timed.stdin(Stdio::null()).output().unwrap();
        let out = Output::of(&command, out);
        assert!(!matches!(out.code, 124 | 137), "{command:?} does not answer");
        out
    }

    /// The state folder.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The processes that work with this state folder. One that is on its way out belongs to them as long as a thread
    /// of it is left: its files go after its memory, and a tap with its file.
    pub(super) fn processes(&self) -> Vec<Process> {
        let mark = format!("HYPERRUN_ROOT={}", self.state().display());
        let numbers = fs::read_dir("/proc").unwrap();
        let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let one = |id: u32| {
            let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
            let is_marked =
                environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
            let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?.count();
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            let is_resolver = stat.contains("(hyperrun-resolv");
            // Without memory it has no environment either.
            let is_ours = is_marked || environment.is_empty() && stat.contains("(hyperrun");
            let is_gone = state == "Z" && threads == 1;
            (is_ours && !is_gone).then_some(Process { id, parent, is_resolver })
        };
        numbers.filter_map(one).collect()
    }

    /// Name and state of each container.
    pub(super) fn states(&self) -> Vec<(String, String)> {
        let out = self.within(["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
        out.code_is(0);
        let pair =
            |line: &str| line.split_once(' ').map(|(name, state)| (name.into(), state.into()));
        out.stdout.lines().map(|line| pair(line).unwrap()).collect()
    }

    pub(super) fn runs(&self, name: &str) -> bool {
        self.states().iter().any(|(other, state)| other == name && state == "running")
    }

    /// Waits until those who are attached are gone, or the containers that they have started run.
    #[track_caller]
    pub(super) fn settle(&self, when: &str, attached: &mut [(&str, Running)]) {
        for (name, doing) in attached {
            self.wait(when, |place| doing.has_ended() || place.runs(name));
        }
    }

    /// Waits until nothing runs.
    #[track_caller]
    pub(super) fn ends(&self, when: &str) {
        self.wait(when, |place| place.processes().is_empty());
    }

    #[track_caller]
    pub(super) fn wait(&self, when: &str, mut wanted: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !wanted(self) {
            let processes = self.processes();
            assert!(begin.elapsed() < PATIENCE, "{when}: {:?} {processes:?}", self.states());
            await_an_end(&processes);
        }
    }

    /// `ps -a` tells what is: those that run do what is `asked` of them, and of the others there is no process.
    /// The `clients` are attached to some.
    #[track_caller]
    pub(super) fn is_true(&self, when: &str, clients: &[u32], asked: &[&str]) {
        self.tells_truth(when, clients);
        let running = self.states().into_iter().filter(|(_, state)| state == "running");
        let running: Vec<_> = running.map(|(name, _)| name).collect();
        for (name, out) in running.iter().zip(self.ask_all(&running, asked)) {
            if out.code != 0 {
                println!("{name} does not do it: {}", out.stderr);
                self.tell_machine(name);
                // It may be about to end: then it is told so from now on.
                self.wait(when, |place| !place.runs(name));
            }
        }
    }

    /// Runs a program in each of these containers, all at once.
    #[track_caller]
    pub(super) fn ask_all(&self, names: &[String], asked: &[&str]) -> Vec<Output> {
        thread::scope(|scope| {
            let ask = |name: &str| self.within(["exec", name].iter().chain(asked).copied());
            let asking: Vec<_> = names.iter().map(|name| scope.spawn(move || ask(name))).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        })
    }

    /// Tells what a container's machine is at: one that hangs either sleeps or computes. Its kernel's last
    /// words are told, too.
    fn tell_machine(&self, name: &str) {
        let supervisor = self.within(["inspect", "-f", "{{.State.Pid}}", name]).stdout;
        let machine = self.processes().into_iter().find(|one| {
            supervisor.trim().parse().is_ok_and(|supervisor: u32| one.parent == supervisor)
        });
        let folder = machine.map(|machine| PathBuf::from(format!("/proc/{}/task", machine.id)));
        for thread in folder.iter().flat_map(|folder| names(folder)) {
            let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap_or_default();
            println!("{stat}");
        }
        println!("{}", self.within(["logs", "--kernel", name]).stdout);
    }

    /// Waits until the containers that are said to run are those that there are processes of.
    #[track_caller]
    pub(super) fn tells_truth(&self, when: &str, clients: &[u32]) {
        self.wait(when, |place| place.tells_what_is(clients));
    }

    /// Whether there is a supervisor and a machine for each container that runs, and none beside. One that
    /// stands still for a commit is to go on.
    fn tells_what_is(&self, clients: &[u32]) -> bool {
        let (states, mut processes) = (self.states(), self.processes());
        processes.retain(|one| !one.is_resolver && !clients.contains(&one.id));
        let is_machine = |one: &&Process| processes.iter().any(|other| other.id == one.parent);
        let machines = processes.iter().filter(is_machine).count();
        let running = states.iter().filter(|(_, state)| state == "running").count();
        let are_paused = states.iter().any(|(_, state)| state == "paused");
        !are_paused && machines == running && processes.len() == 2 * running
    }

    /// Nothing is left once all are removed.
    #[track_caller]
    pub(super) fn is_cleared(&self, when: &str) {
        let ids = self.within(["ps", "-aq"]).stdout;
        if !ids.is_empty() {
            self.within(["rm", "-f"].into_iter().chain(ids.lines())).code_is(0);
        }
        self.within(["ps", "-aq"]).code_is(0).stdout_is("");
        self.ends(when);
        self.has_folders(when, 0);
        assert_eq!(self.world(), self.before, "{when}");
        self.does("system check");
    }

    /// There are folders of so many containers, and nothing beside.
    #[track_caller]
    pub(super) fn has_folders(&self, when: &str, count: usize) {
        let folders = || names(&self.state().join("containers"));
        // What was being removed or made is cleared away by whoever comes next.
        if folders().len() != count + 1 {
            println!("left for the next one: {:?}", folders());
            self.does("create --name next busybox true");
            self.does("rm next");
        }
        assert_eq!(folders().len(), count + 1, "{when}: {:?}", folders());
    }

    /// What there is of the containers outside of their folders.
    pub(super) fn world(&self) -> World {
        World::now(self.folder.path())
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
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            // A network stays with its bridge; what of a container is on it does not.
            links: taps(names(Path::new("/sys/class/net"))),
            cgroups: names(Path::new("/sys/fs/cgroup/hyperrun")),
            temporary: names(&folder.join("tmp")),
        }
    }

    /// What there is now, once there is nothing that was not there before, or after a while: the host's kernel
    /// takes the tap of a process down behind its end, when its vhost has let go of it.
    pub(super) fn settled(look: impl Fn() -> Self, before: &Self) -> Self {
        let begin = Instant::now();
        loop {
            let now = look();
            if now.is_within(before) || begin.elapsed() > Duration::from_secs(10) {
                return now;
            }
        }
    }

    /// Whether there was all of this before.
    pub(super) fn is_within(&self, before: &Self) -> bool {
        let Self { mounts, links, cgroups, temporary } = self;
        mounts.is_subset(&before.mounts)
            && links.is_subset(&before.links)
            && cgroups.is_subset(&before.cgroups)
            && temporary.is_subset(&before.temporary)
    }
}

/// What lies in a folder; nothing where there is none.
pub(super) fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn taps(mut links: BTreeSet<String>) -> BTreeSet<String> {
    links.retain(|link| !link.starts_with("hr-"));
    links
}

/// Whether a process runs: one that has ended may still wait for its parent.
pub(super) fn runs(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The child of a supervisor, or of who starts one, that runs and answers for one container only.
pub(super) fn child_of(id: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let is_resolver = |id: &u32| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        name.starts_with("hyperrun-resolv")
    };
    let mut ids = children.split_whitespace().filter_map(|id| id.parse().ok());
    ids.find(|id| runs(*id) && !is_resolver(id))
}

/// Kills a process; whether it was there.
pub(super) fn kill(id: u32) -> bool {
    kill_process(pid(id), Signal::KILL).is_ok()
}

/// Waits until one of them ends, and not for long: what is waited for may come without that.
fn await_an_end(processes: &[Process]) {
    const BETWEEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let open = |one: &Process| pidfd_open(pid(one.id), PidfdFlags::empty()).ok();
    let ends: Vec<_> = processes.iter().filter_map(open).collect();
    let mut polled: Vec<_> = ends.iter().map(|end| PollFd::new(end, PollFlags::IN)).collect();
    poll(&mut polled, Some(&BETWEEN)).unwrap();
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}
