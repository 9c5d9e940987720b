//! Why a machine could not be made or run.

use std::io;
use std::path::PathBuf;

use vm_memory::GuestMemoryError;

use crate::event::EventError;
use crate::loader::LoadError;
use crate::slots::SlotError;
use crate::snapshot::SnapshotError;
use crate::virtio::block::DiskError;

/// An error and its causes, joined by colons.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why a machine could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no KVM.
    #[error("cannot open {path}")]
    NoKvm {
        /// Its device file.
        path: PathBuf,
        /// Why it cannot be opened.
        source: io::Error,
    },
    /// There is a KVM, but not for this user.
    #[error("no permission to use {path}")]
    KvmPermission {
        /// Its device file.
        path: PathBuf,
        /// Why it cannot be opened.
        source: io::Error,
    },
    /// There is a KVM that lacks something.
    #[error("this machine's KVM cannot run a guest")]
    UnfitKvm(#[source] UnfitKvm),
    /// KVM refused a request.
    #[error("cannot {what}")]
    Kvm {
        /// A verb and its object.
        what: &'static str,
        /// Why it refused.
        source: io::Error,
    },
    /// The configuration asks for what no machine has.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host has not the address space.
    #[error("cannot map {mib} MiB of memory for the guest")]
    Memory {
        /// The size that was asked for.
        mib: u32,
        /// Why it failed.
        source: io::Error,
    },
    /// The tables for the kernel did not fit.
    #[error("cannot write the boot tables")]
    BootTables(#[source] GuestMemoryError),
    /// The kernel or the initramfs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A saved machine.
    #[error("cannot restore the saved machine")]
    Restore(#[source] SnapshotError),
    /// A disk's files.
    #[error("cannot use disk {id}")]
    Disk {
        /// The disk's id.
        id: String,
        /// Why not.
        source: DiskError,
    },
    /// A network interface.
    #[error("cannot plug a network interface")]
    Plug(#[source] SlotError),
    /// The host refused a descriptor or a thread.
    #[error("cannot {what}")]
    Host {
        /// A verb and its object.
        what: &'static str,
        /// Why it refused.
        source: io::Error,
    },
    /// Nobody reads the events any more.
    #[error("cannot report what the machine does")]
    Events(#[from] EventError),
}

impl Error {
    /// For `map_err` behind a KVM request.
    pub(crate) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { what, source: error.into() }
    }

    /// For `map_err` behind a request to the host's kernel.
    pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
}

/// What a KVM lacks.
#[derive(Debug, thiserror::Error)]
pub enum UnfitKvm {
    /// It speaks another language.
    #[error("its API version is {version}, not 12")]
    ApiVersion {
        /// The version it told.
        version: i32,
    },
    /// It lacks a capability.
    #[error("it lacks the capability {capability}")]
    Capability {
        /// The capability's name in `linux/kvm.h`.
        capability: &'static str,
    },
    /// It does not know a register.
    #[error("it does not know the register {index:#x}")]
    Msr {
        /// The register's number.
        index: u32,
    },
}

/// What no machine has.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Too little or too much memory.
    #[error("a machine cannot have {mib} MiB of memory")]
    Memory {
        /// What was asked for.
        mib: u32,
    },
    /// No vCPU or too many.
    #[error("a machine cannot have {vcpus} CPUs")]
    Vcpus {
        /// What was asked for.
        vcpus: u8,
    },
    /// More devices than interrupt lines.
    #[error("a machine cannot have {devices} devices")]
    Devices {
        /// What was asked for.
        devices: usize,
    },
    /// More interfaces are plugged than there are places.
    #[error("there is no place for {interfaces} more interfaces")]
    Interfaces {
        /// What was asked for.
        interfaces: usize,
    },
}
