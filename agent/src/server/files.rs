//! The part of the conversation that is about files: a container that is opened for them alone, and the
//! helpers that do the jobs.

use std::{fs::File, os::fd::OwnedFd, time::Duration};

use protocol::{
    ContainerSpec, FileFailure, FileItem, FileJob, FromAgent, ProcessId, Processes, StartError,
};
use rustix::process::Pid;

use super::{ServeError, Server, Stage};
use crate::{
    clock,
    disks::Disks,
    etc::EtcMounts,
    files::{Helper, View, halts},
    process::Wish,
    step::describe,
    volumes::Volumes,
};

impl Server {
    /// Lays out a container's file system and starts nothing in it.
    pub(super) fn open(&mut self, spec: &ContainerSpec) -> Result<(), ServeError> {
        if self.stage != Stage::Idle {
            return self.complain("this machine already has its container".into());
        }
        self.stage = Stage::Alive;
        match self.lay_out(spec) {
            Ok(()) => {
                self.view = Some(View::of(spec));
                self.say(&FromAgent::Opened)
            }
            Err(error) => self.give_up(ProcessId::OWN, error),
        }
    }

    fn lay_out(&mut self, spec: &ContainerSpec) -> Result<(), StartError> {
        clock::set(spec.wall_clock)?;
        clock::stir(&spec.entropy)?;
        self.disks = Some(Disks::mount(spec.image_disk, spec.scratch_disk)?);
        // They stay where they are, for the helpers to find.
        EtcMounts::write(spec)?;
        Volumes::prepare(&spec.volumes)?;
        Ok(())
    }

    /// Begins with a job, whose stream comes another way.
    pub(super) fn files(&mut self, id: ProcessId, job: Box<FileJob>) -> Result<(), ServeError> {
        if id <= self.last_id {
            return self.complain(format!("a process {} came again", id.0));
        }
        self.last_id = id;
        self.wish(id, Ok(Wish::Files(job)))
    }

    /// Lets a helper do a job. What stands in its way is told on the job's own stream.
    pub(super) fn start_helper(
        &mut self,
        job: &FileJob,
        stream: OwnedFd,
    ) -> Result<(), ServeError> {
        let told = stream.try_clone();
        let started = match (&self.view, &self.disks, self.stage) {
            (Some(_), Some(_), Stage::Alive) => self.helper(job, stream),
            _ => Err("the container is not running".into()),
        };
        match (started, told) {
            (Ok(helper), _) => self.helpers.push(helper),
            (Err(reason), Ok(stream)) => {
                let doing = "use the container's files".into();
                let failed = FileItem::Failed(FileFailure::Step { doing, reason });
                // A host that has gone meanwhile needs not be told.
                let _ = protocol::write(&mut File::from(stream), &failed);
            }
            (Err(reason), Err(_)) => return self.complain(reason),
        }
        Ok(())
    }

    fn helper(&mut self, job: &FileJob, stream: OwnedFd) -> Result<Helper, String> {
        let view = self.view.as_ref().ok_or("there is no container")?;
        let mut container = Processes::Running;
        if let (true, true, Ok(cgroup)) = (halts(job), self.container().is_some(), &self.cgroup)
            && self.freezer.halt(cgroup).map_err(|error| describe(&error))?
        {
            container = Processes::Halted;
        }
        let helper = Helper::start(job, stream, view, container);
        if helper.is_err() && container == Processes::Halted {
            self.go_on()?;
        }
        helper.map_err(|error| describe(&error))
    }

    /// Whether it was a helper that has ended; a container that has stood still for it goes on.
    pub(super) fn is_helper(&mut self, pid: Pid) -> Result<bool, ServeError> {
        let Some(at) = self.helpers.iter().position(|helper| helper.pid == pid) else {
            return Ok(false);
        };
        if self.helpers.swap_remove(at).halts
            && let Err(reason) = self.go_on()
        {
            self.complain(reason)?;
        }
        Ok(true)
    }

    fn go_on(&mut self) -> Result<(), String> {
        match &self.cgroup {
            Ok(cgroup) => self.freezer.thaw(cgroup).map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Ends whoever still has files open.
    pub(super) fn end_helpers(&mut self, patience: Duration) {
        for helper in std::mem::take(&mut self.helpers) {
            helper.kill();
            let _ = self.reaper.await_end(helper.pid, patience);
        }
    }
}
