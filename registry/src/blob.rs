//! Reads a blob from a registry as one stream, however often the connection breaks.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;

use images::Descriptor;
use indicatif::ProgressBar;
use ureq::http::Method;

use crate::error::Error;
use crate::http::{Setback, failure};
use crate::repository::Repository;
use crate::url::Url;

/// Breaks of one blob in all: a registry that sends a byte at a time is not waited for.
const BREAKS_LIMIT: u32 = 100;

/// What the threads that read an image's layers tell each other.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Set when one has failed: the others need not go on.
    pub(crate) stopped: AtomicBool,
    /// Why the first one failed. Written by the thread that reads, read by the one that unpacks:
    /// what the unpacking makes of a broken stream says less.
    pub(crate) failure: Mutex<Option<Error>>,
}

impl Course {
    /// Remembers the first failure and stops the others.
    pub(crate) fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        self.failure.lock().expect("no thread panics with it").get_or_insert(error);
    }
}

/// The bytes of a blob, from the first to the last. Whether they are the right ones, their digest
/// tells whoever reads them.
pub(crate) struct BlobReader<'a> {
    repository: &'a Repository<'a>,
    descriptor: &'a Descriptor,
    course: &'a Course,
    bar: ProgressBar,
    what: String,
    open: Option<Open>,
    position: u64,
    /// Failures in a row, and in all.
    failed: u32,
    breaks: u32,
}

struct Open {
    body: ureq::BodyReader<'static>,
    url: Url,
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(
        repository: &'a Repository<'a>,
        descriptor: &'a Descriptor,
        course: &'a Course,
        bar: ProgressBar,
    ) -> BlobReader<'a> {
        let what = format!("layer {}", descriptor.digest);
        let (failed, breaks) = (0, 0);
        BlobReader {
            repository,
            descriptor,
            course,
            bar,
            what,
            open: None,
            position: 0,
            failed,
            breaks,
        }
    }

    /// Asks for what is still missing.
    fn open(&self) -> Result<Open, Error> {
        let path = format!("blobs/{}", self.descriptor.digest);
        let mut call = self.repository.call(Method::GET, &path, &self.what);
        call.from = self.position;
        let answer = self.repository.send(&call)?.success(&self.what)?;
        let resumed = answer.status == 206;
        if resumed {
            let range = answer.header("content-range").unwrap_or_default();
            if !starts_at(range, self.position) {
                return Err(answer.bad(&self.what, "another range than was asked for"));
            }
        }
        let left = self.descriptor.size - if resumed { self.position } else { 0 };
        if let Some(length) = answer.body.content_length()
            && length != left
        {
            let problem = format!("{length} bytes where the manifest promises {left}");
            return Err(answer.bad(&self.what, &problem));
        }
        let url = answer.url;
        let body = answer.body.into_with_config().limit(u64::MAX).reader();
        let mut open = Open { body, url };
        if !resumed && self.position > 0 {
            // A registry that knows no ranges begins again.
            self.skip(&mut open)?;
        }
        Ok(open)
    }

    fn skip(&self, open: &mut Open) -> Result<(), Error> {
        let skipped = io::copy(&mut (&mut open.body).take(self.position), &mut io::sink());
        match skipped.map_err(|error| failure(&open.url, error.into()))? {
            count if count == self.position => Ok(()),
            _ => Err(failure(&open.url, io::Error::from(io::ErrorKind::UnexpectedEof).into())),
        }
    }

    /// One read; at the end of the blob, whether it is the end of the stream as well.
    fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.open.is_none() {
            self.open = Some(self.open()?);
        }
        let Some(open) = &mut self.open else { return Ok(0) };
        let left = self.descriptor.size - self.position;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let broken = |error: io::Error| failure(&open.url, error.into());
        if wanted == 0 {
            return match open.body.read(&mut [0]).map_err(broken)? {
                0 => Ok(0),
                _ => Err(self.repository.bad(&self.what, "more bytes than its manifest promises")),
            };
        }
        match open.body.read(&mut buffer[..wanted]) {
            Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(broken(error)),
        }
    }

    fn read_patiently(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.try_read(buffer) {
                Ok(count) => {
                    self.position += count as u64;
                    self.failed = 0;
                    self.bar.set_position(self.position);
                    return Ok(count);
                }
                Err(error @ Error::Reach { .. }) => {
                    self.open = None;
                    self.failed += 1;
                    self.breaks += 1;
                    let patience = self.repository.client.patience;
                    let wait = patience.wait(Setback::BrokenOff, self.failed);
                    match wait.filter(|_| self.breaks < BREAKS_LIMIT) {
                        Some(wait) => sleep(wait),
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.course.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer has failed"));
        }
        self.read_patiently(buffer).map_err(|error| {
            self.course.fail(error);
            io::Error::other("the registry failed")
        })
    }
}

/// Whether `bytes 5-9/10` begins at `position`.
pub(crate) fn starts_at(range: &str, position: u64) -> bool {
    let start = range.trim().strip_prefix("bytes ").and_then(|rest| rest.split('-').next());
    start.and_then(|start| start.trim().parse().ok()) == Some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert!(starts_at("bytes 5-9/10", 5));
        assert!(starts_at("bytes 5-9/*", 5));
        for range in ["", "bytes 4-9/10", "bytes */10", "5-9/10", "bytes -5"] {
            assert!(!starts_at(range, 5), "{range}");
        }
    }
}
