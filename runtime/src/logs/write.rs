//! Writes a container's log: makes entries of what a program writes.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bytes;
use super::encode::escape;
use super::files::{Files, Pace};
use crate::keeping::LogConfig;
use crate::moment::Moment;

/// The longest text of an entry; a line that is longer goes into several, as Docker's does.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// What an entry has before its text.
const HEAD: &[u8] = b"{\"log\":\"";
/// What an entry has beside its text: names, stream and time.
const LINE_OVERHEAD: usize = 80;
/// The memory that is kept for the next line, and the most that comes at once when little is written.
const IDLE_BYTES: usize = 4 << 10;
/// How much is written at once.
const BATCH_BYTES: usize = 128 << 10;
/// How much is written line by line in a second. Lines of a program that writes more share entries: that
/// halves what is written, and for each line there is less to do.
const SINGLE_BYTES: usize = 1 << 20;

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    files: Files,
    /// The beginnings of lines that have no end yet, of stdout and stderr.
    unfinished: [Vec<u8>; 2],
    /// What is to be written next.
    batch: Vec<u8>,
    clock: Clock,
}

/// Tells how fast a program writes.
#[derive(Debug)]
struct Clock {
    /// When the second that is looked at has begun.
    since: SystemTime,
    /// What has come in it.
    bytes: usize,
}

impl LogWriter {
    /// Goes on with the log at `path`.
    pub(crate) fn new(path: PathBuf, config: LogConfig) -> Self {
        let unfinished = [Vec::new(), Vec::new()];
        let clock = Clock { since: UNIX_EPOCH, bytes: 0 };
        Self { files: Files::new(path, config), unfinished, batch: Vec::new(), clock }
    }

    /// Adds what was written to a stream. What fails loses these lines and no others: the file is
    /// then as it was before.
    pub(crate) fn add(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        self.add_at(Moment::now(), stream, bytes)
    }

    fn add_at(&mut self, time: Moment, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let pace = self.clock.pace(time.0, bytes.len());
        let mut result = Ok(());
        self.batch.reserve((2 * bytes.len() + LINE_OVERHEAD).min(BATCH_BYTES + MAX_TEXT_BYTES));
        let end = end_of_entry(stream, time);
        let mut left = bytes;
        while !left.is_empty() {
            left = if pace == Pace::Fast && self.unfinished[stream as usize].is_empty() {
                let (lines, rest) = left.split_at(bytes::lines(left, MAX_TEXT_BYTES));
                self.add_piece(stream, lines, &end);
                rest
            } else if let Some(rest) = self.add_plain_line(stream, left, &end) {
                rest
            } else {
                let (line, rest) = left.split_at(bytes::line(left));
                self.add_piece(stream, line, &end);
                rest
            };
            if self.batch.len() >= BATCH_BYTES {
                result = result.and(self.write_batch(pace));
            }
        }
        let result = result.and(self.write_batch(pace));
        // What is written without a pause needs its memory again at once.
        if bytes.len() < IDLE_BYTES && self.batch.capacity() > IDLE_BYTES {
            self.batch = Vec::new();
        }
        result
    }

    /// Adds the first line of `bytes` if it is whole and needs no escape, as most do: what comes behind
    /// it. `end` is what an entry has behind its text.
    fn add_plain_line<'a>(
        &mut self,
        stream: Stream,
        bytes: &'a [u8],
        end: &[u8],
    ) -> Option<&'a [u8]> {
        let (line, rest) = bytes.split_at(bytes::plain(bytes));
        let rest = rest.strip_prefix(b"\n")?;
        if line.len() + 1 >= MAX_TEXT_BYTES || !self.unfinished[stream as usize].is_empty() {
            return None;
        }
        self.batch.extend_from_slice(HEAD);
        self.batch.extend_from_slice(line);
        self.batch.extend_from_slice(b"\\n");
        self.batch.extend_from_slice(end);
        Some(rest)
    }

    /// Adds what has no end of line, since nothing follows.
    pub(crate) fn finish(&mut self, stream: Stream) -> io::Result<()> {
        let line = std::mem::take(&mut self.unfinished[stream as usize]);
        if !line.is_empty() {
            add_entry(&[&line], &end_of_entry(stream, Moment::now()), &mut self.batch);
        }
        let written = self.write_batch(Pace::Slow);
        self.batch = Vec::new();
        written
    }

    /// Whether something was added that nobody can read yet.
    pub(crate) fn hides_lines(&self) -> bool {
        self.files.are_hidden()
    }

    /// Shows what was added.
    pub(crate) fn show(&mut self) -> io::Result<()> {
        self.files.show()
    }

    /// Adds a line or several, or the beginning of one.
    fn add_piece(&mut self, stream: Stream, mut piece: &[u8], end: &[u8]) {
        let unfinished = &mut self.unfinished[stream as usize];
        while unfinished.len() + piece.len() >= MAX_TEXT_BYTES {
            let (head, tail) = piece.split_at(MAX_TEXT_BYTES - unfinished.len());
            add_entry(&[unfinished, head], end, &mut self.batch);
            unfinished.clear();
            piece = tail;
        }
        if piece.ends_with(b"\n") {
            add_entry(&[unfinished, piece], end, &mut self.batch);
            unfinished.clear();
        } else {
            unfinished.extend_from_slice(piece);
        }
    }

    fn write_batch(&mut self, pace: Pace) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let written = self.files.write(&batch, pace);
        self.batch = batch;
        self.batch.clear();
        let shown = if pace == Pace::Slow { self.files.show() } else { Ok(()) };
        written.and(shown)
    }
}

impl Clock {
    /// Fast where what comes now is more than a second's share of single lines.
    fn pace(&mut self, now: SystemTime, bytes: usize) -> Pace {
        const SECOND: Duration = Duration::from_secs(1);
        // A clock that was turned back begins another one.
        if now.duration_since(self.since).map_or(true, |passed| passed >= SECOND) {
            *self = Self { since: now, bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > SINGLE_BYTES { Pace::Fast } else { Pace::Slow }
    }
}

/// One entry, from the pieces of its text and what it has behind it.
fn add_entry(text: &[&[u8]], end: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(HEAD);
    match text {
        [head, tail] if !head.is_empty() => escape(&[*head, tail].concat(), to),
        pieces => pieces.iter().for_each(|piece| escape(piece, to)),
    }
    to.extend_from_slice(end);
}

/// What an entry has behind its text.
fn end_of_entry(stream: Stream, time: Moment) -> Vec<u8> {
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    format!("\",\"stream\":\"{stream}\",\"time\":\"{}\"}}\n", time.to_text()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Entry, LogQuery, Reader, rotated};
    use std::fs;
    use std::path::Path;

    /// Stream and text of each entry.
    fn entries(path: &Path) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        let mut reader = Reader::open(path.to_owned(), LogQuery::default());
        let mut take = |entry: &Entry<'_>| {
            entries.push((entry.stream.to_string(), entry.log.to_string()));
            Ok(())
        };
        reader.read(&mut take).unwrap();
        entries
    }

    #[test]
    fn lines_are_entries_however_they_come() {
        let text = b"one\ntwo\n\nthree\xff\nlast";
        for size in 1..text.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            let mut log = LogWriter::new(path.clone(), LogConfig::default());
            for piece in text.chunks(size) {
                log.add(Stream::Stdout, piece).unwrap();
            }
            log.add(Stream::Stderr, b"err\n").unwrap();
            log.finish(Stream::Stdout).unwrap();
            let wanted = [
                ("stdout", "one\n"),
                ("stdout", "two\n"),
                ("stdout", "\n"),
                ("stdout", "three\u{fffd}\n"),
                ("stderr", "err\n"),
                ("stdout", "last"),
            ];
            let wanted = wanted.map(|(stream, log)| (stream.to_owned(), log.to_owned()));
            assert_eq!(entries(&path), wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn long_lines_are_cut_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogWriter::new(path.clone(), LogConfig::default());
        let line = vec![b'x'; 3 * MAX_TEXT_BYTES + 5];
        log.add(Stream::Stdout, &line).unwrap();
        log.add(Stream::Stdout, b"\n").unwrap();
        let entries = entries(&path);
        assert_eq!(entries.len(), 4);
        let whole: String = entries.into_iter().map(|(_, log)| log).collect();
        assert_eq!(whole.as_bytes(), [&line[..], b"\n"].concat());
    }

    #[test]
    fn lines_of_a_program_that_writes_fast_share_entries() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let config = LogConfig { max_bytes: 1 << 30, ..LogConfig::default() };
        let mut log = LogWriter::new(path.clone(), config);
        let text: String = (0..400_000).map(|number| format!("{number}\t\n")).collect();
        let at = |seconds| Moment(UNIX_EPOCH + Duration::from_secs(seconds));
        for piece in text.as_bytes().chunks(50_000) {
            log.add_at(at(7), Stream::Stdout, piece).unwrap();
        }
        log.add_at(at(8), Stream::Stdout, b"later\non\n").unwrap();
        log.add_at(at(7), Stream::Stdout, b"set\nback\n").unwrap();
        let entries = entries(&path);
        let whole: String = entries.iter().map(|(_, log)| &log[..]).collect();
        assert!(whole == text.clone() + "later\non\nset\nback\n");
        let is_single = |log: &str| log.matches('\n').count() == 1;
        let singles = entries.iter().take_while(|(_, log)| is_single(log)).count();
        let bytes: usize = entries[..singles].iter().map(|(_, log)| log.len()).sum();
        assert!((SINGLE_BYTES - 50_000..=SINGLE_BYTES).contains(&bytes), "{bytes} in single lines");
        assert!(entries.iter().all(|(_, log)| log.len() < MAX_TEXT_BYTES && log.ends_with('\n')));
        assert_eq!(entries[entries.len() - 2].1, "set\n");
        // Of each piece a few full ones, the end of a line and the beginning of another.
        let most = 6 * (text.len() - bytes).div_ceil(50_000);
        assert!(entries.len() - singles <= most, "{} entries", entries.len());
    }

    #[test]
    fn files_are_rotated_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let config = LogConfig { max_bytes: 1000, max_files: 3, ..LogConfig::default() };
        let mut log = LogWriter::new(path.clone(), config);
        for number in 0..100 {
            log.add(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        let mut files: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files, [path.clone(), rotated(&path, 1), rotated(&path, 2)]);
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1000));
        let kept: Vec<_> = entries(&path).into_iter().map(|(_, log)| log).collect();
        let first = 100 - kept.len();
        let wanted: Vec<_> = (first..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(kept, wanted);
        assert!(kept.len() > 20);
    }

    #[test]
    fn a_log_that_cannot_be_written_says_so_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/log");
        let mut log = LogWriter::new(path.clone(), LogConfig::default());
        assert!(log.add(Stream::Stdout, b"lost\n").is_err());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        log.add(Stream::Stdout, b"kept\n").unwrap();
        assert_eq!(entries(&path).len(), 1);
    }
}
