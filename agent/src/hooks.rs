//! The container's own programs for when it goes on in a copy: executables in a folder of its, run one after
//! the other in the order of their names.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use protocol::{ExecSpec, HOOKS, ProcessId, ProcessSpec};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat},
    io::Errno,
};

/// The most that are run.
const MOST: usize = 64;

/// Those that are still to be run, and how.
pub(crate) struct Hooks {
    paths: VecDeque<Vec<u8>>,
    spec: ProcessSpec,
    /// The one that runs.
    pub(crate) running: Option<ProcessId>,
}

impl Hooks {
    /// Those of the container with this root, to be run like this.
    pub(crate) fn of(root: BorrowedFd<'_>, spec: ProcessSpec) -> Self {
        // A folder that cannot be read has none.
        let mut names = names(root).unwrap_or_default();
        names.sort();
        names.truncate(MOST);
        let paths = names.into_iter().map(|name| [HOOKS.as_bytes(), b"/", &name].concat());
        Self { paths: paths.collect(), spec, running: None }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Option<ExecSpec> {
        let args = vec![self.paths.pop_front()?];
        Some(ExecSpec { process: ProcessSpec { args, ..self.spec.clone() }, detached: true })
    }
}

/// The names of executables in the folder.
fn names(root: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let folder = openat2(root, Path::new(HOOKS), flags, Mode::empty(), resolve)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let name = entry?.file_name().to_owned();
        if is_executable(folder.as_fd(), &name) {
            names.push(name.into_bytes());
        }
    }
    Ok(names)
}

/// A link may lead anywhere, and is none.
fn is_executable(folder: BorrowedFd<'_>, name: &std::ffi::CStr) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| {
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        is_file && found.st_mode & 0o111 != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program;
    use std::{
        fs::{self, File, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    #[test]
    fn executables_are_run_in_the_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(&HOOKS[1..]);
        fs::create_dir_all(&folder).unwrap();
        for (name, mode) in [("20-b", 0o755), ("10-a", 0o700), ("30-no", 0o644)] {
            fs::write(folder.join(name), "").unwrap();
            fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folder.join("folder")).unwrap();
        symlink("10-a", folder.join("link")).unwrap();
        let spec = program::tests::spec(&[], &["A=1"]);
        let root = File::open(root.path()).unwrap();
        let mut hooks = Hooks::of(root.as_fd(), spec);
        let next = |hooks: &mut Hooks| {
            let exec = hooks.next()?;
            assert!(exec.detached);
            String::from_utf8(exec.process.args[0].clone()).ok()
        };
        let run: Vec<_> = std::iter::from_fn(|| next(&mut hooks)).collect();
        assert_eq!(run, [format!("{HOOKS}/10-a"), format!("{HOOKS}/20-b")]);
    }

    #[test]
    fn a_container_without_the_folder_has_none() {
        let root = tempfile::tempdir().unwrap();
        let root = File::open(root.path()).unwrap();
        assert!(Hooks::of(root.as_fd(), program::tests::spec(&[], &[])).next().is_none());
    }
}
