//! Directories: blocks of entries sorted by name, each block with its names behind its entries.

use super::format::{BLOCK, BLOCK_LENGTH};

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// `struct erofs_dirent`: inode number, offset of the name, file type.
const DIRENT_SIZE: usize = 12;

/// Bytes of the directory: all blocks but the last are full.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for name in names {
        let entry = (DIRENT_SIZE + name.len()) as u64;
        if used + entry > BLOCK {
            blocks += 1;
            used = 0;
        }
        used += entry;
    }
    blocks * BLOCK + used
}

/// The directory's bytes. `names` must be sorted, and have `.` and `..` among the others where
/// their bytes put them: the kernel searches by bisection.
pub(super) fn encode(names: &[Name<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = names;
    while !rest.is_empty() {
        let (block, after) = rest.split_at(fitting(rest));
        out.resize(out.len().next_multiple_of(BLOCK_LENGTH), 0);
        encode_block(block, &mut out);
        rest = after;
    }
    out
}

fn fitting(names: &[Name<'_>]) -> usize {
    let mut used = 0;
    for (count, name) in names.iter().enumerate() {
        used += (DIRENT_SIZE + name.name.len()) as u64;
        if used > BLOCK {
            return count;
        }
    }
    names.len()
}

fn encode_block(names: &[Name<'_>], out: &mut Vec<u8>) {
    let mut name_offset = DIRENT_SIZE * names.len();
    for name in names {
        out.extend(name.nid.to_le_bytes());
        out.extend(u16::try_from(name_offset).expect("names end within a block").to_le_bytes());
        out.push(name.file_type);
        out.push(0);
        name_offset += name.name.len();
    }
    for name in names {
        out.extend(name.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_encoding_agree() {
        for count in [0, 1, 3, 15, 16, 40, 500] {
            for length in [1, 100, 255] {
                let names: Vec<Vec<u8>> = (0..count)
                    .map(|at| {
                        let mut name = format!("{at:04}").into_bytes();
                        name.resize(length.max(4), b'x');
                        name
                    })
                    .collect();
                let entries: Vec<Name<'_>> =
                    names.iter().map(|name| Name { name, nid: 1, file_type: 1 }).collect();
                let bytes = encode(&entries);
                assert_eq!(bytes.len() as u64, size(names.iter().map(|name| &name[..])));
            }
        }
    }

    #[test]
    fn a_block_has_entries_then_names() {
        let names = [
            Name { name: b".", nid: 36, file_type: 2 },
            Name { name: b"ab", nid: 0x0102_0304_0506, file_type: 1 },
        ];
        let expected = b"\x24\0\0\0\0\0\0\0\x18\0\x02\0\x06\x05\x04\x03\x02\x01\0\0\x19\0\x01\0.ab";
        assert_eq!(encode(&names), expected);
    }
}
