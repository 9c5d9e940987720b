//! Reads what has happened on this host, and follows what happens; makes the events of containers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use images::{Event, EventLog};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::containers::Record;
use crate::error::Error;
use crate::logs;
use crate::moment::Moment;
use crate::places::Places;
use crate::voice::say;

/// The longest line that may be an event.
const MAX_LINE_BYTES: usize = 128 << 10;
/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Which events are wanted. Without any time, those that happen from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// None before this.
    pub since: Option<Moment>,
    /// None after this; the wait for more ends then.
    pub until: Option<Moment>,
}

/// Takes an event, or gives an error when it cannot be passed on.
pub type TakeEvent<'a> = dyn FnMut(&Event) -> io::Result<()> + 'a;

/// Where all events of these places are.
#[must_use]
pub fn event_log(places: &Places) -> EventLog {
    EventLog::under(&places.data)
}

/// An event of a container: its image, its name and its labels are told with each.
pub(crate) fn of_container<C>(record: &Record<C>, action: &str, more: &[(&str, &str)]) -> Event {
    let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut attributes = record.keeping.labels.clone();
    attributes.extend([own("image", &record.image), own("name", &record.name)]);
    attributes.extend(more.iter().map(|(key, value)| own(key, value)));
    Event::now("container", action, &record.id, attributes)
}

/// Gives the events that are wanted, and waits for more until the time is over.
///
/// # Errors
/// When they cannot be read, or `take` gives an error ([`Error::Output`]).
pub fn follow_events(
    places: &Places,
    query: EventQuery,
    take: &mut TakeEvent<'_>,
) -> Result<(), Error> {
    let log = event_log(places);
    let failed = |source| Error::File { action: "read", path: log.folder().to_owned(), source };
    log.create_folder().map_err(failed)?;
    // Before anything is read: what comes after that is told of.
    let watch = logs::watch(log.folder()).map_err(failed)?;
    let mut reader = Reader::open(&log, query).map_err(failed)?;
    loop {
        reader.read(take)?;
        if !await_more(&watch, query.until).map_err(failed)? {
            return reader.read(take);
        }
    }
}

/// Waits until something has changed; false when the time is over.
fn await_more(watch: &OwnedFd, until: Option<Moment>) -> io::Result<bool> {
    let left = match until.map(|until| until.0.duration_since(SystemTime::now())) {
        Some(Ok(left)) => Some(left.min(Duration::from_secs(1 << 30))),
        Some(Err(_)) => return Ok(false),
        None => None,
    };
    let left = left.map(|left| Timespec::try_from(left).expect("34 years at most"));
    let mut source = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut source, left.as_ref()))?;
    logs::forget(watch)?;
    Ok(true)
}

/// A log that is being read.
struct Reader {
    log: EventLog,
    query: EventQuery,
    /// The file that was the newest before, to which somebody may still add, and the newest.
    files: Vec<Lines>,
}

impl Reader {
    fn open(log: &EventLog, query: EventQuery) -> io::Result<Self> {
        let mut files = Vec::new();
        for path in [log.older(), log.newest()] {
            match File::open(&path) {
                Ok(file) => files.push(Lines::of(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if query == EventQuery::default() {
            for lines in &mut files {
                lines.file.seek(SeekFrom::End(0))?;
            }
        }
        Ok(Self { log: log.clone(), query, files })
    }

    /// Gives all that is there now.
    fn read(&mut self, take: &mut TakeEvent<'_>) -> Result<(), Error> {
        let mut broken = 0_u64;
        loop {
            for lines in &mut self.files {
                while let Some(line) = lines.next().map_err(Error::Output)? {
                    match serde_json::from_slice::<Event>(&line) {
                        Ok(event) if self.query.wants(&event) => {
                            take(&event).map_err(Error::Output)?;
                        }
                        Ok(_) => {}
                        Err(_) => broken += 1,
                    }
                }
            }
            if !self.turn_over().map_err(Error::Output)? {
                break;
            }
        }
        if broken > 0 {
            let lines = if broken == 1 { "line" } else { "lines" };
            say("warning", format_args!("skipped {broken} broken {lines} of the event log"));
        }
        Ok(())
    }

    /// Goes on with a newer file, if there is one.
    fn turn_over(&mut self) -> io::Result<bool> {
        let file = match File::open(self.log.newest()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let number = file.metadata()?.ino();
        if self.files.last().is_some_and(|lines| lines.number == Some(number)) {
            return Ok(false);
        }
        if self.files.len() > 1 {
            self.files.remove(0);
        }
        self.files.push(Lines::of(file));
        Ok(true)
    }
}

impl EventQuery {
    fn wants(&self, event: &Event) -> bool {
        let at = u64::try_from(event.time_ns).unwrap_or_default();
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(at);
        self.since.is_none_or(|since| since.0 <= at) && self.until.is_none_or(|until| at <= until.0)
    }
}

/// The lines of a file that others add to.
struct Lines {
    file: File,
    /// The number of its inode.
    number: Option<u64>,
    /// What has come, and where the next line in it begins.
    held: Vec<u8>,
    at: usize,
}

impl Lines {
    fn of(file: File) -> Self {
        let number = file.metadata().ok().map(|file| file.ino());
        Self { file, number, held: Vec::new(), at: 0 }
    }

    /// The next whole line that is not empty; none if there is none yet. One that is too long comes in
    /// pieces, none of which is an event.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.held[self.at..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest[..end].to_vec();
                self.at += end + 1;
                if !line.is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.held.drain(..self.at);
            self.at = 0;
            if self.held.len() > MAX_LINE_BYTES {
                return Ok(Some(std::mem::take(&mut self.held)));
            }
            let piece = (&mut self.file).take(PIECE_BYTES as u64).read_to_end(&mut self.held)?;
            if piece == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    fn places(folder: &Path) -> Places {
        Places { data: folder.to_owned() }
    }

    fn event(id: &str, second: u64) -> Event {
        let time_ns = i64::try_from(second * 1_000_000_000).unwrap();
        Event { time_ns, ..Event::of_image("tag", id, "x") }
    }

    fn at(second: u64) -> Option<Moment> {
        Some(Moment(SystemTime::UNIX_EPOCH + Duration::from_secs(second)))
    }

    /// The ids of the events of a time that is over.
    fn ids(places: &Places, since: u64, until: u64) -> Vec<String> {
        let mut ids = Vec::new();
        let query = EventQuery { since: at(since), until: at(until) };
        let mut take = |event: &Event| {
            ids.push(event.actor.id.clone());
            Ok(())
        };
        follow_events(places, query, &mut take).unwrap();
        ids
    }

    #[test]
    fn a_time_that_is_over_is_read_and_nothing_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        assert!(ids(&places, 0, 10).is_empty());
        let log = event_log(&places);
        log.add(&[event("one", 1), event("two", 2)]);
        fs::rename(log.newest(), log.older()).unwrap();
        log.add(&[event("three", 3), event("four", 4)]);
        assert_eq!(ids(&places, 0, 10), ["one", "two", "three", "four"]);
        assert_eq!(ids(&places, 2, 3), ["two", "three"]);
    }

    #[test]
    fn broken_lines_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let log = event_log(&places);
        log.add(&[event("one", 1)]);
        let mut file = OpenOptions::new().append(true).open(log.newest()).unwrap();
        file.write_all(b"\n{\"Type\":\"image\"}\n[]\n\x00\x00\xff\n{\"Type\":\"im").unwrap();
        log.add(&[event("two", 2)]);
        file.write_all(&vec![b'x'; 3 * MAX_LINE_BYTES]).unwrap();
        log.add(&[event("three", 3)]);
        file.write_all(b"{\"Type\":\"never finished").unwrap();
        assert_eq!(ids(&places, 0, 10), ["one", "two", "three"]);
    }

    #[test]
    fn what_happens_is_followed_through_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let log = event_log(&places);
        log.add(&[event("past", 1)]);
        let query = EventQuery::default();
        let mut reader = Reader::open(&log, query).unwrap();
        let mut seen = Vec::new();
        let mut read = |reader: &mut Reader| {
            let mut take = |event: &Event| {
                seen.push(event.actor.id.clone());
                Ok(())
            };
            reader.read(&mut take).unwrap();
        };
        log.add(&[event("one", 2)]);
        read(&mut reader);
        let mut late = OpenOptions::new().append(true).open(log.newest()).unwrap();
        log.add(&[event("two", 3)]);
        fs::rename(log.newest(), log.older()).unwrap();
        log.add(&[event("three", 4)]);
        read(&mut reader);
        // Somebody who had the file open before it was moved aside.
        let line = serde_json::to_string(&event("late", 5)).unwrap();
        late.write_all(format!("\n{line}\n").as_bytes()).unwrap();
        log.add(&[event("four", 6)]);
        read(&mut reader);
        assert_eq!(seen, ["one", "two", "three", "late", "four"]);
    }
}
