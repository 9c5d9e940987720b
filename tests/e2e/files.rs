//! The files of containers from outside: copied, compared, committed; whatever the container does.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod commit;
mod copy;
mod diff;
mod hostile;

use std::fs;
use std::path::PathBuf;

use hyperrun_tests::{Output, Running, Sandbox};

/// What a container does when something is done about its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Running,
    Paused,
    Exited,
    Created,
}

impl Doing {
    const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Exited, Self::Created];
    /// Those in which a program has run.
    const RAN: [Self; 3] = [Self::Running, Self::Paused, Self::Exited];
}

/// A state folder of this test's own with the busybox image, and a folder for files.
struct Home {
    folder: tempfile::TempDir,
    sandbox: Sandbox,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::beside_others(folder.path().join("state"));
        fs::create_dir(folder.path().join("here")).unwrap();
        Self { folder, sandbox }
    }

    /// A path of this machine.
    fn here(&self, path: &str) -> PathBuf {
        self.folder.path().join("here").join(path)
    }

    /// The same for a command line.
    fn word(&self, path: &str) -> String {
        self.here(path).to_str().unwrap().to_owned()
    }

    /// A container named `box` of this image whose program has run this script.
    #[track_caller]
    fn container_of(&self, image: &str, script: &str, doing: Doing) {
        let _ = self.sandbox.hyperrun(["rm", "-f", "box"]);
        let rest = format!("{script}; echo ready; exec sleep 1000");
        let begin = |verb: &[&str], script: &str| {
            let words = ["--name", "box", image, "sh", "-ec", script];
            self.sandbox.hyperrun([verb, &words].concat()).code_is(0);
        };
        match doing {
            Doing::Created => begin(&["create"], script),
            Doing::Exited => begin(&["run"], script),
            Doing::Running | Doing::Paused => {
                begin(&["run", "-d"], &rest);
                let mut follower = Running::start(self.sandbox.command(["logs", "-f", "box"]));
                follower.wait_for("ready\n");
                follower.kill();
            }
        }
        if doing == Doing::Paused {
            self.sandbox.does("pause box");
        }
    }

    #[track_caller]
    fn container(&self, script: &str, doing: Doing) {
        self.container_of("busybox", script, doing);
    }

    fn cp(&self, from: &str, to: &str) -> Output {
        self.sandbox.hyperrun(["cp", from, to])
    }

    #[track_caller]
    fn exec(&self, script: &str) -> Output {
        let out = self.sandbox.hyperrun(["exec", "box", "sh", "-ec", script]);
        out.code_is(0);
        out
    }

    /// What a container of this image says.
    #[track_caller]
    fn run(&self, image: &str, script: &str) -> Output {
        let out = self.sandbox.hyperrun(["run", "--rm", image, "sh", "-ec", script]);
        out.code_is(0);
        out
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.sandbox.hyperrun(["unpause", "box"]);
        let _ = self.sandbox.hyperrun(["rm", "-f", "box"]);
    }
}
