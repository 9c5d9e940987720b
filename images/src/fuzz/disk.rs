//! Reads an EROFS image back, written from the kernel's documentation alone, and refuses what the
//! writer must never write.

use std::borrow::Cow;
use std::collections::HashMap;

const BLOCK: usize = 4096;
const SUPERBLOCK: usize = 1024;

/// What has a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// With the file type.
    pub(super) mode: u16,
    pub(super) owner: (u32, u32),
    pub(super) mtime: (i64, u32),
    /// Of a file or link.
    pub(super) size: u64,
    /// In EROFS's own form: the prefix's number, the rest of the name, the value.
    pub(super) xattrs: Vec<(u8, Vec<u8>, Vec<u8>)>,
    pub(super) content: Content,
}

/// What it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Directory,
    Symlink(Vec<u8>),
    /// A small file.
    Inline(Vec<u8>),
    /// The first block.
    Contiguous(u32),
    /// Blocks per chunk as a power of two, and the first block of each chunk.
    Chunked(u8, Vec<u32>),
    Device(u32),
    Fifo,
}

/// Reads bytes behind the metadata: inodes lie there as well.
pub(super) type Data<'a> = &'a dyn Fn(u64, usize) -> Vec<u8>;

/// Reads the metadata of a disk of `length` bytes, and the inodes in its data, and gives what stands in each directory, after
/// what stands at the root: names in order, the last directory that was found before the others.
///
/// # Panics
/// When the kernel could not read it.
pub(super) fn check(metadata: &[u8], data: Data<'_>, length: u64) -> Vec<(Vec<u8>, Found)> {
    assert!(metadata.len().is_multiple_of(BLOCK) && metadata.len() as u64 <= length);
    let image = Image { metadata, data };
    assert_eq!(image.u32(SUPERBLOCK), 0xe0f5_e1e2, "the magic number");
    let blocks = u64::from(image.u32(SUPERBLOCK + 36));
    assert_eq!(blocks * BLOCK as u64, length, "the number of blocks");
    let root = u64::from(image.u16(SUPERBLOCK + 14));
    let found = vec![(Vec::new(), image.inode(root).found(&image, blocks))];
    let mut walk = Walk { image, blocks, names: HashMap::from([(root, 2)]), found };
    let mut directories = vec![(root, root)];
    while let Some((nid, parent)) = directories.pop() {
        walk.directory(nid, parent, &mut directories);
    }
    for (nid, names) in &walk.names {
        assert_eq!(walk.image.inode(*nid).links, *names, "the links of inode {nid}");
    }
    let inodes = walk.image.u64(SUPERBLOCK + 16);
    assert_eq!(inodes, walk.names.len() as u64, "the number of inodes");
    walk.found
}

struct Walk<'a> {
    image: Image<'a>,
    blocks: u64,
    /// How often each inode is named.
    names: HashMap<u64, u32>,
    found: Vec<(Vec<u8>, Found)>,
}

impl Walk<'_> {
    /// Reads the names of a directory; notes the directories among them, and whose they are.
    fn directory(&mut self, nid: u64, parent: u64, directories: &mut Vec<(u64, u64)>) {
        let content = self.image.inode(nid).content(&self.image);
        let mut before: Vec<u8> = Vec::new();
        let mut dots = 0;
        for (name, child, file_type) in content.chunks(BLOCK).flat_map(entries) {
            assert!(before < name, "names are not in order: {before:?} {name:?}");
            before.clone_from(&name);
            let inode = self.image.inode(child);
            assert_eq!(file_type, inode.file_type(), "the type of {name:?}");
            if name == b"." || name == b".." {
                assert_eq!(child, if name == b"." { nid } else { parent });
                dots += 1;
                continue;
            }
            assert!(!name.contains(&0) && !name.contains(&b'/') && name.len() <= 255);
            let is_directory = inode.file_type() == 2;
            *self.names.entry(child).or_default() += if is_directory { 2 } else { 1 };
            if is_directory {
                assert_eq!(self.names[&child], 2, "a directory has two names");
                *self.names.entry(nid).or_default() += 1;
                directories.push((child, nid));
            }
            self.found.push((name, inode.found(&self.image, self.blocks)));
        }
        assert_eq!(dots, 2, "a directory has `.` and `..`");
    }
}

/// The entries of one directory block: name, inode number, file type.
fn entries(block: &[u8]) -> Vec<(Vec<u8>, u64, u8)> {
    let block = Image { metadata: block, data: &|_, _| Vec::new() };
    let count = usize::from(block.u16(8)) / 12;
    assert!(count > 0, "a directory block without names");
    let begin = |index: usize| usize::from(block.u16(12 * index + 8));
    let end =
        |index: usize| if index + 1 < count { begin(index + 1) } else { block.metadata.len() };
    let entry = |index| {
        let mut name = block.slice(begin(index), end(index) - begin(index)).to_vec();
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(length);
        (name, block.u64(12 * index), block.byte(12 * index + 10))
    };
    (0..count).map(entry).collect()
}

/// The bytes of the disk that say what there is.
struct Image<'a> {
    metadata: &'a [u8],
    data: Data<'a>,
}

impl Image<'_> {
    fn slice(&self, at: usize, length: usize) -> Cow<'_, [u8]> {
        if at < self.metadata.len() {
            return Cow::Borrowed(&self.metadata[at..at + length]);
        }
        Cow::Owned((self.data)(at as u64, length))
    }

    fn byte(&self, at: usize) -> u8 {
        self.slice(at, 1)[0]
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.slice(at, N).first_chunk().expect("it has that many")
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    fn inode(&self, nid: u64) -> Inode {
        let at = usize::try_from(nid * 32).expect("it lies on the disk");
        assert!(at % BLOCK + 64 <= BLOCK, "an inode crosses a block");
        let format = self.u16(at);
        assert_eq!(format & 1, 1, "inodes have 64 bytes");
        let attributes = match self.u16(at + 2) {
            0 => 0,
            count => 12 + 4 * (usize::from(count) - 1),
        };
        Inode {
            at,
            layout: format >> 1,
            attributes,
            mode: self.u16(at + 4),
            size: self.u64(at + 8),
            data: self.u32(at + 16),
            links: self.u32(at + 44),
        }
    }
}

struct Inode {
    at: usize,
    layout: u16,
    /// The bytes of attributes behind it.
    attributes: usize,
    mode: u16,
    size: u64,
    data: u32,
    links: u32,
}

impl Inode {
    /// `EROFS_FT_*`.
    fn file_type(&self) -> u8 {
        match self.mode >> 12 {
            0o10 => 1,
            0o04 => 2,
            0o02 => 3,
            0o06 => 4,
            0o01 => 5,
            0o12 => 7,
            other => panic!("no file type: {other:o}"),
        }
    }

    fn tail(&self) -> usize {
        self.at + 64 + self.attributes
    }

    /// The content of a directory, a link or a small file.
    fn content(&self, image: &Image<'_>) -> Vec<u8> {
        let size = usize::try_from(self.size).expect("it lies in the metadata");
        let start = self.data as usize * BLOCK;
        match self.layout {
            0 => image.slice(start, size).to_vec(),
            2 => {
                let whole = size - size % BLOCK;
                let tail = self.tail();
                assert!(tail % BLOCK + size % BLOCK <= BLOCK, "inline content crosses a block");
                let blocks = if whole > 0 { image.slice(start, whole) } else { Cow::default() };
                [blocks, image.slice(tail, size % BLOCK)].concat()
            }
            other => panic!("a directory or link of layout {other}"),
        }
    }

    fn found(&self, image: &Image<'_>, blocks: u64) -> Found {
        let content = match self.file_type() {
            2 => Content::Directory,
            7 => Content::Symlink(self.content(image)),
            3 | 4 => Content::Device(self.data),
            5 => Content::Fifo,
            _ if self.layout == 4 => self.chunks(image),
            _ if self.layout == 2 => Content::Inline(self.content(image)),
            _ => Content::Contiguous(self.data),
        };
        if let Content::Contiguous(block) = content {
            assert!(u64::from(block) + self.size.div_ceil(BLOCK as u64) <= blocks);
        }
        let (seconds, nanoseconds) = (image.u64(self.at + 32), image.u32(self.at + 40));
        Found {
            mode: self.mode,
            owner: (image.u32(self.at + 24), image.u32(self.at + 28)),
            mtime: (seconds.cast_signed(), nanoseconds),
            size: if content == Content::Directory { 0 } else { self.size },
            xattrs: self.xattrs(image),
            content,
        }
    }

    fn chunks(&self, image: &Image<'_>) -> Content {
        let bits = u8::try_from(self.data).expect("no more than a chunk's size");
        let count = self.size.div_ceil((BLOCK as u64) << bits);
        let start = self.tail();
        let chunk = |index: u64| {
            image.u32(start + 4 * usize::try_from(index).expect("it lies in the metadata"))
        };
        Content::Chunked(bits, (0..count).map(chunk).collect())
    }

    fn xattrs(&self, image: &Image<'_>) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let mut xattrs = Vec::new();
        let (mut at, end) = (self.at + 64 + 12, self.tail());
        while at + 4 <= end {
            let (name, value) = (usize::from(image.byte(at)), usize::from(image.u16(at + 2)));
            let (name_at, value_at) = (at + 4, at + 4 + name);
            assert!(value_at + value <= end, "an attribute ends behind all");
            xattrs.push((
                image.byte(at + 1),
                image.slice(name_at, name).to_vec(),
                image.slice(value_at, value).to_vec(),
            ));
            at = (value_at + value).next_multiple_of(4);
        }
        xattrs
    }
}
