//! A run of the binary that has not come to its end.

use std::fs;
use std::io::Read;
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

    /// The same for its only child, which supervises the container.
    pub fn kill_supervisor(&self) {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
            .expect("its children are known");
        let [supervisor] = children.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("one child, not {children:?}");
        };
        let supervisor = Pid::from_raw(supervisor.parse().expect("a number")).expect("not zero");
        kill_process(supervisor, Signal::KILL).expect("it runs");
    }

    /// Waits for the end of the process and then of all that it has left behind.
    pub fn finish(self) -> Output {
        let mut output = self.child.wait_with_output().expect("it can be waited for");
        output.stdout.splice(..0, self.seen);
        while wait(WaitOptions::empty()).is_ok() {}
        Output::new(self.told, output)
    }
}
