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
        if let Self::Awaited(template) = self {
            template.discard();
            *self = Self::Nothing;
        }
    }

    /// The container has ended: nothing is left half done.
    pub(super) fn end(&mut self) {
        match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => {}
            Self::Awaited(template) => template.discard(),
            // It does not panic, and if it did, the template is not there.
            Self::Publishing(thread) => drop(thread.join()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::templates::tests::{templates, wanted};

    /// A template whose publishing takes longer than a short container.
    fn slow(unfinished: &Unfinished) {
        unfinished.files().unwrap().memory.write_all(&vec![7; 64 << 20]).unwrap();
    }

    #[test]
    fn a_container_that_ends_soon_takes_no_template_along() {
        let (_folder, templates) = templates();
        let unfinished = templates.begin(&wanted("k")).unwrap().unwrap();
        slow(&unfinished);
        let mut saving = Saving::new(Some(unfinished));
        saving.publish();
        saving.discard();
        saving.end();
        assert!(templates.find(&wanted("k")).is_some());
    }

    #[test]
    fn what_was_not_saved_is_not_there() {
        let (_folder, templates) = templates();
        let begin = || Saving::new(templates.begin(&wanted("k")).unwrap());
        begin().end();
        let mut saving = begin();
        saving.discard();
        saving.publish();
        saving.end();
        assert!(templates.find(&wanted("k")).is_none());
        assert!(templates.begin(&wanted("k")).unwrap().is_some(), "nobody is at it");
    }
}
