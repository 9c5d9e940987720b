//! Frames a message: a little-endian u32 length, then that many bytes of postcard.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The largest message in bytes. A container's environment and arguments fit many times over
/// (Linux's own limit for both together is 6 MiB at the default stack size, and 128 KiB each).
pub const MAX_FRAME_BYTES: usize = 8 << 20;

/// Why a message could not be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other side closed the connection between two messages.
    #[error("the connection was closed")]
    Closed,
    /// Reading or writing failed, or the connection ended inside a message.
    #[error("the connection failed")]
    Connection(#[source] io::Error),
    /// A message is larger than [`MAX_FRAME_BYTES`].
    #[error("a message of {bytes} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLong {
        /// The length that was announced or produced.
        bytes: usize,
    },
    /// The bytes are no message of this version, or something is left over behind one.
    #[error("a message of {bytes} bytes makes no sense")]
    Malformed {
        /// The length of the frame's payload.
        bytes: usize,
    },
}

/// Writes `message` as one frame, in one `write_all`.
pub fn write<M: Serialize>(to: &mut impl Write, message: &M) -> Result<(), FrameError> {
    let mut frame =
        postcard::to_extend(message, vec![0; 4]).map_err(|_| FrameError::Malformed { bytes: 0 })?;
    let bytes = frame.len() - 4;
    let length =
        u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME_BYTES).map(u32::to_le_bytes);
    frame[..4].copy_from_slice(&length.ok_or(FrameError::TooLong { bytes })?);
    to.write_all(&frame).map_err(FrameError::Connection)
}

/// Reads one frame and the message in it.
///
/// Memory grows with the bytes that arrive, not with the length that was announced.
pub fn read<M: DeserializeOwned>(from: &mut impl Read) -> Result<M, FrameError> {
    let mut header = [0; 4];
    read_header(from, &mut header)?;
    let bytes = u32::from_le_bytes(header) as usize;
    if bytes > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes });
    }
    let mut payload = Vec::new();
    from.take(bytes as u64).read_to_end(&mut payload).map_err(FrameError::Connection)?;
    if payload.len() < bytes {
        return Err(FrameError::Connection(io::ErrorKind::UnexpectedEof.into()));
    }
    match postcard::take_from_bytes(&payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed { bytes }),
    }
}

/// Fills `header`; an end before its first byte is [`FrameError::Closed`], a later one a failure.
fn read_header(from: &mut impl Read, header: &mut [u8; 4]) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < header.len() {
        match from.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Connection(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Connection(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExitStatus, FromAgent, ProcessId, ToAgent};

    const SIGNAL: ToAgent = ToAgent::Signal { id: ProcessId(7), number: 15 };

    #[test]
    fn messages_come_back_as_they_went() {
        let mut wire = Vec::new();
        write(&mut wire, &SIGNAL).unwrap();
        write(&mut wire, &ToAgent::PowerOff).unwrap();
        let mut from = wire.as_slice();
        assert_eq!(read::<ToAgent>(&mut from).unwrap(), SIGNAL);
        assert_eq!(read::<ToAgent>(&mut from).unwrap(), ToAgent::PowerOff);
        assert!(matches!(read::<ToAgent>(&mut from), Err(FrameError::Closed)));
    }

    #[test]
    fn hostile_frames_are_errors() {
        let mut good = Vec::new();
        let id = ProcessId::OWN;
        let exited = FromAgent::Exited { id, status: ExitStatus::Code(7), out_of_memory: None };
        write(&mut good, &exited).unwrap();
        let cut = &good[..good.len() - 1];
        let mut longer = good.clone();
        longer.push(0);
        longer[0] += 1;
        let cases: [(&str, &[u8]); 5] = [
            ("cut inside the header", &good[..3]),
            ("cut inside the payload", cut),
            ("four GiB announced", &[0xff; 4]),
            ("bytes left over", &longer),
            ("unknown variant", &[1, 0, 0, 0, 0x7f]),
        ];
        for (name, bytes) in cases {
            assert!(read::<FromAgent>(&mut &*bytes).is_err(), "{name}");
        }
    }

    #[test]
    fn an_oversized_message_is_not_sent() {
        let mut wire = Vec::new();
        let message = FromAgent::Trouble { message: "x".repeat(MAX_FRAME_BYTES + 1) };
        assert!(matches!(write(&mut wire, &message), Err(FrameError::TooLong { .. })));
        assert!(wire.is_empty());
    }
}
