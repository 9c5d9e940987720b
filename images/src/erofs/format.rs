//! The structures of EROFS as bytes. Names are those of fs/erofs/erofs_fs.h.

pub(super) const BLOCK_BITS: u8 = 12;
/// Bytes of a block, for positions and for lengths in memory.
pub(super) const BLOCK: u64 = 1 << BLOCK_BITS;
pub(super) const BLOCK_LENGTH: usize = 1 << BLOCK_BITS;

pub(super) const EROFS_SUPER_OFFSET: u64 = 1024;
pub(super) const SUPERBLOCK_SIZE: u64 = 128;
const EROFS_SUPER_MAGIC_V1: u32 = 0xe0f5_e1e2;

const EROFS_FEATURE_COMPAT_SB_CHKSUM: u32 = 1;
const EROFS_FEATURE_COMPAT_MTIME: u32 = 2;
const EROFS_FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 4;

/// Inode numbers count slots of 32 bytes from `meta_blkaddr` on.
pub(crate) const ISLOT: u64 = 32;
pub(super) const EXTENDED_INODE_SIZE: u64 = 64;
const EROFS_INODE_LAYOUT_EXTENDED: u16 = 1;

pub(super) const EROFS_NULL_ADDR: u32 = u32::MAX;

pub(super) const S_IFIFO: u16 = 0o010_000;
pub(super) const S_IFCHR: u16 = 0o020_000;
pub(super) const S_IFDIR: u16 = 0o040_000;
pub(super) const S_IFBLK: u16 = 0o060_000;
pub(super) const S_IFREG: u16 = 0o100_000;
pub(super) const S_IFLNK: u16 = 0o120_000;

/// `EROFS_INODE_*`: how an inode's content is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    FlatPlain = 0,
    FlatInline = 2,
    ChunkBased = 4,
}

/// `struct erofs_super_block`.
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
    pub(super) has_chunks: bool,
}

impl Superblock {
    /// The bytes with a checksum of zero; see [`Superblock::CHECKSUM_AT`].
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let incompat = if self.has_chunks { EROFS_FEATURE_INCOMPAT_CHUNKED_FILE } else { 0 };
        let mut out = Vec::with_capacity(128);
        out.extend(EROFS_SUPER_MAGIC_V1.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        out.extend((EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME).to_le_bytes());
        out.push(BLOCK_BITS);
        out.push(0); // sb_extslots
        out.extend(self.root_nid.to_le_bytes());
        out.extend(self.inodes.to_le_bytes());
        out.extend(0_u64.to_le_bytes()); // build_time: only 32-byte inodes use it
        out.extend(0_u32.to_le_bytes()); // build_time_nsec
        out.extend(self.blocks.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // meta_blkaddr
        out.extend(0_u32.to_le_bytes()); // xattr_blkaddr: no shared attributes
        out.extend(self.uuid);
        out.extend([0; 16]); // volume_name
        out.extend(incompat.to_le_bytes());
        out.resize(128, 0);
        out
    }

    /// Where in the image `checksum` lies: the CRC of the rest of block 0 from the superblock on.
    pub(super) const CHECKSUM_AT: usize = 1028;
}

/// `struct erofs_inode_extended`.
pub(super) struct InodeFields {
    pub(super) layout: DataLayout,
    /// `i_xattr_icount`.
    pub(super) xattr_count: u16,
    /// With the file type.
    pub(super) mode: u16,
    pub(super) size: u64,
    /// `i_u`: block address, device number, or chunk format.
    pub(super) data: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime_seconds: i64,
    pub(super) mtime_nanoseconds: u32,
    pub(super) links: u32,
}

impl InodeFields {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend((EROFS_INODE_LAYOUT_EXTENDED | (self.layout as u16) << 1).to_le_bytes());
        out.extend(self.xattr_count.to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend(self.data.to_le_bytes());
        out.extend(self.number.to_le_bytes());
        out.extend(self.uid.to_le_bytes());
        out.extend(self.gid.to_le_bytes());
        out.extend(self.mtime_seconds.to_le_bytes());
        out.extend(self.mtime_nanoseconds.to_le_bytes());
        out.extend(self.links.to_le_bytes());
        out.resize(64, 0);
        out
    }
}

/// `new_encode_dev` of include/linux/kdev_t.h.
pub(super) fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// `EROFS_FT_*`, the same as FT_* of include/linux/fs_types.h.
pub(super) fn file_type(mode: u16) -> u8 {
    match mode & 0o170_000 {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFLNK => 7,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_split_the_minor() {
        assert_eq!(encode_device(1, 3), 0x0103);
        assert_eq!(encode_device(0xfff, 0xfffff), 0xffff_ffff);
        assert_eq!(encode_device(8, 0x12345), 0x1230_0845);
    }
}
