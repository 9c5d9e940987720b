//! A piece of data in the guest's memory, in however many parts; taken from the front.

use std::collections::VecDeque;

use libc::iovec;
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, Permissions, VolatileSlice,
};

/// The most pieces of one system call, `UIO_MAXIOV`.
pub(crate) const MAX_PARTS: usize = 1024;
/// Zeros to copy from.
static ZEROS: [u8; 4096] = [0; 4096];

/// Pieces of the guest's memory, all of them there; the guest may write to them at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer<'m> {
    slices: VecDeque<VolatileSlice<'m>>,
    bytes: u64,
}

impl<'m> Buffer<'m> {
    /// Adds `bytes` at `address`.
    ///
    /// # Errors
    /// When not all of it is memory.
    pub(crate) fn push(
        &mut self,
        memory: &'m GuestMemoryMmap,
        address: GuestAddress,
        bytes: u32,
    ) -> Result<(), GuestMemoryError> {
        let permissions = Permissions::ReadWrite;
        for slice in GuestMemory::get_slices(memory, address, bytes as usize, permissions)? {
            self.push_slice(slice?);
        }
        Ok(())
    }

    /// The bytes left.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// The pieces left.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &VolatileSlice<'m>> {
        self.slices.iter()
    }

    /// Takes the first `bytes`, or what is left, off the front.
    pub(crate) fn take(&mut self, bytes: u64) -> Self {
        let mut taken = Self::default();
        while taken.bytes < bytes {
            let Some(slice) = self.slices.pop_front() else { break };
            self.bytes -= slice.len() as u64;
            let wanted = usize::try_from(bytes - taken.bytes).unwrap_or(usize::MAX);
            match slice.split_at(wanted) {
                Ok((front, rest)) if !rest.is_empty() => {
                    taken.push_slice(front);
                    self.bytes += rest.len() as u64;
                    self.slices.push_front(rest);
                }
                _ => taken.push_slice(slice),
            }
        }
        taken
    }

    /// Writes zeros all over it.
    pub(crate) fn fill_zero(&self) {
        for slice in &self.slices {
            let mut done = 0;
            while done < slice.len() {
                match slice.offset(done) {
                    Ok(rest) => rest.copy_from(&ZEROS),
                    Err(_) => break,
                }
                done += ZEROS.len();
            }
        }
    }

    /// Writes the front of `bytes` to it and gives how many there was room for.
    pub(crate) fn fill_from(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for slice in &self.slices {
            let rest = &bytes[done..];
            done += slice.write(rest, 0).unwrap_or(0);
            if done == bytes.len() {
                break;
            }
        }
        done
    }

    /// A copy of its first bytes, at most `limit`.
    pub(crate) fn to_vec(&self, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; limit.min(usize::try_from(self.bytes).unwrap_or(usize::MAX))];
        let mut done = 0;
        for slice in &self.slices {
            if done == bytes.len() {
                break;
            }
            done += slice.read(&mut bytes[done..], 0).unwrap_or(0);
        }
        bytes.truncate(done);
        bytes
    }

    fn push_slice(&mut self, slice: VolatileSlice<'m>) {
        if !slice.is_empty() {
            self.bytes += slice.len() as u64;
            self.slices.push_back(slice);
        }
    }
}

/// The pieces as a system call takes them, at most [`MAX_PARTS`].
pub(crate) fn io_vector<'a>(
    slices: impl Iterator<Item = &'a VolatileSlice<'a>>,
) -> impl Iterator<Item = iovec> {
    slices.take(MAX_PARTS).map(|slice| iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_across_borders() {
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).expect("memory is there");
        memory.write_slice(b"abcdefgh", GuestAddress(0x1000)).expect("it is memory");
        let mut buffer = Buffer::default();
        buffer.push(&memory, GuestAddress(0x1000), 3).expect("it is memory");
        buffer.push(&memory, GuestAddress(0x1003), 0).expect("nothing is always there");
        buffer.push(&memory, GuestAddress(0x1003), 5).expect("it is memory");
        assert_eq!(buffer.len(), 8);
        assert_eq!(buffer.take(4).to_vec(100), b"abcd");
        assert_eq!(buffer.len(), 4);
        assert_eq!(buffer.to_vec(2), b"ef");
        assert_eq!(buffer.take(100).to_vec(100), b"efgh");
        assert_eq!(buffer.take(1).len(), 0);
    }

    #[test]
    fn what_is_not_memory_is_refused() {
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).expect("memory is there");
        let mut buffer = Buffer::default();
        assert!(buffer.push(&memory, GuestAddress(0x3fff), 2).is_err());
        assert!(buffer.push(&memory, GuestAddress(u64::MAX), 2).is_err());
    }

    #[test]
    fn zeros_go_everywhere() {
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).expect("memory is there");
        memory.write_slice(&[7; 0x4000], GuestAddress(0)).expect("it is memory");
        let mut buffer = Buffer::default();
        buffer.push(&memory, GuestAddress(1), 0x1801).expect("it is memory");
        buffer.fill_zero();
        let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).expect("it is memory");
        assert_eq!([byte(0), byte(1), byte(0x1801), byte(0x1802)], [7, 0, 0, 7]);
    }
}
