//! A place for the tests of a container's life: containers of its own, gone when the test is over.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::PathBuf;

use hyperrun_tests::{Running, Sandbox};

/// A state folder of this test's own with the busybox image.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
}

impl Home {
    /// With a copy of the image of its own.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::beside_others(folder.path());
        Self { folder, sandbox }
    }

    /// It fails with this code and these words.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str, code: i32, words: &str) {
        self.sandbox
            .hyperrun(line.split(' '))
            .code_is(code)
            .stderr_has(words)
            .stderr_has("error: ");
    }

    /// What a template makes of a container.
    #[track_caller]
    pub(crate) fn shows(&self, name: &str, template: &str, wanted: &str) {
        let out = self.sandbox.hyperrun(["inspect", "-f", template, name]);
        let state = self.sandbox.hyperrun(["inspect", "-f", "{{json .State}}", name]).stdout;
        assert_eq!(out.code_is(0).stdout, format!("{wanted}\n"), "{state}");
    }

    /// A container that runs a script, which has said in its log that it is ready.
    #[track_caller]
    pub(crate) fn runs(&self, name: &str, script: &str) {
        let arguments = ["run", "-d", "--name", name, "busybox", "sh", "-c", script];
        self.sandbox.hyperrun(arguments).code_is(0);
        self.is_ready(name);
    }

    /// Waits until a container has said in its log that it is ready.
    #[track_caller]
    pub(crate) fn is_ready(&self, name: &str) {
        let mut follower = Running::start(self.sandbox.command(["logs", "-f", name]));
        follower.wait_for("ready\n");
        follower.kill();
    }

    /// Where a container's files lie.
    pub(crate) fn folder_of(&self, name: &str) -> PathBuf {
        let id =
            self.sandbox.does(&format!("inspect -f {{{{.Id}}}} {name}")).stdout.trim().to_owned();
        self.folder.path().join("containers").join(id)
    }

    /// Takes away what the host has of this home's networks.
    fn remove_networks(&self) {
        if self.folder.path().join("networks").exists() {
            let _ = self.sandbox.hyperrun(["network", "prune", "-f"]);
        }
    }

    /// The process that looks after a container.
    pub(crate) fn supervisor(&self, name: &str) -> String {
        self.sandbox.does(&format!("inspect -f {{{{.State.Pid}}}} {name}")).stdout.trim().to_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.sandbox.remove_containers();
            return self.remove_networks();
        }
        let all = self.sandbox.hyperrun(["ps", "-aq"]).stdout;
        for id in all.lines() {
            let _ = self.sandbox.hyperrun(["rm", "-f", id]);
        }
        self.remove_networks();
    }
}
