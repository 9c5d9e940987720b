//! What of a saved machine's memory its copies touch before their program begins, or goes on: looked at in the
//! first two, and kept beside it, so that later copies have those pages ahead, and no more.
//!
//! A program may have come far by the time its machine is looked at. What it touched for itself is told
//! apart by the second look: the pages of both are those of any copy.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use vmm::config::{FileRange, SnapshotFiles, WorkingSet};

/// The file in which it is kept.
const WORKING_SET: &str = "working-set";
const PAGE: u64 = 4096;
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

/// A mapping of a process: its addresses, and where it begins in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
}

/// The pieces of a saved memory, which lies in these files, that the process has touched: those of which it has
/// copies of its own, and those that it has mapped, with what the host maps around a page that is read.
///
/// # Errors
/// When this process may not look at that one.
fn look(process: i32, memories: &[File]) -> io::Result<WorkingSet> {
    let inodes = memories.iter().map(|memory| Ok(memory.metadata()?.ino()));
    let inodes = inodes.collect::<io::Result<Vec<_>>>()?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let pagemap = File::open(format!("/proc/{process}/pagemap"))?;
    let mut touched = WorkingSet::default();
    for mapping in maps.lines().filter_map(|line| mapping_of(line, &inodes)) {
        let pages = (mapping.end - mapping.start) / PAGE;
        let mut entries = vec![0; usize::try_from(pages * 8).map_err(io::Error::other)?];
        pagemap.read_exact_at(&mut entries, mapping.start / PAGE * 8)?;
        add_touched(&mut touched, mapping.offset, &entries);
    }
    touched.written.truncate(MOST_RANGES);
    touched.read.truncate(MOST_RANGES);
    Ok(touched)
}

/// The mapping a line of `/proc/PID/maps` tells of, if it is of a file with one of these inodes.
fn mapping_of(line: &str, inodes: &[u64]) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let offset = words.nth(1)?;
    let found: u64 = words.nth(1)?.parse().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    inodes.contains(&found).then_some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
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
    fn lines_of_maps_are_understood() {
        let line = "7f00000-7f02000 rw-p 00200000 fe:01 77   /var/lib/hyperrun/templates/k/memory";
        let mapping = Mapping { start: 0x7f0_0000, end: 0x7f0_2000, offset: 0x20_0000 };
        assert_eq!(mapping_of(line, &[5, 77]), Some(mapping));
        assert_eq!(mapping_of(line, &[78]), None);
        assert_eq!(mapping_of("7f00000-7f02000 rw-p 00000000 00:00 0 ", &[77]), None);
        assert_eq!(mapping_of("", &[77]), None);
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
        let odd = Known::from_text("x\n1 2\nw1 2\nw 1 2 3\n\nr -1 4\nw 5 6\nonce\nrr 7 8\n");
        assert_eq!(odd, Known::All(WorkingSet { written: vec![range(5, 6)], read: vec![] }));
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
        let touched = WorkingSet { written: vec![range(0, 4096)], read: vec![] };
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
