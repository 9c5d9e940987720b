//! What is done once for all containers of an image, in a machine that is to be saved after it.

use protocol::{FrameError, FromAgent, Preparation, ProcessId, ToAgent};

use super::{ServeError, Server, Stage};
use crate::{disks::Disks, power, step::StepError, waiting::Waiting, warmth};

impl Server {
    /// Rings once nothing is open to the host any more, and goes on with the next who comes: in this
    /// machine, or in every one that is restored from what was saved of it.
    pub(crate) fn await_next(self) -> Result<Self, StepError> {
        let Self { control, doors, reaper, cgroup, disks, waiting, .. } = self;
        drop(control);
        power::ring_doorbell()?;
        let control = doors.wait_for_host()?;
        Ok(Self { disks, waiting, ..Self::new(control, doors, reaper, cgroup) })
    }

    /// Does what all containers of an image begin with; whether the host has hung up after it.
    pub(super) fn prepare(&mut self, preparation: &Preparation) -> Result<bool, ServeError> {
        if self.stage != Stage::Idle || self.disks.is_some() {
            self.complain("this machine is prepared already".into())?;
            return Ok(false);
        }
        if let Err(error) = self.lay_out_image(preparation) {
            self.give_up(ProcessId::OWN, error.into())?;
            return Ok(false);
        }
        self.say(&FromAgent::Prepared)?;
        match protocol::read::<ToAgent>(&mut self.control) {
            Err(FrameError::Closed) => Ok(true),
            Ok(_) => Err(ServeError::NoHello),
            Err(error) => Err(error.into()),
        }
    }

    fn lay_out_image(&mut self, preparation: &Preparation) -> Result<(), StepError> {
        let disks = Disks::mount(preparation.image_disk, preparation.scratch_disk)?;
        let root = self.disks.insert(disks).root();
        // Where it cannot be made, as over an image whose `/proc` is no folder, each run says why.
        let cgroup = self.cgroup.as_ref().ok();
        self.waiting = cgroup.and_then(|cgroup| Waiting::make(preparation, cgroup).ok());
        warmth::spread(root, preparation);
        // What the scratch disk has so far is in its file before the machine is saved.
        rustix::fs::sync();
        Ok(())
    }
}
