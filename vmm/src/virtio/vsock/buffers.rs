//! The guest's buffers of one descriptor chain, seen as one run of bytes.

use virtio_queue::DescriptorChain;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, VolatileSlice,
};

use super::packet::{HEADER_BYTES, Header};

/// Which of a chain's descriptors are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Those that the guest has filled for the device to read.
    FromGuest,
    /// Those that the device writes.
    ToGuest,
}

/// The buffers of a chain, each of them inside the guest's memory. Reused for the next chain.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    parts: Vec<(GuestAddress, usize)>,
    len: usize,
}

impl Buffers {
    /// Takes the buffers of `chain`. A chain that points outside of the memory, or that has no room
    /// for a header, gives none and false.
    pub(super) fn load(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
        direction: Direction,
    ) -> bool {
        self.parts.clear();
        self.len = 0;
        for descriptor in chain {
            if descriptor.is_write_only() != (direction == Direction::ToGuest) {
                continue;
            }
            let len = descriptor.len() as usize;
            if !GuestMemoryBackend::check_range(memory, descriptor.addr(), len) {
                self.parts.clear();
                self.len = 0;
                return false;
            }
            self.parts.push((descriptor.addr(), len));
            // A chain holds less than 4 GiB: `DescriptorChain` ends one that would be longer.
            self.len += len;
        }
        self.len >= HEADER_BYTES
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.parts.len()
    }

    /// The bytes after the header.
    pub(super) fn payload_len(&self) -> usize {
        self.len.saturating_sub(HEADER_BYTES)
    }

    /// The header at the beginning.
    pub(super) fn read_header(&self, memory: &GuestMemoryMmap) -> Result<Header, GuestMemoryError> {
        let mut bytes = [0; HEADER_BYTES];
        let mut done = 0;
        for (address, len) in self.parts(0, HEADER_BYTES) {
            memory.read_slice(&mut bytes[done..done + len], address)?;
            done += len;
        }
        Ok(Header::decode(&bytes))
    }

    /// Puts `header` at the beginning.
    pub(super) fn write_header(
        &self,
        memory: &GuestMemoryMmap,
        header: &Header,
    ) -> Result<(), GuestMemoryError> {
        let bytes = header.encode();
        let mut done = 0;
        for (address, len) in self.parts(0, HEADER_BYTES) {
            memory.write_slice(&bytes[done..done + len], address)?;
            done += len;
        }
        Ok(())
    }

    /// The `count` bytes of data from `skip` on, or as many of them as there are.
    pub(super) fn payload<'a>(
        &'a self,
        memory: &'a GuestMemoryMmap,
        skip: usize,
        count: usize,
    ) -> impl Iterator<Item = Result<VolatileSlice<'a>, GuestMemoryError>> + 'a {
        self.parts(HEADER_BYTES.saturating_add(skip), count)
            .flat_map(move |(address, len)| GuestMemoryBackend::get_slices(memory, address, len))
    }

    fn parts(
        &self,
        mut skip: usize,
        mut count: usize,
    ) -> impl Iterator<Item = (GuestAddress, usize)> + '_ {
        self.parts.iter().filter_map(move |&(address, len)| {
            let begin = skip.min(len);
            skip -= begin;
            let taken = (len - begin).min(count);
            count -= taken;
            // No overflow: the whole part lies inside the memory.
            (taken > 0).then(|| (GuestAddress(address.0 + begin as u64), taken))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_to_the_bytes_asked_for() {
        let buffers = Buffers {
            parts: vec![(GuestAddress(100), 10), (GuestAddress(200), 0), (GuestAddress(300), 50)],
            len: 60,
        };
        let parts = |skip, count| {
            buffers.parts(skip, count).map(|(address, len)| (address.0, len)).collect::<Vec<_>>()
        };
        assert_eq!(parts(0, 60), [(100, 10), (300, 50)]);
        assert_eq!(parts(0, 5), [(100, 5)]);
        assert_eq!(parts(4, 7), [(104, 6), (300, 1)]);
        assert_eq!(parts(10, 50), [(300, 50)]);
        assert_eq!(parts(44, 1000), [(334, 16)]);
        assert_eq!(parts(60, 1), []);
        assert_eq!(parts(usize::MAX, usize::MAX), []);
    }
}
