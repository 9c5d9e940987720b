//! Merges layers into one file tree, by the rules of OCI image-spec's layer.md. Does no I/O.

mod furnish;
mod merge;
mod mode;
mod tree;

pub(crate) use mode::file_mode;
pub(crate) use tree::{InodeId, Node, ROOT, Tree};

/// Why layers cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A hard link's target is in none of the layers so far.
    #[error("layer entry {entry:?} is a hard link to {target:?}, which does not exist")]
    LinkTarget {
        /// The link's path.
        entry: String,
        /// Where it points.
        target: String,
    },
    /// A hard link to a directory.
    #[error("layer entry {entry:?} is a hard link to the directory {target:?}")]
    LinkToDirectory {
        /// The link's path.
        entry: String,
        /// Where it points.
        target: String,
    },
    /// Symbolic links among the parents lead in a circle.
    #[error("layer entry {entry:?} lies behind too many symbolic links")]
    SymlinkLoop {
        /// The entry's path.
        entry: String,
    },
    /// A symbolic link among the parents leads to a name that no directory can have.
    #[error("layer entry {entry:?} lies behind a symbolic link to a name of more than 255 bytes")]
    LongName {
        /// The entry's path.
        entry: String,
    },
    /// A directory tree that no path can reach the end of.
    #[error("layer entry {entry:?} lies in more than {limit} nested directories")]
    TooDeep {
        /// The entry's path.
        entry: String,
        /// The deepest nesting accepted.
        limit: usize,
    },
}
