//! `diff` and `commit`: what a container has changed, told, and made an image of.

use std::io;
use std::time::SystemTime;

use images::{Change, CommitOptions, Committed, Digest, Limits, Reference, Store};
use protocol::{FileChange, FileItem, FileJob, Processes};
use trees::{Items, StreamError};

use super::access::Access;
use super::archive::{Archive, ArchiveError};
use super::error::FilesError;
use crate::containers::Record;
use crate::error::Error;
use crate::events::{event_log, of_container};
use crate::places::Places;

/// What is asked for with `commit`.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The image's name, if it gets one.
    pub reference: Option<Reference>,
    /// Who has made it.
    pub author: String,
    /// What its history says.
    pub message: String,
    /// Over what the container ran as.
    pub changes: Vec<Change>,
    /// What the container's processes do meanwhile.
    pub processes: Processes,
}

/// Tells how a container's files differ from its image's. To be called while this process has one
/// thread.
///
/// # Errors
/// When there is no such container, or `tell` fails.
pub fn changes(
    words: &str,
    places: &Places,
    mut tell: impl FnMut(&FileChange) -> io::Result<()>,
) -> Result<(), Error> {
    let mut access = Access::to(words, places)?;
    let mut items = Items::new(access.job(&FileJob::Changes)?);
    let mut tell_all = || -> Result<(), Error> {
        loop {
            match items.next_item() {
                Ok(FileItem::Change(change)) => tell(&change).map_err(FilesError::Told)?,
                Ok(FileItem::Done) => return Ok(()),
                Ok(_) => {
                    let error = StreamError::Unexpected;
                    return Err(FilesError::of_stream(access.name(), error).into());
                }
                Err(error) => return Err(FilesError::of_stream(access.name(), error).into()),
            }
        }
    };
    let told = tell_all();
    drop(items);
    access.leave();
    told
}

/// Makes an image of what a container has written over its own; the new image's id. To be called while
/// this process has one thread.
///
/// # Errors
/// When there is no such container, or its files make no layer. There is no image then.
pub fn commit(words: &str, commit: &Commit, places: &Places) -> Result<Digest, Error> {
    let mut access = Access::to(words, places)?;
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    let base = store.find(&access.found.record.image_id)?;
    let lock = base.lock()?;
    let options = options(&access.found.record, &base.config.env, commit);
    // No layer can hold more than the disk that it comes from, with a header for each of its files.
    let written = access.found.record.scratch.bytes();
    let limits = Limits { max_unpacked_bytes: written.saturating_mul(2), ..Limits::DEFAULT };
    let stream = access.job(&FileJob::Layer { processes: commit.processes })?;
    let mut layer = Archive::new(Items::new(stream), Vec::new(), written);
    let committed = store.commit(&base, &mut layer, &options, &limits);
    let name = access.name().to_owned();
    let failure = layer.take_failure().map(|failure| match failure {
        ArchiveError::Stream(error) => FilesError::of_stream(&name, error),
        ArchiveError::TooMuch => FilesError::TooMuch { name },
    });
    drop(layer);
    drop(lock);
    let record = access.found.record.clone();
    access.leave();
    match (committed, failure) {
        (Ok(id), _) => {
            note(&record, commit, &id, places);
            Ok(id)
        }
        (Err(_), Some(failure)) => Err(failure.into()),
        (Err(error), None) => Err(error.into()),
    }
}

/// Tells whoever follows events.
fn note(record: &Record, commit: &Commit, id: &Digest, places: &Places) {
    let name = commit.reference.as_ref().map(Reference::familiar).unwrap_or_default();
    let id = id.to_string();
    let more = [("comment", &commit.message[..]), ("imageID", &id), ("imageRef", &name)];
    event_log(places).add(&[of_container(record, "commit", &more)]);
}

fn options(record: &Record, image_env: &[String], commit: &Commit) -> CommitOptions {
    CommitOptions {
        reference: commit.reference.clone(),
        author: commit.author.clone(),
        message: commit.message.clone(),
        created_by: record.command.join(" "),
        committed: committed(record, image_env),
        changes: commit.changes.clone(),
        created: SystemTime::now(),
    }
}

/// What the container ran as, but for what it was given because of its name or its terminal.
fn committed(record: &Record, image_env: &[String]) -> Committed {
    let process = &record.container.process;
    let hostname = format!("HOSTNAME={}", record.container.hostname);
    let own =
        |line: &String| *line == hostname || (process.terminal.is_some() && line == "TERM=xterm");
    let env = process.env.iter().map(|line| String::from_utf8_lossy(line).into_owned());
    Committed {
        entrypoint: record.entrypoint.clone(),
        cmd: record.command.clone(),
        env: env.filter(|line| image_env.contains(line) || !own(line)).collect(),
        user: record.user(),
        working_dir: process.working_dir.clone(),
        labels: record.keeping.labels.clone(),
        stop_signal: record.keeping.stop_signal.map(|signal| signal.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::sample_record;

    #[test]
    fn what_belongs_to_one_container_is_not_committed() {
        let mut record = sample_record("web");
        let lines = ["PATH=/bin", "HOSTNAME=web", "TERM=xterm", "A=b"];
        record.container.process.env = lines.map(|line| line.as_bytes().to_vec()).to_vec();
        assert_eq!(committed(&record, &[]).env, ["PATH=/bin", "TERM=xterm", "A=b"]);
        record.container.process.terminal = Some(crate::UNSEEN_SIZE);
        assert_eq!(committed(&record, &[]).env, ["PATH=/bin", "A=b"]);
        let image = ["TERM=xterm".to_owned()];
        assert_eq!(committed(&record, &image).env, ["PATH=/bin", "TERM=xterm", "A=b"]);
        let committed = committed(&record, &[]);
        assert_eq!((committed.cmd, committed.entrypoint), (vec!["echo".to_owned()], vec![]));
    }
}
