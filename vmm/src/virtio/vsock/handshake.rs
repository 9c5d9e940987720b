//! The line by which a program of the host names the guest's port: `CONNECT <port>\n`.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, recv};

/// `CONNECT 4294967295\n` and some forgiveness.
const MAX_LINE_BYTES: usize = 32;

/// A line that is being read.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    line: Vec<u8>,
}

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The line is not complete, and the socket has no more for now.
    Partial,
    /// The port of the guest to connect to.
    Port(u32),
    /// This is not our protocol, or the program is gone.
    Refused,
}

impl Handshake {
    /// Reads on. Nothing after the line is taken from `stream`.
    pub(super) fn read(&mut self, stream: &UnixStream) -> Progress {
        loop {
            let mut bytes = [0; MAX_LINE_BYTES];
            let room = MAX_LINE_BYTES - self.line.len();
            let peeked = match receive(stream, &mut bytes[..room], RecvFlags::PEEK) {
                Ok(0) => return Progress::Refused,
                Ok(count) => &bytes[..count],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Progress::Partial;
                }
                Err(_) => return Progress::Refused,
            };
            let newline = peeked.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(peeked.len(), |index| index + 1);
            self.line.extend_from_slice(&peeked[..taken]);
            // What was just seen is there to be read.
            match receive(stream, &mut bytes[..taken], RecvFlags::empty()) {
                Ok(count) if count == taken => {}
                _ => return Progress::Refused,
            }
            if newline.is_some() {
                return parse(&self.line).map_or(Progress::Refused, Progress::Port);
            }
            if self.line.len() == MAX_LINE_BYTES {
                return Progress::Refused;
            }
        }
    }
}

/// The port in a whole line.
fn parse(line: &[u8]) -> Option<u32> {
    let port = line.strip_prefix(b"CONNECT ")?.strip_suffix(b"\n")?;
    if port.is_empty() || !port.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(port).ok()?.parse().ok()
}

fn receive(stream: &UnixStream, bytes: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match recv(stream, &mut *bytes, flags | RecvFlags::DONTWAIT) {
            Ok((count, _)) => return Ok(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_line_names_a_port() {
        for (line, port) in [
            (&b"CONNECT 1024\n"[..], Some(1024)),
            (b"CONNECT 0\n", Some(0)),
            (b"CONNECT 4294967295\n", Some(u32::MAX)),
            (b"CONNECT 4294967296\n", None),
            (b"CONNECT +1\n", None),
            (b"CONNECT -1\n", None),
            (b"CONNECT \n", None),
            (b"CONNECT 1024", None),
            (b"CONNECT 1024\r\n", None),
            (b"connect 1024\n", None),
            (b"CONNECT  1024\n", None),
            (b"\n", None),
            (b"", None),
        ] {
            assert_eq!(parse(line), port, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_line_may_come_in_pieces_and_what_follows_stays() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut handshake = Handshake::default();
        assert_eq!(handshake.read(&server), Progress::Partial);
        for byte in b"CONNECT 10" {
            client.write_all(&[*byte]).unwrap();
            assert_eq!(handshake.read(&server), Progress::Partial);
        }
        client.write_all(b"24\nhello").unwrap();
        assert_eq!(handshake.read(&server), Progress::Port(1024));
        let mut rest = [0; 5];
        (&server).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"hello");
    }

    #[test]
    fn a_line_without_end_and_a_lost_client_are_refused() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&[b'1'; 4096]).unwrap();
        assert_eq!(Handshake::default().read(&server), Progress::Refused);

        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"CONNECT 1").unwrap();
        drop(client);
        assert_eq!(Handshake::default().read(&server), Progress::Refused);
    }
}
