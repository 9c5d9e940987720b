//! A program on a terminal of its own: types into it, reads what it shows, changes its size.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::screen::Screen;

/// A running program and the master side of its terminal.
pub struct Terminal {
    master: File,
    child: Child,
    screen: Screen,
    shown: String,
    read_to: usize,
}

impl Terminal {
    /// Starts `command` as the leader of a session on a new terminal of this size.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudoterminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("its slave side");
        let slave = File::from(slave);
        resize(&master, rows, columns);
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            session.env(key, value.unwrap_or_default());
        }
        let copy = || slave.try_clone().expect("a descriptor");
        let child = session.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("setsid");
        let (master, screen) = (File::from(master), Screen::new(rows, columns));
        Self { master, child, screen, shown: String::new(), read_to: 0 }
    }

    /// Types `keys`.
    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until the terminal shows `text` after what earlier calls have waited for.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown[self.read_to..].find(text) {
                self.read_to += at + text.len();
                return;
            }
            assert!(self.read(), "ended without showing {text:?}:\n{}", self.shown);
        }
    }

    /// Reads something of what the program writes, and answers what it asks the terminal. `false` at the
    /// end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        // A master whose slave side nobody holds any more reads as an error.
        let count = self.master.read(&mut buffer).unwrap_or(0);
        let answers = self.screen.show(&buffer[..count]);
        // One that has ended meanwhile wants no answer.
        let _answered = self.master.write_all(&answers);
        self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    /// Gives the terminal a new size, as dragging a window's corner does.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.screen.resize(rows, columns);
        resize(&self.master, rows, columns);
    }

    /// Whether the terminal echoes and edits lines, as a shell expects to find it.
    pub fn is_restored(&self) -> bool {
        use rustix::termios::LocalModes;
        // Linux answers for the slave side when asked on the master.
        let modes = rustix::termios::tcgetattr(&self.master).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let children = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(children, signal).expect("it runs");
    }

    /// Reads to the end of the program's output and returns its exit status as a shell shows it.
    pub fn wait(&mut self) -> i32 {
        while self.read() {}
        let status = self.child.wait().expect("a child of ours");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

fn resize(master: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("a terminal");
}
