//! Decides where every inode and every long directory goes, before anything is written.

use std::collections::VecDeque;

use super::directory;
use super::format::{
    BLOCK, DataLayout, EROFS_SUPER_OFFSET, EXTENDED_INODE_SIZE, ISLOT, SUPERBLOCK_SIZE,
};
use super::xattr;
use crate::layer::FileData;
use crate::rootfs::{InodeId, Node, ROOT, Tree};

/// Where everything goes.
pub(super) struct Layout {
    /// In the order of their positions.
    pub(super) inodes: Vec<Placed>,
    /// By [`InodeId::index`]; 0 for those that the tree does not reach, and for packed ones.
    nids: Vec<u64>,
    /// How many names lead to each inode, `.` and `..` among them.
    links: Vec<u32>,
    /// Inodes that lie in the data of their layer.
    pub(super) packed: u64,
    /// Blocks of superblock and inodes.
    pub(super) inode_blocks: u64,
    /// Blocks of long directories and link targets, right behind those.
    pub(super) tail_blocks: u64,
    pub(super) has_chunks: bool,
}

/// An inode that has its place.
pub(super) struct Placed {
    pub(super) inode: InodeId,
    pub(super) parent: InodeId,
    /// In bytes from the start of the image.
    pub(super) position: u64,
    pub(super) layout: DataLayout,
    /// Bytes of a directory, link target or small file; those of other files are elsewhere.
    pub(super) size: u64,
    /// The first of its blocks, counted from the end of the inodes.
    pub(super) tail_block: u64,
}

impl Layout {
    /// Walks the tree breadth first, so that the inodes of a directory lie side by side.
    pub(super) fn of(tree: &Tree) -> Layout {
        let mut layout = Layout {
            inodes: Vec::new(),
            nids: vec![0; tree.len()],
            links: links(tree),
            packed: 0,
            inode_blocks: 0,
            tail_blocks: 0,
            has_chunks: false,
        };
        let mut cursor = EROFS_SUPER_OFFSET + SUPERBLOCK_SIZE;
        layout.place(tree, ROOT, ROOT, &mut cursor);
        let mut queue = VecDeque::from([ROOT]);
        while let Some(directory) = queue.pop_front() {
            for dirent in tree.names(directory).into_iter().flat_map(|names| names.values()) {
                if layout.packed_slot(tree, dirent.inode).is_some() {
                    layout.packed += 1;
                } else if layout.nid(dirent.inode) == 0 {
                    layout.place(tree, dirent.inode, directory, &mut cursor);
                    if tree.names(dirent.inode).is_some() {
                        queue.push_back(dirent.inode);
                    }
                }
            }
        }
        layout.inode_blocks = cursor.div_ceil(BLOCK);
        layout
    }

    /// The number of an inode that has a place here.
    pub(super) fn nid(&self, inode: InodeId) -> u64 {
        self.nids[inode.index()]
    }

    pub(super) fn links(&self, inode: InodeId) -> u32 {
        self.links[inode.index()]
    }

    /// The layer and the slot in its data where a small file has its inode, if that holds in this tree:
    /// it has one link there.
    pub(super) fn packed_slot(&self, tree: &Tree, inode: InodeId) -> Option<(usize, u64)> {
        match &tree.inode(inode).node {
            Node::File { data: FileData::Packed { slot }, layer, .. } if self.links(inode) == 1 => {
                Some((*layer, *slot))
            }
            _ => None,
        }
    }

    fn place(&mut self, tree: &Tree, id: InodeId, parent: InodeId, cursor: &mut u64) {
        let inode = tree.inode(id);
        let head = EXTENDED_INODE_SIZE + xattr::encode(&inode.metadata.xattrs).len() as u64;
        let mut placed = Placed {
            inode: id,
            parent,
            position: 0,
            layout: DataLayout::FlatPlain,
            size: 0,
            tail_block: 0,
        };
        // Bytes behind the attributes, and how much of inode and content must share a block.
        let (mut inline, mut together) = (0, EXTENDED_INODE_SIZE);
        match &inode.node {
            Node::Directory(names) => {
                let names = names.keys().map(|name| &**name);
                placed.size =
                    directory::size(names.chain([&b"."[..], b".."]).collect::<Sorted<'_>>().iter());
                inline = placed.size % BLOCK;
            }
            Node::Symlink { target } => {
                placed.size = target.len() as u64;
                inline = placed.size % BLOCK;
            }
            Node::File { data: FileData::Chunked { blocks, .. }, .. } => {
                placed.layout = DataLayout::ChunkBased;
                self.has_chunks = true;
                inline = 4 * blocks.len() as u64;
            }
            Node::File { size, data: FileData::Packed { .. }, .. } => {
                placed.size = *size;
                inline = *size;
            }
            _ => {}
        }
        if placed.size > 0 {
            // A kernel reads inode, attributes and inline content through one block.
            let fits = inline > 0 && head + inline <= BLOCK;
            placed.layout = if fits { DataLayout::FlatInline } else { DataLayout::FlatPlain };
            placed.tail_block = self.tail_blocks;
            if fits {
                together = head + inline;
                self.tail_blocks += placed.size / BLOCK;
            } else {
                inline = 0;
                self.tail_blocks += placed.size.div_ceil(BLOCK);
            }
        }
        *cursor = cursor.next_multiple_of(ISLOT);
        if *cursor % BLOCK + together > BLOCK {
            *cursor = cursor.next_multiple_of(BLOCK);
        }
        placed.position = *cursor;
        self.nids[id.index()] = *cursor / ISLOT;
        *cursor += head + inline;
        self.inodes.push(placed);
    }
}

/// Counts the names of everything that the root leads to.
fn links(tree: &Tree) -> Vec<u32> {
    let mut links = vec![0; tree.len()];
    links[ROOT.index()] = 2;
    let mut left = vec![ROOT];
    while let Some(directory) = left.pop() {
        for dirent in tree.names(directory).into_iter().flat_map(|names| names.values()) {
            // A directory has its name, its `.`, and one `..` for each directory in it.
            let is_directory = tree.names(dirent.inode).is_some();
            links[dirent.inode.index()] += if is_directory { 2 } else { 1 };
            if is_directory {
                links[directory.index()] += 1;
                left.push(dirent.inode);
            }
        }
    }
    links
}

/// Names in byte order, which is not the order they come in: `!` sorts before `.`.
struct Sorted<'a>(Vec<&'a [u8]>);

impl<'a> Sorted<'a> {
    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().copied()
    }
}

impl<'a> FromIterator<&'a [u8]> for Sorted<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(names: I) -> Sorted<'a> {
        let mut names: Vec<&[u8]> = names.into_iter().collect();
        names.sort_unstable();
        Sorted(names)
    }
}
