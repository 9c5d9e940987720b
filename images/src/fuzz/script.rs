//! File trees from a few bytes: every entry is one that a layer can have, and sizes are large
//! where that costs little, so that the borders of blocks are near.
//!
//! An entry is a byte for its kind, a path, more for its kind, and perhaps metadata. All numbers
//! are little-endian; where the input ends, zeros follow.

use std::collections::BTreeMap;

use crate::erofs::head;
use crate::layer::{BLOCK_SIZE, Content, FileData, Metadata, Record};
use crate::rootfs::{MergeError, Tree};
use crate::tar::{Timestamp, Xattrs};

/// The bytes that names are made of: around `.` and `/`, and at both ends.
const LETTERS: &[u8; 16] = b"\x01!-01AZ_abcxyz~\xff";
/// How often one of them stands in a name: short names, and such as fill a block soon.
const LENGTHS: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 60, 100, 128, 200, 254, 255];
const BLOCK: usize = 4096;
/// More only take time.
const MAX_ENTRIES: usize = 400;
/// As the tar reader has it.
const MAX_PATH_BYTES: usize = 4095;
const MAX_LAYERS: usize = 4;
/// What the attributes of one inode come to at most, as in the layers' own check.
const MAX_XATTR_BYTES: usize = 4 * 65_000;
const XATTR_NAMES: [&str; 5] =
    ["user.", "trusted.", "security.", "system.posix_acl_access", "system.posix_acl_default"];

/// What the bytes made.
pub(super) struct Script {
    pub(super) tree: Tree,
    /// The lengths of the layers' data.
    pub(super) layer_blocks: Vec<u32>,
    /// The blocks of their data that small files lie in, one in each.
    pub(super) packed: BTreeMap<(usize, u32), Vec<u8>>,
}

impl Script {
    /// Runs all of `bytes`.
    pub(super) fn run(bytes: &[u8]) -> Result<Script, MergeError> {
        let mut words = Words(bytes);
        let mut script =
            Script { tree: Tree::new(), layer_blocks: vec![words.u32()], packed: BTreeMap::new() };
        for _ in 0..MAX_ENTRIES {
            if words.0.is_empty() {
                break;
            }
            script.entry(&mut words)?;
        }
        Ok(script)
    }

    /// Blocks of all layers' data.
    pub(super) fn data_blocks(&self) -> u64 {
        self.layer_blocks.iter().map(|blocks| u64::from(*blocks)).sum()
    }

    fn entry(&mut self, words: &mut Words<'_>) -> Result<(), MergeError> {
        let kind = words.byte();
        if kind & 15 == 15 && self.layer_blocks.len() < MAX_LAYERS {
            self.layer_blocks.push(words.u32());
            return Ok(());
        }
        let path = words.path();
        let content = match kind & 15 {
            0..=2 => Content::Directory,
            3..=4 => self.file(words),
            5 => return self.small_file(path, kind, words),
            6 => self.sparse_file(words),
            7 => Content::Symlink { target: words.text(4095) },
            8 => Content::HardLink { target: words.path() },
            9 => Content::CharDevice { major: words.u32() >> 20, minor: words.u32() >> 12 },
            10 => Content::BlockDevice { major: words.u32() >> 20, minor: words.u32() >> 12 },
            11 => Content::Fifo,
            12 => Content::Whiteout,
            13 => Content::Opaque,
            _ => return self.crowd(&path, words.byte()),
        };
        let metadata = words.metadata_if(kind & 16 != 0);
        self.tree.apply(self.layer_blocks.len() - 1, Record { path, content, metadata })
    }

    /// Its inode and content lie where the layer has data, if both are short enough.
    fn small_file(
        &mut self,
        path: Vec<u8>,
        kind: u8,
        words: &mut Words<'_>,
    ) -> Result<(), MergeError> {
        let (length, letter) = (usize::from(words.u16()) % BLOCK, words.byte());
        let metadata = words.metadata_if(kind & 16 != 0);
        let layer = self.layer_blocks.len() - 1;
        let taken = self.packed.range((layer, 0)..=(layer, u32::MAX)).count();
        let block = u32::try_from(taken).expect("entries are few");
        let head = head(&metadata, length as u64).filter(|_| block < self.layer_blocks[layer]);
        let (size, data) = match head {
            Some(mut bytes) => {
                let start = usize::from(letter & 31).min((BLOCK - bytes.len() - length) / 32);
                bytes.splice(0..0, vec![0; start * 32]);
                bytes.resize(bytes.len() + length, letter);
                bytes.resize(BLOCK, 0);
                self.packed.insert((layer, block), bytes);
                (length as u64, FileData::Packed { slot: u64::from(block) * 128 + start as u64 })
            }
            None => (0, FileData::Contiguous { block: 0 }),
        };
        let content = Content::File { size, data };
        self.tree.apply(layer, Record { path, content, metadata })
    }

    /// Many names in one directory: more than a block holds.
    fn crowd(&mut self, path: &[u8], count: u8) -> Result<(), MergeError> {
        for number in 0..=count {
            let path = [path, format!("/{number:03}").as_bytes()].concat();
            let record = Record { path, content: Content::Fifo, metadata: Metadata::default() };
            self.tree.apply(self.layer_blocks.len() - 1, record)?;
        }
        Ok(())
    }

    /// Its content lies where the layer has data.
    fn file(&self, words: &mut Words<'_>) -> Content {
        let blocks = self.layer_blocks[self.layer_blocks.len() - 1];
        let block = words.u32().min(blocks);
        let size = words.u32().min(blocks - block);
        let last = u64::from(words.u16()) % BLOCK_SIZE;
        let size = (u64::from(size) * BLOCK_SIZE).saturating_sub(last);
        Content::File { size, data: FileData::Contiguous { block } }
    }

    fn sparse_file(&self, words: &mut Words<'_>) -> Content {
        let blocks = self.layer_blocks[self.layer_blocks.len() - 1];
        let block_bits = words.byte() % 16;
        let (count, data) = (u64::from(words.u16() & 0xfff), words.u32());
        let size =
            ((count * BLOCK_SIZE) << block_bits).saturating_sub(u64::from(data) % BLOCK_SIZE);
        let chunk = 1 << block_bits;
        // Some chunks have data, as far as there is data.
        let chunks = (0..u32::try_from(count).expect("it has 12 bits")).map(|index| {
            let block = data.wrapping_mul(index) % blocks.max(1);
            (block & 1 == 0 && blocks - block >= chunk).then_some(block)
        });
        let data = FileData::Chunked { block_bits, blocks: chunks.collect() };
        Content::File { size, data }
    }
}

/// The bytes that are left.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        let (front, rest) = self.0.split_at(count);
        taken[..count].copy_from_slice(front);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// One to four names; the highest bit repeats them, as often as a path may be long.
    fn path(&mut self) -> Vec<u8> {
        let shape = self.byte();
        let names: Vec<Vec<u8>> = (0..=shape & 3).map(|_| self.name()).collect();
        let names = names.join(&b'/');
        let times = if shape & 0x80 == 0 { 0 } else { usize::from(shape >> 2 & 31) * 66 };
        vec![&names[..]; times.clamp(1, (MAX_PATH_BYTES + 1) / (names.len() + 1))].join(&b'/')
    }

    /// A letter and a length in one byte.
    fn name(&mut self) -> Vec<u8> {
        let byte = usize::from(self.byte());
        vec![LETTERS[byte & 15]; LENGTHS[byte >> 4]]
    }

    /// One to `limit` bytes that are all the same.
    fn text(&mut self, limit: usize) -> Vec<u8> {
        let (letter, length) = (self.byte().max(1), usize::from(self.u16()));
        vec![letter; length.clamp(1, limit)]
    }

    fn metadata_if(&mut self, wanted: bool) -> Metadata {
        if wanted { self.metadata() } else { Metadata::default() }
    }

    fn metadata(&mut self) -> Metadata {
        Metadata {
            mode: self.u16() & 0o7777,
            uid: self.u32().min(u32::MAX - 1),
            gid: self.u32().min(u32::MAX - 1),
            mtime: Timestamp {
                seconds: i64::from_le_bytes(self.take()),
                nanoseconds: self.u32() % 1_000_000_000,
            },
            xattrs: self.xattrs(),
        }
    }

    fn xattrs(&mut self) -> Xattrs {
        let mut xattrs = Xattrs::new();
        let mut left = MAX_XATTR_BYTES;
        for _ in 0..self.byte() & 7 {
            let prefix = XATTR_NAMES[usize::from(self.byte()) % XATTR_NAMES.len()];
            let mut name = prefix.as_bytes().to_vec();
            if prefix.ends_with('.') {
                name.extend(self.name());
                name.truncate(255);
            }
            let value = vec![self.byte(); usize::from(self.u16())];
            let bytes = name.len() + value.len() + 8;
            if bytes <= left && xattrs.iter().all(|(known, _)| *known != name) {
                left -= bytes;
                xattrs.push((name, value));
            }
        }
        xattrs
    }
}
