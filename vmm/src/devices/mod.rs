//! The devices that are not virtio: the UART and the power port.

pub(crate) mod power;
pub(crate) mod serial;
