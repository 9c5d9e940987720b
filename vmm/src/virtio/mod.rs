//! Virtio devices and the transport that shows them to the guest.

pub(crate) mod balloon;
pub(crate) mod block;
pub(crate) mod buffer;
pub mod device;
pub(crate) mod mmio;
pub(crate) mod net;
pub(crate) mod poll;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod rng;
pub mod vsock;
pub(crate) mod worker;
