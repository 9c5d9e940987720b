//! The folders of a container that are volumes: they lie on the scratch disk beside what else the
//! container writes, and begin with what the image has there.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        CWD, Dir, Gid, Mode, OFlags, ResolveFlags, Uid, chmod, chown, fstat, mkdir, open, openat2,
    },
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use crate::{
    inside,
    mounts::{self, NOTHING_SPECIAL},
    step::{Doing, StepError},
};

/// Where volumes are kept, each in a folder with its number.
const KEPT: &str = "/scratch/volumes";
/// Where those that begin with something are put together, in the agent's own tree.
const JOINED: &str = "/volumes";

/// The volumes, ready to be mounted by a process that can no longer see where they lie.
#[derive(Default)]
pub(crate) struct Volumes {
    volumes: Vec<Volume>,
}

struct Volume {
    path: String,
    mount: OwnedFd,
}

impl Volumes {
    /// Makes or finds the volumes with these paths. The same container has the same paths whenever it
    /// starts, so that their places are their names.
    pub(crate) fn prepare(paths: &[String]) -> Result<Self, StepError> {
        let mut volumes = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            let mount = prepare(number, path).map_err(std::io::Error::other);
            let mount = mount.doing(format_args!("make the volume {path}"))?;
            volumes.push(Volume { path: path.clone(), mount });
        }
        Ok(Self { volumes })
    }

    /// Finds volumes that were prepared before, for one more process that is to see them.
    pub(crate) fn find(paths: &[String]) -> Result<Self, StepError> {
        let mut volumes = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            let joined = format!("{JOINED}/{number}");
            let kept = || format!("{KEPT}/{number}/upper");
            let source = if fs::symlink_metadata(&joined).is_ok() { joined } else { kept() };
            volumes.push(Volume { path: path.clone(), mount: mount_of(&source)? });
        }
        Ok(Self { volumes })
    }

    /// Mounts them in the calling process's root.
    pub(crate) fn attach(&self) -> Result<(), StepError> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        for Volume { path, mount } in &self.volumes {
            let target = inside::open_or_make_folder(Path::new(path))
                .doing(format_args!("make a place for the volume {path}"))?;
            move_mount(mount, "", &target, "", flags)
                .doing(format_args!("mount the volume {path}"))?;
        }
        Ok(())
    }
}

/// An empty folder is a folder of the scratch disk as it is. One with content is an overlay over the
/// image's, which costs no copying.
fn prepare(number: usize, path: &str) -> Result<OwnedFd, StepError> {
    let original = original(path)?;
    let kept = format!("{KEPT}/{number}");
    let upper = format!("{kept}/upper");
    if fs::symlink_metadata(&upper).is_err() {
        fs::create_dir_all(format!("{kept}/work")).doing("make a folder on the scratch disk")?;
        make_like(&upper, original.as_ref())?;
    }
    let content = match &original {
        Some(folder) => has_content(folder)?,
        None => false,
    };
    let mut source = upper.clone();
    if let (Some(folder), true) = (&original, content) {
        source = join(number, folder, &kept)?;
    }
    mount_of(&source)
}

/// A mount of a folder in the agent's own tree.
fn mount_of(source: &str) -> Result<OwnedFd, StepError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, source, flags).doing("prepare the mount")
}

/// The image's own folder of that name, links followed inside the image.
fn original(path: &str) -> Result<Option<OwnedFd>, StepError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let image = open("/image", flags, Mode::empty()).doing("open the image's root")?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(&image, path, flags, Mode::empty(), resolve) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).doing("open the image's folder"),
    }
}

/// Makes a folder with the owner and the permissions of another.
fn make_like(path: &str, original: Option<&OwnedFd>) -> Result<(), StepError> {
    mkdir(path, Mode::from_raw_mode(0o755)).doing("make a folder on the scratch disk")?;
    let Some(original) = original else { return Ok(()) };
    let status = fstat(original).doing("look at the image's folder")?;
    let (owner, group) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    chown(path, Some(owner), Some(group)).doing("give the folder its owner")?;
    chmod(path, Mode::from_raw_mode(status.st_mode)).doing("give the folder its permissions")
}

fn has_content(folder: &OwnedFd) -> Result<bool, StepError> {
    let entries = Dir::read_from(folder).doing("read the image's folder")?;
    for entry in entries {
        let entry = entry.doing("read the image's folder")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lays the kept folder over the image's, in the agent's own tree.
fn join(number: usize, lower: &OwnedFd, kept: &str) -> Result<String, StepError> {
    use std::os::fd::AsRawFd;
    let target = format!("{JOINED}/{number}");
    fs::create_dir_all(&target).doing("make a place for a volume")?;
    let lower = lower.as_fd().as_raw_fd();
    let options = format!(
        "lowerdir=/proc/self/fd/{lower},upperdir={kept}/upper,workdir={kept}/work,\
         redirect_dir=off,metacopy=off,index=off"
    );
    let c_string = |text: &str| std::ffi::CString::new(text).doing("name a volume");
    let (place, options) = (c_string(&target)?, c_string(&options)?);
    mounts::new(c"overlay", &place, NOTHING_SPECIAL, &options)?;
    Ok(target)
}
