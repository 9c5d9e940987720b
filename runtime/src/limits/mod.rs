//! How much of the host a machine or an image may use, parsed once.

mod cpus;
mod memory;
mod scratch;
mod size;

pub use cpus::{Cpus, CpusError};
pub use memory::{MemoryError, MemorySize};
pub use scratch::{ScratchError, ScratchSize};
pub use size::{Size, SizeError};
