//! How a machine comes to its first instruction: a kernel in its memory, or the state of one that was saved.

use std::fs::File;
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};

use vm_memory::GuestMemoryMmap;

use super::live::Belongings;
use crate::arch::x86_64::{boot_params, mptable, regs};
use crate::config::{
    BootFiles, FileRange, KernelFile, NetConfig, Save, SnapshotFiles, Start, WorkingSet,
};
use crate::error::Error;
use crate::layers::Pieces;
use crate::loader::{self, LoadError};
use crate::memory;
use crate::prepared::Prepared;
use crate::snapshot::{self, MachineState, Pagemap, SnapshotError};
use crate::virtio::mmio::{MmioTransport, TransportState};
use crate::virtio::worker::STACK_BYTES;

/// Where a machine's first instruction comes from.
pub(super) enum Origin {
    Boot(Boot, Option<JoinHandle<Pieces>>),
    Saved(Box<MachineState>, JoinHandle<Pieces>),
}

/// What is to be put into the memory of a machine that boots.
pub(super) struct Boot {
    kernel: File,
    /// What of the kernel is in it already.
    prepared: Option<Prepared>,
    initramfs: Option<File>,
    pub(super) command_line: String,
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

/// The memory of a machine that boots, and what is to be put into it. One that is to be saved has all of it for
/// itself.
pub(super) fn begin(
    files: BootFiles,
    memory_mib: u32,
    is_saved: bool,
    belongings: &mut Belongings,
) -> Result<(GuestMemoryMmap, Origin), Error> {
    let BootFiles { kernel, initramfs, command_line } = files;
    let failed = |source| Error::Memory { mib: memory_mib, source };
    let bytes = u64::from(memory_mib) << 20;
    let kernel = match kernel {
        KernelFile::Prepared(kernel) if !is_saved => kernel,
        KernelFile::Plain(kernel) | KernelFile::Prepared(kernel) => {
            let boot = Boot { kernel, prepared: None, initramfs, command_line };
            return Ok((memory::allocate(bytes).map_err(failed)?, Origin::Boot(boot, None)));
        }
    };
    let failed = |source| Error::Load(LoadError::Prepared(source));
    let prepared = Prepared::look(&kernel).map_err(failed)?;
    let code = std::slice::from_ref(&prepared.code);
    let memory = memory::lay_over(bytes, [&kernel], code).map_err(failed)?;
    let range = |&(offset, length): &(u64, u64)| FileRange { offset, length };
    let read = prepared.code.iter().map(range).collect();
    let ahead = prefault(&memory, bytes, WorkingSet { written: Vec::new(), read })?;
    let file = kernel.try_clone().map_err(failed)?;
    belongings.lie_over(bytes, vec![file], code).map_err(Error::Restore)?;
    let boot = Boot { kernel, prepared: Some(prepared), initramfs, command_line };
    Ok((memory, Origin::Boot(boot, Some(ahead))))
}

/// The memory of one that goes on where another of this shape was saved, and the rest of its state.
pub(super) fn remember(
    mut files: SnapshotFiles,
    working_set: WorkingSet,
    memory_mib: u32,
    vcpus: u8,
    belongings: &mut Belongings,
) -> Result<(GuestMemoryMmap, Origin), Error> {
    let state = snapshot::read(&mut files.state).map_err(Error::Restore)?;
    check_fit(&state, memory_mib, vcpus).map_err(Error::Restore)?;
    let bytes = u64::from(memory_mib) << 20;
    let memory = memory::restore(bytes, files.memories(), &state.memory);
    let memory = memory.map_err(|source| Error::Memory { mib: memory_mib, source })?;
    let ahead = prefault(&memory, bytes, working_set)?;
    belongings.lie_over(bytes, files.into_memories(), &state.memory).map_err(Error::Restore)?;
    Ok((memory, Origin::Saved(Box::new(state), ahead)))
}

/// Starts the thread that touches a machine's memory ahead of the guest, where a file lies behind it.
fn prefault(
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
    boot: Boot,
    command_line: &str,
) -> Result<u64, Error> {
    let Boot { mut kernel, prepared, initramfs, .. } = boot;
    let kernel = match prepared {
        Some(known) => loader::load_prepared(memory, &mut kernel, &known, command_line)?,
        None => loader::load_kernel(memory, &mut kernel, command_line)?,
    };
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
        let builder = thread::Builder::new().name("beside".to_owned()).stack_size(STACK_BYTES);
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
