//! A template on its way from a machine that was just saved to its home, beside all else.

use std::thread::JoinHandle;

use crate::templates::Unfinished;

/// How far the template is.
pub(super) enum Saving {
    /// There is none, or no longer.
    Nothing,
    /// The machine has not said that it was saved.
    Awaited(Unfinished),
    /// Its files are being synced.
    Publishing(JoinHandle<()>),
}

impl Saving {
    /// What becomes of the template, if there is to be one.
    pub(super) fn new(template: Option<Unfinished>) -> Self {
        template.map_or(Self::Nothing, Self::Awaited)
    }

    /// The machine was saved. The disk is slow, and the container does not wait for it.
    pub(super) fn publish(&mut self) {
        if let Self::Awaited(template) = std::mem::replace(self, Self::Nothing) {
            // A template that is not made now is made the next time.
            let publish = || drop(template.publish());
            let thread = std::thread::Builder::new().name("template".to_owned()).spawn(publish);
            *self = thread.map_or(Self::Nothing, Self::Publishing);
        }
    }

    /// The machine was not saved, and will not be.
    pub(super) fn discard(&mut self) {
        if let Self::Awaited(template) = std::mem::replace(self, Self::Nothing) {
            template.discard();
        }
    }

    /// The container has ended: nothing is left half done.
    pub(super) fn end(&mut self) {
        self.discard();
        if let Self::Publishing(thread) = std::mem::replace(self, Self::Nothing) {
            // It does not panic, and if it did, the template is not there.
            let _ = thread.join();
        }
    }
}
