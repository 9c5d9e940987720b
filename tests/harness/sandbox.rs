//! Runs the built binary against the store that the test images were loaded into.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Output, Snapshot};

/// The binary under test: `HYPERRUN_BIN`, or the tree's own release build.
pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("HYPERRUN_BIN") {
        Some(path) => path.into(),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/hyperrun")),
    }
}

/// The store with the test images, which `scripts/test` names and fills.
pub(crate) fn store() -> PathBuf {
    std::env::var_os("HYPERRUN_ROOT").map(PathBuf::from).expect("scripts/test sets HYPERRUN_ROOT")
}

/// The archive with the busybox image, which `scripts/test` makes.
pub fn busybox_archive() -> String {
    std::env::var("HYPERRUN_TEST_IMAGES").expect("scripts/test sets it") + "/busybox.tar"
}

/// Lets a command that makes a container boot its machine, unless it says so itself.
fn boot(arguments: &mut Vec<OsString>) {
    const WORD: &str = "--no-template";
    let verb = usize::from(arguments.first().is_some_and(|word| word == "container"));
    let makes_one = arguments.get(verb).is_some_and(|word| word == "run" || word == "create");
    if makes_one && !arguments.iter().any(|word| word == WORD) {
        arguments.insert(verb + 1, WORD.into());
    }
}

/// One test's use of the binary: its state folder and its environment. With `HYPERRUN_TEST_COLD` set,
/// every machine boots; with `HYPERRUN_TEST_WARM`, runs have templates of their images made.
#[derive(Default)]
pub struct Sandbox {
    binary: Option<PathBuf>,
    root: Option<PathBuf>,
    env: Vec<(String, String)>,
    templates: bool,
}

impl Sandbox {
    /// Uses the store that holds the test images.
    pub fn with_images() -> Self {
        Self::default()
    }

    /// Uses `root` as the state folder instead.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: Some(root.into()), ..Self::default() }
    }

    /// Uses `root` with the busybox image in it.
    #[track_caller]
    pub fn with_busybox(root: impl Into<PathBuf>) -> Self {
        let sandbox = Self::at(root);
        sandbox.hyperrun(["load", "-i", &busybox_archive()]).code_is(0);
        sandbox
    }

    /// Uses `root` with the busybox image in it and nothing else of its own but containers: templates and
    /// blank disks are those that the other tests have made.
    #[track_caller]
    pub fn beside_others(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref();
        fs::create_dir_all(root).expect("a folder of the test's own");
        for name in ["templates", "scratch"] {
            let shared = store().join(name);
            fs::create_dir_all(&shared).expect("the store can be written");
            symlink(shared, root.join(name)).expect("the folder is new");
        }
        Self::with_busybox(root)
    }

    /// Runs this binary instead: tests of a package know the one that was just built.
    #[must_use]
    pub fn of(mut self, binary: &str) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Everything in the image store but its locks.
    pub fn stored(&self) -> Snapshot {
        Snapshot::of(&self.root.clone().unwrap_or_else(store).join("images"))
    }

    /// Sets a variable of the binary's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Uses templates even where all tests are to do without.
    #[must_use]
    pub fn with_templates(mut self) -> Self {
        self.templates = true;
        self
    }

    /// The command with these arguments, for a test that wants more than [`Self::hyperrun`].
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.binary.clone().unwrap_or_else(binary));
        let mut arguments: Vec<_> =
            arguments.into_iter().map(|word| word.as_ref().to_owned()).collect();
        if !self.templates && std::env::var_os("HYPERRUN_TEST_COLD").is_some() {
            boot(&mut arguments);
        }
        command.args(arguments).env("HYPERRUN_ROOT", self.root.clone().unwrap_or_else(store));
        if std::env::var_os("HYPERRUN_TEST_WARM").is_none() {
            // What a test has left behind when it ends would run beside the next.
            command.env("HYPERRUN_IMAGE_TEMPLATES", "never");
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs the binary to its end with an empty standard input.
    pub fn hyperrun<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        let mut command = self.command(arguments);
        let output = command.stdin(Stdio::null()).output().expect("the binary starts");
        Output::of(&command, output)
    }

    /// Runs the binary with the words of a line, and it succeeds.
    #[track_caller]
    pub fn does(&self, line: &str) -> Output {
        let out = self.hyperrun(line.split(' '));
        out.code_is(0);
        out
    }

    /// Kills and removes every container there is.
    #[track_caller]
    pub fn remove_containers(&self) {
        let all = self.hyperrun(["ps", "-aq", "--no-trunc"]);
        let ids: Vec<_> = all.code_is(0).stdout.lines().collect();
        if !ids.is_empty() {
            self.hyperrun([&["rm", "-f"], &ids[..]].concat()).code_is(0);
        }
        self.hyperrun(["ps", "-aq"]).code_is(0).stdout_is("");
    }

    /// Runs the binary to its end with `input` as its standard input.
    pub fn hyperrun_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Output {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("it was piped");
        let input = input.to_vec();
        // The program may end before it has read everything; what it made of that is judged by
        // its output, so a broken pipe is no failure of the test.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("it can be waited for");
        feeder.join().expect("the feeder does not panic");
        Output::of(&command, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_a_container_is_told_to_boot() {
        for (line, cold) in [
            ("run busybox run", "run --no-template busybox run"),
            ("create -i busybox", "create --no-template -i busybox"),
            ("container run busybox", "container run --no-template busybox"),
            ("start run", "start run"),
            ("container ls", "container ls"),
        ] {
            let mut words = line.split(' ').map(OsString::from).collect();
            boot(&mut words);
            assert_eq!(words.join(OsStr::new(" ")), cold);
        }
    }
}
