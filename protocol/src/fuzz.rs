//! The body of the fuzz target for frames: whatever arrives is an error, or survives a round trip.

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{FileItem, FromAgent, MAX_FRAME_BYTES, StreamHello, ToAgent, read, write};

/// Reads `bytes` as frames, and as one frame's payload, of every kind of message.
///
/// # Panics
/// When a message that was read is another one after it was written.
pub fn frames(bytes: &[u8]) {
    let length = u32::try_from(bytes.len().min(MAX_FRAME_BYTES)).expect("it is capped");
    let payload = [&length.to_le_bytes(), bytes].concat();
    for wire in [bytes, &payload] {
        check::<ToAgent>(wire);
        check::<FromAgent>(wire);
        check::<StreamHello>(wire);
        check::<FileItem>(wire);
    }
}

/// Compares messages, not bytes: postcard also reads numbers that are longer than they need be.
fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(mut wire: &[u8]) {
    while let Ok(message) = read::<M>(&mut wire) {
        let mut written = Vec::new();
        write(&mut written, &message).expect("what was read can be written");
        let mut rest = written.as_slice();
        assert_eq!(read::<M>(&mut rest).expect("what was written can be read"), message);
        assert!(rest.is_empty(), "a frame has something behind it");
    }
}

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn frames() {
        corpus::each("frames", super::frames);
    }
}
