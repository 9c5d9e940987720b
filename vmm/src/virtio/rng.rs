//! The entropy device (virtio 1.2, 5.4): fills the guest's buffers with random bytes of the host.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{Bytes, GuestMemoryMmap};

use super::device::{Activated, DeviceError, DeviceKind, Server, VirtioDevice};
use super::queue::{Chain, serve_all};

/// What a request gets at most, however large its buffers are.
const MAX_BYTES: usize = 64 * 1024;
/// How much is drawn at once.
const CHUNK_BYTES: usize = 256;

/// A source of entropy.
#[derive(Debug)]
pub(crate) struct Rng;

impl VirtioDevice for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn server(&self) -> Server {
        Server::Notifier
    }

    fn serve(&mut self, activated: &mut Activated, queue: usize) -> Result<(), DeviceError> {
        serve_all(activated, queue, fill)
    }
}

/// Fills the writable buffers of a chain and gives the number of bytes.
pub(super) fn fill(memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<u32, DeviceError> {
    let mut written = 0;
    for descriptor in chain.writable() {
        let mut address = descriptor.addr();
        let mut left = (descriptor.len() as usize).min(MAX_BYTES - written);
        while left > 0 {
            let mut chunk = [0; CHUNK_BYTES];
            let chunk = &mut chunk[..left.min(CHUNK_BYTES)];
            draw(chunk)?;
            memory
                .write_slice(chunk, address)
                .map_err(|_| DeviceError::Protocol { what: "a buffer is not in memory" })?;
            address.0 += chunk.len() as u64;
            left -= chunk.len();
            written += chunk.len();
        }
    }
    Ok(u32::try_from(written).expect("a request gets at most 64 KiB"))
}

/// Fills `bytes`; the host gives 256 and fewer in one piece.
fn draw(bytes: &mut [u8]) -> Result<(), DeviceError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(source) => {
                let source = source.into();
                return Err(DeviceError::Host { what: "draw random bytes", source });
            }
        }
    }
    Ok(())
}
