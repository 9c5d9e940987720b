//! What of a saved machine's memory its copies touch before their program begins, or goes on: looked at in the
//! first two, and kept beside it, so that later copies have those pages ahead, and no more.
//!
//! A program may have come far by the time its machine is looked at. What it touched for itself is told
//! apart by the second look: the pages of both are those of any copy.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use vmm::config::{FileRange, SMALL_FRESH_BYTES, SnapshotFiles, WorkingSet};

/// The file in which it is kept.
const WORKING_SET: &str = "working-set";
const PAGE: u64 = 4096;
/// What a host gives at once where it gives huge pages.
const BLOCK: u64 = BLOCK_PAGES as u64 * PAGE;
const BLOCK_PAGES: usize = 512;
/// Bits of an entry of `/proc/PID/pagemap`: there is a page, and it is a file's
/// (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FILE_PAGE: u64 = 1 << 61;
/// The first line of the file as long as one copy alone was looked at.
const ONCE: &str = "once\n";
/// And as long as there was no copy, of what those of another machine touch.
const BORROWED: &str = "borrowed\n";
/// What a line of the file begins with.
const WRITTEN: char = 'w';
const READ: char = 'r';
/// More ranges of a kind are not worth their time.
const MOST_RANGES: usize = 8192;

/// A saved machine of which it is not known what its copies touch.
#[derive(Debug)]
pub(crate) struct Unexplored {
    folder: PathBuf,
    memories: Vec<File>,
    known: Known,
}

impl Unexplored {
    /// Notes what a copy, the machine in this process, has touched so far. What fails here is only
    /// slower later, and tried again.
    pub(crate) fn explore(self, process: i32) {
        let Ok(touched) = look(process, &self.memories) else { return };
        let new = self.folder.join(format!("{WORKING_SET}.{process}"));
        if fs::write(&new, self.known.and(touched).to_text()).is_ok() {
            let _ = fs::rename(&new, self.folder.join(WORKING_SET));
        }
    }
}

/// What is known of a saved machine's copies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    #[default]
    Nothing,
    /// Nothing but what copies of another machine touch, which has much in common with it.
    Borrowed(WorkingSet),
    /// What the first one had touched.
    Once(WorkingSet),
    /// What each touches.
    All(WorkingSet),
}

impl Known {
    /// What is known of the machine that is kept in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join(WORKING_SET)).ok();
        text.map(|text| Self::from_text(&text)).unwrap_or_default()
    }

    /// What the next copy of the machine in this folder has ahead; and where to note what that copy touches, as
    /// long as that is not known.
    pub(crate) fn begin(
        self,
        folder: PathBuf,
        files: &SnapshotFiles,
    ) -> io::Result<(WorkingSet, Option<Unexplored>)> {
        let (working_set, known) = match self {
            Self::All(working_set) => return Ok((working_set, None)),
            Self::Borrowed(working_set) => (working_set, Self::Nothing),
            known => (WorkingSet::default(), known),
        };
        let memories = files.memories().map(File::try_clone).collect::<io::Result<_>>()?;
        Ok((working_set, Some(Unexplored { folder, memories, known })))
    }

    /// Notes in a folder what is known of another machine, for the first copy of the one that is kept there. What
    /// fails here is only slower.
    pub(crate) fn lend(self, folder: &Path) {
        if let Self::All(touched) | Self::Borrowed(touched) = self {
            let _ = fs::write(folder.join(WORKING_SET), Self::Borrowed(touched).to_text());
        }
    }

    /// What is known when another copy has touched this.
    pub(crate) fn and(self, touched: WorkingSet) -> Self {
        match self {
            Self::Nothing | Self::Borrowed(_) => Self::Once(touched),
            Self::Once(first) | Self::All(first) => Self::All(WorkingSet {
                written: common(&first.written, &touched.written),
                read: common(&first.read, &touched.read),
            }),
        }
    }

    /// As a file holds it: `w` or `r` and two numbers, one range to a line, behind a line that says
    /// whether one copy alone was looked at, or none.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Borrowed(touched) => BORROWED.to_owned() + &lines(touched),
            Self::Once(touched) => ONCE.to_owned() + &lines(touched),
            Self::All(touched) => lines(touched),
        }
    }

    /// What [`Self::to_text`] wrote; lines that make no sense are passed over.
    pub(crate) fn from_text(text: &str) -> Self {
        if let Some(lines) = text.strip_prefix(ONCE) {
            return Self::Once(from_lines(lines));
        }
        match text.strip_prefix(BORROWED) {
            Some(lines) => Self::Borrowed(from_lines(lines)),
            None => Self::All(from_lines(text)),
        }
    }
}

/// What lies in a range of both, each of which is in order.
fn common(one: &[FileRange], other: &[FileRange]) -> Vec<FileRange> {
    let end = |range: &FileRange| range.offset.saturating_add(range.length);
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let mut found = Vec::new();
    while let (Some(left), Some(right)) = (one.peek(), other.peek()) {
        let offset = left.offset.max(right.offset);
        let until = end(left).min(end(right));
        if until > offset {
            found.push(FileRange { offset, length: until - offset });
        }
        if end(left) <= end(right) {
            one.next()
        } else {
            other.next()
        };
    }
    found
}

/// A mapping of a process: its addresses, and which part of the saved memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    /// Whether a file lies behind it.
    has_file: bool,
}

/// The pieces of a saved memory, which lies in these files, that the process has touched: those of which it has
/// copies of its own, those that it has mapped, with what the host maps around a page that is read, and those
/// between them that are fresh.
///
/// # Errors
/// When this process may not look at that one.
fn look(process: i32, memories: &[File]) -> io::Result<WorkingSet> {
    let statuses = memories.iter().map(File::metadata).collect::<io::Result<Vec<_>>>()?;
    let inodes: Vec<u64> = statuses.iter().map(MetadataExt::ino).collect();
    let bytes = statuses.first().map(MetadataExt::size).unwrap_or_default();
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let pagemap = File::open(format!("/proc/{process}/pagemap"))?;
    let mut touched = WorkingSet::default();
    let mut fresh = 0;
    for mapping in mappings(&maps, &inodes, bytes) {
        for (offset, length) in blocks(mapping) {
            if !mapping.has_file {
                fresh += length;
                if fresh > SMALL_FRESH_BYTES {
                    break;
                }
            }
            let address = mapping.start + (offset - mapping.offset);
            let mut entries = [0; BLOCK_PAGES * 8];
            let entries = &mut entries[..usize::try_from(length / PAGE * 8).expect("a block's")];
            pagemap.read_exact_at(entries, address / PAGE * 8)?;
            add_touched(&mut touched, offset, entries);
        }
    }
    touched.written.truncate(MOST_RANGES);
    touched.read.truncate(MOST_RANGES);
    Ok(touched)
}

/// The mappings of a saved memory of `bytes` among those that `/proc/PID/maps` tells of: of its files, which have
/// these inodes, and of fresh memory right behind one of them; in the order of the memory.
fn mappings(maps: &str, inodes: &[u64], bytes: u64) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for (mut mapping, inode) in maps.lines().filter_map(mapping_of) {
        if !inodes.contains(&inode) {
            let before = found.last().filter(|last| inode == 0 && last.end == mapping.start);
            let Some(before) = before else { continue };
            let offset = before.offset + (before.end - before.start);
            let length = (mapping.end - mapping.start).min(bytes.saturating_sub(offset));
            let end = mapping.start + length;
            mapping = Mapping { end, offset, has_file: false, ..mapping };
        }
        found.push(mapping);
    }
    // A memory of two parts may lie the other way round in a process.
    found.sort_by_key(|mapping| mapping.offset);
    found
}

/// What a line of `/proc/PID/maps` tells, and the inode that it names.
fn mapping_of(line: &str) -> Option<(Mapping, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let offset = words.nth(1)?;
    let inode = words.nth(1)?.parse().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let mapping =
        Mapping { start: hex(start)?, end: hex(end)?, offset: hex(offset)?, has_file: true };
    Some((mapping, inode))
}

/// The parts of a mapping that lie in one block of the saved memory each, as places in it and lengths.
fn blocks(mapping: Mapping) -> impl Iterator<Item = (u64, u64)> {
    let end = mapping.offset + (mapping.end - mapping.start);
    (mapping.offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let start = mapping.offset.max(block * BLOCK);
        (start, end.min((block + 1) * BLOCK) - start)
    })
}

/// Adds the pages from `offset` on that are there, apart by whether they are still the file's.
fn add_touched(touched: &mut WorkingSet, offset: u64, entries: &[u8]) {
    for (index, entry) in (0..).zip(entries.chunks_exact(8)) {
        let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
        if entry & PRESENT == 0 {
            continue;
        }
        let is_file = entry & FILE_PAGE != 0;
        let ranges = if is_file { &mut touched.read } else { &mut touched.written };
        let at = offset + index * PAGE;
        match ranges.last_mut() {
            Some(last) if last.offset + last.length == at => last.length += PAGE,
            _ => ranges.push(FileRange { offset: at, length: PAGE }),
        }
    }
}

fn lines(touched: &WorkingSet) -> String {
    let of_kind = |kind: char, ranges: &[FileRange]| -> String {
        ranges.iter().map(|range| format!("{kind} {} {}\n", range.offset, range.length)).collect()
    };
    of_kind(WRITTEN, &touched.written) + &of_kind(READ, &touched.read)
}

fn from_lines(text: &str) -> WorkingSet {
    let ranges = |kind: char| {
        let lines = text.lines().filter_map(move |line| range_of(line.strip_prefix(kind)?));
        lines.take(MOST_RANGES).collect()
    };
    WorkingSet { written: ranges(WRITTEN), read: ranges(READ) }
}

fn range_of(text: &str) -> Option<FileRange> {
    let (offset, length) = text.strip_prefix(' ')?.split_once(' ')?;
    Some(FileRange { offset: offset.parse().ok()?, length: length.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_memory_is_found_among_the_mappings_with_what_is_fresh_in_it() {
        let maps = "55500000-55600000 r-xp 00000000 fe:01 9   /usr/bin/hyperrun\n\
             7f00000-7f02000 rw-p 00200000 fe:01 77   /var/lib/hyperrun/templates/k/memory\n\
             7f02000-7f05000 rw-p 00000000 00:00 0 \n\
             7f05000-7f06000 rw-p 00205000 fe:01 78   /var/lib/hyperrun/templates/l/memory\n\
             7f06000-7f0a000 rw-p 00000000 00:00 0 \n\
             7f0b000-7f0c000 rw-p 00000000 00:00 0 \n\n";
        let mapping = |start, end, offset, has_file| Mapping { start, end, offset, has_file };
        let expected = [
            mapping(0x7f0_0000, 0x7f0_2000, 0x20_0000, true),
            mapping(0x7f0_2000, 0x7f0_5000, 0x20_2000, false),
            mapping(0x7f0_5000, 0x7f0_6000, 0x20_5000, true),
            mapping(0x7f0_6000, 0x7f0_8000, 0x20_6000, false),
        ];
        assert_eq!(mappings(maps, &[5, 77, 78], 0x20_8000), expected);
        assert_eq!(mappings(maps, &[79], 0x20_8000), []);
    }

    #[test]
    fn a_memory_whose_end_lies_before_its_beginning_is_told_in_order() {
        let maps = "7f00000-7f02000 rw-p c0000000 fe:01 77   /var/lib/hyperrun/templates/k/memory\n\
             7f10000-7f12000 rw-p 00000000 fe:01 77   /var/lib/hyperrun/templates/k/memory\n";
        let offsets: Vec<_> =
            mappings(maps, &[77], 4 << 30).iter().map(|mapping| mapping.offset).collect();
        assert_eq!(offsets, [0, 3 << 30]);
    }

    #[test]
    fn a_mapping_is_looked_at_in_blocks() {
        let of = |start, end, offset| {
            blocks(Mapping { start, end, offset, has_file: false }).collect::<Vec<_>>()
        };
        assert_eq!(of(0x1000, 0x3000, BLOCK), [(BLOCK, 0x2000)]);
        let around = [(BLOCK - PAGE, PAGE), (BLOCK, BLOCK), (2 * BLOCK, PAGE)];
        assert_eq!(of(0, BLOCK + 2 * PAGE, BLOCK - PAGE), around);
        assert_eq!(of(0x1000, 0x1000, BLOCK), []);
    }

    fn range(offset: u64, length: u64) -> FileRange {
        FileRange { offset, length }
    }

    #[test]
    fn pages_in_a_row_are_one_range() {
        let copied = PRESENT.to_le_bytes();
        let mapped = (PRESENT | FILE_PAGE).to_le_bytes();
        let untouched = [0; 8];
        let entries = [copied, copied, mapped, untouched, copied, mapped, mapped].concat();
        let mut touched = WorkingSet::default();
        add_touched(&mut touched, 0x10_0000, &entries);
        assert_eq!(touched.written, [range(0x10_0000, 2 * PAGE), range(0x10_4000, PAGE)]);
        assert_eq!(touched.read, [range(0x10_2000, PAGE), range(0x10_5000, 2 * PAGE)]);
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let touched = WorkingSet {
            written: vec![range(0, 4096), range(8192, 1)],
            read: vec![range(4096, 4096)],
        };
        for known in [Known::Once, Known::All, Known::Borrowed].map(|kind| kind(touched.clone())) {
            assert_eq!(Known::from_text(&known.to_text()), known);
        }
        let odd = Known::from_text("x\n1 2\nw1 2\nw 1 2 3\n\nr -1 4\nw 5 6\nonce\nrr 7 8\nf\n");
        let written = vec![range(5, 6)];
        assert_eq!(odd, Known::All(WorkingSet { written, ..WorkingSet::default() }));
    }

    #[test]
    fn what_one_copy_alone_has_touched_does_not_count() {
        let touched = |written: &[FileRange]| WorkingSet {
            written: written.to_vec(),
            read: written[1..].to_vec(),
        };
        let first = touched(&[range(0, 4), range(10, 10), range(30, 100), range(200, 1)]);
        let second = touched(&[range(2, 10), range(14, 4), range(40, 20), range(70, 20)]);
        let once = Known::Nothing.and(first.clone());
        assert_eq!(once, Known::Once(first));
        let both = WorkingSet {
            written: vec![range(2, 2), range(10, 2), range(14, 4), range(40, 20), range(70, 20)],
            read: vec![range(14, 4), range(40, 20), range(70, 20)],
        };
        assert_eq!(once.and(second), Known::All(both));
        let none = Known::Once(WorkingSet::default()).and(touched(&[range(u64::MAX, u64::MAX)]));
        assert_eq!(none, Known::All(WorkingSet::default()));
    }

    #[test]
    fn what_is_borrowed_serves_the_first_copy_alone() {
        let folder = tempfile::tempdir().unwrap();
        let touched = WorkingSet { written: vec![range(0, 4096)], ..WorkingSet::default() };
        for known in [Known::Nothing, Known::Once(touched.clone())] {
            known.lend(folder.path());
            assert_eq!(Known::of(folder.path()), Known::Nothing);
        }
        Known::All(touched.clone()).lend(folder.path());
        let known = Known::of(folder.path());
        assert_eq!(known, Known::Borrowed(touched.clone()));
        // Nobody else's files are looked at.
        let none = || tempfile::tempfile().unwrap();
        let files = SnapshotFiles::new(none(), none());
        let (ahead, unexplored) = known.begin(folder.path().to_owned(), &files).unwrap();
        assert_eq!(ahead, touched);
        unexplored.unwrap().explore(i32::try_from(std::process::id()).unwrap());
        assert_eq!(Known::of(folder.path()), Known::Once(WorkingSet::default()));
    }

    #[test]
    fn a_process_sees_what_it_has_copied_itself() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * PAGE).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(look(own, &[file]).unwrap(), WorkingSet::default(), "it is not mapped");
    }
}
