//! The state's file: magic, version, length, checksum, and the state itself in postcard.

use std::fs::File;
use std::io::{Read, Write};

use super::{MachineState, SnapshotError};

/// The first bytes.
const MAGIC: [u8; 8] = *b"HRSNAP\r\n";
/// Changes with every change of what is behind the header.
pub(crate) const VERSION: u32 = 4;
/// A state is about 10 KiB for each vCPU.
const MAX_BYTES: u32 = 4 << 20;
/// Magic, then version, length and checksum, each a little-endian `u32`.
const HEADER_BYTES: usize = 8 + 3 * 4;

/// Writes a state.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(file: &mut File, state: &MachineState) -> Result<(), SnapshotError> {
    file.write_all(&encode(state)?).map_err(SnapshotError::Write)
}

/// Reads a state to the file's end.
///
/// # Errors
/// When the file cannot be read, or is not whole.
pub(crate) fn read(file: &mut File) -> Result<MachineState, SnapshotError> {
    let mut bytes = Vec::new();
    let limit = HEADER_BYTES as u64 + u64::from(MAX_BYTES) + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(SnapshotError::Read)?;
    decode(&bytes)
}

pub(super) fn encode(state: &MachineState) -> Result<Vec<u8>, SnapshotError> {
    let damaged = SnapshotError::Damaged { what: "it is too large" };
    let body = postcard::to_stdvec(state)
        .map_err(|_| SnapshotError::Damaged { what: "it cannot be encoded" })?;
    seal(&body).ok_or(damaged)
}

/// Puts the header before a body; none if that is too long.
pub(super) fn seal(body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_BYTES)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    for word in [VERSION, length, crc32c::crc32c(body)] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(body);
    Some(bytes)
}

/// Reads a state from all of `bytes`.
///
/// # Errors
/// When they are not exactly one state of this version.
pub(super) fn decode(bytes: &[u8]) -> Result<MachineState, SnapshotError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(SnapshotError::NotASnapshot);
    };
    if !header.starts_with(&MAGIC) {
        return Err(SnapshotError::NotASnapshot);
    }
    let word = |index: usize| {
        let at = MAGIC.len() + index * 4;
        let bytes = header[at..at + 4].try_into().expect("a word has four bytes");
        u32::from_le_bytes(bytes)
    };
    let (found, length, checksum) = (word(0), word(1), word(2));
    if found != VERSION {
        return Err(SnapshotError::Version { found, known: VERSION });
    }
    if usize::try_from(length).ok() != Some(body.len()) {
        return Err(SnapshotError::Damaged { what: "its length is wrong" });
    }
    if crc32c::crc32c(body) != checksum {
        return Err(SnapshotError::Damaged { what: "its checksum is wrong" });
    }
    match postcard::take_from_bytes(body) {
        Ok((state, [])) => Ok(state),
        Ok(_) => Err(SnapshotError::Damaged { what: "something follows its end" }),
        Err(_) => Err(SnapshotError::Damaged { what: "it cannot be decoded" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::serial::UartState;
    use crate::snapshot::{CpuState, VmState};

    fn state() -> MachineState {
        MachineState {
            memory_mib: 512,
            memory: vec![vec![(0, 4096), (2 << 20, 8192)]],
            disks: Vec::new(),
            vm: VmState::default(),
            vcpus: vec![CpuState::default(), CpuState::default()],
            uart: UartState::default(),
            devices: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&state()).unwrap();
        assert_eq!(decode(&bytes).unwrap(), state());
    }

    #[test]
    fn every_changed_bit_and_every_length_is_noticed() {
        let bytes = encode(&state()).unwrap();
        for at in (0..bytes.len()).step_by(7).chain(0..HEADER_BYTES + 8) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(decode(&changed).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(&[bytes.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn another_version_says_so() {
        let mut bytes = encode(&state()).unwrap();
        bytes[8] = 99;
        assert!(matches!(decode(&bytes), Err(SnapshotError::Version { found: 99, .. })));
    }
}
