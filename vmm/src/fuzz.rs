//! The bodies of the fuzz targets: what reads the guest's memory, and kernels. Each is also a test
//! over its corpus.

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;
mod kernel;
mod memory;

pub use crate::virtio::block::fuzz::block;
pub use crate::virtio::vsock::fuzz::vsock;
pub use kernel::kernel;
pub(crate) use memory::Image;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn block() {
        corpus::each("block", super::block);
    }

    #[test]
    fn kernel() {
        corpus::each("kernel", super::kernel);
    }

    #[test]
    fn vsock() {
        corpus::each("vsock", super::vsock);
    }
}
