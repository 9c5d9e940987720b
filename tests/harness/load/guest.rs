//! The first program of a guest that works hard: it writes to its disk and reads it back, from several
//! threads, and sends and takes bytes through its sockets, while its machine is saved and copied.
#![allow(unsafe_code, reason = "vsock addresses and ports have no safe wrappers")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use hyperrun_tests::Sample;
use hyperrun_tests::load::{
    Bytes, DISK_BYTES, GIVE_PORT, GIVEN, GOOD_DISK, OFF, ORDER_PORT, REPORT, RING, TAKE_PORT, TAKEN,
};
use protocol::{POWER_AGENT_READY, POWER_PORT};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// What is written at once.
const BLOCK_BYTES: usize = 32 << 10;
/// How many threads work on the disk, each on blocks of its own.
const WORKERS: usize = 3;
/// What O_DIRECT wants of a buffer's address.
const ALIGNMENT: usize = 4096;

fn main() -> io::Result<()> {
    if let Some(address) = std::env::args().nth(1) {
        return echo(&address);
    }
    mount("dev", "/dev", "devtmpfs", MountFlags::empty(), None)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers: Vec<_> = (0..WORKERS).map(|number| work(number, &stop)).collect();
    serve(GIVE_PORT, give)?;
    serve(TAKE_PORT, take)?;
    let orders = listen(ORDER_PORT)?;
    loop {
        let mut host = accept(&orders)?;
        let mut order = [0];
        host.read_exact(&mut order)?;
        match order[0] {
            RING => {
                ring()?;
                // In a copy of the machine nobody is at the other end any more.
                let _ = host.write_all(b"it rang\n");
            }
            REPORT => {
                stop.store(true, Ordering::SeqCst);
                host.write_all(report(std::mem::take(&mut workers)).as_bytes())?;
            }
            OFF => reboot(RebootCommand::PowerOff)?,
            _ => host.write_all(b"what?\n")?,
        }
    }
}

/// In a container, with an address as its argument, it sends datagrams back.
fn echo(address: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    let mut buffer = [0; 512];
    loop {
        let (count, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..count], from)?;
    }
}

/// The disk, without the guest's page cache before it.
fn disk() -> io::Result<File> {
    let direct = libc::O_DIRECT;
    fs::OpenOptions::new().read(true).write(true).custom_flags(direct).open("/dev/vda")
}

/// A worker of the disk and what it knows: how often it has written each of its blocks.
struct Worker {
    number: usize,
    disk: File,
    versions: Vec<u64>,
    space: Vec<u8>,
}

/// Works until it is told to stop; gives back what it knows, or what was wrong.
fn work(number: usize, stop: &Arc<AtomicBool>) -> JoinHandle<Result<Worker, String>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let disk = disk().map_err(|error| format!("cannot open the disk: {error}\n"))?;
        let blocks = usize::try_from(DISK_BYTES).unwrap_or(0) / BLOCK_BYTES / WORKERS;
        let space = vec![0; BLOCK_BYTES + ALIGNMENT];
        let mut worker = Worker { number, disk, versions: vec![0; blocks], space };
        let mut sample = Sample::of_this_run();
        while !stop.load(Ordering::SeqCst) {
            worker.write(sample.below(blocks))?;
            worker.compare(sample.below(blocks))?;
        }
        Ok(worker)
    })
}

impl Worker {
    fn write(&mut self, block: usize) -> Result<(), String> {
        let version = self.versions[block] + 1;
        let (mut bytes, place) = (self.bytes(block, version), self.place(block));
        let buffer = aligned(&mut self.space);
        bytes.fill(buffer);
        let failed = |error| format!("cannot write block {block}: {error}\n");
        self.disk.write_all_at(buffer, place).map_err(failed)?;
        self.versions[block] = version;
        Ok(())
    }

    fn compare(&mut self, block: usize) -> Result<(), String> {
        let version = self.versions[block];
        let (mut bytes, place) = (self.bytes(block, version), self.place(block));
        let buffer = aligned(&mut self.space);
        let failed = |error| format!("cannot read block {block}: {error}\n");
        self.disk.read_exact_at(buffer, place).map_err(failed)?;
        let is_right =
            if version == 0 { buffer.iter().all(|byte| *byte == 0) } else { bytes.are(buffer) };
        if is_right { Ok(()) } else { Err(format!("block {block} is not its version {version}\n")) }
    }

    fn bytes(&self, block: usize, version: u64) -> Bytes {
        Bytes::of(self.place(block) + version)
    }

    fn place(&self, block: usize) -> u64 {
        ((self.number * self.versions.len() + block) * BLOCK_BYTES) as u64
    }
}

fn aligned(space: &mut [u8]) -> &mut [u8] {
    let before = space.as_ptr().align_offset(ALIGNMENT);
    &mut space[before..before + BLOCK_BYTES]
}

/// Reads all that was written.
fn report(workers: Vec<JoinHandle<Result<Worker, String>>>) -> String {
    for worker in workers {
        let known = worker.join().unwrap_or_else(|_| Err("a worker panicked\n".to_owned()));
        let compared = known.and_then(|mut worker| {
            if worker.versions.iter().all(|version| *version == 0) {
                return Err("a worker has written nothing\n".to_owned());
            }
            (0..worker.versions.len()).try_for_each(|block| worker.compare(block))
        });
        if let Err(wrong) = compared {
            return wrong;
        }
    }
    GOOD_DISK.to_owned()
}

/// Sends bytes until nobody takes them.
fn give(mut host: File) -> io::Result<()> {
    let (mut bytes, mut buffer) = (Bytes::of(GIVEN), vec![0; 8 << 10]);
    loop {
        bytes.fill(&mut buffer);
        host.write_all(&buffer)?;
    }
}

/// Takes bytes to their end and tells how many were right.
fn take(mut host: File) -> io::Result<()> {
    let (mut bytes, mut buffer, mut right) = (Bytes::of(TAKEN), vec![0; 8 << 10], 0u64);
    loop {
        let count = host.read(&mut buffer)?;
        if count == 0 {
            return host.write_all(&right.to_le_bytes());
        }
        if bytes.are(&buffer[..count]) {
            right += count as u64;
        }
    }
}

/// Lets a thread serve each connection of a port.
fn serve(port: u32, each: fn(File) -> io::Result<()>) -> io::Result<()> {
    let listener = listen(port)?;
    thread::spawn(move || {
        while let Ok(host) = accept(&listener) {
            // A host that closes is how it ends.
            thread::spawn(move || drop(each(host)));
        }
    });
    Ok(())
}

fn listen(port: u32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers.
    let socket = owned(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) })?;
    let address = libc::sockaddr_vm {
        svm_family: libc::sa_family_t::try_from(libc::AF_VSOCK).map_err(io::Error::other)?,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: libc::VMADDR_CID_ANY,
        svm_zero: [0; 4],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    let pointer = std::ptr::from_ref(&address).cast();
    // SAFETY: the pointer is to a live sockaddr_vm, and the length is its size.
    check(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) })?;
    // SAFETY: listen(2) takes no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), 16) })?;
    Ok(socket)
}

fn accept(listener: &OwnedFd) -> io::Result<File> {
    let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: accept(2) may be given no room for an address.
    owned(unsafe { libc::accept(listener.as_raw_fd(), address, length) }).map(File::from)
}

fn ring() -> io::Result<()> {
    // SAFETY: ioperm(2) takes no pointers.
    check(unsafe { libc::ioperm(POWER_PORT.into(), 4, 1) })?;
    // SAFETY: the port is this thread's to write since the line above, and an `out` touches neither
    // memory nor stack.
    unsafe {
        std::arch::asm!(
            "out dx, eax",
            in("dx") POWER_PORT,
            in("eax") POWER_AGENT_READY,
            options(nomem, nostack, preserves_flags),
        );
    }
    Ok(())
}

fn owned(descriptor: i32) -> io::Result<OwnedFd> {
    check(descriptor)?;
    // SAFETY: the kernel has just returned it, so that it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn check(returned: i32) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
