//! A file tree in memory: inodes in one list, directories as sorted maps of names.

use std::collections::{BTreeMap, HashSet};

use super::mode;
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
    /// Directories that have nothing of lower layers any more, while `pruned_for` is applied.
    pruned: HashSet<InodeId>,
    pruned_for: usize,
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

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        let root = Inode { node: Node::Directory(BTreeMap::new()), metadata };
        Tree { inodes: vec![root], pruned: HashSet::new(), pruned_for: 0 }
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

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0]
    }

    pub(super) fn names_mut(&mut self, id: InodeId) -> Option<&mut BTreeMap<Box<[u8]>, Dirent>> {
        match &mut self.inodes[id.0].node {
            Node::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Notes that a directory loses everything that is not of this layer. False if it has already:
    /// within a layer nothing of lower layers comes back, so a hostile layer gains nothing by asking
    /// again and again.
    pub(super) fn prune_once(&mut self, id: InodeId, layer: usize) -> bool {
        if self.pruned_for != layer {
            self.pruned.clear();
            self.pruned_for = layer;
        }
        self.pruned.insert(id)
    }

    /// Replaces an inode's owner, mode, time and attributes.
    pub(super) fn set_metadata(&mut self, id: InodeId, metadata: Metadata) {
        let inode = self.inode_mut(id);
        let mode = mode::kept(&inode.node, &metadata);
        inode.metadata = Metadata { mode, ..metadata };
    }

    pub(super) fn add(&mut self, mut inode: Inode) -> InodeId {
        inode.metadata.mode = mode::kept(&inode.node, &inode.metadata);
        self.inodes.push(inode);
        InodeId(self.inodes.len() - 1)
    }
}

impl InodeId {
    pub(crate) fn index(self) -> usize {
        self.0
    }
}
