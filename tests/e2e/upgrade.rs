//! An upgrade under running containers: supervisors of the older binary go on, whoever has another
//! protocol is told apart, and templates are made anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;

use hyperrun_tests::Sandbox;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept,
    bind, listen, recv, send, shutdown, socket_with,
};

use crate::home::Home;

/// Puts a copy of the installed files into a folder, each in one step, as an upgrade does.
fn install(folder: &Path) {
    let built = std::env::var("HYPERRUN_BIN").expect("scripts/test sets it");
    let built = Path::new(&built).parent().unwrap();
    for name in ["hyperrun", "hyperrun-registry", "hyperrun-resolver", "initramfs.cpio", "vmlinux"]
    {
        let new = folder.join("new");
        fs::copy(built.join(name), &new).unwrap();
        fs::rename(&new, folder.join(name)).unwrap();
    }
}

#[test]
fn containers_go_on_while_everything_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("lib");
    fs::create_dir(&programs).unwrap();
    install(&programs);
    let binary = programs.join("hyperrun");
    let sandbox = Sandbox::with_busybox(folder.path().join("root"))
        .with_templates()
        .of(binary.to_str().unwrap());
    let script = "echo ready; rm -f /end; until [ -e /end ]; do sleep 0.1; done";
    let words =
        ["run", "-d", "--restart", "always", "--name", "old", "busybox", "sh", "-c", script];
    sandbox.hyperrun(words).code_is(0).stderr_is("");
    sandbox.does("run --rm busybox true").stderr_is("");
    assert_eq!(sandbox.does("template ls -q").stdout.lines().count(), 1);
    install(&programs);
    // Another agent: what the kernel unpacks is the same with zeros behind it.
    let mut agent = OpenOptions::new().append(true).open(programs.join("initramfs.cpio")).unwrap();
    agent.write_all(&[0; 4096]).unwrap();
    sandbox.does("exec old echo here").stdout_is("here\n");
    sandbox.does("ps --format {{.Names}}:{{.State}}").stdout_is("old:running\n");
    // Its next life begins under the same supervisor.
    sandbox.does("exec old touch /end");
    while sandbox.does("logs old").stdout != "ready\nready\n" {}
    sandbox.does("exec old echo another").stdout_is("another\n");
    sandbox.does("kill old");
    sandbox.does("start old");
    sandbox.does("exec old echo again").stdout_is("again\n");
    sandbox.does("rm -f old");
    sandbox.does("run --rm busybox echo new").stdout_is("new\n").stderr_is("");
    // One of the first program and agent, one of the same program and the new agent, one of both new ones.
    assert_eq!(sandbox.does("template ls -q").stdout.lines().count(), 3);
}

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
