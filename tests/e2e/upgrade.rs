//! An upgrade under running containers: a supervisor that has another protocol goes on and is told apart.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept,
    bind, listen, recv, send, shutdown, socket_with,
};

use crate::home::Home;

/// A supervisor that speaks another version of the protocol, in the place of a container's own.
struct Other {
    doorway: OwnedFd,
    _lock: File,
    talk: thread::JoinHandle<()>,
}

impl Other {
    /// Takes the place of one that was killed, before anybody has seen that.
    fn in_place_of(home: &Home, name: &str, version: u32) -> Self {
        let (folder, supervisor) = (home.folder_of(name), home.supervisor(name));
        std::process::Command::new("kill").args(["-9", &supervisor]).status().unwrap();
        let lock = File::open(folder.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let kind = SocketType::SEQPACKET;
        let doorway = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        fs::remove_file(folder.join("control.sock")).unwrap();
        let opened = File::open(&folder).unwrap();
        let path = format!("/proc/self/fd/{}/control.sock", opened.as_raw_fd());
        bind(&doorway, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&doorway, 8).unwrap();
        let knocked = doorway.try_clone().unwrap();
        // Both hellos are the first of their kind, with a version; they never change.
        let mut hello = Vec::new();
        protocol::write(&mut hello, &(0_u32, version)).unwrap();
        let talk = thread::spawn(move || {
            while let Ok(client) = accept(&knocked) {
                let mut heard = [0; 64];
                recv(&client, &mut heard, RecvFlags::empty()).unwrap();
                // Whoever has gone again needs no answer.
                let _gone = send(&client, &hello, SendFlags::NOSIGNAL);
            }
        });
        Self { doorway, _lock: lock, talk }
    }

    fn end(self) {
        shutdown(&self.doorway, Shutdown::Both).unwrap();
        self.talk.join().unwrap();
    }
}

#[test]
fn a_supervisor_of_another_protocol_goes_on_and_is_told_apart() {
    for version in [1, 99] {
        let home = Home::new();
        home.runs("other", "echo ready; sleep 1000");
        home.runs("own", "echo ready; sleep 1000");
        let other = Other::in_place_of(&home, "other", version);
        home.sandbox
            .does("ps --format {{.Names}}:{{.State}}")
            .stdout_is("own:running\nother:running\n");
        for line in ["exec other true", "stop other", "attach other", "top other", "pause other"] {
            let out = home.sandbox.hyperrun(line.split(' '));
            out.code_is(1).stdout_is("").stderr_has("version").stderr_has("hint: ");
            out.stderr_has("hyperrun start other");
        }
        home.sandbox.does("logs other").stdout_is("ready\n");
        home.shows("other", "{{.State.Status}}", "running");
        home.sandbox.does("info").stdout_has("other");
        home.sandbox.does("exec own echo here").stdout_is("here\n");
        other.end();
        home.shows("other", "{{.State.Status}}:{{.State.ExitCode}}", "exited:255");
        home.sandbox.does("start other");
        home.sandbox.does("exec other echo here").stdout_is("here\n");
    }
}
