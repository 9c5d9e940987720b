//! Waits for a device's queues and for the order to stop.
#![allow(unsafe_code, reason = "an EventFd gives out its descriptor as a bare number only")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use super::device::{Activated, DeviceError};

/// The mark of the stop descriptor among the queues' indices.
const STOP: u64 = u64::MAX;
/// That of the device's source.
const SOURCE: u64 = u64::MAX - 1;

/// Why a device is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The guest notified a queue; its descriptor has been read.
    Queue(usize),
    /// Something new can be read from the device's source, or it has room again.
    Source,
    /// The device must stop.
    Stop,
}

/// What of a device's source is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// What arrives.
    Incoming,
    /// That, and room for what leaves.
    Both,
}

/// A device's epoll set.
pub(crate) struct Poll {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Poll {
    /// Watches all queues of `activated`, and its stop descriptor.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn new(activated: &Activated) -> Result<Self, DeviceError> {
        let host =
            |source: Errno| DeviceError::Host { what: "watch the queues", source: source.into() };
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(host)?;
        let add = |fd: &EventFd, data| {
            epoll::add(&epoll, borrow(fd), EventData::new_u64(data), EventFlags::IN)
        };
        add(&activated.stop, STOP).map_err(host)?;
        for (index, queue) in activated.queues.iter().enumerate() {
            add(&queue.kick, index as u64).map_err(host)?;
        }
        Ok(Self { epoll, ready: Vec::with_capacity(4) })
    }

    /// Watches `source` too, for what arrives from now on: it is told once, however much there is.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn watch(&self, source: impl AsFd) -> io::Result<()> {
        let data = EventData::new_u64(SOURCE);
        Ok(epoll::add(&self.epoll, source, data, EventFlags::IN | EventFlags::ET)?)
    }

    /// Watches the source for something else from now on; what is there already is told too.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn watch_anew(&self, source: impl AsFd, interest: Interest) -> io::Result<()> {
        let flags = match interest {
            Interest::Incoming => EventFlags::IN,
            Interest::Both => EventFlags::IN | EventFlags::OUT,
        };
        let data = EventData::new_u64(SOURCE);
        Ok(epoll::modify(&self.epoll, source, data, flags | EventFlags::ET)?)
    }

    /// Waits for the next thing to do.
    ///
    /// # Errors
    /// When the host fails.
    pub(crate) fn wait(&mut self, activated: &Activated) -> Result<Wake, DeviceError> {
        loop {
            if let Some(wake) = self.wait_at_most(activated, None)? {
                return Ok(wake);
            }
        }
    }

    /// The same, for this long; none when there was nothing to do.
    ///
    /// # Errors
    /// When the host fails.
    pub(crate) fn wait_at_most(
        &mut self,
        activated: &Activated,
        patience: Option<Duration>,
    ) -> Result<Option<Wake>, DeviceError> {
        // What a clock cannot hold is for ever.
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        loop {
            if self.ready.is_empty() {
                match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), patience.as_ref()) {
                    Ok(0) => return Ok(None),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(source) => {
                        let source = io::Error::from(source);
                        return Err(DeviceError::Host { what: "wait for the queues", source });
                    }
                }
            }
            if self.ready.iter().any(|event| event.data.u64() == STOP) {
                return Ok(Some(Wake::Stop));
            }
            let Some(event) = self.ready.pop() else { continue };
            if event.data.u64() == SOURCE {
                return Ok(Some(Wake::Source));
            }
            let Ok(index) = usize::try_from(event.data.u64()) else { continue };
            let Some(queue) = activated.queues.get(index) else { continue };
            // Empty when a former wake has served it already.
            let _ = queue.kick.read();
            return Ok(Some(Wake::Queue(index)));
        }
    }
}

/// The descriptor of an `EventFd`, which lacks `AsFd`.
pub(crate) fn borrow(fd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as the borrowed `EventFd`.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}
