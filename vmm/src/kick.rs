//! Gets a vCPU's thread out of the guest: a signal whose handler makes the next entry return.
#![allow(unsafe_code, reason = "a signal handler writes to the page shared with KVM")]

use std::cell::Cell;
use std::io;
use std::ptr;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// The exit page of the vCPU that this thread runs. Const and without destructor, so that a
    /// signal handler may read it at any time.
    static RUNNING: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// The signal that kicks.
pub(crate) fn signal() -> c_int {
    SIGRTMIN()
}

/// Installs the handler for this process; once is enough, more does no harm.
///
/// # Errors
/// When the host refuses.
pub(crate) fn install() -> io::Result<()> {
    register_signal_handler(signal(), leave_guest).map_err(io::Error::from)
}

/// The calling thread's hold on a vCPU: from now on a kick makes its `run` return `EINTR`.
#[derive(Debug)]
pub(crate) struct Kickable<'a> {
    vcpu: &'a mut VcpuFd,
}

impl<'a> Kickable<'a> {
    /// Lets kicks of the calling thread reach `vcpu`.
    pub(crate) fn new(vcpu: &'a mut VcpuFd) -> Self {
        RUNNING.set(ptr::from_mut(vcpu.get_kvm_run()));
        Self { vcpu }
    }

    /// The vCPU.
    pub(crate) fn vcpu(&mut self) -> &mut VcpuFd {
        self.vcpu
    }
}

impl Drop for Kickable<'_> {
    fn drop(&mut self) {
        RUNNING.set(ptr::null_mut());
    }
}

extern "C" fn leave_guest(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let run = RUNNING.get();
    if run.is_null() {
        return;
    }
    // SAFETY: a `Kickable` of this very thread is alive, since it clears the pointer when dropped;
    // it borrows the vCPU whose mapping this points into.
    let immediate_exit = unsafe { &raw mut (*run).immediate_exit };
    // SAFETY: the byte lies in that mapping, and KVM reads it as it enters the guest. A volatile
    // write of a byte cannot tear.
    unsafe { immediate_exit.write_volatile(1) };
}
