//! The host's kernel in the device's place: vhost-net moves frames between a guest's queues and a tap, and
//! hears the guest's notifications itself (linux/vhost.h, drivers/vhost/net.c).
#![allow(unsafe_code, reason = "the kernel is told where the guest's memory lies")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use libc::c_ulong;
use rustix::event::{PollFd, PollFlags, poll};
use virtio_queue::{Queue, QueueT};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    MemoryRegionAddress,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

use super::FEATURE_MRG_RXBUF;
use crate::virtio::buffer::Buffer;
use crate::virtio::device::{Activated, DeviceError, FEATURE_INDIRECT};
use crate::virtio::mmio::{FEATURE_EVENT_IDX, FEATURE_VERSION_1};
use crate::virtio::poll::borrow;

/// Where it comes from.
const DEVICE: &str = "/dev/vhost-net";
/// The features that are its business; all others are the tap's.
const FEATURES: u64 = FEATURE_MRG_RXBUF | FEATURE_INDIRECT | FEATURE_EVENT_IDX | FEATURE_VERSION_1;
/// In place of a tap: nothing.
const NO_BACKEND: RawFd = -1;
/// How many pieces a guest's memory has at most.
const MAX_REGIONS: usize = 2;

/// `VHOST_…` (linux/vhost.h).
const GET_FEATURES: c_ulong = call(_IOC_READ, 0x00, size_of::<u64>());
const SET_FEATURES: c_ulong = call(_IOC_WRITE, 0x00, size_of::<u64>());
const SET_OWNER: c_ulong = call(_IOC_NONE, 0x01, 0);
const SET_MEM_TABLE: c_ulong = call(_IOC_WRITE, 0x03, 8);
const SET_VRING_NUM: c_ulong = call(_IOC_WRITE, 0x10, size_of::<VringState>());
const SET_VRING_ADDR: c_ulong = call(_IOC_WRITE, 0x11, size_of::<VringAddresses>());
const SET_VRING_BASE: c_ulong = call(_IOC_WRITE, 0x12, size_of::<VringState>());
const GET_VRING_BASE: c_ulong = call(_IOC_READ | _IOC_WRITE, 0x12, size_of::<VringState>());
const SET_VRING_KICK: c_ulong = call(_IOC_WRITE, 0x20, size_of::<VringFile>());
const SET_VRING_CALL: c_ulong = call(_IOC_WRITE, 0x21, size_of::<VringFile>());
const SET_VRING_ERR: c_ulong = call(_IOC_WRITE, 0x22, size_of::<VringFile>());
const SET_BACKEND: c_ulong = call(_IOC_WRITE, 0x30, size_of::<VringFile>());

/// `struct vhost_vring_state`.
#[repr(C)]
struct VringState {
    index: u32,
    num: u32,
}

/// `struct vhost_vring_addr`, as addresses of this process.
#[repr(C)]
struct VringAddresses {
    index: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    available: u64,
    log: u64,
}

/// `struct vhost_vring_file`.
#[repr(C)]
struct VringFile {
    index: u32,
    fd: RawFd,
}

/// `struct vhost_memory` with all its regions.
#[derive(Default)]
#[repr(C)]
struct MemoryTable {
    count: u32,
    padding: u32,
    regions: [MemoryRegion; MAX_REGIONS],
}

/// `struct vhost_memory_region`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct MemoryRegion {
    guest: u64,
    bytes: u64,
    host: u64,
    flags: u64,
}

/// vhost-net, which moves the frames of one device.
#[derive(Debug)]
pub(super) struct Vhost {
    file: File,
    /// Whether it knows whose memory it works with.
    is_owned: bool,
}

/// Opens vhost-net, which makes an interface over a tap faster.
///
/// # Errors
/// When the host has none, or the caller may not use it.
pub fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

impl Vhost {
    /// One that was [opened](open).
    pub(super) fn new(file: File) -> Self {
        Self { file, is_owned: false }
    }

    /// Lets it work on the queues from where they are. If it cannot, they are where they were.
    ///
    /// Gives a descriptor for each queue that is readable once the guest has broken it.
    ///
    /// # Errors
    /// When the host refuses.
    pub(super) fn start(
        &mut self,
        activated: &mut Activated,
        tap: impl AsFd,
    ) -> io::Result<Vec<EventFd>> {
        if !self.is_owned {
            self.call(SET_OWNER, std::ptr::null_mut::<u8>())?;
            self.is_owned = true;
        }
        let features = self.features(activated.features)?;
        self.set(SET_FEATURES, &features)?;
        self.set(SET_MEM_TABLE, &memory_table(&activated.memory)?)?;
        let mut broken = Vec::with_capacity(activated.queues.len());
        for (index, active) in (0..).zip(&activated.queues) {
            let event = EventFd::new(EFD_NONBLOCK)?;
            let file = |event: &EventFd| VringFile { index, fd: event.as_raw_fd() };
            self.place(index, &activated.memory, &active.queue)?;
            self.set(SET_VRING_ERR, &file(&event))?;
            self.set(SET_VRING_CALL, &file(activated.interrupt.event()))?;
            self.set(SET_VRING_KICK, &file(&active.kick))?;
            broken.push(event);
        }
        let fd = tap.as_fd().as_raw_fd();
        for (index, _) in (0..).zip(&activated.queues) {
            if let Err(error) = self.set(SET_BACKEND, &VringFile { index, fd }) {
                // Those before it may have moved.
                self.take_back(activated)?;
                return Err(error);
            }
        }
        Ok(broken)
    }

    /// Waits until the device must stop, and takes the queues back.
    ///
    /// # Errors
    /// When the guest has broken a queue, or the host fails.
    pub(super) fn serve(
        &self,
        activated: &mut Activated,
        broken: &[EventFd],
    ) -> Result<(), DeviceError> {
        let waited = wait(activated, broken);
        self.take_back(activated).map_err(DeviceError::host("stop vhost-net"))?;
        waited
    }

    /// What of a driver's features it is told.
    fn features(&self, features: u64) -> io::Result<u64> {
        let mut offered = 0u64;
        self.call(GET_FEATURES, &raw mut offered)?;
        let wanted = features & FEATURES;
        if wanted & !offered == 0 { Ok(wanted) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    /// Tells where a queue lies, and how far it is.
    fn place(&self, index: u32, memory: &GuestMemoryMmap, queue: &Queue) -> io::Result<()> {
        let state = |num: u16| VringState { index, num: num.into() };
        self.set(SET_VRING_NUM, &state(queue.size()))?;
        self.set(SET_VRING_BASE, &state(queue.next_avail()))?;
        // With the indices of events behind the rings (2.7).
        let size = u32::from(queue.size());
        let addresses = VringAddresses {
            index,
            flags: 0,
            descriptors: host_address(memory, queue.desc_table(), 16 * size)?,
            used: host_address(memory, queue.used_ring(), 4 + 8 * size + 2)?,
            available: host_address(memory, queue.avail_ring(), 4 + 2 * size + 2)?,
            log: 0,
        };
        self.set(SET_VRING_ADDR, &addresses)
    }

    /// Stops it, and puts the queues where it has left them.
    fn take_back(&self, activated: &mut Activated) -> io::Result<()> {
        let memory = &activated.memory;
        for (index, active) in (0..).zip(&mut activated.queues) {
            self.set(SET_BACKEND, &VringFile { index, fd: NO_BACKEND })?;
            let mut state = VringState { index, num: 0 };
            self.call(GET_VRING_BASE, &raw mut state)?;
            let queue = &mut active.queue;
            queue.set_next_avail(u16::try_from(state.num).map_err(io::Error::other)?);
            // Where it has used the last is told in the ring alone, which the guest may have changed: it
            // is its own that it spoils.
            let used = GuestAddress(queue.used_ring().saturating_add(2));
            let used = memory.read_obj::<u16>(used).map_err(io::Error::other)?;
            queue.set_next_used(u16::from_le(used));
        }
        Ok(())
    }

    fn set<T>(&self, request: c_ulong, value: &T) -> io::Result<()> {
        self.call(request, std::ptr::from_ref(value).cast_mut())
    }

    fn call<T>(&self, request: c_ulong, value: *mut T) -> io::Result<()> {
        // SAFETY: each request of this file reads or writes what it is given here, which is live and of
        // the size in its number; a table of memory is followed by as many regions as it says.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, value) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Waits until the device must stop.
fn wait(activated: &Activated, broken: &[EventFd]) -> Result<(), DeviceError> {
    let events = std::iter::once(&activated.stop).chain(broken);
    let mut polled: Vec<_> =
        events.map(|event| PollFd::from_borrowed_fd(borrow(event), PollFlags::IN)).collect();
    rustix::io::retry_on_intr(|| poll(&mut polled, None))
        .map_err(|error| DeviceError::host("wait for vhost-net")(error.into()))?;
    if polled[0].revents().is_empty() {
        return Err(DeviceError::Protocol { what: "vhost-net cannot go on with a queue" });
    }
    Ok(())
}

/// Where all of the guest's memory lies in this process.
fn memory_table(memory: &GuestMemoryMmap) -> io::Result<MemoryTable> {
    let mut table = MemoryTable::default();
    for region in memory.iter() {
        let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
        let free = table.regions.get_mut(table.count as usize).ok_or(io::ErrorKind::Unsupported)?;
        *free = MemoryRegion {
            guest: region.start_addr().raw_value(),
            bytes: region.len(),
            host: host.expose_provenance() as u64,
            flags: 0,
        };
        table.count += 1;
    }
    Ok(table)
}

/// Where `bytes` of the guest's memory lie in this process, all in one piece.
fn host_address(memory: &GuestMemoryMmap, address: u64, bytes: u32) -> io::Result<u64> {
    let mut buffer = Buffer::default();
    buffer.push(memory, GuestAddress(address), bytes).map_err(io::Error::other)?;
    let mut slices = buffer.slices();
    match (slices.next(), slices.next()) {
        (Some(slice), None) => Ok(slice.ptr_guard_mut().as_ptr().expose_provenance() as u64),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "what a request moves is small")]
const fn call(direction: u32, number: u32, bytes: usize) -> c_ulong {
    const VHOST_VIRTIO: u32 = 0xaf;
    ioctl_expr(direction, VHOST_VIRTIO, number, bytes as u32)
}
