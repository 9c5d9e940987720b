//! The files of a container, from outside: copied, compared with its image's, made an image of.
//!
//! The host reads no file system that a guest has written. The agent of a machine does it: of the
//! container's own where it runs, and of one that runs nothing where it does not. What the agent sends
//! is a stranger's. docs/decisions/container-files.md has the reasons.

mod access;
mod archive;
mod commit;
mod copy;
mod error;

pub use self::commit::{Commit, changes, commit};
pub use self::copy::{CopyIn, CopyOut, Inside, Outside, copy_in, copy_out};
pub use self::error::FilesError;
