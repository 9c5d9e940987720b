//! How much of the host a machine may use: `-m` and `--cpus`, parsed once.

mod cpus;
mod memory;

pub use cpus::{Cpus, CpusError};
pub use memory::{MemoryError, MemorySize};
