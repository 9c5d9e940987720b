//! Writes an image's merged file tree as one tar. Knows where contents lie, not how layers merge.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use crate::erofs::content_offset;
use crate::layer::{BLOCK_SIZE, FileData};
use crate::rootfs::{InodeId, Node, ROOT, Tree};
use crate::tar::{Entry, Kind, Segment, Writer};

/// Which side of the copy failed.
#[derive(Debug)]
pub(crate) enum ExportError {
    /// The data of the layer with this number, of those given.
    Read {
        layer: usize,
        source: io::Error,
    },
    Write(io::Error),
}

/// Writes `tree`. `data` are the data files of its layers, by the tree's layer numbers. Folders come
/// before what is in them, names in the order of their bytes; of the names of one inode, the first
/// has the content and the others are hard links to it.
pub(crate) fn write(tree: &Tree, data: &[File], output: impl Write) -> Result<(), ExportError> {
    let mut export = Export { tree, data, writer: Writer::new(output), seen: HashMap::new() };
    let mut left = vec![(Vec::new(), ROOT)];
    while let Some((path, inode)) = left.pop() {
        export.entry(&path, inode)?;
        let names = tree.names(inode).into_iter().flatten();
        for (name, dirent) in names.rev() {
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name);
            left.push((below, dirent.inode));
        }
    }
    export.writer.finish().map(drop).map_err(ExportError::Write)
}

struct Export<'a, W> {
    tree: &'a Tree,
    data: &'a [File],
    writer: Writer<W>,
    /// The first path of each inode that is no folder.
    seen: HashMap<InodeId, Vec<u8>>,
}

impl<W: Write> Export<'_, W> {
    fn entry(&mut self, path: &[u8], id: InodeId) -> Result<(), ExportError> {
        let inode = self.tree.inode(id);
        let first = self.seen.get(&id).cloned();
        let kind = match (&inode.node, first) {
            (Node::Directory(_), _) => Kind::Directory,
            (_, Some(target)) => Kind::HardLink { target },
            (Node::File { size, data: FileData::Chunked { block_bits, blocks }, .. }, _) => {
                Kind::SparseFile { size: *size, segments: segments(*size, *block_bits, blocks) }
            }
            (Node::File { size, .. }, _) => Kind::File { size: *size },
            (Node::Symlink { target }, _) => Kind::Symlink { target: target.clone() },
            (Node::CharDevice { major, minor }, _) => {
                Kind::CharDevice { major: *major, minor: *minor }
            }
            (Node::BlockDevice { major, minor }, _) => {
                Kind::BlockDevice { major: *major, minor: *minor }
            }
            (Node::Fifo, _) => Kind::Fifo,
        };
        let has_content = matches!(kind, Kind::File { .. } | Kind::SparseFile { .. });
        if kind != Kind::Directory {
            self.seen.entry(id).or_insert_with(|| path.to_vec());
        }
        let metadata = &inode.metadata;
        let xattrs = match kind {
            Kind::HardLink { .. } => Vec::new(),
            _ => metadata.xattrs.clone(),
        };
        let entry = Entry {
            path: path.to_vec(),
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            xattrs,
        };
        self.writer.append(&entry).map_err(ExportError::Write)?;
        match &inode.node {
            Node::File { size, data: FileData::Packed { slot }, layer } if has_content => {
                self.copy(*layer, content_offset(*slot, metadata), *size)
            }
            Node::File { size, data: FileData::Contiguous { block }, layer } if has_content => {
                self.copy(*layer, u64::from(*block) * BLOCK_SIZE, *size)
            }
            Node::File { size, data: FileData::Chunked { block_bits, blocks }, layer }
                if has_content =>
            {
                self.chunks(*size, BLOCK_SIZE << block_bits, blocks, *layer)
            }
            _ => Ok(()),
        }
    }

    /// Copies those chunks of a sparse file that have blocks.
    fn chunks(
        &mut self,
        size: u64,
        chunk: u64,
        blocks: &[Option<u32>],
        layer: usize,
    ) -> Result<(), ExportError> {
        for (at, block) in (0_u64..).zip(blocks) {
            if let Some(block) = block {
                let length = chunk.min(size - at * chunk);
                self.copy(layer, u64::from(*block) * BLOCK_SIZE, length)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, layer: usize, offset: u64, length: u64) -> Result<(), ExportError> {
        let mut section = Section { file: &self.data[layer], offset, failure: None };
        match (self.writer.copy(&mut section, length), section.failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(source)) => Err(ExportError::Read { layer, source }),
            (Err(error), None) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(ExportError::Read { layer, source: error })
            }
            (Err(error), None) => Err(ExportError::Write(error)),
        }
    }
}

/// The parts of a sparse file that have blocks, joined where they touch.
fn segments(size: u64, block_bits: u8, blocks: &[Option<u32>]) -> Vec<Segment> {
    let chunk = BLOCK_SIZE << block_bits;
    let mut segments: Vec<Segment> = Vec::new();
    for (at, _) in (0_u64..).zip(blocks).filter(|(_, block)| block.is_some()) {
        let offset = at * chunk;
        let length = chunk.min(size - offset);
        match segments.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => segments.push(Segment { offset, length }),
        }
    }
    segments
}

/// Reads a file from a place on, and keeps its error apart from those of whoever writes.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    failure: Option<io::Error>,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(buffer, self.offset) {
            Ok(count) => {
                self.offset += count as u64;
                Ok(count)
            }
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
