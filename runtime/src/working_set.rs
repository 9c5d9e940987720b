//! What of a template's memory its copies write before their program begins: looked at once, in the
//! first copy, and kept beside the template, so that later copies have those pages copied ahead.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use vmm::config::FileRange;

const PAGE: u64 = 4096;
/// Bits of an entry of `/proc/PID/pagemap`: there is a page, and it is a file's
/// (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FILE_PAGE: u64 = 1 << 61;
/// More ranges are not worth their time.
const MOST_RANGES: usize = 8192;

/// A mapping of a process: its addresses, and where it begins in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
}

/// The pieces of `memory`, a template's file, of which the process has copies of its own.
///
/// # Errors
/// When this process may not look at that one.
pub(crate) fn look(process: i32, memory: &File) -> io::Result<Vec<FileRange>> {
    let metadata = memory.metadata()?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let pagemap = File::open(format!("/proc/{process}/pagemap"))?;
    let mut ranges = Vec::new();
    for mapping in maps.lines().filter_map(|line| mapping_of(line, metadata.ino())) {
        let pages = (mapping.end - mapping.start) / PAGE;
        let mut entries = vec![0; usize::try_from(pages * 8).map_err(io::Error::other)?];
        pagemap.read_exact_at(&mut entries, mapping.start / PAGE * 8)?;
        add_copied(&mut ranges, mapping.offset, &entries);
    }
    ranges.truncate(MOST_RANGES);
    Ok(ranges)
}

/// The mapping a line of `/proc/PID/maps` tells of, if it is of the file with this inode.
fn mapping_of(line: &str, inode: u64) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let offset = words.nth(1)?;
    let found: u64 = words.nth(1)?.parse().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    (found == inode).then_some(Mapping { start: hex(start)?, end: hex(end)?, offset: hex(offset)? })
}

/// Adds the pages from `offset` on that are there and no longer the file's.
fn add_copied(ranges: &mut Vec<FileRange>, offset: u64, entries: &[u8]) {
    for (index, entry) in (0..).zip(entries.chunks_exact(8)) {
        let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
        if entry & PRESENT == 0 || entry & FILE_PAGE != 0 {
            continue;
        }
        let at = offset + index * PAGE;
        match ranges.last_mut() {
            Some(last) if last.offset + last.length == at => last.length += PAGE,
            _ => ranges.push(FileRange { offset: at, length: PAGE }),
        }
    }
}

/// Ranges as a file holds them: pairs of numbers, one to a line.
pub(crate) fn to_text(ranges: &[FileRange]) -> String {
    ranges.iter().map(|range| format!("{} {}\n", range.offset, range.length)).collect()
}

/// What [`to_text`] wrote; lines that make no sense are passed over.
pub(crate) fn from_text(text: &str) -> Vec<FileRange> {
    let range = |line: &str| {
        let (offset, length) = line.split_once(' ')?;
        Some(FileRange { offset: offset.parse().ok()?, length: length.parse().ok()? })
    };
    text.lines().filter_map(range).take(MOST_RANGES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_understood() {
        let line = "7f00000-7f02000 rw-p 00200000 fe:01 77   /var/lib/hyperrun/templates/k/memory";
        let mapping = Mapping { start: 0x7f0_0000, end: 0x7f0_2000, offset: 0x20_0000 };
        assert_eq!(mapping_of(line, 77), Some(mapping));
        assert_eq!(mapping_of(line, 78), None);
        assert_eq!(mapping_of("7f00000-7f02000 rw-p 00000000 00:00 0 ", 77), None);
        assert_eq!(mapping_of("", 77), None);
    }

    #[test]
    fn copies_in_a_row_are_one_range() {
        let copied = PRESENT.to_le_bytes();
        let mapped = (PRESENT | FILE_PAGE).to_le_bytes();
        let untouched = [0; 8];
        let entries = [copied, copied, mapped, untouched, copied].concat();
        let mut ranges = Vec::new();
        add_copied(&mut ranges, 0x10_0000, &entries);
        let expected = [(0x10_0000, 2 * PAGE), (0x10_0000 + 4 * PAGE, PAGE)]
            .map(|(offset, length)| FileRange { offset, length });
        assert_eq!(ranges, expected);
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let ranges = [FileRange { offset: 0, length: 4096 }, FileRange { offset: 8192, length: 1 }];
        assert_eq!(from_text(&to_text(&ranges)), ranges);
        assert_eq!(from_text("x\n1 2 3\n\n-1 4\n5 6\n"), [FileRange { offset: 5, length: 6 }]);
    }

    #[test]
    fn a_process_sees_what_it_has_copied_itself() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * PAGE).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(look(own, &file).unwrap().is_empty(), "it is not mapped");
    }
}
