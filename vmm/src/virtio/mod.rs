//! Virtio devices and the transport that shows them to the guest.

pub mod device;
pub mod vsock;
