//! The machine's own device nodes, for a container that may open them all.

use std::{fs, os::unix::fs::FileTypeExt, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    fs::{CWD, FileType, Mode, mkdir, mknodat},
    io::Errno,
};

use crate::step::{Doing, StepError};

/// The nodes and folders below `/dev`, each folder before what is in it.
#[derive(Default)]
pub(crate) struct DeviceNodes {
    nodes: Vec<Node>,
}

struct Node {
    path: String,
    kind: Kind,
    mode: Mode,
}

enum Kind {
    Folder,
    Device { file_type: FileType, number: u64 },
}

impl DeviceNodes {
    /// Looks at the agent's own `/dev`.
    pub(crate) fn of_the_machine() -> Result<Self, StepError> {
        let mut found = Self::default();
        found.collect(Path::new("/dev"))?;
        Ok(found)
    }

    /// Makes those that are not there yet in the `/dev` of the calling process's root.
    pub(crate) fn make(&self) -> Result<(), StepError> {
        for Node { path, kind, mode } in &self.nodes {
            let made = match *kind {
                Kind::Folder => mkdir(path, *mode),
                Kind::Device { file_type, number } => mknodat(CWD, path, file_type, *mode, number),
            };
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).doing(format_args!("make {path}")),
            }
        }
        Ok(())
    }

    fn collect(&mut self, folder: &Path) -> Result<(), StepError> {
        let doing = || format!("read {}", folder.display());
        for entry in fs::read_dir(folder).doing(doing())? {
            let entry = entry.doing(doing())?;
            let status = entry.metadata().doing(doing())?;
            let file_type = status.file_type();
            let kind = if file_type.is_dir() {
                Kind::Folder
            } else if file_type.is_char_device() {
                Kind::Device { file_type: FileType::CharacterDevice, number: status.rdev() }
            } else if file_type.is_block_device() {
                Kind::Device { file_type: FileType::BlockDevice, number: status.rdev() }
            } else {
                continue;
            };
            let path = entry.path();
            let is_folder = matches!(kind, Kind::Folder);
            let mode = Mode::from_raw_mode(status.mode() & 0o7777);
            self.nodes.push(Node { path: path.to_string_lossy().into_owned(), kind, mode });
            if is_folder {
                self.collect(&path)?;
            }
        }
        Ok(())
    }
}
