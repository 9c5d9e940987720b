//! The EROFS writer: trees made by a little program in the input, written, and read back.

use std::collections::BTreeMap;
use std::io::Cursor;
#[cfg(test)]
use std::os::unix::fs::FileExt;

use super::disk::{self, Content, Found};
use super::script::Script;
use crate::erofs::{self, LayerData, WriteError, content_offset};
use crate::layer::{BLOCK_SIZE, FileData};
use crate::rootfs::{InodeId, Node, ROOT};

/// The prefixes of attributes that EROFS keeps as numbers.
const PREFIXES: [(&str, u8); 5] = [
    ("user.", 1),
    ("system.posix_acl_access", 2),
    ("system.posix_acl_default", 3),
    ("trusted.", 4),
    ("security.", 6),
];

/// Makes a tree of what `bytes` say, writes it and reads it back.
///
/// # Panics
/// When the image is unsound, or another tree is found in it.
pub fn erofs(bytes: &[u8]) {
    let Some((script, image)) = image_of(bytes) else { return };
    let metadata_blocks = image.len() as u64 / BLOCK_SIZE;
    let packed = packed(&script, metadata_blocks);
    let data = |at: u64, length: usize| {
        let (start, block) = packed.range(..=at).next_back().expect("something lies there");
        let start = usize::try_from(at - start).expect("blocks are short");
        block[start..start + length].to_vec()
    };
    let found = disk::check(&image, &data, (metadata_blocks + script.data_blocks()) * BLOCK_SIZE);
    assert!(found == expected(&script, metadata_blocks), "another tree is found");
}

/// Asks `fsck.erofs` as well, unless there is so much data that its reading takes long.
#[cfg(test)]
pub(super) fn fsck(bytes: &[u8]) {
    const MAX_DATA_BYTES: u64 = 1 << 30;
    let Some((script, image)) = image_of(bytes) else { return };
    let data_bytes = script.data_blocks() * BLOCK_SIZE;
    if data_bytes > MAX_DATA_BYTES {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &image).unwrap();
    file.as_file().set_len(image.len() as u64 + data_bytes).unwrap();
    for (position, bytes) in packed(&script, image.len() as u64 / BLOCK_SIZE) {
        file.as_file().write_all_at(&bytes, position).unwrap();
    }
    // It calls itself for each directory in another, and stacks end at 8 MiB as a rule.
    let mut fsck = std::process::Command::new("prlimit");
    let output = fsck.args(["--stack=1073741824", "fsck.erofs"]).arg(file.path()).output();
    let output = output.expect("install util-linux and erofs-utils");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{} {}", output.status, String::from_utf8_lossy(&said));
}

/// What the input made, and its image; none when it made no tree or one that is too large.
fn image_of(bytes: &[u8]) -> Option<(Script, Vec<u8>)> {
    let script = Script::run(bytes).ok()?;
    let data_of: Vec<usize> = (0..script.layer_blocks.len()).collect();
    let mut image = Cursor::new(Vec::new());
    let mut read = |layer: usize, offset: u64, buffer: &mut [u8]| {
        let block = u32::try_from(offset / BLOCK_SIZE).expect("blocks have 32 bits");
        let at = usize::try_from(offset % BLOCK_SIZE).expect("blocks are short");
        buffer.copy_from_slice(&script.packed[&(layer, block)][at..at + buffer.len()]);
        Ok(())
    };
    let data = LayerData { blocks: &script.layer_blocks, of: &data_of, read: &mut read };
    match erofs::write(&script.tree, data, [7; 16], &mut image) {
        Ok(()) => Some((script, image.into_inner())),
        Err(WriteError::TooLarge) => None,
        Err(WriteError::Read(_, error)) => panic!("nothing is behind its end: {error}"),
        Err(WriteError::Io(error)) => panic!("memory gives no errors: {error}"),
    }
}

/// The first block of each layer's data.
fn bases(script: &Script, metadata_blocks: u64) -> Vec<u64> {
    let mut bases = vec![metadata_blocks];
    for blocks in &script.layer_blocks {
        bases.push(bases[bases.len() - 1] + u64::from(*blocks));
    }
    bases
}

/// The blocks of small files, where they lie on the disk.
fn packed(script: &Script, metadata_blocks: u64) -> BTreeMap<u64, Vec<u8>> {
    let bases = bases(script, metadata_blocks);
    let place = |(layer, block): (usize, u32)| (bases[layer] + u64::from(block)) * BLOCK_SIZE;
    script.packed.iter().map(|(at, bytes)| (place(*at), bytes.clone())).collect()
}

/// What stands in the tree, in the order of [`disk::check`].
fn expected(script: &Script, metadata_blocks: u64) -> Vec<(Vec<u8>, Found)> {
    let bases = bases(script, metadata_blocks);
    let mut expected = vec![(Vec::new(), found(script, ROOT, &bases))];
    let mut directories = vec![ROOT];
    while let Some(directory) = directories.pop() {
        for (name, dirent) in script.tree.names(directory).into_iter().flatten() {
            if script.tree.names(dirent.inode).is_some() {
                directories.push(dirent.inode);
            }
            expected.push((name.to_vec(), found(script, dirent.inode, &bases)));
        }
    }
    expected
}

fn found(script: &Script, id: InodeId, bases: &[u64]) -> Found {
    let inode = script.tree.inode(id);
    let block = |layer: &usize, block: u32| {
        u32::try_from(bases[*layer] + u64::from(block)).expect("the image was not too large")
    };
    let device = |major, minor| (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
    let (kind, content) = match &inode.node {
        Node::Directory(_) => (0o04, Content::Directory),
        Node::Symlink { target } => (0o12, Content::Symlink(target.clone())),
        Node::Fifo => (0o01, Content::Fifo),
        Node::CharDevice { major, minor } => (0o02, Content::Device(device(*major, *minor))),
        Node::BlockDevice { major, minor } => (0o06, Content::Device(device(*major, *minor))),
        Node::File { size: 0, data: FileData::Contiguous { .. }, .. } => {
            (0o10, Content::Contiguous(0))
        }
        Node::File { data: FileData::Contiguous { block: first }, layer, .. } => {
            (0o10, Content::Contiguous(block(layer, *first)))
        }
        Node::File { size, data: FileData::Packed { slot }, layer } => {
            let block = u32::try_from(slot / 128).expect("blocks have 32 bits");
            let offset = content_offset(*slot, &inode.metadata) % BLOCK_SIZE;
            let at = usize::try_from(offset).expect("blocks are short");
            let size = usize::try_from(*size).expect("it is small");
            (0o10, Content::Inline(script.packed[&(*layer, block)][at..at + size].to_vec()))
        }
        Node::File { data: FileData::Chunked { block_bits, blocks }, layer, .. } => {
            let chunk = |chunk: &Option<u32>| chunk.map_or(u32::MAX, |first| block(layer, first));
            (0o10, Content::Chunked(*block_bits, blocks.iter().map(chunk).collect()))
        }
    };
    let size = match &inode.node {
        Node::File { size, .. } => *size,
        Node::Symlink { target } => target.len() as u64,
        _ => 0,
    };
    let metadata = &inode.metadata;
    Found {
        mode: kind << 12 | metadata.mode,
        owner: (metadata.uid, metadata.gid),
        mtime: (metadata.mtime.seconds, metadata.mtime.nanoseconds),
        size,
        xattrs: metadata.xattrs.iter().map(|(name, value)| stored(name, value)).collect(),
        content,
    }
}

/// An attribute as EROFS has it.
fn stored(name: &[u8], value: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    let (rest, index) = PREFIXES
        .iter()
        .find_map(|(prefix, index)| Some((name.strip_prefix(prefix.as_bytes())?, *index)))
        .expect("only such are kept");
    (index, rest.to_vec(), value.to_vec())
}
