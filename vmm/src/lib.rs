//! A machine that boots a Linux kernel under KVM. Knows nothing about containers.
#![deny(unsafe_code)]

mod arch;
mod bus;
mod command_line;
pub mod config;
mod devices;
pub mod error;
pub mod event;
pub mod exit;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod haste;
mod kick;
mod kvm;
mod layers;
mod loader;
pub mod machine;
mod memory;
pub mod order;
mod prepared;
pub mod process;
pub mod residence;
pub mod selftest;
mod slots;
mod snapshot;
mod sparse;
mod vcpu;
pub mod virtio;
mod wake;
mod wiring;

pub use config::{
    BootFiles, DiskBacking, DiskConfig, DiskExtent, DiskLimits, FileRange, KernelFile,
    MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, MachineConfig, NetBackend, NetConfig, NetLimits,
    Ring, Save, SnapshotFiles, Start, VsockConfig,
};
pub use error::{ConfigError, Error, UnfitKvm};
pub use event::{Event, EventError, InterfaceOutcome, LiveSave};
pub use exit::Exit;
pub use layers::{Layers, Pieces};
pub use loader::LoadError;
pub use machine::Machine;
pub use order::{
    AfterSave, Order, OrderReceiver, OrderSender, PageFiles, Parent, SaveFiles, orders,
};
pub use prepared::prepare_kernel;
pub use slots::SlotError;
pub use snapshot::{
    Contents, SnapshotError, check_saved, contents as saved_contents, flatten, memory_sum,
};
pub use sparse::copy as copy_sparse;
pub use virtio::block::DiskError;
pub use virtio::net::{open_tap, open_vhost};
