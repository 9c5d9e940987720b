//! A machine that boots a Linux kernel under KVM. Knows nothing about containers.

pub mod config;
pub mod selftest;
pub mod virtio;
