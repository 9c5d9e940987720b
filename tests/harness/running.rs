//! A run of the binary that has not come to its end.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use crate::Output;
use crate::ended::Ended;

/// A running binary, whose orphans become this test's children.
pub struct Running {
    command: Command,
    child: Child,
    seen: Vec<u8>,
}

impl Running {
    /// Starts `command` with an empty standard input.
    pub fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// Starts `command`, which is to be [told](Self::say) things.
    pub fn start_listening(command: Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    fn start_with(mut command: Command, input: Stdio) -> Self {
        set_child_subreaper(Some(rustix::process::getpid())).expect("it can be asked for");
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary starts");
        Self { command, child, seen: Vec::new() }
    }

    /// Waits until standard output holds `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let output = self.child.stdout.as_mut().expect("it was piped");
        let mut byte = [0];
        while !self.seen.ends_with(text.as_bytes()) {
            let count = output.read(&mut byte).expect("a pipe");
            let ended = || Ended::of(&self.command).map(|ended| ended.tell()).unwrap_or_default();
            assert_eq!(count, 1, "{:?} showed no {text:?}{}", self.command, ended());
            self.seen.push(byte[0]);
        }
    }

    /// Sends the process itself a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Writes `text` to standard input.
    pub fn say(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("it listens");
        input.write_all(text.as_bytes()).expect("it reads");
    }

    /// Kills the process itself, at once and without its knowledge.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
    }

    /// Kills the container's supervisor, too, without its knowledge.
    pub fn kill_supervisor(&self) {
        kill_process(self.supervisor(), Signal::KILL).expect("it runs");
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the container has a supervisor.
    pub fn await_supervisor(&self) {
        let id = self.child.id();
        let children = || fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        while children().expect("it runs").is_empty() {
            thread::yield_now();
        }
    }

    /// What the supervisor and the machine have open, as `/proc` shows it.
    pub fn open_below(&self) -> Vec<PathBuf> {
        let supervisor = self.supervisor();
        let machine = only_child(supervisor);
        let folders = [supervisor, machine]
            .map(|process| format!("/proc/{}/fd", process.as_raw_nonzero()))
            .map(|folder| fs::read_dir(folder).expect("it runs"));
        let links = folders.into_iter().flatten().map(|entry| entry.expect("readable").path());
        // What is closed meanwhile is not open.
        links.filter_map(|link| fs::read_link(link).ok()).collect()
    }

    /// Whether the machine has a file in its address space.
    #[track_caller]
    pub fn machine_maps(&self, path: &Path) -> bool {
        let machine = only_child(self.supervisor()).as_raw_nonzero();
        let maps = fs::read_to_string(format!("/proc/{machine}/maps")).expect("it runs");
        maps.lines().any(|line| line.ends_with(path.to_str().expect("ASCII")))
    }

    /// The sum of these fields of the machine's `/proc/PID/FILE`, in KiB.
    #[track_caller]
    pub fn machine_kib(&self, file: &str, fields: &[&str]) -> u64 {
        let machine = only_child(self.supervisor()).as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{machine}/{file}")).expect("it runs");
        let kib = |field: &&str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(*field)?.strip_prefix(':'));
            let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
            value.expect("the field is there").trim().parse().expect("a number")
        };
        fields.iter().map(kib).sum()
    }

    fn supervisor(&self) -> Pid {
        only_child(Pid::from_child(&self.child))
    }

    /// Waits for the end of the process and then of all that it has left behind.
    pub fn finish(self) -> Output {
        let mut output = self.child.wait_with_output().expect("it can be waited for");
        output.stdout.splice(..0, self.seen);
        while wait(WaitOptions::empty()).is_ok() {}
        Output::of(&self.command, output)
    }
}

impl Running {
    /// Whether the process itself has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Waits for the end of the process alone.
    pub fn finish_alone(self) -> Output {
        let mut output = self.child.wait_with_output().expect("it can be waited for");
        output.stdout.splice(..0, self.seen);
        Output::of(&self.command, output)
    }
}

fn only_child(process: Pid) -> Pid {
    let id = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .expect("its children are known");
    let [child] = children.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("one child, not {children:?}");
    };
    Pid::from_raw(child.parse().expect("a number")).expect("not zero")
}
