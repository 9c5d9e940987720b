//! Tells whoever follows events what has come from a registry or gone to one.

use std::path::Path;

use images::{Event, EventLog, Reference};

/// Writes down what was done, in the log beside the store.
pub(crate) fn note(store: &Path, action: &str, reference: &Reference) {
    if let Some(data) = store.parent() {
        let (whole, name) = (reference.familiar(), reference.familiar_name());
        EventLog::under(data).add(&[Event::of_image(action, &whole, &name)]);
    }
}
