//! The system calls that rustix has no safe form for, each wrapped in a safe function.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_ulong},
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use protocol::FilterInstruction;
use rustix::process::Pid;

use crate::heap;

/// A connection from another machine, as vsock names it.
pub(crate) struct VsockPeer {
    /// The connected socket.
    pub(crate) socket: OwnedFd,
    /// The context ID the connection comes from.
    pub(crate) cid: u32,
}

/// The context ID of the host (`VMADDR_CID_HOST`, vsock(7)).
pub(crate) const HOST_CID: u32 = libc::VMADDR_CID_HOST;

/// `AF_VSOCK` in the width an address has it.
const VSOCK_FAMILY: libc::sa_family_t = 40;
const VSOCK_ADDRESS_BYTES: libc::socklen_t = 16;
const _: () = assert!(VSOCK_FAMILY as c_int == libc::AF_VSOCK);
const _: () = assert!(VSOCK_ADDRESS_BYTES as usize == mem::size_of::<libc::sockaddr_vm>());

/// How much a connection may have on its way, in bytes: Linux lets no more be sent than it would take
/// itself, whatever the other side has room for.
const VSOCK_BUFFER_BYTES: u64 = 1 << 20;
/// `SO_VM_SOCKETS_BUFFER_SIZE` and `SO_VM_SOCKETS_BUFFER_MAX_SIZE` of `linux/vm_sockets.h`.
const SO_VM_SOCKETS_BUFFER_SIZE: c_int = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: c_int = 2;

/// Listens on a vsock port of this machine.
pub(crate) fn vsock_listen(port: u32) -> io::Result<OwnedFd> {
    const BACKLOG: i32 = 128;
    // SAFETY: socket(2) takes no pointers.
    let socket =
        owned(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    let address = libc::sockaddr_vm {
        svm_family: VSOCK_FAMILY,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: libc::VMADDR_CID_ANY,
        svm_zero: [0; 4],
    };
    // SAFETY: the pointer is to a live sockaddr_vm and the length is its size.
    check(unsafe {
        libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), VSOCK_ADDRESS_BYTES)
    })?;
    // What is accepted inherits it. The most is first: it cuts the other.
    for option in [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE] {
        set_vsock_option(&socket, option, VSOCK_BUFFER_BYTES)?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Sets an option of a vsock socket, which is a number of 64 bits.
fn set_vsock_option(socket: &OwnedFd, option: c_int, value: u64) -> io::Result<()> {
    const BYTES: libc::socklen_t = 8;
    let value = ptr::from_ref(&value).cast();
    // SAFETY: the pointer is to a live number, and the length is its size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::AF_VSOCK, option, value, BYTES) })?;
    Ok(())
}

/// Takes the next connection of a vsock listener.
pub(crate) fn vsock_accept(listener: &OwnedFd) -> io::Result<VsockPeer> {
    let mut address = libc::sockaddr_vm {
        svm_family: 0,
        svm_reserved1: 0,
        svm_port: 0,
        svm_cid: libc::VMADDR_CID_ANY,
        svm_zero: [0; 4],
    };
    let mut length = VSOCK_ADDRESS_BYTES;
    // SAFETY: both pointers are to live values, and the length tells how much may be written.
    let socket = owned(unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            ptr::from_mut(&mut address).cast(),
            &raw mut length,
            libc::SOCK_CLOEXEC,
        )
    })?;
    Ok(VsockPeer { socket, cid: address.svm_cid })
}

/// On which side of a clone the caller is.
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the old one.
    Parent {
        /// The new process as this namespace numbers it.
        pid: Pid,
        /// The same, as a descriptor that cannot come to mean another process.
        pidfd: OwnedFd,
    },
}

/// Clones this process into new mount, PID, IPC and UTS namespaces, inside `cgroup`; there it is
/// PID 1.
pub(crate) fn clone_into_namespaces(cgroup: BorrowedFd<'_>) -> io::Result<Cloned> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    clone(flags, Some(cgroup))
}

/// Clones this process, inside `cgroup`.
pub(crate) fn clone_into_cgroup(cgroup: BorrowedFd<'_>) -> io::Result<Cloned> {
    clone(0, Some(cgroup))
}

/// Clones this process into a mount namespace of its own, beside every container.
pub(crate) fn clone_with_own_mounts() -> io::Result<Cloned> {
    clone(libc::CLONE_NEWNS, None)
}

fn clone(flags: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    /// `CLONE_INTO_CGROUP`, linux/sched.h.
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero is a value.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // The child has none of the other threads, so none of them may be in the heap now.
    let heap = heap::hold();
    // SAFETY: the structure is filled and of the given size; without CLONE_VM and with no stack of
    // its own the child goes on from here on a copy of this one, as after fork(2).
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of::<libc::clone_args>())
    };
    drop(heap);
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        _ if pid < 0 => Err(io::Error::last_os_error()),
        None => Ok(Cloned::Child),
        Some(pid) => Ok(Cloned::Parent { pid, pidfd: owned(pidfd)? }),
    }
}

/// Who is to be the parent of a process.
#[derive(Clone, Copy)]
pub(crate) enum Parent {
    /// The one that makes it.
    Caller,
    /// The parent of that one.
    Callers,
}

/// On which side of a split the caller is.
pub(crate) enum Split {
    /// In the new process.
    Child,
    /// In the old one.
    Parent {
        /// The new process as this namespace numbers it.
        child: Pid,
    },
}

/// Clones this process, which has one thread. By clone(2), since clone3(2) is closed to containers
/// by many seccomp filters, which cannot look into its arguments.
pub(crate) fn split(parent: Parent) -> io::Result<Split> {
    let flags = match parent {
        Parent::Caller => libc::SIGCHLD,
        Parent::Callers => libc::SIGCHLD | libc::CLONE_PARENT,
    };
    let none = 0;
    // SAFETY: without CLONE_VM and with no stack of its own the child goes on from here on a copy
    // of this one, as after fork(2); no other pointer is given.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        _ if pid < 0 => Err(io::Error::last_os_error()),
        None => Ok(Split::Child),
        Some(child) => Ok(Split::Parent { child }),
    }
}

/// Leaves for a cgroup namespace whose root is the caller's own cgroup.
pub(crate) fn unshare_cgroup() -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES can take something from another thread; this is not it.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}

/// Strings in the form `execve` takes them.
pub(crate) struct CStringArray {
    /// What `pointers` points into; a `CString`'s bytes stay where they are when it moves.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStringArray {
    /// Lays out `strings` as an array that ends in a null pointer.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }
}

/// Becomes another program. Returns only when that fails.
pub(crate) fn execute(
    path: &CStr,
    arguments: &CStringArray,
    environment: &CStringArray,
) -> rustix::io::Errno {
    // SAFETY: all three are NUL-terminated, and the arrays end in null and outlive the call.
    unsafe {
        libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr())
    };
    last_errno()
}

/// Ends the process at once, without a word to anyone.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Blocks SIGCHLD and returns a non-blocking descriptor that reads as ready while one is pending.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let mut set = empty_signal_set();
    // SAFETY: the set is initialised and SIGCHLD is a signal.
    check(unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) })?;
    // SAFETY: the set is initialised, and the old one is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
    // SAFETY: the set is initialised.
    owned(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })
}

/// Unblocks every signal and gives SIGPIPE, which Rust's runtime ignores, its default meaning.
/// Nothing else the agent does to signals survives an `execve`.
pub(crate) fn default_signals() -> io::Result<()> {
    // SAFETY: SIG_DFL is a disposition, and no handler of ours is replaced.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    let set = empty_signal_set();
    // SAFETY: the set is initialised, and the old one is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) })
}

/// Blocks every signal that can be blocked and returns a descriptor to read them from.
pub(crate) fn all_signals() -> io::Result<OwnedFd> {
    let mut set = empty_signal_set();
    // SAFETY: the set is live.
    check(unsafe { libc::sigfillset(&raw mut set) })?;
    // SAFETY: the set is initialised, and the old one is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
    // SAFETY: the set is initialised.
    owned(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) })
}

/// Waits for the next signal of [`all_signals`].
pub(crate) fn next_signal(signals: &OwnedFd) -> io::Result<i32> {
    /// The size of `struct signalfd_siginfo`, which begins with the number (signalfd(2)).
    const INFO_BYTES: usize = 128;
    let mut info = [0; INFO_BYTES];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(signals, &mut info[..]))?;
    if count < INFO_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = info.first_chunk().copied().map(u32::from_ne_bytes).unwrap_or_default();
    i32::try_from(number).map_err(io::Error::other)
}

/// Sends a process any signal.
pub(crate) fn kill(process: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes no pointers.
    check(unsafe { libc::kill(process.as_raw_nonzero().get(), number) })
}

/// Sends any signal, the real-time ones among them.
pub(crate) fn send_signal(pidfd: &OwnedFd, number: i32) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for that of kill(2).
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, no_info, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets one resource limit of this process.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is live, and the old one is not asked for.
    check(unsafe { libc::prlimit(0, resource, &raw const limit, ptr::null_mut()) })
}

/// Marks every descriptor but the three standard ones as closed on exec.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: no descriptor is closed now, and after an exec none of ours is used.
    check(unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) })
}

/// Closes every descriptor but the three standard ones and `kept`. Whoever still has one of them in
/// a variable must never use or drop it: the caller ends by an exec or at once.
pub(crate) fn close_all_but(kept: &impl AsFd) -> io::Result<()> {
    let kept = kept.as_fd().as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.saturating_add(1), u32::MAX)] {
        if first <= last {
            // SAFETY: descriptors that are owned by someone are closed, but no owner acts again.
            check(unsafe { libc::close_range(first, last, 0) })?;
        }
    }
    Ok(())
}

/// Puts a seccomp filter on this process, which has one thread, and on all that come from it.
pub(crate) fn set_seccomp_filter(instructions: &[FilterInstruction]) -> io::Result<()> {
    let mut filter: Vec<_> = instructions
        .iter()
        .map(|one| libc::sock_filter {
            code: one.code,
            jt: one.if_true,
            jf: one.if_false,
            k: one.operand,
        })
        .collect();
    let len = filter.len().try_into().map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0);
    // SAFETY: the program points to as many live instructions as it says.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What RNDADDENTROPY takes (`struct rand_pool_info`, random(4)).
#[repr(C)]
struct RandomInput {
    entropy_bits: c_int,
    byte_count: c_int,
    bytes: [u8; 32],
}

/// Mixes `bytes` into the kernel's random pool, counted as fully random, and reseeds from it.
pub(crate) fn add_entropy(random: &impl AsFd, bytes: &[u8; 32]) -> io::Result<()> {
    /// `_IOW('R', 0x03, int[2])`, linux/random.h.
    const RNDADDENTROPY: c_ulong = 0x4008_5203;
    /// `_IO('R', 0x07)`, linux/random.h.
    const RNDRESEEDCRNG: c_ulong = 0x5207;
    let random = random.as_fd().as_raw_fd();
    let input = RandomInput { entropy_bits: 256, byte_count: 32, bytes: *bytes };
    // SAFETY: the ioctl reads two integers and as many bytes as the second says: 32.
    check(unsafe { libc::ioctl(random, RNDADDENTROPY, &raw const input) })?;
    // SAFETY: the ioctl takes no argument.
    check(unsafe { libc::ioctl(random, RNDRESEEDCRNG) })
}

/// Writes 32 bits to an I/O port. The right to do so is taken for this one write only: it would
/// be inherited by every process of the container.
pub(crate) fn write_port(port: u16, value: u32) -> io::Result<()> {
    const WIDTH: c_ulong = 4;
    // SAFETY: ioperm(2) takes no pointers.
    check(unsafe { libc::ioperm(c_ulong::from(port), WIDTH, 1) })?;
    // SAFETY: the port is this process's to write since the line above, and an `out` touches
    // neither memory nor stack.
    unsafe {
        std::arch::asm!(
            "out dx, eax",
            in("dx") port,
            in("eax") value,
            options(nomem, nostack, preserves_flags),
        );
    }
    // SAFETY: ioperm(2) takes no pointers.
    check(unsafe { libc::ioperm(c_ulong::from(port), WIDTH, 0) })
}

fn empty_signal_set() -> libc::sigset_t {
    // SAFETY: sigset_t is an array of integers, for which zero is a value: the empty set.
    unsafe { mem::zeroed() }
}

fn owned(descriptor: c_int) -> io::Result<OwnedFd> {
    check(descriptor)?;
    // SAFETY: the kernel has just returned it, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The error of a call that has given this, if it was negative.
pub(crate) fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}
