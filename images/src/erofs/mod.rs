//! Writes an EROFS image's metadata; the contents of files lie behind it, in the layers' data.
//!
//! Sources: the kernel's Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h. The image is
//! uncompressed, has 4 KiB blocks and 64-byte inodes, and looks like this:
//!
//! ```text
//! block 0          1,024 bytes of nothing, superblock, then inodes from byte 1,152 on
//! …                inodes in breadth-first order, each with attributes, then a short
//!                  directory, link target or chunk map
//! directory blocks what is too long for that
//! data             one layer's data file behind the other, with the inodes of small files
//! ```

mod directory;
mod format;
mod layout;
mod packed;
mod write;
mod xattr;

pub(crate) use format::ISLOT;
pub(crate) use packed::{content_offset, head, is_packed_size};
pub(crate) use write::{LayerData, WriteError, superblock_is_whole, write};
