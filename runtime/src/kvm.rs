//! Whether this host's KVM is worth trying: as little as tells, before anything is made.

use std::fs::{File, OpenOptions};
use std::path::Path;

use vmm::config::KVM_DEVICE;

use crate::error::Error;

/// Opens `/dev/kvm`, and tries a guest of a few instructions where the CPU shows neither AMD's nor
/// Intel's virtualisation: such a KVM is a paravirtual one, which cannot run an ordinary kernel.
pub(crate) fn check() -> Result<(), Error> {
    open()?;
    if cpu_virtualises() { Ok(()) } else { vmm::selftest::run().map_err(Error::Unfit) }
}

/// Opens `/dev/kvm` as a machine will.
pub(crate) fn open() -> Result<File, Error> {
    let opened = OpenOptions::new().read(true).write(true).open(KVM_DEVICE);
    opened.map_err(|source| Error::File { action: "open", path: KVM_DEVICE.into(), source })
}

/// Which flag of the CPU lets it run guests, if any.
pub(crate) fn cpu_flag() -> Option<&'static str> {
    use std::arch::x86_64::__cpuid;
    const VMX_ECX: u32 = 1 << 5;
    const SVM_ECX: u32 = 1 << 2;
    const EXTENDED: u32 = 0x8000_0001;
    if __cpuid(1).ecx & VMX_ECX != 0 {
        return Some("vmx");
    }
    let has_extended = __cpuid(0x8000_0000).eax >= EXTENDED;
    (has_extended && __cpuid(EXTENDED).ecx & SVM_ECX != 0).then_some("svm")
}

/// The loaded KVM module, if it can be told.
pub(crate) fn module() -> Option<&'static str> {
    ["kvm_amd", "kvm_intel", "kvm_pvm"]
        .into_iter()
        .find(|name| Path::new("/sys/module").join(name).exists())
}

fn cpu_virtualises() -> bool {
    cpu_flag().is_some()
}
