//! Moves bytes between this process's streams and a container's. Reads and writes block, which is
//! all the back-pressure there is, and works for files, pipes and terminals alike (epoll refuses
//! files).

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{Builder, JoinHandle};

use crate::detach_keys::{Typed, Watch};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use vmm::haste::Haste;

/// How much is moved at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How much the kernel is to move at once, in bytes: all that a pipe may hold.
const SPLICE_BYTES: usize = 1 << 20;
/// What a thread needs that only moves bytes.
const STACK_BYTES: usize = 64 << 10;

/// Standard input on its way into a container.
pub(super) struct Input {
    /// The container's end.
    pub(super) stream: OwnedFd,
    /// Looks for the keys that leave the container alone.
    pub(super) watch: Option<Watch>,
    /// Whether its end is the end of the program's input.
    pub(super) owns: bool,
}

impl Input {
    /// Moves until the input or the container ends; calls `left` when the keys come. The thread is
    /// left to itself: nothing can wake it from a terminal that is silent, and the process's end takes
    /// it along.
    pub(super) fn start(self, left: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        thread("stdin", move || {
            let mut stream = UnixStream::from(self.stream);
            match self.watch {
                Some(watch) => {
                    if matches!(pump_keys(&mut from, &mut stream, watch), Ok(Left::ByKeys)) {
                        left();
                    }
                }
                None => {
                    // Whether the input failed or the program closed its end, this is the end of it.
                    let _ = pump(&mut from, &mut stream, || {});
                    if self.owns {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                }
            }
        })
        .map(drop)
    }
}

/// Why nothing more is typed.
enum Left {
    ByKeys,
    ByEnd,
}

/// Moves what is typed until the keys come or the input ends: a terminal has no end of input to tell.
fn pump_keys(
    from: &mut impl AsFd,
    to: &mut (impl Write + AsFd),
    mut watch: Watch,
) -> io::Result<Left> {
    let mut piece = [0; 4096];
    loop {
        match rustix::io::read(from.as_fd(), &mut piece) {
            Ok(0) => return Ok(Left::ByEnd),
            Ok(count) => match watch.look(&piece[..count]) {
                Typed::Input(bytes) => write_all(to, &bytes)?,
                Typed::Detach(bytes) => {
                    write_all(to, &bytes)?;
                    return Ok(Left::ByKeys);
                }
            },
            Err(error) => recover(error.into(), from, PollFlags::IN)?,
        }
    }
}

/// A container's output on its way to standard output or error.
pub(super) struct Output {
    /// The container's end.
    pub(super) stream: OwnedFd,
    /// Ours.
    pub(super) to: File,
}

impl Output {
    /// Moves until the container ends, or nobody reads any more: then `closed` is called. `first` is
    /// called before the first byte.
    pub(super) fn start(
        self,
        first: impl FnOnce() + Send + 'static,
        closed: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        thread("output", move || {
            let Self { stream, mut to } = self;
            if pump(&mut File::from(stream), &mut to, first).is_err() {
                closed();
            }
        })
    }
}

/// Standard output, without a buffer.
pub(super) fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Standard error, without a buffer.
pub(super) fn stderr() -> io::Result<File> {
    Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?))
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body)
}

/// Moves bytes until `from` ends; `first` is called before the first of them goes on. What comes
/// after these is moved by the kernel from pipe to pipe.
fn pump(
    from: &mut impl AsFd,
    to: &mut (impl Write + AsFd),
    first: impl FnOnce(),
) -> io::Result<()> {
    // Not filled with zeros: what is not read into takes no memory.
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut first = Some(first);
    loop {
        piece.clear();
        match rustix::io::read(from.as_fd(), spare_capacity(&mut piece)) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                let is_first = first.take().map(|first| first()).is_some();
                write_all(to, &piece)?;
                if is_first && is_pipe(to) && splice_all(from, to)? == Spliced::All {
                    return Ok(());
                }
            }
            Err(error) => recover(error.into(), from, PollFlags::IN)?,
        }
    }
}

fn is_pipe(file: &impl AsFd) -> bool {
    fstat(file).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

/// What the kernel has moved.
#[derive(PartialEq, Eq)]
enum Spliced {
    /// Everything, to the end.
    All,
    /// Nothing: it does not do this with what comes.
    Nothing,
}

/// Lets the kernel move bytes until `from` ends, without a copy where it finds a way.
///
/// They go through a pipe of our own. The kernel keeps a pipe locked while what it moves its bytes into is
/// locked, which whoever reads `to` may keep for as long as they like, by a splice of their own into
/// something that takes no more. Whoever writes to `from` would wait for that, even one that never blocks.
fn splice_all(from: &impl AsFd, to: &impl AsFd) -> io::Result<Spliced> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
    // As it is, where this user has too many of them.
    let _ = fcntl_setpipe_size(&writing, SPLICE_BYTES);
    let mut haste = Haste::default();
    loop {
        match splice(from, None, &writing, None, SPLICE_BYTES, SpliceFlags::empty()) {
            Ok(0) => return Ok(Spliced::All),
            Ok(count) => {
                haste.moved(count);
                splice_on(&reading, to, count)?;
            }
            Err(Errno::INVAL) => return Ok(Spliced::Nothing),
            Err(error) => recover(error.into(), from, PollFlags::IN)?,
        }
    }
}

/// Lets the kernel move as many bytes, which are there, from pipe to pipe.
fn splice_on(from: &impl AsFd, to: &impl AsFd, mut count: usize) -> io::Result<()> {
    while count > 0 {
        match splice(from, None, to, None, count, SpliceFlags::empty()) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(moved) => count -= moved,
            Err(error) => recover(error.into(), to, PollFlags::OUT)?,
        }
    }
    Ok(())
}

fn write_all(to: &mut (impl Write + AsFd), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => recover(error, to, PollFlags::OUT)?,
        }
    }
    Ok(())
}

/// Someone who shares our terminal or pipe may have made it non-blocking: wait as if it were not.
fn recover(error: io::Error, stream: &impl AsFd, until: PollFlags) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => {
            let wait = || poll(&mut [PollFd::new(stream, until)], None);
            rustix::io::retry_on_intr(wait).map(drop).map_err(io::Error::from)
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
    use std::io::Read;

    #[test]
    fn bytes_pass_whole_through_pipes_and_into_files_that_are_added_to() {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        let folder = tempfile::tempdir().unwrap();
        for (name, flags) in [("plain", flags - OFlags::APPEND), ("appended", flags)] {
            let file = open(folder.path().join(name), flags, Mode::RWXU).unwrap();
            let (far, near) = std::io::pipe().unwrap();
            let (out, into) = std::io::pipe().unwrap();
            let written = sent.clone();
            let writer =
                std::thread::spawn(move || File::from(OwnedFd::from(near)).write_all(&written));
            let mut into = File::from(OwnedFd::from(into));
            fcntl_setfl(&into, OFlags::NONBLOCK).unwrap();
            let mover = std::thread::spawn(move || pump(&mut { far }, &mut into, || {}));
            pump(&mut { out }, &mut File::from(file), || {}).unwrap();
            writer.join().unwrap().unwrap();
            mover.join().unwrap().unwrap();
            assert!(std::fs::read(folder.path().join(name)).unwrap() == sent, "{name}");
        }
    }

    /// Waits until a thread of ours waits in the kernel.
    fn await_rest(thread: i32) {
        let path = format!("/proc/self/task/{thread}/syscall");
        while std::fs::read_to_string(&path).unwrap().starts_with("running") {}
    }

    /// Whoever reads our output may let the kernel move it into what takes no more: then the output's
    /// pipe is locked. Which of two pipes the kernel locks first is chance, so there are several.
    #[test]
    fn who_writes_to_us_does_not_wait_for_who_reads_from_us() {
        for _ in 0..8 {
            let (from, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let (output, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let (mut theirs, mut output) = (File::from(theirs), File::from(output));
            fcntl_setfl(&theirs, OFlags::NONBLOCK).unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            let told_by = tell.clone();
            std::thread::spawn(move || {
                told_by.send(rustix::thread::gettid()).unwrap();
                pump(&mut { from }, &mut File::from(to), || {})
            });
            let pump = told.recv().unwrap().as_raw_nonzero().get();
            theirs.write_all(b"first").unwrap();
            output.read_exact(&mut [0; 5]).unwrap();
            theirs.write_all(b"second").unwrap();
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&output, PollFlags::IN)], None))
                .unwrap();

            let (full, far) = UnixStream::pair().unwrap();
            full.set_nonblocking(true).unwrap();
            while (&full).write(&[0; 4096]).is_ok() {}
            full.set_nonblocking(false).unwrap();
            std::thread::spawn(move || {
                tell.send(rustix::thread::gettid()).unwrap();
                splice(&output, None, &full, None, 4096, SpliceFlags::empty())
            });
            await_rest(told.recv().unwrap().as_raw_nonzero().get());
            theirs.write_all(b"third").unwrap();
            await_rest(pump);
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || done.send(theirs.write_all(b"fourth")).unwrap());
            let written = is_done.recv_timeout(std::time::Duration::from_secs(10));
            written.expect("nobody waits").unwrap();
            drop(far);
        }
    }

    #[test]
    fn bytes_pass_whole_through_streams_that_do_not_block() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let (mut into, mut out) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        into.set_nonblocking(true).unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || near.write_all(&sent));
        let mut far = far;
        let mover = std::thread::spawn(move || pump(&mut far, &mut into, || {}));
        let mut received = Vec::new();
        out.read_to_end(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        mover.join().unwrap().unwrap();
        assert!(received == expected);
    }
}
