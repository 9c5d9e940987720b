//! Looks after one container from its machine's first instruction to its end: writes down how far it
//! is, and serves the machine, the agent, the program's output and whoever wants something.
//!
//! It is a process of its own that outlives the command line. docs/lifecycle.md tells what it leaves
//! behind, and what happens when it is killed.

mod agent;
mod alarms;
mod answers;
mod checks;
mod clients;
mod console;
mod conversation;
mod error;
mod flow;
mod fork;
mod interval;
mod knock;
mod life;
mod machine;
mod notes;
mod outputs;
mod plugging;
mod processes;
mod publishing;
mod questions;
mod remains;
mod requests;
mod restarts;
mod saving;
mod serve;
mod snapshots;
mod streams;
mod unattended;
mod visit;

use std::net::IpAddr;
use std::time::Duration;

use vmm::process::Inherited;

pub(crate) use self::machine::{MachineParts, SPARE_INTERFACES};
pub(crate) use self::unattended::save_machine;
pub(crate) use self::visit::Visit;

use self::clients::Clients;
use self::error::Error;
use self::life::{Charge, Circumstances, End};
use self::notes::Notes;
use self::remains::Remains;
use crate::containers::{CONTROL_SOCKET, Home, Record, State, Status};
use crate::events::event_log;
use crate::link::{Blame, Doorway, FromSupervisor, Link};
use crate::preparation::{Prepared, Scene};
use crate::publish::Entrance;
use crate::resolver::Need;
use crate::timings::Stopwatch;

/// Everything a supervisor works with, open already.
pub(crate) struct Task {
    /// The container's folder.
    pub(crate) home: Home,
    /// What it is, with what the agent is told.
    pub(crate) record: Record,
    /// How far it had come before.
    pub(crate) state: State,
    /// Its machine.
    pub(crate) prepared: Prepared,
    /// What it needs for another one.
    pub(crate) scene: Scene,
    /// Keeps the image from being removed.
    pub(crate) image: images::ImageLock,
    /// The ports of the host that lead to it.
    pub(crate) entrance: Entrance,
    /// The one that has started it.
    pub(crate) starter: Link,
    /// What that one wants of the program's streams.
    pub(crate) attachment: Attachment,
    /// How long the guest may take to get ready, and the program to start.
    pub(crate) patience: Duration,
    /// Since when the clocks run.
    pub(crate) stopwatch: Stopwatch,
    /// What the person's shell had open.
    pub(crate) inherited: Inherited,
}

/// What the one that starts a container wants of its program's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Nothing: it only waits for the start.
    None,
    /// To see the output.
    Output,
    /// To write the input too.
    Both,
}

/// Carries out `task` in a process of its own; the code that process ends with.
pub(crate) fn supervise(task: Task) -> u8 {
    let Task { home, record, state, prepared, scene, image, entrance, starter, .. } = task;
    task.inherited.close();
    let mut clients = Clients::new(starter);
    let doorway = detach(prepared.machine.trace)
        .and_then(|()| open_doorway(&home))
        .map(|doorway| clients.open(doorway));
    let state = State { restarts: 0, stopped: false, ..state };
    let notes = Notes::new(event_log(&scene.places), &home);
    let circumstances = Circumstances {
        scene,
        attachment: task.attachment,
        patience: task.patience,
        stopwatch: task.stopwatch,
    };
    let resolvers = &prepared.links.resolvers;
    let need = need_names(&record, resolvers, &circumstances.scene, &mut clients);
    let charge = Charge { home, record, state, image, entrance, need, clients, notes };
    let (charge, mut end) = match doorway {
        Ok(()) => charge.look_after(prepared, circumstances),
        Err(error) => (charge, End::before_any_life(error)),
    };
    let Charge { home, mut record, state, image, entrance, need, mut clients, mut notes } = charge;
    drop((image, entrance, need));
    if notes.stop_asked {
        notes.note(&record, "stop", &[]);
    }
    if write_end(&home, &record, state, &end, &mut clients) == Left::Nothing {
        notes.note(&record, "destroy", &[]);
    }
    notes.write(&home, &mut record);
    clients.tell_all(&end.message());
    drop(clients);
    // Nobody waits for the disks of the host and of the guest. If the host crashes before the first is done, the end is
    // not known.
    let _ = home.sync_state();
    end.remains.iter_mut().for_each(Remains::finish);
    // From here on the container is anybody's.
    drop(home);
    if let Some(remains) = end.remains.take() {
        remains.leave();
    }
    end.saving.end();
    0
}

/// What is left of a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Its folder.
    Folder,
    /// Nothing.
    Nothing,
}

/// Leaves of the container what is to be left of it.
fn write_end(home: &Home, record: &Record, state: State, end: &End, clients: &mut Clients) -> Left {
    home.remove_sockets();
    let state = match &end.outcome {
        Ok(status) => state.ended(status.shell_code(), String::new()),
        // Nothing has happened in it: whoever has started it tries again without the template.
        Err(failure) if failure.blame == Blame::Template => unstarted(state),
        Err(failure) if state.status == Status::Starting => {
            State { exit_code: failure.code, error: failure.message.clone(), ..unstarted(state) }
        }
        Err(failure) => state.ended(failure.code, failure.message.clone()),
    };
    let tried_again = end.outcome.as_ref().is_err_and(|failure| failure.blame == Blame::Template);
    if record.keeping.auto_remove && !tried_again {
        home.remove(record);
        return Left::Nothing;
    }
    if let Err(error) = home.show_state(&state) {
        // The next who looks finds that nobody holds the lock, and writes that the end is unknown.
        let words =
            format!("the container's end was not written down: {}", vmm::error::chain(&error));
        clients.tell_all(&FromSupervisor::Warning(words));
    }
    Left::Folder
}

/// Has names answered for a container that is on a network. It runs without, where that cannot be.
fn need_names(
    record: &Record,
    resolvers: &[IpAddr],
    scene: &Scene,
    clients: &mut Clients,
) -> Option<Need> {
    if record.networks.is_empty() {
        return None;
    }
    match Need::new(&scene.places, resolvers) {
        Ok(need) => {
            if let Some(address) = need.hindrance {
                let words = format!("names are not answered: port 53 of {address} is taken");
                clients.tell_all(&FromSupervisor::Warning(words));
            }
            Some(need)
        }
        Err(error) => {
            let words = format!("names are not answered: {}", vmm::error::chain(&error));
            clients.tell_all(&FromSupervisor::Warning(words));
            None
        }
    }
}

/// As it was before it was to be started.
fn unstarted(state: State) -> State {
    let status = if state.started.is_some() { Status::Exited } else { Status::Created };
    State { status, supervisor: None, ports: Vec::new(), ..state }
}

fn open_doorway(home: &Home) -> Result<Doorway, Error> {
    Doorway::open(&home.folder, CONTROL_SOCKET)
        .map_err(|source| Error::System { action: "make the container's socket", source })
}

/// Leaves the terminal's session, and its streams unless a trace goes there.
fn detach(trace: bool) -> Result<(), Error> {
    let failed = |source: rustix::io::Errno| Error::System {
        action: "leave the terminal",
        source: source.into(),
    };
    rustix::process::setsid().map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(failed)?;
    if !trace {
        rustix::stdio::dup2_stderr(&null).map_err(failed)?;
    }
    Ok(())
}
