//! What is said of containers that do not run when a test fails: one that should have run tells why it does not.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::environment_of;

/// The binary and the environment that a command had.
pub(crate) struct Ended {
    binary: OsString,
    environment: Vec<(OsString, OsString)>,
}

impl Ended {
    /// That of a command, if it is the binary's.
    pub(crate) fn of(command: &Command) -> Option<Self> {
        let binary = command.get_program();
        let is_ours = Path::new(binary).file_name().is_some_and(|name| name == "hyperrun");
        let pairs = environment_of(command);
        let environment = pairs.map(|(key, value)| (key.into(), value.into())).collect();
        is_ours.then(|| Self { binary: binary.into(), environment })
    }

    /// A line for each container that was there and does not run: its name and its state.
    pub(crate) fn tell(&self) -> String {
        let all = ["ps", "-aq", "--no-trunc", "-f", "status=created", "-f", "status=exited"];
        let ids = self.ask(&all);
        let inspect = ["inspect", "-f", "{{.Name}} {{json .State}}"].into_iter();
        let inspect: Vec<_> = inspect.chain(ids.lines()).collect();
        if ids.is_empty() { ids } else { format!("\n--- these do not run\n{}", self.ask(&inspect)) }
    }

    /// What the binary answers; nothing where it cannot.
    fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.binary);
        command.args(words).envs(self.environment.iter().map(|(key, value)| (key, value)));
        let answer = command.stdin(Stdio::null()).output();
        answer.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whoever_does_not_run_is_told_with_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("hyperrun");
        // It answers with what it was asked, and with where.
        fs::write(&binary, "#!/bin/sh\nprintf '%s\\n' \"$@\" | tail -2; echo $HYPERRUN_ROOT\n")
            .unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&binary);
        command.args(["exec", "web", "true"]).env("HYPERRUN_ROOT", "here");
        let told = Ended::of(&command).unwrap().tell();
        assert_eq!(told, "\n--- these do not run\nstatus=exited\nhere\nhere\n");
        assert!(Ended::of(&Command::new("timeout")).is_none());
        assert_eq!(Ended::of(&Command::new("/nowhere/hyperrun")).unwrap().tell(), "");
    }
}
