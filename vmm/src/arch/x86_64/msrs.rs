//! The model-specific registers that a kernel is entered with.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use crate::error::{Error, UnfitKvm};

const IA32_TSC: u32 = 0x10;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
const IA32_SYSENTER_EIP: u32 = 0x176;
const IA32_MISC_ENABLE: u32 = 0x1a0;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SYSCALL_MASK: u32 = 0xc000_0084;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Fast string operations.
const MISC_ENABLE_FAST_STRING: u64 = 1;
/// MTRRs on, memory is write-back where none says otherwise.
const MTRR_WRITE_BACK: u64 = (1 << 11) | 6;

/// What a firmware would have left behind.
const BOOT: [(u32, u64); 11] = [
    (IA32_SYSENTER_CS, 0),
    (IA32_SYSENTER_ESP, 0),
    (IA32_SYSENTER_EIP, 0),
    (STAR, 0),
    (CSTAR, 0),
    (KERNEL_GS_BASE, 0),
    (SYSCALL_MASK, 0),
    (LSTAR, 0),
    (IA32_TSC, 0),
    (IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
    (IA32_MTRR_DEF_TYPE, MTRR_WRITE_BACK),
];

/// Sets a vCPU's registers.
///
/// # Errors
/// When KVM refuses, or knows one of them not.
pub(crate) fn set(vcpu: &VcpuFd) -> Result<(), Error> {
    let entries = BOOT.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries).expect("a dozen registers fit in the list");
    let done = vcpu.set_msrs(&msrs).map_err(Error::kvm("set a vCPU's MSRs"))?;
    match BOOT.get(done) {
        None => Ok(()),
        Some((index, _)) => Err(Error::UnfitKvm(UnfitKvm::Msr { index: *index })),
    }
}
