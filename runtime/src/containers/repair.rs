//! Puts right what a crash has left of a container. Only for whoever has locked the register.

use std::fs;
use std::path::Path;

use super::files::{Durability, file_error, remove_folder};
use super::register::aside;
use super::{CONTROL_SOCKET, Found, GONE, MACHINE_SOCKET, STATE, Status, files};
use vmm::error::chain;

use crate::error::Error;
use crate::events::of_container;
use crate::host_cgroup;
use crate::voice::say;

/// The exit code of a container whose end nobody has seen, as Docker has it.
const UNKNOWN_END: u8 = 255;

/// Writes down that a container has ended with its supervisor; removes it if it was to be removed at
/// its end.
pub(super) fn bury_supervisor<C>(found: Found<C>) -> Result<Option<Found<C>>, Error> {
    let Found { record, state, folder } = found;
    host_cgroup::remove(&record.id);
    let log = super::events_of(folder.parent().unwrap_or(&folder));
    if matches!(state.status, Status::Running | Status::Paused) {
        log.add(&[of_container(&record, "die", &[("exitCode", &UNKNOWN_END.to_string())])]);
    }
    if record.keeping.auto_remove {
        super::networks_of(folder.parent().unwrap_or(&folder)).leave_all(&record);
        remove_folder(&folder, GONE)?;
        log.add(&[of_container(&record, "destroy", &[])]);
        return Ok(None);
    }
    let what = if state.status == Status::Restarting {
        "the container's supervisor was killed before it had started it again"
    } else if state.started.is_some_and(|started| state.finished.is_none_or(|end| end < started)) {
        "the container's supervisor was killed, and its machine with it"
    } else {
        "the container's supervisor was killed before its program had begun"
    };
    say("warning", format_args!("container {}: {what}", record.name));
    let state = state.ended(UNKNOWN_END, what.to_owned());
    remove_sockets(&folder);
    let text = serde_json::to_vec(&state).expect("a state of words and numbers is JSON");
    if let Err(error) = files::write(&folder, STATE, &text, Durability::Synced) {
        // The next who looks tries again; until then everybody comes to the same end.
        say("warning", format_args!("container {}: {}", record.name, chain(&error)));
    }
    Ok(Some(Found { record, state, folder }))
}

/// Puts a container aside whose documents are damaged: its files are a person's, so they stay.
pub(super) fn set_aside(folder: &Path, reason: &str) -> Result<(), Error> {
    let place = aside(folder);
    fs::rename(folder, &place).map_err(file_error("set aside", folder))?;
    let place = place.display();
    say(
        "warning",
        format_args!("a container's record is damaged ({reason}); set aside as {place}"),
    );
    Ok(())
}

/// Says that a container is left alone.
pub(super) fn say_newer(folder: &Path, reason: &str) {
    let id = folder.file_name().unwrap_or_default().to_string_lossy();
    say("warning", format_args!("container {id} is left alone: {reason}"));
}

/// Removes the sockets that a killed supervisor has left.
pub(super) fn remove_sockets(folder: &Path) {
    for socket in [MACHINE_SOCKET, CONTROL_SOCKET] {
        // The next supervisor makes them anew, and says so if it cannot.
        let _ = fs::remove_file(folder.join(socket));
    }
}
