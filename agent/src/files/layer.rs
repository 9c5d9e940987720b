//! What the container has written, as the entries of an image's layer (OCI image-spec, layer.md).

use std::{io::Write, os::fd::AsFd};

use protocol::{FileEntry, FileKind};
use rustix::fs::Stat;
use trees::{Place, Sender, Sent, StreamError, open_below, step};

use super::written::{Written, is_folder, is_opaque, is_whiteout, look};

/// What the names of entries begin with that take something away.
const WHITEOUT: &[u8] = b".wh.";
/// The entry that takes away all that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Sends the layer.
pub(super) fn send(sender: &mut Sender<impl Write>) -> Result<(), StreamError> {
    let written = Written::open()?;
    send_root(&written, sender)?;
    let mut walk = written.walk()?;
    while let Some(place) = walk.next_place() {
        let Some(stat) = look(&place)? else { continue };
        let path = place.path.clone();
        if send_place(&written, &place, &stat, sender)? && is_folder(&stat) {
            if let Err(error) = walk.enter(&path) {
                return Err(step(format!("read {}", trees::shown(&path)), error).into());
            }
            let opaque = open_below(written.upper(), &path).is_ok_and(|one| is_opaque(one.as_fd()));
            if opaque {
                mark(sender, [&path[..], b"/", OPAQUE].concat())?;
            }
        }
    }
    Ok(())
}

/// The root is in a layer only where it is another than the image's.
fn send_root(written: &Written, sender: &mut Sender<impl Write>) -> Result<(), StreamError> {
    let upper = written.upper();
    let stat = rustix::fs::fstat(upper).map_err(|error| step("look at the root", error))?;
    let image = written.in_image(b"");
    let same = image.is_some_and(|image| {
        (image.st_mode, image.st_uid, image.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid)
    });
    if same { Ok(()) } else { sender.folder(upper, b"", without_overlays) }
}

/// Whether what lies below is to be sent too.
fn send_place(
    written: &Written,
    place: &Place<'_>,
    stat: &Stat,
    sender: &mut Sender<impl Write>,
) -> Result<bool, StreamError> {
    if is_whiteout(stat) {
        // A layer cannot take away what no layer below it has.
        if written.in_image(&place.path).is_some() {
            let end = place.path.len() - place.name.len();
            mark(sender, [&place.path[..end], WHITEOUT, &place.name].concat())?;
        }
        return Ok(false);
    }
    if written.is_mount_point(place, stat) {
        return Ok(false);
    }
    if place.name.starts_with(WHITEOUT) {
        sender.leave_out(&place.path, "a layer has no file of such a name")?;
        return Ok(false);
    }
    Ok(matches!(sender.place_filtered(place, without_overlays)?, Sent::Yes(_)))
}

/// What an overlay notes in its files is no part of them.
fn without_overlays(entry: &mut FileEntry) {
    entry.xattrs.retain(|(name, _)| !name.starts_with(b"trusted.overlay."));
}

/// Sends an empty file whose name says what goes.
fn mark(sender: &mut Sender<impl Write>, path: Vec<u8>) -> Result<(), StreamError> {
    let entry = FileEntry {
        path,
        kind: FileKind::File { size: 0, segments: None },
        mode: 0,
        uid: 0,
        gid: 0,
        modified: (0, 0),
        xattrs: Vec::new(),
    };
    sender.entry(entry, &mut std::io::empty())
}
