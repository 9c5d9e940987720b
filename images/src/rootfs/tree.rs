//! A file tree in memory: inodes in one list, directories as sorted maps of names.

use std::collections::BTreeMap;

use crate::layer::{FileData, Metadata};

/// The place of an inode in [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InodeId(usize);

/// The root directory of every tree.
pub(crate) const ROOT: InodeId = InodeId(0);

/// A merged file tree. Inodes that nothing names any more stay in the list and are never reached.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
}

/// One file, directory or special file.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) node: Node,
    pub(crate) metadata: Metadata,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Node {
    Directory(BTreeMap<Box<[u8]>, Dirent>),
    /// `layer` says whose data file the blocks of `data` are in.
    File {
        size: u64,
        data: FileData,
        layer: usize,
    },
    Symlink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// A name's inode, and the last layer that had an entry of this name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dirent {
    pub(crate) inode: InodeId,
    pub(crate) layer: usize,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        Tree { inodes: vec![Inode { node: Node::Directory(BTreeMap::new()), metadata }] }
    }

    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0]
    }

    /// Inodes ever made; an upper bound of those in the tree, and of [`InodeId::index`].
    pub(crate) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// The names in a directory; `None` if `id` is something else.
    pub(crate) fn names(&self, id: InodeId) -> Option<&BTreeMap<Box<[u8]>, Dirent>> {
        match &self.inodes[id.0].node {
            Node::Directory(names) => Some(names),
            _ => None,
        }
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0]
    }

    pub(super) fn names_mut(&mut self, id: InodeId) -> Option<&mut BTreeMap<Box<[u8]>, Dirent>> {
        match &mut self.inodes[id.0].node {
            Node::Directory(names) => Some(names),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        InodeId(self.inodes.len() - 1)
    }
}

impl InodeId {
    pub(crate) fn index(self) -> usize {
        self.0
    }
}
