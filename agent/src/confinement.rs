//! What a new process is limited to, put on in the order in which it still can be.

use std::fs;

use protocol::ProcessSpec;
use rustix::thread::set_no_new_privs;

use crate::{
    capability,
    step::{Doing, StepError},
    sys,
    user::Account,
};

/// The limits of one process.
pub(crate) struct Confinement<'a> {
    /// What was asked for.
    pub(crate) spec: &'a ProcessSpec,
    /// Who it runs as.
    pub(crate) account: &'a Account,
}

impl Confinement<'_> {
    /// Says how ready the kernel is to kill the calling process. To be called while `/proc` is the
    /// agent's own.
    pub(crate) fn adjust_oom_score(&self) -> Result<(), StepError> {
        let Some(adjustment) = self.spec.oom_score_adjustment else { return Ok(()) };
        fs::write("/proc/self/oom_score_adj", adjustment.to_string())
            .doing("adjust the out-of-memory score")
    }

    /// Makes the calling process, which has one thread, who it shall be, with its limits.
    ///
    /// Without `no_new_privs` a filter is a matter of privilege (seccomp(2)), so it comes before
    /// that is given up, and must let the rest of this pass, as with runc.
    pub(crate) fn put_on(&self) -> Result<(), StepError> {
        for limit in &self.spec.limits {
            sys::set_limit(limit.resource, limit.soft, limit.hard)
                .doing(format_args!("set resource limit {}", limit.resource))?;
        }
        if !self.spec.no_new_privileges {
            self.filter()?;
        }
        capability::become_account(self.account, self.spec.capabilities)?;
        if self.spec.no_new_privileges {
            set_no_new_privs(true).doing("give up new privileges")?;
        }
        Ok(())
    }

    /// The last step before the program: the filter of a process that gains no privileges.
    pub(crate) fn close(&self) -> Result<(), StepError> {
        if self.spec.no_new_privileges { self.filter() } else { Ok(()) }
    }

    fn filter(&self) -> Result<(), StepError> {
        if self.spec.seccomp.is_empty() {
            return Ok(());
        }
        sys::set_seccomp_filter(&self.spec.seccomp).doing("set the seccomp filter")
    }
}
