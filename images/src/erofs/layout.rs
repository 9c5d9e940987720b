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
    /// By [`InodeId::index`].
    places: Vec<Place>,
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
    /// Bytes of a directory or link target; those of files are elsewhere.
    pub(super) size: u64,
    /// The first of its blocks, counted from the end of the inodes.
    pub(super) tail_block: u64,
}

#[derive(Clone, Copy, Default)]
struct Place {
    nid: u64,
    links: u32,
}

impl Layout {
    /// Walks the tree breadth first, so that the inodes of a directory lie side by side.
    pub(super) fn of(tree: &Tree) -> Layout {
        let mut layout = Layout {
            inodes: Vec::new(),
            places: vec![Place::default(); tree.len()],
            inode_blocks: 0,
            tail_blocks: 0,
            has_chunks: false,
        };
        let mut cursor = EROFS_SUPER_OFFSET + SUPERBLOCK_SIZE;
        layout.place(tree, ROOT, ROOT, &mut cursor);
        layout.places[ROOT.index()].links = 2;
        let mut queue = VecDeque::from([ROOT]);
        while let Some(directory) = queue.pop_front() {
            for dirent in tree.names(directory).into_iter().flat_map(|names| names.values()) {
                let is_directory = tree.names(dirent.inode).is_some();
                if layout.nid(dirent.inode) == 0 {
                    layout.place(tree, dirent.inode, directory, &mut cursor);
                    if is_directory {
                        queue.push_back(dirent.inode);
                    }
                }
                // A directory has its name, its `.`, and one `..` for each directory in it.
                let own = if is_directory { 2 } else { 1 };
                layout.places[dirent.inode.index()].links += own;
                if is_directory {
                    layout.places[directory.index()].links += 1;
                }
            }
        }
        layout.inode_blocks = cursor.div_ceil(BLOCK);
        layout
    }

    /// The inode's number; 0 if the tree does not reach it.
    pub(super) fn nid(&self, inode: InodeId) -> u64 {
        self.places[inode.index()].nid
    }

    pub(super) fn links(&self, inode: InodeId) -> u32 {
        self.places[inode.index()].links
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
        self.places[id.index()].nid = *cursor / ISLOT;
        *cursor += head + inline;
        self.inodes.push(placed);
    }
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
