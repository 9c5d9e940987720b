//! Stops a container's processes where they are, and says when they stand still.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
};

use protocol::{Answer, RequestId};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use crate::{
    cgroup::{self, Cgroup, Frost, value},
    step::{Doing, StepError, describe},
};

/// Whether the container is frozen, and who waits for it.
#[derive(Default)]
pub(crate) struct Freezer {
    /// The cgroup's events, while it is frozen or on the way there.
    events: Option<File>,
    waiting: Vec<RequestId>,
    suspension: Option<Before>,
}

/// What a container did before it was suspended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Ran,
    StoodStill,
}

impl Freezer {
    /// Whether the container is frozen or on the way there.
    pub(crate) fn is_on(&self) -> bool {
        self.events.is_some()
    }

    /// Whether the machine may be a copy when it is next heard of.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspension.is_some()
    }

    /// Begins for a machine that is to be saved; the answer, if it is there at once. A container that stands
    /// still already is left as it is.
    pub(crate) fn suspend(
        &mut self,
        cgroup: &Cgroup,
        request: RequestId,
    ) -> Result<Option<Answer>, String> {
        if self.is_suspended() {
            return Err("the container is suspended already".into());
        }
        if self.is_on() {
            if !self.waiting.is_empty() {
                return Err("the container is about to be paused".into());
            }
            self.suspension = Some(Before::StoodStill);
            return Ok(Some(Answer::Done));
        }
        let answer = self.freeze(cgroup, request)?;
        self.suspension = Some(Before::Ran);
        Ok(answer)
    }

    /// Lets a container go on that was suspended, if it ran before; the requests that are overtaken by that.
    pub(crate) fn resume(&mut self, cgroup: &Cgroup) -> Result<Vec<RequestId>, String> {
        match self.suspension.take() {
            None => Err("the container is not suspended".into()),
            Some(Before::StoodStill) => Ok(Vec::new()),
            Some(Before::Ran) => self.thaw(cgroup),
        }
    }

    /// Lets the container of a copy go on, whatever it did before.
    pub(crate) fn adopt(&mut self, cgroup: &Cgroup) -> Result<(), StepError> {
        cgroup.freeze(Frost::Off)?;
        *self = Self::default();
        Ok(())
    }

    /// Begins, for somebody who waits by [`await_stillness`]; false if the container stands still
    /// already, and is to stay so.
    pub(crate) fn halt(&mut self, cgroup: &Cgroup) -> Result<bool, StepError> {
        if self.is_on() {
            return Ok(false);
        }
        let events = cgroup::events()?;
        cgroup.freeze(Frost::On)?;
        self.events = Some(events);
        Ok(true)
    }

    /// Begins; the answer, if it is there at once, which it is when nothing runs.
    pub(crate) fn freeze(
        &mut self,
        cgroup: &Cgroup,
        request: RequestId,
    ) -> Result<Option<Answer>, String> {
        if self.is_on() {
            return Err("the container is paused already".into());
        }
        self.halt(cgroup).map_err(|error| describe(&error))?;
        self.waiting.push(request);
        let done = self.hear().map_err(|error| describe(&error))?;
        Ok((!done.is_empty()).then_some(Answer::Done))
    }

    /// Lets the container go on; the requests that are overtaken by that.
    pub(crate) fn thaw(&mut self, cgroup: &Cgroup) -> Result<Vec<RequestId>, String> {
        if !self.is_on() {
            return Err("the container is not paused".into());
        }
        cgroup.freeze(Frost::Off).map_err(|error| describe(&error))?;
        self.events = None;
        Ok(std::mem::take(&mut self.waiting))
    }

    /// What has news when processes stand still, as long as someone waits for that (POLLPRI,
    /// Documentation/admin-guide/cgroup-v2.rst).
    pub(crate) fn news(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().filter(|_| !self.waiting.is_empty()).map(File::as_fd)
    }

    /// Those whose wish is fulfilled now.
    pub(crate) fn hear(&mut self) -> Result<Vec<RequestId>, StepError> {
        let Some(events) = &self.events else { return Ok(Vec::new()) };
        Ok(if is_still(&read(events)?) { std::mem::take(&mut self.waiting) } else { Vec::new() })
    }
}

/// Waits until the container that is to stand still does so, or has no process any more.
pub(crate) fn await_stillness(events: &File) -> Result<(), StepError> {
    loop {
        let text = read(events)?;
        if is_still(&text) || value(&text, "populated") == Some(0) {
            return Ok(());
        }
        match poll(&mut [PollFd::new(events, PollFlags::PRI)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).doing("wait for the container to stand still"),
        }
    }
}

fn is_still(events: &str) -> bool {
    value(events, "frozen") == Some(1)
}

fn read(events: &File) -> Result<String, StepError> {
    const MAX_BYTES: usize = 512;
    let mut text = [0; MAX_BYTES];
    let count = events.read_at(&mut text, 0).doing("read the container's events")?;
    Ok(String::from_utf8_lossy(&text[..count]).into_owned())
}
