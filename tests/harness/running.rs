//! A run of the binary that has not come to its end.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use crate::Output;

/// A running binary, whose orphans become this test's children.
pub struct Running {
    told: String,
    child: Child,
    seen: Vec<u8>,
}

impl Running {
    /// Starts `command` with an empty standard input.
    pub fn start(mut command: Command) -> Self {
        set_child_subreaper(Some(rustix::process::getpid())).expect("it can be asked for");
        let told = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { told, child: command.spawn().expect("the binary starts"), seen: Vec::new() }
    }

    /// Waits until standard output holds `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let output = self.child.stdout.as_mut().expect("it was piped");
        let mut byte = [0];
        while !self.seen.ends_with(text.as_bytes()) {
            let count = output.read(&mut byte).expect("a pipe");
            assert_eq!(count, 1, "{} ended without showing {text:?}", self.told);
            self.seen.push(byte[0]);
        }
    }

    /// Kills the process itself, at once and without its knowledge.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Kills the container's supervisor, too, without its knowledge.
    pub fn kill_supervisor(&self) {
        kill_process(self.supervisor(), Signal::KILL).expect("it runs");
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

    fn supervisor(&self) -> Pid {
        only_child(Pid::from_child(&self.child))
    }

    /// Waits for the end of the process and then of all that it has left behind.
    pub fn finish(self) -> Output {
        let mut output = self.child.wait_with_output().expect("it can be waited for");
        output.stdout.splice(..0, self.seen);
        while wait(WaitOptions::empty()).is_ok() {}
        Output::new(self.told, output)
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
