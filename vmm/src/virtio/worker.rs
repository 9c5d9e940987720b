//! A device in its thread, from its activation until it is stopped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use vmm_sys_util::eventfd::EventFd;

use super::device::{Activated, VirtioDevice};
use crate::devices::serial::Console;
use crate::error::chain;

/// The stack of each of a machine's threads, in bytes. The usual 2 MiB are one huge page when they
/// happen to be aligned, and the first touch then takes all of it.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// A device that runs.
#[derive(Debug)]
pub(crate) struct Worker {
    thread: JoinHandle<Stopped>,
    stop: EventFd,
    /// Set by the device's thread, read by vCPUs'.
    failed: Arc<AtomicBool>,
}

/// A device that has run, and what it worked with.
pub(crate) type Stopped = (Box<dyn VirtioDevice>, Activated);

impl Worker {
    /// Runs `device` in a thread of its own. When it fails, the guest is told to reset it and the
    /// console gets a line.
    ///
    /// # Errors
    /// When the host refuses another thread or descriptor.
    pub(crate) fn start(
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
                    console.note(&format!(
                        "the {} device failed: {}",
                        device.kind(),
                        chain(&error)
                    ));
                    failing.store(true, Ordering::SeqCst);
                    activated.interrupt.signal_config();
                }
                (device, activated)
            })?;
        Ok(Self { thread, stop, failed })
    }

    /// Whether the device gave up.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Stops the device and gives it back; none if its thread panicked.
    pub(crate) fn stop(self) -> Option<Stopped> {
        // It fails only when it is readable already.
        let _ = self.stop.write(1);
        self.thread.join().ok()
    }
}
