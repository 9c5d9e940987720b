//! Passes signals on: what `hyperrun` is sent is meant for the program, once there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::Builder;

use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator;

use super::terminal::{make_raw, terminal_size};
use crate::error::Error;
use crate::link::{Link, ToSupervisor};

/// What is watched. SIGTSTP is not: a shell's Ctrl-Z stops `hyperrun`, whose program goes on until
/// it fills its pipes.
const WATCHED: [i32; 9] =
    [SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
/// What is watched when signals are not the program's.
const OWN: [i32; 2] = [SIGCONT, SIGWINCH];
/// What ends a container that has not begun.
const FINAL: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// What is to be done about signals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duties {
    /// Whether the program has the person's terminal, and so wants to know its size.
    pub(super) has_terminal: bool,
    /// Whether signals are the program's.
    pub(super) proxies: bool,
}

/// Signals on their way to a container, watched by a thread of their own.
pub(super) struct Signals {
    shared: Arc<Shared>,
}

/// What the main thread and the signal thread both know.
struct Shared {
    link: Arc<Link>,
    has_terminal: bool,
    /// The main thread sets it once the program runs.
    started: AtomicBool,
    /// The signal thread sets it: the signal that ended the wait for the program, or 0.
    gave_up: AtomicI32,
}

impl Signals {
    /// Starts to watch. Signals that are not passed on do what they do to any program.
    pub(super) fn watch(link: Arc<Link>, duties: Duties) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "watch for signals", source };
        let shared = Arc::new(Shared {
            link,
            has_terminal: duties.has_terminal,
            started: AtomicBool::new(false),
            gave_up: AtomicI32::new(0),
        });
        let mut signals = iterator::Signals::new(if duties.proxies { &WATCHED[..] } else { &OWN })
            .map_err(failed)?;
        let theirs = Arc::clone(&shared);
        Builder::new()
            .name("signals".to_owned())
            .stack_size(64 << 10)
            .spawn(move || signals.forever().for_each(|number| theirs.take(number)))
            .map_err(failed)?;
        Ok(Self { shared })
    }

    /// From now on signals are the program's.
    pub(super) fn belong_to_the_program(&self) {
        self.shared.started.store(true, Ordering::Release);
    }

    /// The exit code of a wait that a signal ended.
    pub(super) fn gave_up(&self) -> Option<u8> {
        match self.shared.gave_up.load(Ordering::Acquire) {
            0 => None,
            number => Some(128_u8.saturating_add(u8::try_from(number).unwrap_or(u8::MAX))),
        }
    }

    /// Tells the container how large the terminal is now.
    pub(super) fn send_window_size(&self) {
        self.shared.send_window_size();
    }
}

impl Shared {
    fn take(&self, number: i32) {
        let started = self.started.load(Ordering::Acquire);
        match number {
            SIGWINCH => self.send_window_size(),
            SIGCONT if self.has_terminal => {
                // The shell that stopped us had the terminal as it likes it.
                let _ = make_raw();
                self.send_window_size();
            }
            _ if started => self.send(&ToSupervisor::Signal(number)),
            _ if FINAL.contains(&number) => {
                self.gave_up.store(number, Ordering::Release);
                self.link.finish();
            }
            _ => {}
        }
    }

    fn send_window_size(&self) {
        if let Some(size) = terminal_size().filter(|_| self.has_terminal) {
            self.send(&ToSupervisor::Resize(size));
        }
    }

    /// A supervisor that is gone is noticed by the main thread.
    fn send(&self, message: &ToSupervisor) {
        let _ = self.link.send(message);
    }
}
