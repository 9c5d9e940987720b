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
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !state.stopped,
        RestartPolicy::OnFailure(most) => {
            let may = most.is_none_or(|most| most == 0 || state.restarts < most);
            !state.stopped && state.exit_code != 0 && may
        }
    }
}
