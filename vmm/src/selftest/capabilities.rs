//! What a machine needs of KVM, and whether this one has it.

use kvm_bindings::KVM_CAP_PRE_FAULT_MEMORY;
use kvm_ioctls::{Cap, Kvm};

/// A capability of KVM that a machine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Its number, as KVM is asked for it.
    pub number: Cap,
    /// Its name in `linux/kvm.h`.
    pub name: &'static str,
    /// What a machine needs it for.
    pub purpose: &'static str,
}

/// A capability, and whether KVM has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityFinding {
    /// The capability.
    pub capability: Capability,
    /// Whether KVM has it.
    pub present: bool,
}

/// Everything a machine needs (Documentation/virt/kvm/api.rst). All of it is in any KVM since
/// Linux 4.13.
pub const NEEDED: [Capability; 12] = [
    needed(Cap::UserMemory, "KVM_CAP_USER_MEMORY", "the guest's memory is ours"),
    needed(Cap::Irqchip, "KVM_CAP_IRQCHIP", "interrupt controllers in the kernel"),
    needed(Cap::Irqfd, "KVM_CAP_IRQFD", "devices interrupt the guest by eventfd"),
    needed(Cap::Ioeventfd, "KVM_CAP_IOEVENTFD", "the guest notifies devices by eventfd"),
    needed(Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR", "real mode on Intel"),
    needed(Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "real mode on Intel"),
    needed(Cap::ExtCpuid, "KVM_CAP_EXT_CPUID", "CPU features of our choice"),
    needed(Cap::MpState, "KVM_CAP_MP_STATE", "more than one vCPU"),
    needed(Cap::Pit2, "KVM_CAP_PIT2", "the timer that kernels calibrate with"),
    needed(Cap::Clocksource, "KVM_CAP_CLOCKSOURCE", "the guest's clock"),
    needed(Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "vCPUs can be stopped"),
    needed(Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS", "vCPUs can be saved"),
];

/// Looks for each of [`NEEDED`].
pub(super) fn find(kvm: &Kvm) -> Vec<CapabilityFinding> {
    NEEDED
        .iter()
        .map(|&capability| {
            let present = kvm.check_extension(capability.number);
            CapabilityFinding { capability, present }
        })
        .collect()
}

/// The first of [`NEEDED`] that `kvm` lacks.
pub(crate) fn missing(kvm: &Kvm) -> Option<Capability> {
    NEEDED.into_iter().find(|capability| !kvm.check_extension(capability.number))
}

/// Whether `kvm` can be asked to map memory before a guest touches it: since Linux 6.11, on processors with two
/// levels of page tables. A start is faster with it.
pub(crate) fn maps_ahead(kvm: &Kvm) -> bool {
    kvm.check_extension_raw(KVM_CAP_PRE_FAULT_MEMORY.into()) > 0
}

const fn needed(number: Cap, name: &'static str, purpose: &'static str) -> Capability {
    Capability { number, name, purpose }
}
