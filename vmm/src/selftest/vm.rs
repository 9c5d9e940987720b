//! A virtual machine of one vCPU and 64 KiB for the micro-guest.
#![allow(unsafe_code, reason = "a memory slot is a raw pointer by nature")]

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
};
use vmm_sys_util::eventfd::EventFd;

use super::SelfTestError;
use super::guest;
use crate::kvm::create_vm;

/// Where KVM may put what it needs for real mode on Intel: below the end of 4 GiB.
const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
const KVM_TSS: usize = 0xfffb_d000;

/// The virtual machine.
pub(super) struct Vm {
    pub(super) vcpu: VcpuFd,
    /// Raises [`guest::IRQ`].
    pub(super) irq: EventFd,
    /// The vCPU runs only while the memory is mapped; the fields above go first.
    _fd: VmFd,
    _memory: GuestMemoryMmap,
}

impl Vm {
    /// A machine that has the guest in its memory and is about to enter it.
    pub(super) fn create(kvm: &Kvm) -> Result<Self, SelfTestError> {
        let memory = memory()?;
        let fd = create_vm(kvm).map_err(SelfTestError::refused("create a virtual machine"))?;
        set_memory_slot(&fd, &memory)?;
        fd.set_identity_map_address(KVM_IDENTITY_MAP)
            .map_err(SelfTestError::refused("place KVM's identity map"))?;
        fd.set_tss_address(KVM_TSS).map_err(SelfTestError::refused("place KVM's task state"))?;
        fd.create_irq_chip().map_err(SelfTestError::refused("create the interrupt controllers"))?;
        let irq = EventFd::new(0).map_err(SelfTestError::host("create an event descriptor"))?;
        fd.register_irqfd(&irq, guest::IRQ)
            .map_err(SelfTestError::refused("connect an interrupt line"))?;
        let vcpu = fd.create_vcpu(0).map_err(SelfTestError::refused("create a vCPU"))?;
        set_registers(kvm, &vcpu)?;
        Ok(Self { vcpu, irq, _fd: fd, _memory: memory })
    }
}

fn memory() -> Result<GuestMemoryMmap, SelfTestError> {
    let ranges = [(GuestAddress(0), guest::MEMORY_BYTES)];
    let memory = GuestMemoryMmap::from_ranges(&ranges).map_err(|error| {
        SelfTestError::host("map a guest's memory")(std::io::Error::other(error))
    })?;
    guest::write(&memory).expect("the guest fits into its memory");
    Ok(memory)
}

fn set_memory_slot(fd: &VmFd, memory: &GuestMemoryMmap) -> Result<(), SelfTestError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let host = region
            .get_host_address(MemoryRegionAddress(0))
            .expect("the first byte of a region is in it");
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: host as u64,
        };
        // SAFETY: the range is a whole mapping of ours that holds nothing but this guest's memory.
        // `Vm` keeps it until the vCPU is closed, and no reference into it is ever made.
        let set = unsafe { fd.set_user_memory_region(region) };
        set.map_err(SelfTestError::refused("give a guest its memory"))?;
    }
    Ok(())
}

fn set_registers(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), SelfTestError> {
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(SelfTestError::refused("ask KVM for its CPU features"))?;
    vcpu.set_cpuid2(&cpuid).map_err(SelfTestError::refused("set a vCPU's features"))?;
    let leaf = cpuid.as_slice().iter().find(|entry| entry.function == guest::FEATURE_LEAF);
    let features = leaf.map_or(0, |entry| entry.ecx);

    let mut sregs = vcpu.get_sregs().map_err(SelfTestError::refused("read a vCPU's registers"))?;
    guest::set_system_registers(&mut sregs, features);
    vcpu.set_sregs(&sregs).map_err(SelfTestError::refused("set a vCPU's system registers"))?;
    vcpu.set_regs(&guest::registers(features))
        .map_err(SelfTestError::refused("set a vCPU's registers"))?;

    let entries = guest::model_specific_registers().map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    });
    let msrs = Msrs::from_entries(&entries).expect("three registers fit into a list");
    let set = vcpu
        .set_msrs(&msrs)
        .map_err(SelfTestError::refused("set a vCPU's model-specific registers"))?;
    if set == entries.len() {
        return Ok(());
    }
    let source = std::io::Error::from_raw_os_error(libc::EINVAL);
    Err(SelfTestError::Refused { what: "set the system call registers of a vCPU", source })
}
