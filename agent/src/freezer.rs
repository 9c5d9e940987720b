//! Stops a container's processes where they are, and says when they stand still.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
};

use protocol::{Answer, RequestId};

use crate::{
    cgroup::{Cgroup, Frost, value},
    step::{Doing, StepError, describe},
};

/// Whether the container is frozen, and who waits for it.
#[derive(Default)]
pub(crate) struct Freezer {
    /// The cgroup's events, while it is frozen or on the way there.
    events: Option<File>,
    waiting: Vec<RequestId>,
}

impl Freezer {
    /// Whether the container is frozen or on the way there.
    pub(crate) fn is_on(&self) -> bool {
        self.events.is_some()
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
        let begin = || -> Result<File, StepError> {
            let events = cgroup.events()?;
            cgroup.freeze(Frost::On)?;
            Ok(events)
        };
        self.events = Some(begin().map_err(|error| describe(&error))?);
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
        const MAX_BYTES: usize = 512;
        let Some(events) = &self.events else { return Ok(Vec::new()) };
        let mut text = [0; MAX_BYTES];
        let count = events.read_at(&mut text, 0).doing("read the container's events")?;
        let text = String::from_utf8_lossy(&text[..count]);
        let frozen = value(&text, "frozen") == Some(1);
        Ok(if frozen { std::mem::take(&mut self.waiting) } else { Vec::new() })
    }
}
