//! A job as its helper does it, from the way into the container's files to the last word.

use std::{
    fs::File,
    io::Write,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use protocol::{FileFailure, FileItem, FileJob, Links, Owner, Processes, SourceName};
use rustix::{
    fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat},
    mount::{MountFlags, mount_remount},
    process::umask,
};
use trees::{Items, Owners, Receiver, Rules, Sender, Source, StreamError, Target, step};

use super::{View, changes, layer};
use crate::{
    cgroup, disks,
    etc::EtcMounts,
    freezer::await_stillness,
    rootfs,
    step::{StepError, describe},
    user,
    volumes::Volumes,
};

/// Does the job and says how it went, on `stream`.
pub(super) fn carry_out(job: &FileJob, stream: &File, view: &View, container: Processes) {
    umask(Mode::empty());
    let mut sender = Sender::new(stream);
    let outcome = match job {
        FileJob::Read { path, links } => read(path, *links, view, &mut sender),
        FileJob::Write { path, source, owner } => {
            write(path, source.as_ref(), (view, *owner), (&mut Items::new(stream), &mut sender))
        }
        FileJob::Changes => {
            enter_disks(Processes::Running).and_then(|()| changes::tell(&mut sender))
        }
        FileJob::Layer { .. } => enter_disks(container).and_then(|()| layer::send(&mut sender)),
    };
    let last = match outcome {
        Ok(()) => FileItem::Done,
        Err(StreamError::Failed(failure)) => FileItem::Failed(failure),
        // Nobody is left to be told.
        Err(StreamError::Connection(_) | StreamError::Unexpected) => return,
    };
    if sender.finish(&last).is_ok() {
        // A stream that is closed too early may take with it what the host has not read yet.
        let _ = std::io::copy(&mut &*stream, &mut std::io::sink());
    }
}

fn read(
    path: &[u8],
    links: Links,
    view: &View,
    sender: &mut Sender<impl Write>,
) -> Result<(), StreamError> {
    enter_root(view)?;
    let source = Source::find(&absolute(path), links)?;
    sender.item(&FileItem::Source { is_folder: source.name.is_folder })?;
    sender.tree(&source)
}

fn write(
    path: &[u8],
    source: Option<&SourceName>,
    (view, owner): (&View, Owner),
    (items, sender): (&mut Items<&File>, &mut Sender<impl Write>),
) -> Result<(), StreamError> {
    let owners = enter_root(view).and_then(|()| owners(owner, view))?;
    let target = Target::find(&absolute(path), source)?;
    let status = fstatvfs(&target.folder).map_err(|error| step("look at the folder", error))?;
    if status.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(FileFailure::ReadOnly.into());
    }
    sender.item(&FileItem::Ready)?;
    sender.flush()?;
    let rules = Rules::FRIEND.with(owners);
    let mut receiver = Receiver::new(target.folder, target.name, rules);
    loop {
        match items.next_item()? {
            FileItem::Entry(entry) => drop(receiver.take(&entry, items)?),
            // The host has told its person.
            FileItem::LeftOut { .. } => {}
            FileItem::Done => return Ok(receiver.finish()?),
            _ => return Err(StreamError::Unexpected),
        }
    }
}

/// As Docker has it: with `-a` everything is the container's own user's, if it has one.
fn owners(owner: Owner, view: &View) -> Result<Owners, FileFailure> {
    if owner == Owner::Kept || view.user.user.is_empty() {
        return Ok(Owners::Kept);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty());
    let root = root.map_err(|error| step("open the container's root", error))?;
    let account = user::find(root.as_fd(), &view.user, &[]).map_err(|_| FileFailure::Step {
        doing: "find the container's user".into(),
        reason: format!("it has no user {}", view.user.user),
    })?;
    Ok(Owners::Given(account.uid, account.gid))
}

/// Makes the container's root the helper's own, with its volumes and its files in `/etc`. Nothing in it
/// is opened as a device.
fn enter_root(view: &View) -> Result<(), FileFailure> {
    let enter = || -> Result<(), StepError> {
        let (volumes, etc) = (Volumes::find(&view.volumes)?, EtcMounts::find()?);
        rootfs::pivot()?;
        volumes.attach()?;
        etc.attach()?;
        Ok(())
    };
    enter().map_err(failed)?;
    let access = if view.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    remount("/", access)
}

/// Makes sure that nothing on the disk of what the container has written is opened as a device, and
/// waits for the container if that is to stand still.
fn enter_disks(container: Processes) -> Result<(), StreamError> {
    remount(disks::SCRATCH, MountFlags::RDONLY)?;
    if container == Processes::Halted {
        cgroup::events().and_then(|events| await_stillness(&events)).map_err(failed)?;
    }
    Ok(())
}

/// Changes what the helper alone may do in a mount.
fn remount(path: &str, access: MountFlags) -> Result<(), FileFailure> {
    mount_remount(path, MountFlags::BIND | MountFlags::NODEV | access, c"")
        .map_err(|error| step(format!("close {path}"), error))
}

fn failed(error: StepError) -> FileFailure {
    FileFailure::Step { doing: "use the container's files".into(), reason: describe(&error) }
}

/// A path is one from the root, whether it says so or not; what its end says stays.
fn absolute(path: &[u8]) -> PathBuf {
    Path::new("/").join(std::ffi::OsStr::from_bytes(path))
}
