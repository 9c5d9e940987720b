//! What is left of a life whose end is told: a machine in which nothing runs any more.

use std::time::{Duration, Instant};

use protocol::FromAgent;

use super::agent::{Agent, has_said};
use super::error::Error;
use super::machine::MachineProcess;
use super::unattended::speak_before;

/// How long a guest may take to unmount disks that are written.
const PATIENCE: Duration = Duration::from_secs(2);

/// A machine that may be killed at any time: all that its container wrote is on its disks. Dropping it kills it.
pub(super) struct Remains {
    machine: MachineProcess,
    /// Whoever unmounts the disks, as long as that is not done.
    agent: Option<Agent>,
}

impl Remains {
    /// Of a machine whose agent has not said yet that it has unmounted the disks, or whose has.
    pub(super) fn new(machine: MachineProcess, agent: Option<Agent>) -> Self {
        Self { machine, agent }
    }

    /// Waits until the disks are unmounted, so that their next mount has no journal to go through, and kills the
    /// machine. One that takes long is killed before.
    pub(super) fn finish(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // A guest that is wrong about this has harmed nobody but its next start.
            let _ = await_unmounted(&mut agent);
        }
        self.machine.kill();
    }

    /// Leaves the killed machine for the host to take down, by a process that is about to end.
    pub(super) fn leave(self) {
        self.machine.leave();
    }
}

fn await_unmounted(agent: &mut Agent) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while speak_before(&[agent.control()], deadline)? {
        let Some(messages) = agent.listen()? else { break };
        if has_said(messages, &FromAgent::Settled)? {
            break;
        }
    }
    Ok(())
}
