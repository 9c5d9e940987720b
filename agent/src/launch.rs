//! The steps of the container's own process from its clone to its program, in the order in which
//! they can be done.

use std::{fs::File, path::Path};

use protocol::{ContainerSpec, StartError};
use rustix::{
    fs::Mode,
    process::{setsid, umask},
    system::{setdomainname, sethostname},
};

use crate::{
    confinement::Confinement,
    first_process,
    program::Program,
    rootfs::{self, Furniture, Interior},
    stdio::Stdio,
    step::{Doing, StepError},
    sys,
};

/// All that the new process needs to know, put together before it exists.
pub(crate) struct Launch<'a> {
    /// What the container's root is furnished with.
    pub(crate) furniture: Furniture<'a>,
    /// What comes in it.
    pub(crate) settling: Settling<'a>,
}

/// What a process that stands in the container's root needs to become its program.
pub(crate) struct Settling<'a> {
    /// What was asked for.
    pub(crate) spec: &'a ContainerSpec,
    /// Its standard input and output.
    pub(crate) stdio: &'a Stdio,
    /// What it is limited to.
    pub(crate) confinement: Confinement<'a>,
    /// What it executes.
    pub(crate) program: &'a Program,
}

/// What the exit code is of a process that has not become its program; what failed is told by its
/// report.
pub(crate) const FAILED: i32 = 125;

impl Launch<'_> {
    /// Turns the calling process, PID 1 of its namespaces, into the container's program, or into
    /// the init that starts it. What fails is written to `report`, which an `execve` closes.
    pub(crate) fn carry_out(&self, report: File) -> ! {
        let error = match self.furnish() {
            Ok(()) => self.settling.become_program(),
            Err(error) => error.into(),
        };
        give_up(report, &error)
    }

    fn furnish(&self) -> Result<(), StepError> {
        umask(Mode::empty());
        self.settling.confinement.adjust_oom_score()?;
        rootfs::enter(&Interior::of(self.settling.spec), &self.furniture)
    }
}

/// Says why there is no program, and ends.
pub(crate) fn give_up(mut report: File, error: &StartError) -> ! {
    let _ = protocol::write(&mut report, error);
    sys::exit_now(FAILED)
}

impl Settling<'_> {
    /// Becomes the program, or the init that starts it. Returns only when that fails.
    pub(crate) fn become_program(&self) -> StartError {
        let execute = || match self.confinement.close() {
            Ok(()) => self.program.execute(),
            Err(error) => error.into(),
        };
        match self.settle() {
            Ok(()) if self.spec.init => first_process::start(execute),
            Ok(()) => execute(),
            Err(error) => error,
        }
    }

    fn settle(&self) -> Result<(), StartError> {
        sethostname(self.spec.hostname.as_bytes()).doing("set the host name")?;
        if !self.spec.domain_name.is_empty() {
            setdomainname(self.spec.domain_name.as_bytes()).doing("set the domain name")?;
        }
        // It may have to be made, so the root is sealed after it.
        enter_working_dir(&self.spec.process.working_dir)?;
        if self.spec.read_only {
            rootfs::seal()?;
        }
        setsid().doing("start a session")?;
        self.stdio.install()?;
        self.stdio.take_terminal()?;
        self.confinement.put_on()?;
        sys::close_all_on_exec().doing("close the agent's descriptors")?;
        sys::default_signals().doing("reset the signals")?;
        umask(Mode::from_raw_mode(0o022));
        Ok(())
    }
}

/// Still as root, as Docker does, so that a user may be put where it could not go.
fn enter_working_dir(path: &str) -> Result<(), StartError> {
    rootfs::enter_working_dir(Path::new(path)).map_err(|error| StartError::WorkingDirectory {
        path: path.into(),
        reason: std::io::Error::from(error).to_string(),
    })
}
