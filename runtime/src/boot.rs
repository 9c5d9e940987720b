//! Which containers run again after a reboot of the host.

use crate::containers::Found;
use crate::keeping::RestartPolicy;

/// Whether a container that does not run should: it was started once, and its policy says so.
#[must_use]
pub fn runs_after_boot(found: &Found) -> bool {
    let (state, policy) = (&found.state, found.record.keeping.restart);
    if state.status.is_supervised() || state.started.is_none() {
        return false;
    }
    // Docker's `always` does not care who has ended it.
    let may = !state.stopped || policy == RestartPolicy::Always;
    may && policy.starts_again(state.exit_code, state.restarts)
}
