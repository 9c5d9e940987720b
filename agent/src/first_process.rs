//! The container's own init (`--init`): a copy of the agent that has given everything up. It starts
//! the program, passes on the signals that it gets, collects the dead, and ends as the program did.

use std::os::fd::OwnedFd;

use protocol::StartError;
use rustix::{
    process::{DumpableBehavior, Pid, WaitOptions, set_dumpable_behavior, setpgid, wait},
    termios::tcsetpgrp,
    thread::set_name,
};

use crate::{
    launch::FAILED,
    reaper::exit_status,
    step::{Doing, StepError},
    sys::{self, Split},
};

/// Becomes init and starts the program by `execute` in a child. Returns only in that child, or
/// before there is one, with what has failed.
pub(crate) fn start(execute: impl FnOnce() -> StartError) -> StartError {
    match split() {
        Ok(()) => execute(),
        Err(error) => error.into(),
    }
}

/// On success in the child only.
fn split() -> Result<(), StepError> {
    // Nothing of the agent's memory is the container's to see.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("close init's memory")?;
    // Blocked before there is a child, so that its end is never missed.
    let signals = sys::all_signals().doing("watch for signals")?;
    match sys::split(sys::Parent::Caller).doing("make a process")? {
        Split::Parent { child } => look_after(child, &signals),
        Split::Child => {
            lead()?;
            sys::default_signals().doing("reset the signals")
        }
    }
}

/// Makes the program the leader of a process group of its own, in the foreground of the terminal if
/// there is one: what is typed there is its alone. The signals are still blocked, so that a
/// background process may do this.
fn lead() -> Result<(), StepError> {
    setpgid(None, None).doing("make a process group")?;
    let stdin = rustix::stdio::stdin();
    if rustix::termios::isatty(stdin) {
        tcsetpgrp(stdin, rustix::process::getpid()).doing("bring it to the foreground")?;
    }
    Ok(())
}

/// What init does all its life.
fn look_after(program: Pid, signals: &OwnedFd) -> ! {
    // What it no longer holds can hang up: the report of the start first of all.
    let _ = sys::close_all_but(signals);
    let _ = set_name(c"init");
    loop {
        match sys::next_signal(signals) {
            Ok(libc::SIGCHLD) => collect(program),
            // A program that is gone is collected next.
            Ok(number) => drop(sys::kill(program, number)),
            Err(_) => sys::exit_now(FAILED),
        }
    }
}

/// Collects whoever has ended; if it was the program, ends.
fn collect(program: Pid) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if let Some(status) = exit_status(status).filter(|_| pid == program) {
            sys::exit_now(status.shell_code().into());
        }
    }
}
