//! Reads a container's log: from its oldest file to its newest, and what is added meanwhile, however
//! often files are rotated on the way.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use images::parse_rfc3339;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use serde::Deserialize;

use super::{bytes, decode, rotated};
use crate::moment::Moment;

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// No entry that hyperrun writes is longer: 16 KiB, each byte of which may take six.
const MAX_ENTRY_BYTES: usize = 128 << 10;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry<'a> {
    /// A line that was written, with its end if it had one, or several of a program that wrote fast.
    #[serde(borrow)]
    pub log: Cow<'a, str>,
    /// `stdout` or `stderr`.
    #[serde(borrow)]
    pub stream: Cow<'a, str>,
    /// When, as RFC 3339 has it.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
}

/// What is wanted of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Nothing older.
    pub since: Option<Moment>,
    /// Nothing younger.
    pub until: Option<Moment>,
    /// How much of what there is.
    pub tail: Tail,
}

/// How much of what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// All of it.
    #[default]
    All,
    /// The last lines, this many.
    Last(u64),
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    query: LogQuery,
    /// The file that is read, and the beginning of an entry at its end.
    current: Option<(File, Vec<u8>)>,
    /// The text of an entry.
    text: Vec<u8>,
    /// How many lines are not wanted.
    skip: Option<u64>,
}

/// Takes entries one by one.
pub(crate) type Take<'a> = dyn FnMut(&Entry<'_>) -> io::Result<()> + 'a;

impl Reader {
    /// The log whose newest file this is; it need not be there.
    #[must_use]
    pub fn open(path: PathBuf, query: LogQuery) -> Self {
        Self { path, query, current: None, text: Vec::new(), skip: None }
    }

    /// Reads what is there, and has not been read before.
    ///
    /// # Errors
    /// When a file cannot be read, or `take` gives an error.
    pub fn read(&mut self, take: &mut Take<'_>) -> io::Result<()> {
        if self.skip.is_none() {
            self.skip = Some(self.unwanted()?);
        }
        loop {
            self.read_current(take)?;
            let Some(next) = self.next_file()? else { return Ok(()) };
            // Whatever came before it was rotated.
            self.read_current(take)?;
            self.current = Some((next, Vec::new()));
        }
    }

    /// How many lines come before those that are wanted.
    fn unwanted(&self) -> io::Result<u64> {
        let Tail::Last(wanted) = self.query.tail else { return Ok(0) };
        let mut count = 0;
        for file in self.files()?.into_iter().rev() {
            count += count_lines(&file)?;
        }
        Ok(count.saturating_sub(wanted))
    }

    /// The files there are, the newest first. None of them is written over as long as it is open here.
    fn files(&self) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        for age in 0.. {
            match File::open(rotated(&self.path, age)) {
                // Without a lock where there are none.
                Ok(file) => match file.try_lock_shared() {
                    // It was the oldest, and is written over.
                    Err(TryLockError::WouldBlock) => break,
                    _ => files.push(file),
                },
                // The newest may just have been rotated.
                Err(error) if error.kind() == io::ErrorKind::NotFound && age == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// The file that follows the one that is read; the oldest if that one is gone.
    fn next_file(&self) -> io::Result<Option<File>> {
        let mut files = self.files()?;
        let Some((current, _)) = &self.current else { return Ok(files.pop()) };
        let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        let ours = identity(current)?;
        for at in 0..files.len() {
            if identity(&files[at])? == ours {
                return Ok(if at == 0 { None } else { Some(files.swap_remove(at - 1)) });
            }
        }
        Ok(files.pop())
    }

    fn read_current(&mut self, take: &mut Take<'_>) -> io::Result<()> {
        let Self { query, current: Some((file, rest)), text, skip, .. } = self else {
            return Ok(());
        };
        each_line(file, rest, |line| pass(query, line, skip, text, take))
    }
}

/// Gives each whole line that there is to `take`; the beginning of another one stays in `rest`.
fn each_line(
    file: &File,
    rest: &mut Vec<u8>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        rest.reserve(PIECE_BYTES);
        match rustix::io::read(file, spare_capacity(rest)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = &rest[..end];
        while !lines.is_empty() {
            let (line, after) = lines.split_at(bytes::line(lines));
            lines = after;
            take(line)?;
        }
        rest.drain(..end);
        if rest.len() > MAX_ENTRY_BYTES {
            // No entry of ours: somebody has damaged the file.
            rest.clear();
        }
    }
}

/// Hands an entry over, if it is one and is wanted, without the lines that are to be skipped.
fn pass(
    query: &LogQuery,
    line: &[u8],
    skip: &mut Option<u64>,
    text: &mut Vec<u8>,
    take: &mut Take<'_>,
) -> io::Result<()> {
    let mut unwanted = 0;
    if let Some(skip @ 1..) = skip {
        let lines = decode::lines(line);
        unwanted = lines.min(*skip);
        *skip -= unwanted;
        if unwanted == lines {
            return Ok(());
        }
    }
    let Some(mut entry) = decode::entry(line, text) else { return Ok(()) };
    if query.since.is_some() || query.until.is_some() {
        let Some(time) = parse_rfc3339(&entry.time).map(Moment) else { return Ok(()) };
        let too_old = query.since.is_some_and(|since| time < since);
        if too_old || query.until.is_some_and(|until| time > until) {
            return Ok(());
        }
    }
    if unwanted > 0 {
        let left =
            entry.log.split_inclusive('\n').skip(usize::try_from(unwanted).unwrap_or(usize::MAX));
        entry.log = Cow::Owned(left.collect());
    }
    take(&entry)
}

/// The lines of all entries in a file.
fn count_lines(file: &File) -> io::Result<u64> {
    let mut count = 0;
    each_line(file, &mut Vec::new(), |entry| {
        count += decode::lines(entry);
        Ok(())
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeping::LogConfig;
    use crate::logs::{LogWriter, Stream};
    use std::time::{Duration, UNIX_EPOCH};

    fn lines(reader: &mut Reader) -> Vec<String> {
        let mut lines = Vec::new();
        let mut take = |entry: &Entry<'_>| {
            lines.push(entry.log.trim_end().to_owned());
            Ok(())
        };
        reader.read(&mut take).unwrap();
        lines
    }

    fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|number| number.to_string()).collect()
    }

    #[test]
    fn the_last_entries_are_found_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let config = LogConfig { max_bytes: 700, max_files: 4, ..LogConfig::default() };
        let mut log = LogWriter::new(path.clone(), config);
        for number in 0..30 {
            log.add(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
        }
        for wanted in [0, 1, 12, 20] {
            let query = LogQuery { tail: Tail::Last(wanted), ..LogQuery::default() };
            let first = 30 - u32::try_from(wanted).unwrap();
            let mut reader = Reader::open(path.clone(), query);
            assert_eq!(lines(&mut reader), numbers(first..30), "the last {wanted}");
            log.add(Stream::Stdout, b"more\n").unwrap();
            assert_eq!(lines(&mut reader), ["more"]);
            fs_remove_last(&path);
        }
    }

    /// Takes the last entry back.
    fn fs_remove_last(path: &std::path::Path) {
        let text = std::fs::read_to_string(path).unwrap();
        let kept = text.trim_end().rfind('\n').map_or(0, |end| end + 1);
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(kept as u64).unwrap();
    }

    #[test]
    fn the_last_lines_are_found_among_those_that_share_an_entry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let entry = |text: &str| {
            format!(
                "{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:10Z\"}}\n"
            )
        };
        let text = entry("1\\n2\\n3\\n") + &entry("4\\n") + &entry("5\\n6\\n7");
        std::fs::write(&path, text).unwrap();
        for wanted in 0..9 {
            let query = LogQuery { tail: Tail::Last(wanted), ..LogQuery::default() };
            let mut seen = String::new();
            let mut take = |entry: &Entry<'_>| {
                seen.push_str(&entry.log);
                Ok(())
            };
            Reader::open(path.clone(), query).read(&mut take).unwrap();
            let all = ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7"];
            let first = 7 - usize::try_from(wanted.min(7)).unwrap();
            assert_eq!(seen, all[first..].concat(), "the last {wanted}");
        }
    }

    #[test]
    fn a_follower_loses_nothing_to_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let config = LogConfig { max_bytes: 400, max_files: 5, ..LogConfig::default() };
        let mut log = LogWriter::new(path.clone(), config);
        let mut reader = Reader::open(path, LogQuery::default());
        let mut seen = Vec::new();
        let mut next = 0;
        for step in [1, 2, 3, 5, 8, 9, 4, 1] {
            for _ in 0..step {
                log.add(Stream::Stdout, format!("{next}\n").as_bytes()).unwrap();
                next += 1;
            }
            seen.extend(lines(&mut reader));
        }
        assert_eq!(seen, numbers(0..next));
    }

    #[test]
    fn times_are_bounds_and_what_is_no_entry_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let line = |second: u32| {
            format!(
                "{{\"log\":\"{second}\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:{second:02}Z\"}}\n"
            )
        };
        let text = line(10) + "{\"log\":\n\n\0\n" + &line(20) + &line(30) + "{\"log\":\"unfin";
        std::fs::write(&path, text).unwrap();
        let at = |second| Some(Moment(UNIX_EPOCH + Duration::from_secs(second)));
        for (since, until, wanted) in [
            (None, None, vec!["10", "20", "30"]),
            (at(15), None, vec!["20", "30"]),
            (at(20), at(20), vec!["20"]),
            (None, at(5), vec![]),
        ] {
            let query = LogQuery { since, until, tail: Tail::All };
            assert_eq!(lines(&mut Reader::open(path.clone(), query)), wanted);
        }
    }

    #[test]
    fn there_need_be_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(folder.path().join("log"), LogQuery::default());
        assert!(lines(&mut reader).is_empty());
    }
}
