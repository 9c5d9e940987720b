//! The bodies of the fuzz targets: what reads the guest's memory, kernels, and saved machines. Each is
//! also a test over its corpus.

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;
mod kernel;
mod memory;

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

pub use crate::snapshot::fuzz::snapshot;
pub use crate::virtio::balloon::fuzz::balloon;
pub use crate::virtio::block::fuzz::block;
pub use crate::virtio::net::fuzz::net;
pub use crate::virtio::vsock::fuzz::vsock;
pub use kernel::kernel;
pub(crate) use memory::Image;

/// A file in memory that holds `bytes`.
pub(crate) fn file(bytes: &[u8]) -> File {
    let file = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("the host has room");
    let file = File::from(file);
    file.write_all_at(bytes, 0).expect("the host has room");
    file
}

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn balloon() {
        corpus::each("balloon", super::balloon);
    }

    #[test]
    fn block() {
        corpus::each("block", super::block);
    }

    #[test]
    fn kernel() {
        corpus::each("kernel", super::kernel);
    }

    #[test]
    fn net() {
        corpus::each("net", super::net);
    }

    #[test]
    fn snapshot() {
        corpus::each("snapshot", super::snapshot);
    }

    #[test]
    fn vsock() {
        corpus::each("vsock", super::vsock);
    }
}
