//! The processor state a kernel is entered with: long mode, flat segments, the first GiB mapped.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_lapic_state, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;
use crate::error::Error;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of RFLAGS always reads 1.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// Page table entries: present and writable, and a 2 MiB page.
const PAGE_TABLE: u64 = 0x3;
const PAGE_2M: u64 = 0x83;

/// The descriptors at the selectors that the boot protocol asks for: `__BOOT_CS` is 0x10 and
/// `__BOOT_DS` 0x18 (boot.rst, "64-bit boot protocol").
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
/// The offset of the last byte of the descriptors.
const GDT_LIMIT: u16 = 31;
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;

/// Offsets of the two local interrupt pins in the local APIC's registers.
const APIC_LVT0: usize = 0x350;
const APIC_LVT1: usize = 0x360;
const APIC_MODE_NMI: u32 = 4;
const APIC_MODE_EXT_INT: u32 = 7;

/// Writes the descriptors and page tables that [`set_boot_state`] points to.
///
/// # Errors
/// When the memory is too small to hold them.
pub(crate) fn write_tables(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    for (address, entry) in (layout::GDT..).step_by(8).zip(GDT) {
        memory.write_obj(entry, GuestAddress(address))?;
    }
    memory.write_obj(0u64, GuestAddress(layout::IDT))?;
    memory.write_obj(layout::PDPT | PAGE_TABLE, GuestAddress(layout::PML4))?;
    memory.write_obj(layout::PD | PAGE_TABLE, GuestAddress(layout::PDPT))?;
    let mut directory = Vec::with_capacity(4096);
    for page in 0..512u64 {
        directory.extend_from_slice(&((page << 21) | PAGE_2M).to_le_bytes());
    }
    memory.write_slice(&directory, GuestAddress(layout::PD))
}

/// Sets the registers of the vCPU that enters the kernel at `entry`.
///
/// # Errors
/// When KVM refuses.
pub(crate) fn set_boot_state(vcpu: &VcpuFd, entry: u64) -> Result<(), Error> {
    let regs = kvm_regs {
        rflags: RFLAGS_RESERVED,
        rip: entry,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        rsi: layout::BOOT_PARAMS,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(Error::kvm("set a vCPU's registers"))?;
    let mut sregs = vcpu.get_sregs().map_err(Error::kvm("get a vCPU's special registers"))?;
    enter_long_mode(&mut sregs);
    vcpu.set_sregs(&sregs).map_err(Error::kvm("set a vCPU's special registers"))
}

/// Sets what each vCPU starts with, whether it boots or waits.
///
/// # Errors
/// When KVM refuses.
pub(crate) fn set_reset_state(vcpu: &VcpuFd) -> Result<(), Error> {
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(Error::kvm("set a vCPU's floating point state"))?;
    let mut lapic = vcpu.get_lapic().map_err(Error::kvm("get a vCPU's local APIC"))?;
    set_delivery_mode(&mut lapic, APIC_LVT0, APIC_MODE_EXT_INT);
    set_delivery_mode(&mut lapic, APIC_LVT1, APIC_MODE_NMI);
    vcpu.set_lapic(&lapic).map_err(Error::kvm("set a vCPU's local APIC"))
}

fn enter_long_mode(sregs: &mut kvm_sregs) {
    let flat = kvm_segment {
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        type_: 0x3,
        selector: DATA_SELECTOR,
        db: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment { type_: 0xb, selector: CODE_SELECTOR, db: 0, l: 1, ..flat };
    sregs.ds = flat;
    sregs.es = flat;
    sregs.fs = flat;
    sregs.gs = flat;
    sregs.ss = flat;
    sregs.gdt = kvm_dtable { base: layout::GDT, limit: GDT_LIMIT, ..Default::default() };
    sregs.idt = kvm_dtable { base: layout::IDT, limit: 7, ..Default::default() };
    sregs.cr3 = layout::PML4;
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 |= CR0_PE | CR0_ET | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
}

/// Sets bits 8 to 10 of a local vector table entry.
fn set_delivery_mode(lapic: &mut kvm_lapic_state, offset: usize, mode: u32) {
    let mut bytes = [0; 4];
    for (byte, register) in bytes.iter_mut().zip(&lapic.regs[offset..]) {
        *byte = register.cast_unsigned();
    }
    let value = (u32::from_le_bytes(bytes) & !0x700) | (mode << 8);
    for (register, byte) in lapic.regs[offset..].iter_mut().zip(value.to_le_bytes()) {
        *register = byte.cast_signed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_mode_leaves_the_other_bits() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[APIC_LVT0] = 0x12;
        lapic.regs[APIC_LVT0 + 2] = 1;
        set_delivery_mode(&mut lapic, APIC_LVT0, APIC_MODE_EXT_INT);
        assert_eq!(lapic.regs[APIC_LVT0..APIC_LVT0 + 4], [0x12, 7, 1, 0]);
    }

    #[test]
    fn the_tables_map_the_first_gib_one_to_one() {
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory is there");
        write_tables(&memory).expect("the tables fit");
        let entry: u64 = memory.read_obj(GuestAddress(layout::PD + 8 * 511)).expect("it is there");
        assert_eq!(entry, (511 << 21) | PAGE_2M);
        let code: u64 = memory.read_obj(GuestAddress(layout::GDT + 0x10)).expect("it is there");
        assert_eq!(code, GDT[2]);
    }
}
