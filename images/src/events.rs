//! Writes down what happens on this host, an event a line, for whoever looks or follows. It is here so
//! that the client of registries can write too; runtime reads.
//!
//! Whoever does something appends to one file, in one write, and nobody waits for a disk. A line that a
//! crash has cut ends where the next one begins: each begins with a new line too.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How large the file may become before it is moved aside, where it takes the place of an older one.
const MAX_BYTES: u64 = 4 << 20;
/// The longest line; what would be longer loses its attributes but image and name.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it has happened to: `container`, `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What has happened: `start`, `die`, `pull`.
    #[serde(rename = "Action")]
    pub action: String,
    /// To which one.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_ns: i64,
}

/// What an event has happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What else is known of it and of the event.
    #[serde(rename = "Attributes", default)]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that happens now.
    #[must_use]
    pub fn now(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Self {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            time_ns: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// Something that happens to an image, under this name.
    #[must_use]
    pub fn of_image(action: &str, id: &str, name: &str) -> Self {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        Self::now("image", action, id, attributes)
    }

    /// One line, with a new line before it and behind it.
    fn to_line(&self) -> Vec<u8> {
        let encode =
            |event: &Self| serde_json::to_string(event).expect("words and numbers are JSON");
        let mut text = encode(self);
        if text.len() > MAX_LINE_BYTES {
            let mut short = self.clone();
            let attributes = &mut short.actor.attributes;
            attributes.retain(|key, value| {
                ["image", "name"].contains(&key.as_str()) && value.len() < MAX_LINE_BYTES / 4
            });
            text = encode(&short);
        }
        format!("\n{text}\n").into_bytes()
    }
}

/// Where events are written down.
#[derive(Clone, Debug)]
pub struct EventLog {
    folder: PathBuf,
}

impl EventLog {
    /// That of everything under this folder.
    #[must_use]
    pub fn under(data: &Path) -> Self {
        Self { folder: data.join("events") }
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that is written to.
    #[must_use]
    pub fn newest(&self) -> PathBuf {
        self.folder.join("events.log")
    }

    /// The one that was before it.
    #[must_use]
    pub fn older(&self) -> PathBuf {
        self.folder.join("events.log.1")
    }

    /// Makes its folder, this user's alone, unless it is there.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn create_folder(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// Adds events. Nothing fails for want of a note: where it cannot be written, nobody will read it.
    pub fn add(&self, events: &[Event]) {
        if !events.is_empty() {
            let _ = self.try_add(events);
        }
    }

    fn try_add(&self, events: &[Event]) -> io::Result<()> {
        let lines: Vec<u8> = events.iter().flat_map(Event::to_line).collect();
        let mut file = match self.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_folder()?;
                self.open()?
            }
            file => file?,
        };
        file.write_all(&lines)?;
        // What is appended leaves the position at the end.
        if file.stream_position()? > MAX_BYTES {
            self.rotate(&file)?;
        }
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(self.newest())
    }

    /// Moves the file aside, unless somebody else has or does.
    fn rotate(&self, file: &File) -> io::Result<()> {
        if file.try_lock().is_err() {
            return Ok(());
        }
        let (ours, newest) = (file.metadata()?, fs::metadata(self.newest())?);
        if ours.ino() == newest.ino() {
            fs::rename(self.newest(), self.older())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(path: &Path) -> Vec<Event> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn event(id: &str) -> Event {
        Event::of_image("pull", id, "busybox")
    }

    #[test]
    fn events_are_lines_of_dockers_shape() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::under(folder.path());
        log.add(&[]);
        assert!(!log.folder().exists());
        let event = event("busybox:latest");
        log.add(&[event.clone(), event.clone()]);
        assert_eq!(events(&log.newest()), [event.clone(), event.clone()]);
        let text = fs::read_to_string(log.newest()).unwrap();
        let wanted = r#"{"Type":"image","Action":"pull","Actor":{"ID":"busybox:latest","Attributes":{"name":"busybox"}},"timeNano":"#;
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn a_cut_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::under(folder.path());
        log.add(&[event("one")]);
        let mut file = OpenOptions::new().append(true).open(log.newest()).unwrap();
        file.write_all(b"\n{\"Type\":\"ima").unwrap();
        log.add(&[event("two")]);
        let text = fs::read_to_string(log.newest()).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<Event>(line).is_ok());
        assert_eq!(whole.count(), 2);
    }

    #[test]
    fn the_log_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::under(folder.path());
        let name = "n".repeat(30 << 10);
        for number in 0..600 {
            log.add(&[Event::of_image("tag", &number.to_string(), &name)]);
        }
        let sizes: Vec<u64> = [log.newest(), log.older()]
            .iter()
            .map(|path| fs::metadata(path).map_or(0, |file| file.len()))
            .collect();
        assert!(sizes.iter().all(|size| *size <= MAX_BYTES + (40 << 10)), "{sizes:?}");
        assert_eq!(fs::read_dir(log.folder()).unwrap().count(), 2);
        let kept = [events(&log.older()), events(&log.newest())].concat();
        let numbers: Vec<usize> =
            kept.iter().map(|event| event.actor.id.parse().unwrap()).collect();
        let wanted: Vec<_> = (600 - numbers.len()..600).collect();
        assert_eq!(numbers, wanted);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::under(folder.path());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for number in 0..250 {
                        log.add(&[event(&format!("{writer}-{number}"))]);
                    }
                });
            }
        });
        assert_eq!(events(&log.newest()).len(), 1000);
    }

    #[test]
    fn an_event_too_long_loses_its_labels() {
        let label = ("label".to_owned(), "x".repeat(MAX_LINE_BYTES));
        let name = ("name".to_owned(), "web".to_owned());
        let event = Event::now("container", "start", "i", BTreeMap::from([label, name]));
        assert!(event.to_line().len() < 200);
        assert!(String::from_utf8(event.to_line()).unwrap().contains("web"));
    }

    #[test]
    fn where_nothing_can_be_written_nothing_fails() {
        let log = EventLog::under(Path::new("/proc/no/such/place"));
        log.add(&[event("lost")]);
    }
}
