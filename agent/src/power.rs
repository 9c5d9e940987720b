//! The machine's doorbell and its switch.

use std::io::Write;

use protocol::{POWER_AGENT_READY, POWER_PORT};
use rustix::system::{RebootCommand, reboot};

use crate::{
    step::{Doing, StepError},
    sys,
};

/// Tells the VMM that the agent listens.
pub(crate) fn ring_doorbell() -> Result<(), StepError> {
    sys::write_port(POWER_PORT, POWER_AGENT_READY).doing("ring the doorbell of the power device")
}

/// Switches the machine off. Returns only on failure.
pub(crate) fn off() -> Result<(), StepError> {
    reboot(RebootCommand::PowerOff).doing("switch the machine off")
}

/// Says on the console why the machine is about to end; there is no one else to tell.
pub(crate) fn say_last_words(reason: &str) {
    let _ = writeln!(std::io::stderr(), "hyperrun-agent: {reason}");
}
