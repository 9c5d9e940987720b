//! A program on a terminal that has a screen: what stands on it is read as a person sees it.

use std::process::Command;
use std::time::{Duration, Instant};

/// How long a screen may take to show something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tmux server of a test's own; it ends with this value.
pub struct Tmux {
    /// Its socket.
    folder: tempfile::TempDir,
}

impl Tmux {
    /// Starts `command` on a screen of this size.
    #[track_caller]
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let tmux = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // It stays when the program has ended, so that its last words can be read.
        let words = ["new-session", "-d", "-x", &columns, "-y", &rows, "--"];
        let options = "-f /dev/null start-server ; set-option -g remain-on-exit on ; set-option -g status off ;";
        let mut start = tmux.tmux(&options.split(' ').collect::<Vec<_>>());
        start.args(words).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            start.env(key, value.unwrap_or_default());
        }
        tmux.done(start);
        tmux
    }

    /// Types words and the names of keys, as tmux(1) has them.
    #[track_caller]
    pub fn send(&self, keys: &[&str]) {
        self.done(self.tmux(&[&["send-keys"], keys].concat()));
    }

    /// Gives the screen another size.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.done(self.tmux(&["resize-window", "-x", &columns, "-y", &rows]));
    }

    /// What stands on the screen, line by line.
    #[track_caller]
    pub fn screen(&self) -> Vec<String> {
        self.done(self.tmux(&["capture-pane", "-p"])).lines().map(str::to_owned).collect()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn wait_until(&self, wanted: impl Fn(&[String]) -> bool) {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the screen shows\n{}", screen.join("\n"));
        }
    }

    /// Waits until the program has ended. Not by the words that tmux puts on the screen then: it leaves
    /// them out where the terminal hangs up before it has heard of the program's end.
    #[track_caller]
    pub fn wait_for_end(&self) {
        let begin = Instant::now();
        while self.done(self.tmux(&["display-message", "-p", "#{pane_dead}"])) != "1\n" {
            let shown = || self.screen().join("\n");
            assert!(begin.elapsed() < PATIENCE, "it runs on; the screen shows\n{}", shown());
        }
    }

    /// Waits until a line of the screen is this.
    #[track_caller]
    pub fn wait_for(&self, line: &str) {
        self.wait_until(|screen| screen.iter().any(|shown| shown == line));
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).args(words).env("TERM", "xterm");
        command
    }

    #[track_caller]
    fn done(&self, mut command: Command) -> String {
        let out = command.output().expect("there is tmux");
        assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // A server whose program has ended may be gone.
        drop(self.tmux(&["kill-server"]).output());
    }
}
