//! A tap of the host: an interface whose other end is a descriptor of ours. Each read and write moves one
//! frame with a `struct virtio_net_hdr_mrg_rxbuf` ahead of it.
#![allow(unsafe_code, reason = "the guest's memory is shared, so no slice of it may exist")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_uint, iovec};
use vm_memory::VolatileSlice;

use super::HEADER_BYTES;
use crate::virtio::buffer::io_vector;

/// Where taps come from.
const DEVICE: &str = "/dev/net/tun";

/// An open tap, or a socket of datagrams in its place.
#[derive(Debug)]
pub(super) struct Tap(File);

/// Opens the tap `name`, made with it if there is none; one made so is gone once it is closed.
/// (kernel: Documentation/networking/tuntap.rst)
///
/// # Errors
/// When the name is too long, the host has no taps, or the caller may not have one.
pub fn open(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    // SAFETY: all bytes zero is an `ifreq` of no name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("the flags have 16 bits");
    // SAFETY: TUNSETIFF reads and writes an `ifreq`.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let header = c_int::try_from(HEADER_BYTES).expect("it is short");
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header) })?;
    Ok(file)
}

impl Tap {
    /// A tap that was [opened](open).
    pub(super) fn new(file: File) -> Self {
        Self(file)
    }

    /// Allows the host to hand over frames of these `TUN_F_…`. What is no tap has none to set.
    ///
    /// # Errors
    /// When the host does not know them.
    pub(super) fn set_offloads(&self, offloads: c_uint) -> io::Result<()> {
        let offloads = libc::c_ulong::from(offloads);
        // SAFETY: TUNSETOFFLOAD takes its argument as a number.
        match checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) }) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(()),
            other => other,
        }
    }

    /// Reads a frame into `parts` and gives its length, which is greater than theirs if it was cut off;
    /// none when there is none.
    ///
    /// # Errors
    /// When the host fails.
    pub(super) fn read<'a>(
        &self,
        parts: impl Iterator<Item = &'a VolatileSlice<'a>>,
    ) -> io::Result<Option<usize>> {
        let (parts, count) = vector(parts);
        // SAFETY: the parts are guest memory that is mapped as long as the slices borrow it, and that
        // no reference points into.
        outcome(unsafe { libc::readv(self.0.as_raw_fd(), parts.as_ptr(), count) })
    }

    /// Writes a frame; none when the host has not taken it.
    ///
    /// # Errors
    /// When the host refuses it.
    pub(super) fn write<'a>(
        &self,
        parts: impl Iterator<Item = &'a VolatileSlice<'a>>,
    ) -> io::Result<Option<usize>> {
        let (parts, count) = vector(parts);
        // SAFETY: the parts are guest memory that is mapped as long as the slices borrow it.
        outcome(unsafe { libc::writev(self.0.as_raw_fd(), parts.as_ptr(), count) })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn vector<'a>(parts: impl Iterator<Item = &'a VolatileSlice<'a>>) -> (Vec<iovec>, c_int) {
    let parts: Vec<_> = io_vector(parts).collect();
    let count = c_int::try_from(parts.len()).expect("there are at most 1024");
    (parts, count)
}

fn outcome(moved: isize) -> io::Result<Option<usize>> {
    if moved >= 0 {
        return Ok(Some(moved.unsigned_abs()));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        error => Err(error),
    }
}

fn checked(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
