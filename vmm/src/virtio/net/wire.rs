//! What a network device's frames come from and go to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use vm_memory::VolatileSlice;

use super::stream::Stream;
use super::tap::Tap;
use crate::config::NetBackend;
use crate::virtio::buffer::Buffer;
use crate::virtio::device::DeviceError;
use crate::virtio::poll::Interest;

/// The way out of a device, and into it.
#[derive(Debug)]
pub(super) enum Wire {
    /// It leads nowhere.
    Cut,
    /// An interface of the host.
    Tap(Tap),
    /// A program of the host.
    Stream(Box<Stream>),
}

impl Wire {
    /// The wire that the configuration names.
    pub(super) fn new(backend: NetBackend) -> Self {
        match backend {
            NetBackend::Nothing => Self::Cut,
            NetBackend::Tap(file) => Self::Tap(Tap::new(file)),
            NetBackend::Stream(socket) => Self::Stream(Box::new(Stream::new(socket))),
        }
    }

    /// Gets it ready for a driver to which frames may be handed as these `TUN_F_…` say.
    ///
    /// # Errors
    /// When the host refuses.
    pub(super) fn prepare(&mut self, offloads: libc::c_uint) -> Result<(), DeviceError> {
        match self {
            Self::Cut => Ok(()),
            Self::Tap(tap) => {
                tap.set_offloads(offloads).map_err(DeviceError::host("set a tap's offloads"))
            }
            Self::Stream(stream) => {
                stream.prepare().map_err(DeviceError::host("prepare a network's socket"))
            }
        }
    }

    /// Where frames come from.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Cut => None,
            Self::Tap(tap) => Some(tap.as_fd()),
            Self::Stream(stream) => Some(stream.as_fd()),
        }
    }

    /// What is to be waited for there.
    pub(super) fn interest(&self) -> Interest {
        match self {
            Self::Stream(stream) if stream.is_blocked() => Interest::Both,
            _ => Interest::Incoming,
        }
    }

    /// Whether the last frame is out, so that there is room for another.
    pub(super) fn is_clear(&mut self) -> bool {
        match self {
            Self::Cut | Self::Tap(_) => true,
            Self::Stream(stream) => stream.is_clear(),
        }
    }

    /// How much room the next frame needs, of which `longest` is the most; none when there is none.
    pub(super) fn next_bytes(&mut self, longest: u64) -> Option<u64> {
        match self {
            Self::Cut => None,
            Self::Tap(_) => Some(longest),
            Self::Stream(stream) => stream.next_bytes(),
        }
    }

    /// Reads a frame with its header into `parts` and gives its length, which is greater than theirs if
    /// it was cut off; none when there is none.
    ///
    /// # Errors
    /// When the host fails.
    pub(super) fn read<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a VolatileSlice<'a>>,
    ) -> io::Result<Option<usize>> {
        match self {
            Self::Cut => Ok(None),
            Self::Tap(tap) => tap.read(parts),
            Self::Stream(stream) => Ok(stream.read(parts)),
        }
    }

    /// Sends a frame with its header, or loses it as any wire may.
    pub(super) fn write(&mut self, frame: Buffer<'_>) {
        match self {
            Self::Cut => {}
            Self::Tap(tap) => {
                let _lost_if_refused = tap.write(frame.slices());
            }
            Self::Stream(stream) => stream.write(frame),
        }
    }
}
