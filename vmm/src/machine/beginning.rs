//! How a machine comes to its first instruction: a kernel in its memory, or the state of one that was saved.

use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};

use vm_memory::GuestMemoryMmap;

use crate::arch::x86_64::{boot_params, mptable, regs};
use crate::config::{BootFiles, NetConfig, Save, SnapshotFiles, Start, WorkingSet};
use crate::error::Error;
use crate::layers::Pieces;
use crate::loader;
use crate::memory;
use crate::snapshot::{self, MachineState, Pagemap, SnapshotError};
use crate::virtio::mmio::{MmioTransport, TransportState};
use crate::virtio::worker::STACK_BYTES;

/// Where a machine's first instruction comes from.
pub(super) enum Origin {
    Boot(BootFiles),
    Saved(Box<MachineState>, JoinHandle<Pieces>),
}

/// What leads somewhere from the first device, and from those that are plugged in later. All of a machine
/// that was saved are put in place once it is known which it had.
pub(super) fn split_nets(
    net: Option<NetConfig>,
    plugged: Vec<NetConfig>,
    start: &Start,
) -> (Option<NetConfig>, Vec<NetConfig>) {
    match (net, start) {
        (Some(net), Start::Restore { .. }) => {
            let nets = std::iter::once(net).chain(plugged).collect();
            (Some(NetConfig::default()), nets)
        }
        (net, _) => (net, plugged),
    }
}

/// Opens what saving needs, since nothing is opened once the guest runs.
pub(super) fn with_pagemap(save: Save) -> Result<(Save, Pagemap), Error> {
    let pagemap = Pagemap::open().map_err(Error::host("look at this process's memory"))?;
    Ok((save, pagemap))
}

/// The memory of a machine that boots.
pub(super) fn allocate(memory_mib: u32) -> Result<GuestMemoryMmap, Error> {
    let failed = |source| Error::Memory { mib: memory_mib, source };
    memory::allocate(u64::from(memory_mib) << 20).map_err(failed)
}

/// The memory of one that goes on where another of this shape was saved, and the rest of its state.
pub(super) fn remember(
    files: &mut SnapshotFiles,
    memory_mib: u32,
    vcpus: u8,
) -> Result<(GuestMemoryMmap, MachineState), Error> {
    let state = snapshot::read(&mut files.state).map_err(Error::Restore)?;
    check_fit(&state, memory_mib, vcpus).map_err(Error::Restore)?;
    let bytes = u64::from(memory_mib) << 20;
    let memory = memory::restore(bytes, files.memories(), &state.memory);
    let memory = memory.map_err(|source| Error::Memory { mib: memory_mib, source })?;
    Ok((memory, state))
}

/// Starts the thread that touches a restored machine's memory ahead of the guest.
pub(super) fn prefault(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    working_set: WorkingSet,
) -> Result<JoinHandle<Pieces>, Error> {
    let memory = memory.clone();
    thread::Builder::new()
        .name("prefault".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || memory::prefault(&memory, memory_bytes, &working_set))
        .map_err(Error::host("start a thread"))
}

/// Puts kernel, initramfs and tables into the guest's memory; gives the address at which the kernel
/// is entered.
pub(super) fn load(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    vcpus: u8,
    files: BootFiles,
    command_line: &str,
) -> Result<u64, Error> {
    let BootFiles { mut kernel, initramfs, .. } = files;
    let kernel = loader::load_kernel(memory, &mut kernel, command_line)?;
    let load = |mut file| loader::load_initramfs(memory, memory_bytes, &mut file);
    let initramfs = initramfs.map(load).transpose()?;
    boot_params::write(memory, memory_bytes, &kernel, initramfs).map_err(Error::BootTables)?;
    mptable::write(memory, vcpus).map_err(Error::BootTables)?;
    regs::write_tables(memory).map_err(Error::BootTables)?;
    Ok(kernel.entry)
}

/// Runs `there` on a thread of its own while `here` runs on this one.
pub(super) fn beside<A, B: Send>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send,
) -> Result<(A, B), Error> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("loader".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, there).map_err(Error::host("start a thread"))?;
        let here = here();
        Ok((here, thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
    })
}

/// Refuses a saved machine of another shape.
pub(crate) fn check_fit(
    state: &MachineState,
    memory_mib: u32,
    vcpus: u8,
) -> Result<(), SnapshotError> {
    if state.memory_mib != memory_mib {
        return Err(SnapshotError::Unfit { what: "its memory has another size" });
    }
    if state.vcpus.len() != usize::from(vcpus) {
        return Err(SnapshotError::Unfit { what: "it has another number of vCPUs" });
    }
    Ok(())
}

/// Gives each device the state of its predecessor.
pub(crate) fn restore_devices(
    transports: &mut [MmioTransport],
    states: &[TransportState],
) -> Result<(), SnapshotError> {
    if transports.len() != states.len() {
        return Err(SnapshotError::Unfit { what: "it has other devices" });
    }
    transports.iter_mut().zip(states).try_for_each(|(transport, state)| transport.restore(state))
}
