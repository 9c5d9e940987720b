//! `cp`: files out of a container and into one, by Docker's rules.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use protocol::{FileEntry, FileFailure, FileItem, FileJob, Links, Owner, SourceName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use trees::{Items, Owners, Receiver, Rules, Sender, Source, StreamError, Target, name_of};

use super::access::Access;
use super::archive::{Archive, ArchiveError, say_left_out, stream_entry};
use super::error::FilesError;
use crate::containers::Record;
use crate::error::Error;
use crate::events::{event_log, of_container};
use crate::places::Places;

/// A path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The container's name or id.
    pub container: String,
    /// From its root, whether it says so or not.
    pub path: PathBuf,
}

/// Files on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// At this path.
    Path(PathBuf),
    /// In an archive on standard input or output.
    Archive,
}

/// What is copied out of a container, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOut {
    /// The source.
    pub from: Inside,
    /// The destination.
    pub to: Outside,
    /// Whether a link at the end of the source's path is followed.
    pub links: Links,
    /// Who owns the copy: whoever makes it, or who owned the source.
    pub owners: Owners,
}

/// What is copied into a container, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyIn {
    /// The source.
    pub from: Outside,
    /// The destination.
    pub to: Inside,
    /// Whether a link at the end of the source's path is followed.
    pub links: Links,
    /// Who owns the copy: who owned the source, or the container's user.
    pub owner: Owner,
}

/// Copies out of a container; how much, in bytes as a tar counts them. To be called while this process
/// has one thread.
///
/// # Errors
/// When the source is not there, or the destination cannot take it. Some of it may have been copied.
pub fn copy_out(copy: &CopyOut, places: &Places) -> Result<u64, Error> {
    let mut access = Access::to(&copy.from.container, places)?;
    let path = copy.from.path.as_os_str().as_bytes().to_vec();
    let stream = access.job(&FileJob::Read { path, links: copy.links })?;
    let copied = receive(copy, stream, &access);
    let record = access.found.record.clone();
    access.leave();
    note(&record, "archive-path", &copy.from, places);
    Ok(copied?)
}

/// Copies into a container; how much, in bytes as a tar counts them. To be called while this process has
/// one thread.
///
/// # Errors
/// When the source is not there, or the destination cannot take it. Some of it may have been copied.
pub fn copy_in(copy: &CopyIn, places: &Places) -> Result<u64, Error> {
    let source = match &copy.from {
        Outside::Archive => None,
        Outside::Path(path) => Some(
            Source::find(path, copy.links)
                .map_err(|source| FilesError::Source { path: path.clone(), source })?,
        ),
    };
    let mut access = Access::to(&copy.to.container, places)?;
    let job = FileJob::Write {
        path: copy.to.path.as_os_str().as_bytes().to_vec(),
        source: source.as_ref().map(|source| source.name.clone()),
        owner: copy.owner,
    };
    let stream = access.job(&job)?;
    let copied = send(source.as_ref(), &stream, access.name());
    drop(stream);
    let record = access.found.record.clone();
    access.end()?;
    note(&record, "extract-to-dir", &copy.to, places);
    Ok(copied?)
}

/// Tells whoever follows events, in Docker's words.
fn note(record: &Record, action: &str, inside: &Inside, places: &Places) {
    let path = inside.path.display().to_string();
    event_log(places).add(&[of_container(record, action, &[("path", &path)])]);
}

fn receive(copy: &CopyOut, stream: UnixStream, access: &Access) -> Result<u64, FilesError> {
    let (name, most) = (access.name(), access.most_bytes());
    let of_stream = |error| FilesError::of_stream(name, error);
    let mut items = Items::new(stream);
    let FileItem::Source { is_folder } = items.next_item().map_err(of_stream)? else {
        return Err(of_stream(StreamError::Unexpected));
    };
    let source = SourceName { name: name_of(&copy.from.path), is_folder };
    match &copy.to {
        Outside::Archive => archive(items, source.name, (name, most)),
        Outside::Path(path) => {
            let target =
                Target::find(path, Some(&source)).map_err(|source| output(path, source))?;
            let rules = Rules::STRANGER.with(copy.owners);
            let receiver = Receiver::new(target.folder, target.name, rules);
            put_down(receiver, items, (&copy.from, path), (name, most))
        }
    }
}

/// Docker's words for a folder that is not there.
fn output(path: &Path, source: FileFailure) -> FilesError {
    match source {
        FileFailure::NotFound { path } => FilesError::NoOutput { path: trees::shown(&path) },
        source => FilesError::Destination { path: path.to_owned(), source },
    }
}

fn put_down(
    mut receiver: Receiver,
    mut items: Items<UnixStream>,
    (from, path): (&Inside, &Path),
    (name, most): (&str, u64),
) -> Result<u64, FilesError> {
    let of_stream = |error| FilesError::of_stream(name, error);
    let here = |source| FilesError::Destination { path: path.to_owned(), source };
    let (mut copied, mut allowance) = (0, most);
    loop {
        let entry = match items.next_item().map_err(of_stream)? {
            FileItem::Entry(entry) => entry,
            FileItem::LeftOut { path, reason } => {
                say_left_out(&path, &reason);
                continue;
            }
            FileItem::Done => break,
            _ => return Err(of_stream(StreamError::Unexpected)),
        };
        let left = allowance.checked_sub(items.left());
        allowance = left.ok_or_else(|| FilesError::TooMuch { name: name.to_owned() })?;
        copied += tar_bytes(&entry);
        let taken = receiver.take(&entry, &mut items).map_err(|error| match error {
            StreamError::Failed(source) => here(source),
            error => of_stream(error),
        })?;
        match taken {
            None => {}
            Some(_) if entry.path.is_empty() => {
                let path = from.path.display().to_string();
                return Err(FilesError::Device { path, name: name.to_owned() });
            }
            Some(reason) => say_left_out(&entry.path, reason),
        }
    }
    receiver.finish().map_err(here)?;
    Ok(copied)
}

fn archive(
    items: Items<UnixStream>,
    source: Vec<u8>,
    (name, most): (&str, u64),
) -> Result<u64, FilesError> {
    let mut archive = Archive::new(items, source, most);
    let mut output = io::stdout().lock();
    let copied = io::copy(&mut archive, &mut output).and_then(|count| {
        output.flush()?;
        Ok(count)
    });
    copied.map_err(|error| match archive.take_failure() {
        Some(ArchiveError::Stream(error)) => FilesError::of_stream(name, error),
        Some(ArchiveError::TooMuch) => FilesError::TooMuch { name: name.to_owned() },
        None => FilesError::Output(error),
    })
}

fn send(source: Option<&Source>, stream: &UnixStream, name: &str) -> Result<u64, FilesError> {
    let of_stream = |error| FilesError::of_stream(name, error);
    let mut items = Items::new(stream);
    let FileItem::Ready = items.next_item().map_err(of_stream)? else {
        return Err(of_stream(StreamError::Unexpected));
    };
    let mut sender = Sender::new(Unanswered(stream));
    let sent = match source {
        Some(source) => sender.tree(source).map_err(|error| match error {
            StreamError::Failed(failure) => {
                FilesError::Source { path: source.path().to_owned(), source: failure }
            }
            error => of_stream(error),
        }),
        None => send_archive(&mut sender, name),
    };
    let sent =
        sent.and_then(|()| sender.finish(&FileItem::Done).map_err(|error| of_stream(error.into())));
    for (path, reason) in sender.left_out() {
        say_left_out(path, reason);
    }
    match sent {
        // The other side's own words say more than that it does not listen any more.
        Err(FilesError::Lost { .. }) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    match items.next_item().map_err(of_stream)? {
        FileItem::Done => Ok(sender.sent()),
        _ => Err(of_stream(StreamError::Unexpected)),
    }
}

fn send_archive(sender: &mut Sender<Unanswered<'_>>, name: &str) -> Result<(), FilesError> {
    let mut reader = images::tar::read(io::stdin().lock()).map_err(FilesError::Input)?;
    while let Some(entry) = reader.next_entry().map_err(FilesError::Archive)? {
        let Some(entry) = stream_entry(entry) else { continue };
        let sent = sender.entry(entry, &mut reader);
        sent.map_err(|error| FilesError::of_stream(name, error))?;
    }
    Ok(())
}

fn tar_bytes(entry: &FileEntry) -> u64 {
    let stored = entry.stored_bytes().unwrap_or_default();
    512 + stored.checked_next_multiple_of(512).unwrap_or(stored)
}

/// A stream that is written to until the other side says something, which is that it cannot go on.
struct Unanswered<'a>(&'a UnixStream);

impl Write for Unanswered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        if poll(&mut polled, Some(&at_once))? > 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
