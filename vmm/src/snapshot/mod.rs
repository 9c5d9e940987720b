//! A paused machine as two files: its state, and its memory. docs/snapshot-format.md has the layout.
//!
//! The state is small, versioned and checksummed; whoever wrote it may be hostile, so everything in
//! it is checked before use. The memory is mapped as it is: what is in it is the guest's anyway.

mod ahead;
mod cpu;
mod difference;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod memory;
mod pagemap;
mod vm;
mod whole;

use std::io;

use serde::{Deserialize, Serialize};

use crate::devices::serial::UartState;
use crate::layers::Pieces;
use crate::virtio::mmio::TransportState;

pub(crate) use ahead::{Ahead, catch_up, save as save_memory, write_ahead};
pub(crate) use cpu::{CpuState, finish_pending};
pub(crate) use difference::{Grain, Saved, save_file};
pub(crate) use format::{read, write};
pub(crate) use memory::{
    length as memory_length, overlaps, save_difference, save_difference_again,
};
pub(crate) use pagemap::{Pagemap, Survey, Watch};
pub(crate) use vm::VmState;
pub use whole::{Contents, check_saved, contents, flatten, memory_sum};
pub(crate) use whole::{check_memory, seal};

/// Everything about a machine but its memory.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MachineState {
    pub(crate) memory_mib: u32,
    /// Pieces of the memory that hold something, as addresses and lengths, of each file that has some; the
    /// rest is zeros.
    pub(crate) memory: Vec<Pieces>,
    /// For each writable disk of a machine that was saved while it lived, what counts of each of its files.
    pub(crate) disks: Vec<Vec<Pieces>>,
    pub(crate) vm: VmState,
    pub(crate) vcpus: Vec<CpuState>,
    pub(crate) uart: UartState,
    /// In the order of the bus.
    pub(crate) devices: Vec<TransportState>,
}

/// Why a machine cannot be saved, or a saved one not be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("cannot read the saved machine")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write the saved machine")]
    Write(#[source] io::Error),
    /// The file is something else.
    #[error("the file is no saved machine")]
    NotASnapshot,
    /// Another version wrote it.
    #[error("the saved machine has version {found}, this hyperrun reads version {known}")]
    Version {
        /// The file's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file is cut off, too long, or its checksum is wrong.
    #[error("the saved machine is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The saved machine has another shape than the one asked for.
    #[error("the saved machine does not fit: {what}")]
    Unfit {
        /// What differs.
        what: &'static str,
    },
    /// KVM refused.
    #[error("cannot {what}")]
    Kvm {
        /// A verb and its object.
        what: &'static str,
        /// Why it refused.
        source: io::Error,
    },
}

impl SnapshotError {
    /// For `map_err` on what KVM gives.
    pub(crate) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { what, source: error.into() }
    }
}
