//! The steps of a new process from its clone to its program, in the order in which they can be done.

use std::{fs::File, path::Path};

use protocol::{Capabilities, ResourceLimit, StartError};
use rustix::{fs::Mode, process::setsid, process::umask, system::sethostname};

use crate::{
    capability,
    program::Program,
    rootfs::{self, Access, Furniture},
    stdio::Stdio,
    step::{Doing, StepError},
    sys,
    user::Account,
};

/// All that the new process needs to know, put together before it exists.
pub(crate) struct Launch<'a> {
    /// What the container's root is furnished with.
    pub(crate) furniture: Furniture<'a>,
    /// What it may do with the root.
    pub(crate) root: Access,
    /// The container's name in its UTS namespace.
    pub(crate) hostname: &'a str,
    /// The directory it starts in.
    pub(crate) working_dir: &'a str,
    /// Its standard input and output.
    pub(crate) stdio: &'a Stdio,
    /// Its resource limits.
    pub(crate) limits: &'a [ResourceLimit],
    /// Who it runs as.
    pub(crate) account: &'a Account,
    /// What it may do at most.
    pub(crate) capabilities: Capabilities,
    /// What it executes.
    pub(crate) program: &'a Program,
}

impl Launch<'_> {
    /// Turns the calling process, PID 1 of its namespaces, into the container's program. What
    /// fails is written to `report`, which an `execve` closes.
    pub(crate) fn carry_out(&self, report: File) -> ! {
        const FAILED: i32 = 125;
        let error = match self.prepare() {
            Ok(()) => self.program.execute(),
            Err(error) => error,
        };
        let mut report = report;
        let _ = protocol::write(&mut report, &error);
        sys::exit_now(FAILED)
    }

    fn prepare(&self) -> Result<(), StartError> {
        umask(Mode::empty());
        rootfs::enter(&self.furniture)?;
        sethostname(self.hostname.as_bytes()).doing("set the host name")?;
        // It may have to be made, so the root is sealed after it.
        enter_working_dir(self.working_dir)?;
        rootfs::seal(self.root)?;
        setsid().doing("start a session")?;
        self.stdio.install()?;
        self.set_limits()?;
        capability::become_account(self.account, self.capabilities)?;
        sys::close_all_on_exec().doing("close the agent's descriptors")?;
        sys::default_signals().doing("reset the signals")?;
        umask(Mode::from_raw_mode(0o022));
        Ok(())
    }

    fn set_limits(&self) -> Result<(), StepError> {
        self.limits.iter().try_for_each(|limit| {
            sys::set_limit(limit.resource, limit.soft, limit.hard)
                .doing(format_args!("set resource limit {}", limit.resource))
        })
    }
}

/// Still as root, as Docker does, so that a user may be put where it could not go.
fn enter_working_dir(path: &str) -> Result<(), StartError> {
    rootfs::enter_working_dir(Path::new(path)).map_err(|error| StartError::WorkingDirectory {
        path: path.into(),
        reason: std::io::Error::from(error).to_string(),
    })
}
