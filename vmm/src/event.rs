//! What a machine tells the process that made it, as framed messages on a pipe.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// No event is longer: the console's tail twice over.
const MAX_BYTES: u32 = 256 * 1024;

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The vCPUs were entered.
    Running,
    /// The agent in the guest rang.
    AgentReady,
    /// The machine was saved, as it was asked for, and goes on.
    Saved,
    /// The machine could not be saved, for this reason, and goes on.
    NotSaved(String),
    /// What became of an [`Order`](crate::order::Order) about an interface.
    Interface {
        /// Its number.
        interface: u8,
        /// How it is.
        outcome: InterfaceOutcome,
    },
    /// How far a machine is that is saved by order while it lives.
    Live(LiveSave),
    /// What the guest wrote to its console: as it comes when tracing, the tail of it before the
    /// end otherwise.
    Console(Vec<u8>),
    /// The machine is no more; nothing follows.
    Ended(Exit),
}

/// How far a machine is that is saved while it lives, by [`Order`](crate::order::Order)s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LiveSave {
    /// What can be written while it runs is written.
    Begun,
    /// It is saved, and goes on or ends, as it was told.
    Saved {
        /// The bytes that were written or copied to its files, before and after it stood still.
        written: u64,
    },
    /// It is not, for this reason, and goes on.
    Failed(String),
}

/// What became of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceOutcome {
    /// It has a device now.
    Plugged {
        /// The device's number among the machine's virtio-mmio devices.
        device: u8,
    },
    /// It has none any more.
    Unplugged,
    /// It is as it was.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// Reads one event; none at the end of the stream.
    ///
    /// # Errors
    /// When the stream fails, ends within an event, or holds something else.
    pub fn read_from(reader: &mut impl Read) -> Result<Option<Self>, EventError> {
        let Some(length) = read_length(reader)? else { return Ok(None) };
        if length > MAX_BYTES {
            return Err(EventError::TooLong { bytes: length });
        }
        let mut bytes = vec![0; length as usize];
        reader.read_exact(&mut bytes).map_err(EventError::Read)?;
        match postcard::take_from_bytes(&bytes) {
            Ok((event, [])) => Ok(Some(event)),
            Ok(_) => Err(EventError::LeftOver),
            Err(source) => Err(EventError::Decode(source)),
        }
    }

    /// Writes the event.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn write_to(&self, writer: &mut impl Write) -> Result<(), EventError> {
        let body = postcard::to_stdvec(self).map_err(EventError::Encode)?;
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if length > MAX_BYTES {
            return Err(EventError::TooLong { bytes: length });
        }
        let mut frame = Vec::with_capacity(body.len() + 4);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&body);
        writer.write_all(&frame).map_err(EventError::Write)
    }
}

/// Reads the length; none if the stream ends before its first byte.
fn read_length(reader: &mut impl Read) -> Result<Option<u32>, EventError> {
    let mut bytes = [0; 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(EventError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(EventError::Read(error)),
        }
    }
    Ok(Some(u32::from_le_bytes(bytes)))
}

/// Why an event could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The stream cannot be read.
    #[error("cannot read a machine's events")]
    Read(#[source] io::Error),
    /// The stream cannot be written.
    #[error("cannot write a machine's events")]
    Write(#[source] io::Error),
    /// The length is beyond the limit.
    #[error("an event of {bytes} bytes is too long")]
    TooLong {
        /// Its length.
        bytes: u32,
    },
    /// The event cannot be encoded.
    #[error("cannot encode an event")]
    Encode(#[source] postcard::Error),
    /// The event cannot be decoded.
    #[error("cannot decode an event")]
    Decode(#[source] postcard::Error),
    /// More bytes than the event has.
    #[error("an event has more bytes than it should")]
    LeftOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_as_they_were() {
        let events = [
            Event::Running,
            Event::AgentReady,
            Event::Console(b"hello".to_vec()),
            Event::Interface { interface: 1, outcome: InterfaceOutcome::Plugged { device: 6 } },
            Event::Live(LiveSave::Saved { written: 1 << 40 }),
            Event::Ended(Exit::Panic { console_tail: "Kernel panic".into() }),
        ];
        let mut stream = Vec::new();
        for event in &events {
            event.write_to(&mut stream).expect("a vector takes everything");
        }
        let mut reader = stream.as_slice();
        for event in &events {
            assert_eq!(Event::read_from(&mut reader).expect("it is whole").as_ref(), Some(event));
        }
        assert_eq!(Event::read_from(&mut reader).expect("the stream ends"), None);
    }

    #[test]
    fn bad_streams_are_errors() {
        let cases: [&[u8]; 5] = [
            &[1, 0],                   // ends within the length
            &[9, 0, 0, 0, 0],          // ends within the event
            &[0xff, 0xff, 0xff, 0xff], // longer than any event
            &[1, 0, 0, 0, 200],        // no such event
            &[2, 0, 0, 0, 0, 0],       // something left over
        ];
        for bytes in cases {
            assert!(Event::read_from(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
