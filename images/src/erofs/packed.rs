//! Small files as they stand in a layer's data: an inode, its attributes and the content behind it,
//! several of them in a block.
//!
//! An inode may lie anywhere on the disk, so a directory of the image's metadata names it where the
//! layer has it. What such an inode says must be true in every image with the layer: it has one link.
//! A file with more names gets an inode in the metadata, and a copy of its content there.

use super::format::{BLOCK, DataLayout, EXTENDED_INODE_SIZE, ISLOT, InodeFields, S_IFREG};
use super::xattr;
use crate::layer::Metadata;
use crate::rootfs::file_mode;

/// Slots of a block: an inode begins at one.
pub(super) const SLOTS: u64 = BLOCK / ISLOT;

/// What stands in front of a file's content of `size` bytes; `None` if both do not fit into a block.
pub(crate) fn head(metadata: &Metadata, size: u64) -> Option<Vec<u8>> {
    if size == 0 || size > BLOCK - EXTENDED_INODE_SIZE {
        return None;
    }
    let xattrs = xattr::encode(&metadata.xattrs);
    if EXTENDED_INODE_SIZE + xattrs.len() as u64 + size > BLOCK {
        return None;
    }
    let fields = InodeFields {
        layout: DataLayout::FlatInline,
        xattr_count: xattr::count(xattrs.len()),
        mode: S_IFREG | file_mode(metadata),
        size,
        data: 0,
        number: 0,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime_seconds: metadata.mtime.seconds,
        mtime_nanoseconds: metadata.mtime.nanoseconds,
        links: 1,
    };
    let mut head = fields.to_bytes();
    head.extend(xattrs);
    Some(head)
}

/// The first byte of a file's content in its layer's data, for an inode in this slot.
pub(crate) fn content_offset(slot: u64, metadata: &Metadata) -> u64 {
    slot * ISLOT + EXTENDED_INODE_SIZE + xattr::encode(&metadata.xattrs).len() as u64
}

/// Whether a packed file can have this size.
pub(crate) fn is_packed_size(size: u64) -> bool {
    (1..=BLOCK - EXTENDED_INODE_SIZE).contains(&size)
}
