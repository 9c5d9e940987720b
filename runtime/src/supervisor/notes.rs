//! What a supervisor has to tell of its container for the log of events: noted when it happens, written
//! down once everybody has been served.

use std::os::unix::fs::MetadataExt;

use images::{Event, EventLog};
use protocol::ProcessId;

use crate::containers::{Home, Record};
use crate::events::of_container;
use crate::host;

/// What is to be written down.
#[derive(Debug)]
pub(super) struct Notes {
    log: EventLog,
    pending: Vec<Event>,
    /// The processes beside the container's own, by the ids that events have for them.
    execs: Vec<(ProcessId, String)>,
    /// Which record the container's name was read from.
    version: Option<Version>,
    /// Whether somebody wants the container to stop, and to be told when it has.
    pub(super) stop_asked: bool,
}

impl Notes {
    /// For this log, of a container whose record was just read.
    pub(super) fn new(log: EventLog, home: &Home) -> Self {
        let version = version(home);
        Self { log, pending: Vec::new(), execs: Vec::new(), version, stop_asked: false }
    }

    /// Something has happened to the container.
    pub(super) fn note(&mut self, record: &Record, action: &str, more: &[(&str, &str)]) {
        self.pending.push(of_container(record, action, more));
    }

    /// A process is started beside the container's own.
    pub(super) fn exec(&mut self, record: &Record, id: ProcessId, command: &[Vec<u8>]) {
        let Ok(bytes) = host::random::<32>() else { return };
        let exec: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let words = words.join(" ");
        for step in ["exec_create", "exec_start"] {
            self.note(record, &format!("{step}: {words}"), &[("execID", &exec)]);
        }
        self.execs.push((id, exec));
    }

    /// Such a process has ended with this code, or never began.
    pub(super) fn exec_ended(&mut self, record: &Record, id: ProcessId, code: Option<u8>) {
        let Some(at) = self.execs.iter().position(|(exec, _)| *exec == id) else { return };
        let (_, exec) = self.execs.swap_remove(at);
        if let Some(code) = code {
            let more = [("execID", exec.as_str()), ("exitCode", &code.to_string())];
            self.note(record, "exec_die", &more);
        }
    }

    /// The machine is gone, and all processes with it.
    pub(super) fn forget_execs(&mut self) {
        self.execs.clear();
    }

    /// Writes down what was noted, by the name that the container has now.
    pub(super) fn write(&mut self, home: &Home, record: &mut Record) {
        if self.pending.is_empty() {
            return;
        }
        let version = version(home);
        if version != self.version
            && let Some(now) = home.read_record()
        {
            self.version = version;
            record.name = now.name;
        }
        for event in &mut self.pending {
            event.actor.attributes.insert("name".to_owned(), record.name.clone());
        }
        self.log.add(&self.pending);
        // An idle container holds no memory for its events.
        self.pending = Vec::new();
    }
}

/// A record that is written anew is another file; its number may be that of the one before the last.
type Version = (u64, i64, i64);

fn version(home: &Home) -> Option<Version> {
    let file = home.record_path().metadata().ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec()))
}
