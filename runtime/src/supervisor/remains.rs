//! The end of a life: what the guest still has to write, and what is left then, a machine in which nothing runs any
//! more.

use std::time::{Duration, Instant};

use protocol::{ExitStatus, FromAgent};

use super::agent::{Agent, has_said};
use super::alarms::Alarm;
use super::error::Error;
use super::machine::MachineProcess;
use super::serve::{Stage, Supervisor};
use super::unattended::speak_before;
use crate::keeping::RestartPolicy;

/// How long a guest may take to write down what it holds.
const SYNCING: Duration = Duration::from_secs(10);
/// How long it may take to unmount disks that are written.
const UNMOUNTING: Duration = Duration::from_secs(2);

impl Supervisor<'_> {
    /// The guest's disks are written. One whose program runs is not believed.
    pub(super) fn synced(&mut self) {
        self.machine_is_done |= matches!(self.stage, Stage::Exited(_));
    }

    /// They are unmounted. Its agent is kept until the streams are drained: one whose host is gone switches the machine
    /// off.
    pub(super) fn settled(&mut self) {
        self.synced();
        self.is_settled = self.machine_is_done;
    }

    /// Waits until the guest has written down what it holds, if anybody will ever read that. To unmount its disks,
    /// and to take its machine down, with taps and memory, is left for when everybody was told of the end.
    pub(super) fn await_synced(&mut self, status: ExitStatus) {
        if self.machine_ended {
            return;
        }
        if self.record.keeping.auto_remove {
            // Before its addresses are another's.
            self.machine.kill();
            self.machine_is_done = true;
            return;
        }
        if self.machine_is_done || self.agent.is_none() {
            return;
        }
        self.alarms.clear_all();
        self.alarms.set(Alarm::Synced, SYNCING);
        if self.state.stopped || self.record.keeping.restart == RestartPolicy::No {
            // While the guest is at its disk, the host's takes the end.
            self.home.draft_state(self.state.clone().ended(status.shell_code(), String::new()));
        }
        while !self.machine_ended && !self.machine_is_done {
            // Whatever goes wrong now, the container has ended.
            if self.step().is_err() {
                return;
            }
        }
    }
}

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
    let deadline = Instant::now() + UNMOUNTING;
    while speak_before(&[agent.control()], deadline)? {
        let Some(messages) = agent.listen()? else { break };
        if has_said(messages, &FromAgent::Settled)? {
            break;
        }
    }
    Ok(())
}
