//! Looks after one container from its machine's first instruction to its end: writes down how far it
//! is, and serves the machine, the agent, the program's output and whoever wants something.
//!
//! It is a process of its own that outlives the command line. docs/lifecycle.md tells what it leaves
//! behind, and what happens when it is killed.

mod agent;
mod alarms;
mod clients;
mod console;
mod error;
mod machine;
mod outputs;
mod processes;
mod requests;
mod saving;
mod serve;
mod unattended;

use std::cell::Cell;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use protocol::ExitStatus;
use vmm::config::Start;
use vmm::process::Inherited;

pub(crate) use self::machine::MachineParts;
pub(crate) use self::unattended::save_machine;

use self::clients::Clients;
use self::console::ConsoleTail;
use self::error::Error;
use self::machine::MachineProcess;
use self::saving::Saving;
use self::serve::Supervisor;
use crate::containers::{CONTROL_SOCKET, Home, Record, State, Status};
use crate::link::{Blame, Doorway, Failure, FromSupervisor, Link};
use crate::templates::{Unexplored, Unfinished};
use crate::timings::Stopwatch;

/// Everything a supervisor works with, open already.
pub(crate) struct Task {
    /// The container's folder.
    pub(crate) home: Home,
    /// What it is, with what the agent is told.
    pub(crate) record: Record,
    /// How far it had come before.
    pub(crate) state: State,
    /// What the machine is made of.
    pub(crate) machine: MachineParts,
    /// The template that the machine is saved as.
    pub(crate) template: Option<Unfinished>,
    /// The template that the machine goes on from, if more is to be learnt about it.
    pub(crate) unexplored: Option<Unexplored>,
    /// Keeps the image from being removed.
    pub(crate) image: images::ImageLock,
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
    let Task {
        home,
        record,
        state,
        machine,
        template,
        unexplored,
        image,
        starter,
        attachment,
        patience,
        stopwatch,
        inherited,
    } = task;
    inherited.close();
    let is_copy = matches!(machine.start, Start::Restore { .. });
    let doors = detach(machine.trace).and_then(|()| open_doors(&home));
    let mut clients = Clients::new(starter);
    let doors = doors.map(|(machine, clients_door)| {
        clients.open(clients_door);
        machine
    });
    // The machine's process has no use for any of these.
    let ours = Cell::new(Some((home, image, clients, template, unexplored)));
    let machine =
        doors.and_then(|listener| MachineProcess::start(machine, listener, || drop(ours.take())));
    let (home, image, mut clients, template, unexplored) =
        ours.take().expect("only the machine's process drops them");
    let (mut console, mut saving) = (ConsoleTail::default(), Saving::new(template));
    let auto_remove = record.keeping.auto_remove;
    let (state, ending) = match machine {
        Ok(machine) => {
            let parts = serve::Parts { is_copy, unexplored, attachment, patience, stopwatch };
            let supervisor = Supervisor::new(
                parts,
                machine,
                (&home, record, state),
                (&mut clients, &mut console, &mut saving),
            );
            supervisor.serve()
        }
        Err(error) => (state, Err(error)),
    };
    drop(image);
    let ending = ending.map_err(|error| error.into_failure(console.text()));
    write_end(&home, state, &ending, auto_remove, &mut clients);
    clients.tell_all(&match ending {
        Ok(status) => FromSupervisor::Exited(status.shell_code()),
        Err(failure) => FromSupervisor::Failed(failure),
    });
    drop(clients);
    // From here on the container is anybody's.
    drop(home);
    saving.end();
    0
}

/// Leaves of the container what is to be left of it.
fn write_end(
    home: &Home,
    state: State,
    ending: &Result<ExitStatus, Failure>,
    auto_remove: bool,
    clients: &mut Clients,
) {
    home.remove_sockets();
    let state = match ending {
        Ok(status) => state.ended(status.shell_code(), String::new()),
        // Nothing has happened in it: whoever has started it tries again without the template.
        Err(failure) if failure.blame == Blame::Template => unstarted(state),
        Err(failure) if state.status == Status::Starting => {
            State { exit_code: failure.code, error: failure.message.clone(), ..unstarted(state) }
        }
        Err(failure) => state.ended(failure.code, failure.message.clone()),
    };
    let tried_again = matches!(ending, Err(failure) if failure.blame == Blame::Template);
    if auto_remove && !tried_again {
        return home.remove();
    }
    if let Err(error) = home.write_state(&state) {
        // The next who looks finds that nobody holds the lock, and writes that the end is unknown.
        let words =
            format!("the container's end was not written down: {}", vmm::error::chain(&error));
        clients.tell_all(&FromSupervisor::Warning(words));
    }
}

/// As it was before it was to be started.
fn unstarted(state: State) -> State {
    let status = if state.started.is_some() { Status::Exited } else { Status::Created };
    State { status, supervisor: None, ..state }
}

fn open_doors(home: &Home) -> Result<(UnixListener, Doorway), Error> {
    let machine = machine::bind(&home.folder)?;
    let clients = Doorway::open(&home.folder, CONTROL_SOCKET)
        .map_err(|source| Error::System { action: "make the container's socket", source })?;
    Ok((machine, clients))
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
