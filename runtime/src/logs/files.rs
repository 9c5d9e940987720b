//! The files of a log that is written: one grows, and older ones make room for it.
//!
//! Most of what a log costs are pages of files that are new. So the oldest file, which is due to go, is
//! written over in the place of a new one while a program writes fast. It has no name that is read until it
//! holds nothing old any more: when it is full, or [`show`](Files::show) is called.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::rotated;
use crate::keeping::LogConfig;

/// The largest file that is written out of sight: what a crash may lose.
const MAX_HIDDEN_BYTES: u64 = 32 << 20;

/// And how long it may be so.
const MAX_HIDDEN: Duration = Duration::from_millis(500);

/// How fast lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Everybody is to see them at once.
    Slow,
    /// They may be out of sight for a while.
    Fast,
}

/// The files of a log.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    config: LogConfig,
    /// The one that is written, unless that is the hidden one.
    file: Option<File>,
    /// What is written over, and since when. Its lock is ours.
    hidden: Option<(File, Instant)>,
    /// What was written to either.
    bytes: u64,
}

impl Files {
    /// Goes on with the log at `path`.
    pub(super) fn new(path: PathBuf, config: LogConfig) -> Self {
        // Of a supervisor that was killed: old lines behind new ones.
        let _ = remove(&hidden(&path));
        Self { path, config, file: None, hidden: None, bytes: 0 }
    }

    /// Writes whole lines, each into a file that has room for it.
    pub(super) fn write(&mut self, mut lines: &[u8], pace: Pace) -> io::Result<()> {
        while !lines.is_empty() {
            self.open()?;
            let room = usize::try_from(self.config.max_bytes.saturating_sub(self.bytes));
            let room = room.unwrap_or(usize::MAX);
            let fits = if lines.len() <= room {
                lines.len()
            } else {
                let end = lines[..room].iter().rposition(|byte| *byte == b'\n');
                end.map_or(0, |end| end + 1)
            };
            if fits == 0 && self.bytes > 0 {
                self.rotate(pace)?;
                continue;
            }
            let count = if fits == 0 { lines.len() } else { fits };
            self.write_whole(&lines[..count])?;
            lines = &lines[count..];
        }
        match &self.hidden {
            Some((_, since)) if since.elapsed() > MAX_HIDDEN => self.show(),
            _ => Ok(()),
        }
    }

    /// Whether something was written that nobody sees yet.
    pub(super) fn are_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// Shows what was written out of sight.
    pub(super) fn show(&mut self) -> io::Result<()> {
        let Some((file, _)) = self.hidden.take() else { return Ok(()) };
        file.set_len(self.bytes)?;
        // Whoever reads it may lock it once it has its name.
        drop(file);
        self.make_room()?;
        fs::rename(hidden(&self.path), &self.path)
    }

    /// A piece of a line would spoil the next one.
    fn write_whole(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Some((file, _)) = &self.hidden {
            // What is behind is cut off before anybody sees it.
            file.write_all_at(lines, self.bytes)?;
        } else if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(lines)
        {
            file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() && self.hidden.is_none() {
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(())
    }

    fn rotate(&mut self, pace: Pace) -> io::Result<()> {
        self.show()?;
        (self.file, self.bytes) = (None, 0);
        if pace == Pace::Fast {
            self.hidden = self.take_oldest()?;
        }
        if self.hidden.is_none() { self.make_room() } else { Ok(()) }
    }

    /// The oldest file, out of sight, if there are as many as there may be and nobody reads it.
    fn take_oldest(&self) -> io::Result<Option<(File, Instant)>> {
        if self.config.max_files == 1 || self.config.max_bytes > MAX_HIDDEN_BYTES {
            return Ok(None);
        }
        let hidden = hidden(&self.path);
        match fs::rename(rotated(&self.path, self.config.max_files - 1), &hidden) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            moved => moved?,
        }
        let file = OpenOptions::new().write(true).open(&hidden)?;
        match file.try_lock() {
            Ok(()) => Ok(Some((file, Instant::now()))),
            // Whoever reads it keeps what they have.
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {
                remove(&hidden)?;
                Ok(None)
            }
        }
    }

    /// Moves all files on by one, so that there may be a new one.
    fn make_room(&mut self) -> io::Result<()> {
        let oldest = self.config.max_files - 1;
        // A file that another one takes the place of would have ext4 write that one to the disk at once.
        remove(&rotated(&self.path, oldest))?;
        for age in (0..oldest).rev() {
            match fs::rename(rotated(&self.path, age), rotated(&self.path, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be shown is lost, as after a crash.
        let _ = self.show();
    }
}

/// The name of the file that is written over.
fn hidden(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const CONFIG: LogConfig =
        LogConfig { driver: crate::keeping::LogDriver::JsonFile, max_bytes: 100, max_files: 3 };

    /// A log, and its files in a folder of their own.
    fn log() -> (tempfile::TempDir, PathBuf, Files) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let files = Files::new(path.clone(), CONFIG);
        (folder, path, files)
    }

    /// All that can be read, the oldest first.
    fn seen(path: &Path) -> String {
        let read = |age| fs::read_to_string(rotated(path, age)).unwrap_or_default();
        (0..CONFIG.max_files).rev().map(read).collect()
    }

    fn line(number: usize) -> String {
        format!("line {number:04}\n")
    }

    fn write(files: &mut Files, numbers: std::ops::Range<usize>, pace: Pace) {
        numbers.for_each(|number| files.write(line(number).as_bytes(), pace).unwrap());
    }

    /// However slow this is.
    fn write_out_of_sight(files: &mut Files, numbers: std::ops::Range<usize>) {
        for number in numbers {
            if let Some((_, since)) = &mut files.hidden {
                *since = Instant::now() + MAX_HIDDEN;
            }
            files.write(line(number).as_bytes(), Pace::Fast).unwrap();
            assert!(files.are_hidden());
        }
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let names = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_latest_lines_are_kept_whatever_the_pace() {
        for slow_for in [0, 1, 9, 10, 11, 35] {
            for fast_for in [0, 1, 9, 10, 11, 35] {
                let (folder, path, mut files) = log();
                for round in 0..4 {
                    let begin = round * (slow_for + fast_for);
                    write(&mut files, begin..begin + slow_for, Pace::Slow);
                    write(&mut files, begin + slow_for..begin + slow_for + fast_for, Pace::Fast);
                    files.show().unwrap();
                    let count = begin + slow_for + fast_for;
                    let all: String = (0..count).map(line).collect();
                    let seen = seen(&path);
                    assert!(all.ends_with(&seen), "{seen}");
                    let kept = seen.len() / line(0).len();
                    assert!(kept >= count.min(21), "{kept} of {count}");
                }
                let most = ["log", "log.1", "log.2"];
                assert!(names(&folder).iter().all(|name| most.contains(&&name[..])));
            }
        }
    }

    #[test]
    fn the_oldest_file_is_written_over_while_nobody_reads_it() {
        let (folder, path, mut files) = log();
        write(&mut files, 0..30, Pace::Fast);
        assert!(!files.are_hidden(), "there are fewer files than there may be");
        let oldest = fs::metadata(rotated(&path, 2)).unwrap().ino();
        write_out_of_sight(&mut files, 30..31);
        assert_eq!(names(&folder), ["log", "log.1", "log.next"]);
        assert_eq!(seen(&path), (10..30).map(line).collect::<String>());
        files.show().unwrap();
        assert_eq!(seen(&path), (10..31).map(line).collect::<String>());
        assert_eq!(fs::metadata(&path).unwrap().ino(), oldest);
        // It is as any other now.
        write(&mut files, 31..32, Pace::Slow);
        assert_eq!(seen(&path), (10..32).map(line).collect::<String>());

        let reader = File::open(rotated(&path, 2)).unwrap();
        reader.lock_shared().unwrap();
        write(&mut files, 32..45, Pace::Fast);
        assert_eq!(io::read_to_string(reader).unwrap(), (10..20).map(line).collect::<String>());
        assert_eq!(seen(&path), (20..45).map(line).collect::<String>());
    }

    #[test]
    fn nothing_is_out_of_sight_for_long() {
        let (_folder, path, mut files) = log();
        write(&mut files, 0..30, Pace::Fast);
        write_out_of_sight(&mut files, 30..31);
        if let Some((_, since)) = &mut files.hidden {
            *since -= 2 * MAX_HIDDEN;
        }
        write(&mut files, 31..32, Pace::Fast);
        assert_eq!(seen(&path), (10..32).map(line).collect::<String>());
    }

    #[test]
    fn what_is_out_of_sight_is_shown_at_the_end_and_after_a_crash_it_is_gone() {
        let (folder, path, mut files) = log();
        write(&mut files, 0..30, Pace::Fast);
        write_out_of_sight(&mut files, 30..35);
        fs::copy(hidden(&path), folder.path().join("copy")).unwrap();
        drop(files);
        assert_eq!(seen(&path), (10..35).map(line).collect::<String>());
        fs::rename(folder.path().join("copy"), hidden(&path)).unwrap();
        let mut files = Files::new(path.clone(), CONFIG);
        write(&mut files, 35..36, Pace::Slow);
        assert_eq!(seen(&path), (10..36).map(line).collect::<String>());
        assert_eq!(names(&folder), ["log", "log.1", "log.2"]);
    }
}
