//! A device at work, from its activation until it is stopped: in a thread of its own, or in those of
//! the vCPUs that notify it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use vmm_sys_util::eventfd::EventFd;

use super::device::{Activated, DeviceError, Server, VirtioDevice};
use crate::devices::serial::Console;
use crate::error::chain;

/// The stack of each of a machine's threads, in bytes. The usual 2 MiB are one huge page when they
/// happen to be aligned, and the first touch then takes all of it.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// A device that runs.
pub(crate) enum Worker {
    /// In its own thread.
    Own {
        /// Gives the device back.
        thread: JoinHandle<Stopped>,
        /// Readable once the thread must end.
        stop: EventFd,
        /// Set by the device's thread, read by vCPUs'.
        failed: Arc<AtomicBool>,
    },
    /// In whichever thread notifies it.
    Notified {
        /// The device, and what it works with.
        at_work: Box<Stopped>,
        /// Where a failure is told.
        console: Console,
        /// Whether it gave up.
        failed: bool,
    },
}

/// A device that has run, and what it worked with.
pub(crate) type Stopped = (Box<dyn VirtioDevice>, Activated);

impl Worker {
    /// Lets `device` work. When it fails, the guest is told to reset it and the console gets a line.
    ///
    /// # Errors
    /// When the host refuses another thread or descriptor.
    pub(crate) fn start(
        device: Box<dyn VirtioDevice>,
        activated: Activated,
        console: Console,
    ) -> io::Result<Self> {
        match device.server() {
            Server::OwnThread => Self::spawn(device, activated, console),
            Server::Notifier => {
                let at_work = Box::new((device, activated));
                Ok(Self::Notified { at_work, console, failed: false })
            }
        }
    }

    fn spawn(
        mut device: Box<dyn VirtioDevice>,
        mut activated: Activated,
        console: Console,
    ) -> io::Result<Self> {
        let stop = activated.stop.try_clone()?;
        let failed = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&failed);
        let name = device.kind().to_string();
        let thread =
            thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
                if let Err(error) = device.run(&mut activated) {
                    report(&*device, &error, &console);
                    failing.store(true, Ordering::SeqCst);
                    activated.interrupt.signal_config();
                }
                (device, activated)
            })?;
        Ok(Self::Own { thread, stop, failed })
    }

    /// Serves this queue, if it is not for the device's own thread to do so.
    pub(crate) fn notify(&mut self, queue: u32) {
        let Self::Notified { at_work, console, failed } = self else { return };
        let (device, activated) = &mut **at_work;
        let Ok(queue) = usize::try_from(queue) else { return };
        if *failed || queue >= activated.queues.len() {
            return;
        }
        if let Err(error) = device.serve(activated, queue) {
            report(&**device, &error, console);
            *failed = true;
            activated.interrupt.signal_config();
        }
    }

    /// Whether the device gave up.
    pub(crate) fn failed(&self) -> bool {
        match self {
            Self::Own { failed, .. } => failed.load(Ordering::SeqCst),
            Self::Notified { failed, .. } => *failed,
        }
    }

    /// Stops the device and gives it back; none if its thread panicked.
    pub(crate) fn stop(self) -> Option<Stopped> {
        match self {
            Self::Own { thread, stop, .. } => {
                // It fails only when it is readable already.
                let _ = stop.write(1);
                thread.join().ok()
            }
            Self::Notified { at_work, .. } => Some(*at_work),
        }
    }
}

fn report(device: &dyn VirtioDevice, error: &DeviceError, console: &Console) {
    console.note(&format!("the {} device failed: {}", device.kind(), chain(error)));
}
