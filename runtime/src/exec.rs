//! One more process in a container that runs.

use protocol::{Capabilities, ExecSpec, ProcessSpec};

use crate::attach::{Attendance, Subject, attach, terminal_size};
use crate::containers::Found;
use crate::control::connect;
use crate::env::Environment;
use crate::error::Error;
use crate::host;
use crate::launch::Outcome;
use crate::link::ToSupervisor;
use crate::plan::{PlanError, user, working_dir};
use crate::spec::{EnvChange, Stdio};
use crate::timings::Stopwatch;

/// What was asked for with `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// `-e`, in order, over the container's own environment.
    pub env: Vec<EnvChange>,
    /// `-w`; none is the container's.
    pub working_dir: Option<String>,
    /// `-u`; none is the container's.
    pub user: Option<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// What is connected to it.
    pub stdio: Stdio,
}

/// Starts a process in a container, and stays with it unless nobody is there.
///
/// # Errors
/// When the container does not run, or the process cannot be started.
pub fn exec(found: &Found, exec: &Exec, attendance: &Attendance) -> Result<Outcome, Error> {
    let link = connect(found)?;
    let spec =
        ExecSpec { process: process(found, exec)?, detached: *attendance == Attendance::Away };
    let terminal = spec.process.terminal.is_some();
    let name = found.record.name.clone();
    let sent = link.send(&ToSupervisor::Exec(Box::new(spec)));
    sent.map_err(|source| Error::Supervisor { name: name.clone(), source })?;
    let subject = Subject { terminal, owns_output: false, owns_input: true };
    match attach(link, attendance, subject, Stopwatch::start()) {
        Err(Error::SupervisorDied) => Err(Error::NotRunning { name }),
        Err(Error::Denied(reason)) => Err(Error::Refused { name, reason }),
        attached => {
            attached.map(|attached| Outcome { code: attached.code, clocks: attached.clocks })
        }
    }
}

/// All of the process: what was not asked for is as the container's own.
fn process(found: &Found, exec: &Exec) -> Result<ProcessSpec, Error> {
    let own = &found.record.container.process;
    if exec.command.first().is_none_or(Vec::is_empty) {
        return Err(PlanError::NoCommand.into());
    }
    if exec.command.iter().any(|word| word.contains(&0)) {
        return Err(PlanError::Nul("the command").into());
    }
    let terminal = match exec.stdio {
        Stdio::Terminal(size) => Some(terminal_size().unwrap_or(size)),
        Stdio::Pipes | Stdio::OutputOnly => None,
    };
    let own_dir = own.working_dir.clone();
    Ok(ProcessSpec {
        args: exec.command.clone(),
        env: environment(own, exec),
        working_dir: exec.working_dir.as_deref().map_or(Ok(own_dir), working_dir)?,
        user: exec.user.as_deref().map_or_else(|| Ok(own.user.clone()), user)?,
        terminal,
        stdin: exec.stdio != Stdio::OutputOnly,
        capabilities: if exec.privileged { Capabilities::ALL } else { own.capabilities },
        no_new_privileges: own.no_new_privileges && !exec.privileged,
        ..own.clone()
    })
}

fn environment(own: &ProcessSpec, exec: &Exec) -> Vec<Vec<u8>> {
    let mut env = Environment::default();
    own.env.iter().for_each(|line| env.set_line(line));
    if matches!(exec.stdio, Stdio::Terminal(_)) {
        env.set(b"TERM", b"xterm");
    }
    let host = host::environment();
    exec.env.iter().for_each(|change| env.change(change, &host));
    env.into_lines()
}
