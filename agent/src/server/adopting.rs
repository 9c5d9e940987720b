//! A container that goes on in a copy of its machine, as another one: what it is told, and what becomes of
//! what belongs to the original.

use std::{
    os::fd::{AsFd, OwnedFd},
    thread,
};

use protocol::{Adoption, ExitStatus, FromAgent, MmioDevice, ProcessId, StartError, StreamHello};
use rustix::{
    system::sethostname,
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use super::{ServeError, Server, Stage};
use crate::{
    clock, connections,
    etc::EtcMounts,
    hooks::Hooks,
    network,
    process::{Phase, Process, Wish, no_container},
    stdio::Streams,
    step::{Doing, StepError},
};

/// Numbers of processes that the host has not asked for go down from this one.
const FIRST_UNASKED: u32 = u32::MAX;

impl Server {
    /// Goes on with the next host who comes: this machine is a copy of the one that the last was the host of.
    pub(crate) fn meet_next_host(&mut self) -> Result<(), StepError> {
        self.control = self.doors.wait_for_host()?.into();
        Ok(())
    }

    /// Makes the container another one, and lets it go on. Its streams come another way.
    pub(super) fn adopt(&mut self, adoption: Adoption) -> Result<(), ServeError> {
        if !self.freezer.is_suspended() {
            return self.complain("there is no container to adopt".into());
        }
        match self.become_another(adoption) {
            Ok(streams) => self.adopted = Some(streams),
            Err(error) => {
                self.stage = Stage::Over;
                return self.say(&FromAgent::StartFailed { id: ProcessId::OWN, error });
            }
        }
        self.renew_if_complete()
    }

    fn become_another(&mut self, adoption: Adoption) -> Result<Streams, StartError> {
        let Adoption { wall_clock, entropy, hostname, etc, networks, hook } = adoption;
        clock::set(wall_clock)?;
        clock::stir(&entropy)?;
        let (Ok(cgroup), Some(disks)) = (&self.cgroup, &self.disks) else {
            return Err(no_container());
        };
        let own = self.processes.iter().find(|process| process.id == ProcessId::OWN);
        let own = own.ok_or_else(no_container)?;
        move_to_networks(&networks, || connections::end(cgroup))?;
        EtcMounts::rewrite(&hostname, &etc)?;
        if let Phase::Running(running) = &own.phase
            && let Some(pidfd) = &running.pidfd
        {
            rename(pidfd, &hostname)?;
        }
        let streams = Streams::needing(own.exchange.needed());
        self.hooks = Some(Hooks::of(disks.root(), hook));
        self.freezer.adopt(cgroup)?;
        self.part_from_original();
        Ok(streams)
    }

    /// Lets go of what the original's host has asked for: its numbers are this one's to give.
    fn part_from_original(&mut self) {
        self.helpers.iter().for_each(crate::files::Helper::kill);
        self.processes.retain(|process| !matches!(process.phase, Phase::Waiting { .. }));
        for process in self.processes.iter_mut().filter(|process| process.id != ProcessId::OWN) {
            process.exchange.resume();
            process.id = next_unasked(&mut self.unasked);
        }
        (self.last_id, self.early_streams) = (ProcessId::OWN, Vec::new());
    }

    /// Takes a stream for the container's own process that goes on; whether it needs one like this.
    pub(super) fn take_anew(
        &mut self,
        hello: StreamHello,
        socket: OwnedFd,
    ) -> Result<bool, ServeError> {
        let taken = self.adopted.as_mut().is_some_and(|streams| streams.add(hello.kind, socket));
        self.renew_if_complete()?;
        Ok(taken)
    }

    /// Once all streams are there the container is as good as started.
    fn renew_if_complete(&mut self) -> Result<(), ServeError> {
        let Some(streams) = self.adopted.take_if(|streams| streams.are_complete()) else {
            return Ok(());
        };
        if let Some(own) = self.process(ProcessId::OWN) {
            own.exchange.renew(streams.into_connected());
        }
        self.say(&FromAgent::Started { id: ProcessId::OWN })?;
        self.run_next_hook()?;
        self.tell_ends()
    }

    fn run_next_hook(&mut self) -> Result<(), ServeError> {
        while let Some(hooks) = &mut self.hooks {
            let Some(spec) = hooks.next() else {
                self.hooks = None;
                break;
            };
            let id = next_unasked(&mut self.unasked);
            hooks.running = Some(id);
            let path = String::from_utf8_lossy(&spec.process.args[0]).into_owned();
            let Some(disks) = &self.disks else { return Ok(()) };
            let prepared = crate::exec::Prepared::new(spec, disks.root());
            match prepared {
                Ok(prepared) => {
                    self.processes.push(Process::new(id, Wish::Exec(Box::new(prepared))));
                    return self.start_if_complete(id);
                }
                Err(_) => self.complain(format!("{path} cannot be run"))?,
            }
        }
        Ok(())
    }

    /// Whether the host has asked for a process, and hears of it.
    pub(super) fn is_asked(&self, id: ProcessId) -> bool {
        id.0 <= FIRST_UNASKED - self.unasked
    }

    /// A process has ended, or was not started: it may have been a hook, after which comes the next.
    pub(super) fn hook_ended(
        &mut self,
        id: ProcessId,
        status: Option<ExitStatus>,
    ) -> Result<(), ServeError> {
        if self.hooks.as_ref().is_none_or(|hooks| hooks.running != Some(id)) {
            return Ok(());
        }
        if status != Some(ExitStatus::Code(0)) {
            self.complain(format!("a program in {} has failed", protocol::HOOKS))?;
        }
        self.run_next_hook()
    }
}

/// A number for a process that the host has not asked for; there were so many before.
fn next_unasked(count: &mut u32) -> ProcessId {
    let id = ProcessId(FIRST_UNASKED - *count);
    *count += 1;
    id
}

/// Cuts the container off, ends what it has open to the outside, and connects it anew.
fn move_to_networks(
    networks: &[(MmioDevice, protocol::Interface)],
    end_connections: impl FnOnce() -> Result<(), StepError>,
) -> Result<(), StepError> {
    network::cut()?;
    end_connections()?;
    network::reconnect(networks)
}

/// Gives the container of a process another host name. A thread goes into its namespace and does not come
/// back.
fn rename(container: &OwnedFd, hostname: &str) -> Result<(), StepError> {
    let inside = || {
        let namespace = ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
        move_into_thread_name_spaces(container.as_fd(), namespace)?;
        sethostname(hostname.as_bytes())
    };
    let renamed = thread::scope(|scope| scope.spawn(inside).join());
    renamed.unwrap_or(Err(rustix::io::Errno::IO)).doing("set the host name")
}
