//! Carries bytes between a container's process and its streams, one thread per direction.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, OFlags, fcntl_setfl, fstat},
    io::Errno,
    net::{Shutdown, shutdown},
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};

use crate::{
    exchange::{Direction, Exchange, Place},
    step::{Doing, StepError},
};

/// How much a pipe of a process's output holds, in bytes: the more, the less often process and agent
/// wait for each other.
pub(crate) const OUTPUT_BYTES: usize = 256 << 10;
/// How much is read at once where the kernel does not carry it.
const BUFFER_BYTES: usize = 64 << 10;

/// The agent's side of a process: its ends of pipes or of a terminal, each with its stream.
#[derive(Default)]
pub(crate) struct Pumps(pub(crate) Vec<Pump>);

/// One of them, for one direction.
pub(crate) struct Pump {
    /// The agent's end of a pipe or of a terminal.
    pub(crate) end: OwnedFd,
    /// What the host has connected.
    pub(crate) stream: OwnedFd,
    /// What it carries.
    pub(crate) place: Place,
}

impl Pumps {
    /// Whether there is nothing to carry.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts a thread for each direction, which takes another stream from `exchange` where the one that
    /// it has was another machine's. The descriptor returned hangs up when everything the process wrote has
    /// gone out and the streams have been shut down.
    pub(crate) fn start(self, exchange: &Arc<Exchange>) -> Result<OwnedFd, StepError> {
        const STACK_BYTES: usize = 64 << 10;
        let (drained, running) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let running = Arc::new(running);
        for pump in self.0 {
            let (running, exchange) = (running.clone(), exchange.clone());
            exchange.enter(pump.place);
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || pump.run(running, &exchange))
                .doing("start a thread for a stream")?;
        }
        Ok(drained)
    }
}

impl Pump {
    /// Carries until either side ends. `running` is let go of as soon as all output is out.
    fn run(self, running: Arc<OwnedFd>, exchange: &Exchange) {
        let Self { end, stream, place } = self;
        let (mut end, mut stream) = (File::from(end), File::from(stream));
        let mut epoch = 0;
        let next = || exchange.next(place, &mut epoch);
        if place.direction == Direction::ToProcess {
            drop(running);
            // However it ends, both are let go of: that ends the process's input, and tells the
            // host, if this was a pipe's stream, that nobody reads any more.
            carry_in(&mut stream, &mut end, next);
            exchange.leave(place);
            return;
        }
        // A failure is an end like any other: the terminal was hung up (EIO), or the host has
        // closed the stream. The pipe goes first, so that a process still writing learns of it.
        if is_pipe(&end) {
            splice_out(&end, &mut stream, next);
        } else {
            carry_out(&mut end, &mut stream, next);
        }
        exchange.leave(place);
        drop(end);
        let _ = shutdown(stream.as_fd(), Shutdown::Write);
        drop(running);
        // A socket closed too early may take with it what the host has not read yet.
        let _ = io::copy(&mut stream, &mut io::sink());
    }
}

/// Carries what comes from a stream to its end. There is no buffer beyond one read: who reads slowly makes
/// the writer wait.
fn carry_in(stream: &mut File, end: &mut File, mut next: impl FnMut() -> Option<OwnedFd>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if end.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => match next() {
                Some(other) => *stream = other.into(),
                None => return,
            },
        }
    }
}

/// Carries what comes from a terminal to its end. What a stream that has broken did not take goes to the
/// next one.
fn carry_out(end: &mut File, stream: &mut File, mut next: impl FnMut() -> Option<OwnedFd>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut rest = match end.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => match next() {
                    Some(other) => *stream = other.into(),
                    None => return,
                },
            }
        }
    }
}

/// Lets the kernel carry a pipe's bytes to its end. What a stream that has broken did not take is still in
/// the pipe.
fn splice_out(end: &File, stream: &mut File, mut next: impl FnMut() -> Option<OwnedFd>) {
    while splice_all(end, stream).is_err() {
        match next() {
            Some(other) => *stream = other.into(),
            None => return,
        }
    }
}

fn is_pipe(file: &impl AsFd) -> bool {
    fstat(file).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

/// Lets the kernel carry a pipe's bytes until its end, with a copy less. It keeps the pipe locked
/// meanwhile, and a process that waits for that lock cannot be killed: so the stream must not block, and
/// where the host takes no more, that is waited for here.
fn splice_all(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    fcntl_setfl(to, OFlags::NONBLOCK)?;
    let ended = loop {
        match splice(from, None, to, None, OUTPUT_BYTES, SpliceFlags::empty()) {
            Ok(0) => break Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(to, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    fcntl_setfl(to, OFlags::empty())?;
    Ok(ended?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pipe_is_carried_whole_and_its_writer_is_not_kept_from_its_end() {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (from, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let written = sent.clone();
        let writer = thread::spawn(move || File::from(into).write_all(&written));
        let carrier = thread::spawn(move || splice_all(&from, &near).map(|()| near));
        let mut received = vec![0; sent.len()];
        far.read_exact(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        let near = carrier.join().unwrap().unwrap();
        assert!(received == sent);
        // It blocks again, as whoever reads its other direction expects.
        let reader = thread::spawn(move || (&near).read(&mut [0]));
        drop(far);
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    }

    #[test]
    fn what_a_broken_stream_did_not_take_goes_to_the_next() {
        let (near, far) = UnixStream::pair().unwrap();
        let (other, mut there) = UnixStream::pair().unwrap();
        let (from, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut into = File::from(into);
        let carrier = thread::spawn(move || {
            let (mut stream, mut left) = (File::from(OwnedFd::from(near)), Some(other.into()));
            splice_out(&from.into(), &mut stream, || left.take());
        });
        drop(far);
        into.write_all(b"nobody took this").unwrap();
        let mut taken = [0; 16];
        there.read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"nobody took this");
        drop(into);
        carrier.join().unwrap();
        assert_eq!(there.read(&mut taken).unwrap(), 0);
    }

    #[test]
    fn input_goes_on_from_the_next_stream_and_ends_with_it() {
        let (mut far, other) = UnixStream::pair().unwrap();
        // Reads of it fail, as those of a stream that was reset do.
        let broken = File::options().write(true).open("/dev/null").unwrap();
        let (into, mut end) = UnixStream::pair().unwrap();
        far.write_all(b"input").unwrap();
        drop(far);
        let mut left = Some(other.into());
        let (mut stream, mut process) = (broken, File::from(OwnedFd::from(into)));
        carry_in(&mut stream, &mut process, || left.take());
        drop(process);
        let mut came = String::new();
        end.read_to_string(&mut came).unwrap();
        assert_eq!(came, "input");
    }

    #[test]
    fn a_host_that_takes_nothing_does_not_keep_the_pipe_locked() {
        let (from, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        fcntl_setfl(&into, OFlags::NONBLOCK).unwrap();
        let carrier = thread::spawn(move || splice_all(&from, &near));
        // Until stream and pipe are full; this write would hang if the pipe were kept locked.
        let mut full = 0;
        while full < 1000 {
            match rustix::io::write(&into, &[0; 4096]) {
                Ok(_) => full = 0,
                Err(_) => full += 1,
            }
            thread::yield_now();
        }
        drop(far);
        assert!(carrier.join().unwrap().is_err());
    }
}
