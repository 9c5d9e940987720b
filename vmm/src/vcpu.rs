//! A vCPU in its thread: enters the guest and serves what it leaves it for.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};

use kvm_bindings::{KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::Killable;

use crate::bus::Bus;
use crate::exit::Exit;
use crate::kick::{self, Kickable};
use crate::kvm;
use crate::layers::Pieces;
use crate::virtio::worker::STACK_BYTES;
use crate::wake::{Ending, Wake};

/// A vCPU that runs; stopping it gives the vCPU back.
#[derive(Debug)]
pub(crate) struct RunningVcpu {
    thread: JoinHandle<VcpuFd>,
    stop: Arc<AtomicBool>,
}

impl RunningVcpu {
    /// Enters the guest with `vcpu` in a thread of its own, once what is to be touched `ahead` has been,
    /// and KVM has mapped it. The end it comes to, unless it is stopped, is sent to `wakes`.
    ///
    /// # Errors
    /// When the host refuses another thread.
    pub(crate) fn start(
        index: usize,
        mut vcpu: VcpuFd,
        ahead: Option<JoinHandle<Pieces>>,
        bus: Arc<Bus>,
        wakes: SyncSender<Wake>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let builder = thread::Builder::new().name(format!("vcpu{index}")).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            if let Some(Ok(touched)) = ahead.map(JoinHandle::join) {
                kvm::map_ahead(&vcpu, &touched);
            }
            let run = AssertUnwindSafe(|| run(Kickable::new(&mut vcpu), &bus, &stopping));
            let ending = catch_unwind(run)
                .unwrap_or_else(|_| Some(failure("a vCPU's thread panicked".to_owned())));
            if let Some(ending) = ending {
                // Only the first end is waited for.
                let _ = wakes.send(Wake::Ended(ending));
            }
            vcpu
        })?;
        Ok(Self { thread, stop })
    }

    /// Asks the vCPU to leave the guest.
    pub(crate) fn kick(&self) {
        self.stop.store(true, Ordering::SeqCst);
        // It fails only for a thread that has ended, which is what we want.
        let _ = self.thread.kill(kick::signal());
    }

    /// Waits until it has left the guest; none if its thread panicked.
    pub(crate) fn join(self) -> Option<VcpuFd> {
        self.thread.join().ok()
    }
}

/// Runs until the guest ends (its reason is given) or `stop` is set and the thread kicked.
fn run(mut kickable: Kickable<'_>, bus: &Bus, stop: &AtomicBool) -> Option<Ending> {
    // Before the first entry too: a kick that came before there was a `Kickable` has no other trace.
    while !stop.load(Ordering::SeqCst) {
        let ending = match kickable.vcpu().run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                bus.port_read(port, data);
                None
            }
            Ok(VcpuExit::IoOut(port, data)) => bus.port_write(port, data),
            Ok(VcpuExit::MmioRead(address, data)) => {
                bus.mmio_read(address, data);
                None
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                bus.mmio_write(address, data);
                None
            }
            Ok(VcpuExit::InternalError) => {
                let suberror = kvm::internal_suberror(kickable.vcpu());
                Some(failure(format!("KVM gave up on the guest (suberror {suberror})")))
            }
            Ok(exit) => ending_of(&exit),
            Err(error) => {
                // A kick that comes before this line is seen by `stop`, one after it by `EINTR`.
                kickable.vcpu().set_kvm_immediate_exit(0);
                match error.errno() {
                    libc::EINTR | libc::EAGAIN => None,
                    _ => Some(failure(format!("KVM_RUN failed: {error}"))),
                }
            }
        };
        if ending.is_some() {
            return ending;
        }
    }
    None
}

/// What the rarer exits mean.
fn ending_of(exit: &VcpuExit<'_>) -> Option<Ending> {
    match exit {
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => None,
        VcpuExit::Shutdown => Some(Ending::Exit(Exit::TripleFault)),
        VcpuExit::Hlt => Some(Ending::Exit(Exit::Halt)),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Some(Ending::Exit(Exit::PowerOff)),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Some(Ending::Exit(Exit::Reboot)),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _) => Some(Ending::Panic),
        VcpuExit::FailEntry(reason, _) => Some(Ending::Exit(Exit::FailEntry { reason: *reason })),
        other => Some(failure(format!("the guest left for an unknown reason: {other:?}"))),
    }
}

fn failure(message: String) -> Ending {
    Ending::Exit(Exit::InternalError { message })
}
