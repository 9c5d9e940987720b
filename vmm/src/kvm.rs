//! The virtual machine as KVM knows it: memory slots, interrupt controllers, event descriptors.
#![allow(unsafe_code, reason = "memory slots and the exit page are raw pointers by nature")]

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, KVMIO, kvm_pit_config, kvm_pre_fault_memory,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use libc::c_ulong;
use vm_memory::{
    Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::ioctl::{_IOC_READ, _IOC_WRITE, ioctl_expr};

use crate::arch::x86_64::{cpuid, layout, msrs, regs};
use crate::config::KVM_DEVICE;
use crate::error::{Error, UnfitKvm};
use crate::selftest::{self, Capability};
use crate::snapshot::{self, CpuState, MachineState, SnapshotError, VmState};

/// The one API version that there has been since Linux 2.6.22 (`KVM_API_VERSION`).
pub(crate) const API_VERSION: i32 = 12;
/// `KVM_PRE_FAULT_MEMORY` (linux/kvm.h).
#[expect(clippy::cast_possible_truncation, reason = "the structure has 64 bytes")]
const PRE_FAULT_MEMORY: c_ulong =
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, 0xd5, size_of::<kvm_pre_fault_memory>() as u32);
/// Where a virtio-mmio device is notified (virtio 1.2, 4.2.2: `QueueNotify`).
const QUEUE_NOTIFY: u64 = 0x50;

/// A virtual machine.
#[derive(Debug)]
pub(crate) struct Vm {
    kvm: Kvm,
    fd: VmFd,
    /// Keeps the slots' memory mapped for as long as the machine is there.
    memory: GuestMemoryMmap,
    /// What raises interrupt lines, and which.
    irqfds: Vec<(Arc<EventFd>, u32)>,
}

impl Vm {
    /// Makes a machine with `memory` and interrupt controllers.
    ///
    /// # Errors
    /// When there is no KVM, it is unfit, or it refuses.
    pub(crate) fn create(memory: &GuestMemoryMmap) -> Result<Self, Error> {
        let kvm = open()?;
        let fd = create_vm(&kvm).map_err(Error::kvm("create a virtual machine"))?;
        let vm = Self { kvm, fd, memory: memory.clone(), irqfds: Vec::new() };
        vm.set_memory_slots()?;
        vm.create_interrupt_controllers()?;
        Ok(vm)
    }

    /// Whether its KVM can [`map_ahead`].
    pub(crate) fn maps_ahead(&self) -> bool {
        selftest::maps_ahead(&self.kvm)
    }

    /// Makes `count` vCPUs, the first of which enters the kernel at `entry`.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn create_vcpus(&self, count: u8, entry: u64) -> Result<Vec<VcpuFd>, Error> {
        let supported = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(Error::kvm("ask KVM for its CPU features"))?;
        let mut vcpus = Vec::with_capacity(usize::from(count));
        for index in 0..count {
            let vcpu =
                self.fd.create_vcpu(u64::from(index)).map_err(Error::kvm("create a vCPU"))?;
            let topology = cpuid::Topology { index, vcpus: count };
            vcpu.set_cpuid2(&cpuid::for_vcpu(&supported, topology))
                .map_err(Error::kvm("set a vCPU's features"))?;
            msrs::set(&vcpu)?;
            regs::set_reset_state(&vcpu)?;
            if index == 0 {
                regs::set_boot_state(&vcpu, entry)?;
            }
            vcpus.push(vcpu);
        }
        Ok(vcpus)
    }

    /// Makes vCPUs that go on from where others were saved, then the rest of that machine.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn restore(&self, state: &MachineState) -> Result<Vec<VcpuFd>, Error> {
        // All are made before the first is set: making one counts as writing 0 to its time stamp counter,
        // and KVM compares what is written to one with what was written to another before.
        let vcpus = (0..state.vcpus.len() as u64)
            .map(|index| self.fd.create_vcpu(index).map_err(Error::kvm("create a vCPU")))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some((first, saved)) = vcpus.first().zip(state.vcpus.first()) {
            saved.leave_initial_time(first).map_err(Error::Restore)?;
        }
        for (vcpu, saved) in vcpus.iter().zip(&state.vcpus) {
            saved.restore(vcpu).map_err(Error::Restore)?;
        }
        state.vm.restore(&self.fd).map_err(Error::Restore)?;
        Ok(vcpus)
    }

    /// Takes the state of the machine and of its vCPUs, none of which runs, while no device works.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn save(
        &self,
        vcpus: &mut [VcpuFd],
    ) -> Result<(VmState, Vec<CpuState>), SnapshotError> {
        self.settle_interrupts()?;
        vcpus.iter_mut().for_each(snapshot::finish_pending);
        let cpus =
            vcpus.iter().map(|vcpu| CpuState::save(&self.kvm, vcpu)).collect::<Result<_, _>>()?;
        Ok((VmState::save(&self.fd)?, cpus))
    }

    /// Lets all interrupts that devices have raised reach the interrupt controllers. The kernel hands a
    /// write to an irqfd on in a work queue of its own; what is still there would be in no saved state,
    /// and the guest that goes on from it would wait for it for ever. Only letting go of an irqfd waits
    /// for that work (virt/kvm/eventfd.c, `irqfd_shutdown`).
    fn settle_interrupts(&self) -> Result<(), SnapshotError> {
        for (fd, irq) in &self.irqfds {
            let failed = SnapshotError::kvm("settle an interrupt line");
            self.fd.unregister_irqfd(fd, *irq).map_err(&failed)?;
            self.fd.register_irqfd(fd, *irq).map_err(&failed)?;
        }
        Ok(())
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// A descriptor that raises interrupt line `irq` when written to.
    ///
    /// # Errors
    /// When the host or KVM refuses.
    pub(crate) fn irqfd(&mut self, irq: u32) -> Result<Arc<EventFd>, Error> {
        let fd = Arc::new(event_fd()?);
        self.connect_interrupt(&fd, irq)?;
        Ok(fd)
    }

    /// Raises interrupt line `irq` when `fd` is written to.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn connect_interrupt(&mut self, fd: &Arc<EventFd>, irq: u32) -> Result<(), Error> {
        self.fd.register_irqfd(fd, irq).map_err(Error::kvm("connect an interrupt line"))?;
        self.irqfds.push((Arc::clone(fd), irq));
        Ok(())
    }

    /// A descriptor that is readable once the guest has notified queue `queue` of the virtio-mmio
    /// device at `address`.
    ///
    /// # Errors
    /// When the host or KVM refuses.
    pub(crate) fn queue_kick(&self, address: u64, queue: u32) -> Result<EventFd, Error> {
        let fd = event_fd()?;
        self.connect_queue(&fd, address, queue)?;
        Ok(fd)
    }

    /// Makes `fd` readable once the guest has notified queue `queue` of the virtio-mmio device at
    /// `address`.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn connect_queue(
        &self,
        fd: &EventFd,
        address: u64,
        queue: u32,
    ) -> Result<(), Error> {
        let address = IoEventAddress::Mmio(address + QUEUE_NOTIFY);
        self.fd
            .register_ioevent(fd, &address, queue)
            .map_err(Error::kvm("connect a queue's notification"))
    }

    fn set_memory_slots(&self) -> Result<(), Error> {
        for (slot, region) in (0..).zip(self.memory.iter()) {
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .expect("the first byte of a region is in it");
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            // SAFETY: the range is a whole mapping of ours that nothing but guest memory lies in;
            // `self.memory` keeps it mapped for as long as the machine, and the guest's writes to
            // it are seen by volatile accesses only.
            let set = unsafe { self.fd.set_user_memory_region(region) };
            set.map_err(Error::kvm("give the guest its memory"))?;
        }
        Ok(())
    }

    fn create_interrupt_controllers(&self) -> Result<(), Error> {
        self.fd
            .set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(Error::kvm("place KVM's identity map"))?;
        self.fd.set_tss_address(layout::KVM_TSS).map_err(Error::kvm("place KVM's task state"))?;
        self.fd.create_irq_chip().map_err(Error::kvm("create the interrupt controllers"))?;
        // Stock kernels calibrate and check their timers against it.
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        self.fd.create_pit2(pit).map_err(Error::kvm("create the interval timer"))
    }
}

/// Has KVM map these pieces of the guest's memory, addresses and lengths, so that the guest does not
/// leave for the first touch of each page (`KVM_PRE_FAULT_MEMORY`, Documentation/virt/kvm/api.rst, 4.143).
/// A page that the host has not copied yet is mapped for reading. Nothing depends on it: what cannot be
/// mapped is passed over, and a signal ends it.
pub(crate) fn map_ahead(vcpu: &VcpuFd, pieces: &[(u64, u64)]) {
    for &(gpa, size) in pieces {
        let mut range = kvm_pre_fault_memory { gpa, size, ..Default::default() };
        // It goes on from where KVM came to.
        while range.size > 0 {
            // SAFETY: the descriptor is a vCPU's, and KVM writes to the structure and nothing else of ours.
            if unsafe { libc::ioctl(vcpu.as_raw_fd(), PRE_FAULT_MEMORY, &raw mut range) } < 0 {
                match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => return,
                    _ => break,
                }
            }
        }
    }
}

/// Opens KVM and checks that it can do what we need.
fn open() -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(|error| open_error(error.into()))?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(Error::UnfitKvm(UnfitKvm::ApiVersion { version }));
    }
    match selftest::missing_capability(&kvm) {
        Some(Capability { name, .. }) => {
            Err(Error::UnfitKvm(UnfitKvm::Capability { capability: name }))
        }
        None => Ok(kvm),
    }
}

fn open_error(source: io::Error) -> Error {
    let path = Path::new(KVM_DEVICE).to_owned();
    if source.kind() == io::ErrorKind::PermissionDenied {
        Error::KvmPermission { path, source }
    } else {
        Error::NoKvm { path, source }
    }
}

/// A signal makes this fail with `EINTR` on a busy host; it is then tried again.
pub(crate) fn create_vm(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result,
        }
    }
}

/// A descriptor of an event that nobody waits for.
///
/// # Errors
/// When the host has no more.
pub(crate) fn event_fd() -> Result<EventFd, Error> {
    EventFd::new(EFD_NONBLOCK).map_err(Error::host("create an event descriptor"))
}

/// The suberror of a vCPU that has just left with `KVM_EXIT_INTERNAL_ERROR`.
pub(crate) fn internal_suberror(vcpu: &mut VcpuFd) -> u32 {
    let exit = &vcpu.get_kvm_run().__bindgen_anon_1;
    // SAFETY: every member of the union is plain integers, so that any bytes are a value of it.
    let internal = unsafe { exit.internal };
    internal.suberror
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kvm_and_a_forbidden_one_differ() {
        let error = |errno| open_error(io::Error::from_raw_os_error(errno));
        assert!(matches!(error(libc::ENOENT), Error::NoKvm { .. }));
        assert!(matches!(error(libc::ENODEV), Error::NoKvm { .. }));
        assert!(matches!(error(libc::EACCES), Error::KvmPermission { .. }));
    }
}
