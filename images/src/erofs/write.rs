//! Writes superblock, inodes and directories at the places that the layout gave them.

use std::io::{self, Seek, SeekFrom, Write};

use super::directory::{self, Name};
use super::format::{
    BLOCK, BLOCK_LENGTH, DataLayout, EROFS_NULL_ADDR, EROFS_SUPER_OFFSET, InodeFields, S_IFBLK,
    S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, Superblock, encode_device, file_type,
};
use super::layout::{Layout, Placed};
use super::packed::{SLOTS, content_offset};
use super::xattr;
use crate::layer::FileData;
use crate::rootfs::{InodeId, Node, ROOT, Tree};

/// Why the image was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    Io(io::Error),
    /// The data of a layer, by the tree's layer numbers, cannot be read.
    Read(usize, io::Error),
    /// 32-bit block numbers end at 16 TiB.
    TooLarge,
}

/// What lies behind the metadata.
pub(crate) struct LayerData<'a> {
    /// The lengths of the layers' data in blocks, in the order it lies there.
    pub(crate) blocks: &'a [u32],
    /// By the tree's layer numbers, indices into `blocks`.
    pub(crate) of: &'a [usize],
    pub(crate) read: ReadLayer<'a>,
}

/// Fills a buffer from a byte of the data of one of the tree's layers on.
type ReadLayer<'a> = &'a mut dyn FnMut(usize, u64, &mut [u8]) -> io::Result<()>;

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Io(error)
    }
}

/// Writes the metadata of `tree`, padded to a block.
pub(crate) fn write(
    tree: &Tree,
    data: LayerData<'_>,
    uuid: [u8; 16],
    output: impl Write + Seek,
) -> Result<(), WriteError> {
    let layout = Layout::of(tree);
    let mut end = layout.inode_blocks + layout.tail_blocks;
    let mut bases = Vec::with_capacity(data.blocks.len());
    for blocks in data.blocks {
        bases.push(end);
        end += u64::from(*blocks);
    }
    let blocks = u32::try_from(end).ok().filter(|blocks| *blocks != EROFS_NULL_ADDR);
    let blocks = blocks.ok_or(WriteError::TooLarge)?;
    let superblock = Superblock {
        root_nid: u16::try_from(layout.nid(ROOT)).expect("the root is the first inode"),
        inodes: layout.inodes.len() as u64 + layout.packed,
        blocks,
        uuid,
        has_chunks: layout.has_chunks,
    };
    let bases = data.of.iter().map(|place| bases[*place]).collect();
    let output = Output::new(output);
    let mut image = Image { tree, layout: &layout, bases, read: data.read, output };
    image.output.pad_to(EROFS_SUPER_OFFSET)?;
    image.output.write(&superblock.to_bytes())?;
    for (index, placed) in layout.inodes.iter().enumerate() {
        image.inode(placed, index)?;
    }
    image.output.pad_to(layout.inode_blocks * BLOCK)?;
    for placed in &layout.inodes {
        image.tail(placed)?;
    }
    image.output.pad_to((layout.inode_blocks + layout.tail_blocks) * BLOCK)?;
    image.output.finish()?;
    Ok(())
}

struct Image<'a, W> {
    tree: &'a Tree,
    layout: &'a Layout,
    /// The first block of each layer's data, by the tree's layer numbers.
    bases: Vec<u64>,
    read: ReadLayer<'a>,
    output: Output<W>,
}

impl<W: Write + Seek> Image<'_, W> {
    fn inode(&mut self, placed: &Placed, index: usize) -> Result<(), WriteError> {
        let inode = self.tree.inode(placed.inode);
        let metadata = &inode.metadata;
        let xattrs = xattr::encode(&metadata.xattrs);
        let (size, data) = self.size_and_data(placed)?;
        let fields = InodeFields {
            layout: placed.layout,
            xattr_count: xattr::count(xattrs.len()),
            mode: mode(&inode.node) | metadata.mode,
            size,
            data,
            number: u32::try_from(index + 1).map_err(|_| WriteError::TooLarge)?,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime_seconds: metadata.mtime.seconds,
            mtime_nanoseconds: metadata.mtime.nanoseconds,
            links: self.layout.links(placed.inode),
        };
        self.output.pad_to(placed.position)?;
        self.output.write(&fields.to_bytes())?;
        self.output.write(&xattrs)?;
        if placed.layout == DataLayout::FlatInline {
            let content = self.content(placed)?;
            let (_, inline) = content.split_at(whole_blocks(content.len()));
            self.output.write(inline)?;
        }
        if let Node::File { data: FileData::Chunked { blocks, .. }, layer, .. } = &inode.node {
            for block in blocks {
                let address = match block {
                    Some(block) => self.data_block(*layer, *block)?,
                    None => EROFS_NULL_ADDR,
                };
                self.output.write(&address.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// `i_size` and `i_u`.
    fn size_and_data(&self, placed: &Placed) -> Result<(u64, u32), WriteError> {
        Ok(match &self.tree.inode(placed.inode).node {
            Node::Directory(_) | Node::Symlink { .. } => {
                let block = self.layout.inode_blocks + placed.tail_block;
                (placed.size, u32::try_from(block).map_err(|_| WriteError::TooLarge)?)
            }
            Node::File { size, data: FileData::Packed { .. }, .. } => (*size, 0),
            // It has no block, and perhaps the image no layer.
            Node::File { size: 0, data: FileData::Contiguous { .. }, .. } => (0, 0),
            Node::File { size, data: FileData::Contiguous { block }, layer } => {
                (*size, self.data_block(*layer, *block)?)
            }
            Node::File { size, data: FileData::Chunked { block_bits, .. }, .. } => {
                (*size, u32::from(*block_bits))
            }
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                (0, encode_device(*major, *minor))
            }
            Node::Fifo => (0, 0),
        })
    }

    fn data_block(&self, layer: usize, block: u32) -> Result<u32, WriteError> {
        u32::try_from(self.bases[layer] + u64::from(block)).map_err(|_| WriteError::TooLarge)
    }

    /// The blocks of a directory or link target that are not inline.
    fn tail(&mut self, placed: &Placed) -> Result<(), WriteError> {
        if placed.size == 0 || placed.layout == DataLayout::FlatInline && placed.size < BLOCK {
            return Ok(());
        }
        let content = self.content(placed)?;
        let end = match placed.layout {
            DataLayout::FlatInline => whole_blocks(content.len()),
            DataLayout::FlatPlain | DataLayout::ChunkBased => content.len(),
        };
        if end > 0 {
            self.output.pad_to((self.layout.inode_blocks + placed.tail_block) * BLOCK)?;
            self.output.write(&content[..end])?;
        }
        Ok(())
    }

    fn content(&mut self, placed: &Placed) -> Result<Vec<u8>, WriteError> {
        let inode = self.tree.inode(placed.inode);
        Ok(match &inode.node {
            Node::Symlink { target } => target.clone(),
            Node::File { data: FileData::Packed { slot }, layer, .. } => {
                let mut content = vec![0; usize::try_from(placed.size).unwrap_or_default()];
                (self.read)(*layer, content_offset(*slot, &inode.metadata), &mut content)
                    .map_err(|error| WriteError::Read(*layer, error))?;
                content
            }
            Node::Directory(names) => {
                let entry = |name, inode: InodeId| Name {
                    name,
                    nid: self.nid(inode),
                    file_type: file_type(mode(&self.tree.inode(inode).node)),
                };
                let mut entries: Vec<Name<'_>> =
                    names.iter().map(|(name, dirent)| entry(name, dirent.inode)).collect();
                entries.push(entry(b".", placed.inode));
                entries.push(entry(b"..", placed.parent));
                entries.sort_unstable();
                directory::encode(&entries)
            }
            _ => Vec::new(),
        })
    }

    fn nid(&self, inode: InodeId) -> u64 {
        match self.layout.packed_slot(self.tree, inode) {
            Some((layer, slot)) => self.bases[layer] * SLOTS + slot,
            None => self.layout.nid(inode),
        }
    }
}

fn mode(node: &Node) -> u16 {
    match node {
        Node::Directory(_) => S_IFDIR,
        Node::File { .. } => S_IFREG,
        Node::Symlink { .. } => S_IFLNK,
        Node::CharDevice { .. } => S_IFCHR,
        Node::BlockDevice { .. } => S_IFBLK,
        Node::Fifo => S_IFIFO,
    }
}

fn whole_blocks(length: usize) -> usize {
    length - length % BLOCK_LENGTH
}

/// Counts bytes, and remembers the first block for its checksum.
struct Output<W> {
    inner: W,
    position: u64,
    first: Vec<u8>,
}

impl<W: Write + Seek> Output<W> {
    fn new(inner: W) -> Output<W> {
        Output { inner, position: 0, first: Vec::with_capacity(BLOCK_LENGTH) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = BLOCK_LENGTH.saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(room));
        self.position += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.position < position {
            let count = ZEROS.len().min(usize::try_from(position - self.position).unwrap_or(4096));
            self.write(&ZEROS[..count])?;
        }
        Ok(())
    }

    /// Goes back to fill in the superblock's checksum.
    fn finish(mut self) -> io::Result<()> {
        let start = usize::try_from(EROFS_SUPER_OFFSET).unwrap_or_default();
        let checksum = checksum(&self.first[start..]);
        self.inner.seek(SeekFrom::Start(Superblock::CHECKSUM_AT as u64))?;
        self.inner.write_all(&checksum.to_le_bytes())?;
        self.inner.flush()
    }
}

/// EROFS leaves out the inversion that ends a CRC-32C elsewhere.
fn checksum(bytes: &[u8]) -> u32 {
    !crc32c::crc32c(bytes)
}

/// Whether the first block of an image has the checksum that it says.
pub(crate) fn superblock_is_whole(block: &[u8]) -> bool {
    let start = usize::try_from(EROFS_SUPER_OFFSET).unwrap_or_default();
    let at = Superblock::CHECKSUM_AT;
    let Some(found) = block.get(at..at + 4) else { return false };
    let found = found.to_vec();
    let mut covered = block[start..].to_vec();
    covered[at - start..at - start + 4].fill(0);
    checksum(&covered).to_le_bytes()[..] == found[..]
}
