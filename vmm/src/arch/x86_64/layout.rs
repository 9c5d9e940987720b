//! Every guest address and interrupt line of the machine, and the proof that they do not overlap.

/// The global descriptor table that the kernel is entered with.
pub(crate) const GDT: u64 = 0x500;
/// An empty interrupt descriptor table.
pub(crate) const IDT: u64 = 0x520;
/// `struct boot_params`, the "zero page".
pub(crate) const BOOT_PARAMS: u64 = 0x7000;
/// Where the first stack ends (it grows down).
pub(crate) const BOOT_STACK: u64 = 0x8ff0;
/// The page tables that the kernel is entered with: three pages.
pub(crate) const PML4: u64 = 0x9000;
/// Second level.
pub(crate) const PDPT: u64 = 0xa000;
/// Third level: 2 MiB pages, the first GiB one to one.
pub(crate) const PD: u64 = 0xb000;
/// The kernel's command line.
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// `COMMAND_LINE_SIZE` of x86 Linux, with its end byte.
pub(crate) const COMMAND_LINE_CAPACITY: usize = 2048;
/// The MP table lies in the last KiB of base memory, where the kernel searches it.
pub(crate) const MP_TABLE: u64 = 0x9_fc00;
/// The end of base memory.
pub(crate) const BASE_MEMORY_END: u64 = 0xa_0000;
/// The first address above the legacy hole; nothing of the kernel lies lower.
pub(crate) const HIGH_MEMORY: u64 = 0x10_0000;

/// Where the hole for devices begins: 3 GiB.
pub(crate) const DEVICE_HOLE: u64 = 0xc000_0000;
/// Where the hole for devices ends and memory goes on: 4 GiB.
pub(crate) const DEVICE_HOLE_END: u64 = 0x1_0000_0000;
/// The first virtio-mmio device.
pub(crate) const MMIO_DEVICES: u64 = 0xd000_0000;
/// What each virtio-mmio device takes up.
pub(crate) const MMIO_DEVICE_SIZE: u64 = 0x1000;
/// The I/O APIC (`IO_APIC_DEFAULT_PHYS_BASE`).
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
/// The local APICs (`APIC_DEFAULT_PHYS_BASE`).
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// A page that KVM on Intel needs for real mode.
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages that KVM on Intel needs for real mode.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;
/// Above what an initramfs may not reach: what kernels of all ages take (`initrd_addr_max`).
pub(crate) const INITRAMFS_END: u64 = 0x7fff_f000;

/// The UART's interrupt line.
pub(crate) const SERIAL_IRQ: u32 = 4;
/// The first virtio-mmio device's interrupt line; the others follow.
pub(crate) const FIRST_DEVICE_IRQ: u32 = 5;
/// The I/O APIC's pins.
pub(crate) const IRQ_PINS: u8 = 24;
/// How many virtio-mmio devices fit.
pub(crate) const MAX_DEVICES: usize = 19;

/// The first UART (`COM1`): eight ports.
pub(crate) const SERIAL_PORT: u16 = 0x3f8;
/// The last of the UART's ports.
pub(crate) const SERIAL_PORT_END: u16 = 0x3ff;
/// The keyboard controller's command port, whose one use here is reset.
pub(crate) const I8042_COMMAND_PORT: u16 = 0x64;
/// The chipset's reset control register.
pub(crate) const RESET_CONTROL_PORT: u16 = 0xcf9;
/// The power device: one 32-bit port.
pub(crate) const POWER_PORT: u16 = 0xcf0;

const _: () = {
    assert!(GDT + 4 * 8 <= IDT);
    assert!(IDT + 8 <= BOOT_PARAMS);
    assert!(BOOT_PARAMS + 0x1000 <= BOOT_STACK);
    assert!(BOOT_STACK < PML4);
    assert!(PML4 + 0x1000 == PDPT && PDPT + 0x1000 == PD);
    assert!(PD + 0x1000 <= COMMAND_LINE);
    assert!(COMMAND_LINE + COMMAND_LINE_CAPACITY as u64 <= MP_TABLE);
    assert!(MP_TABLE < BASE_MEMORY_END && BASE_MEMORY_END < HIGH_MEMORY);
    assert!(DEVICE_HOLE <= MMIO_DEVICES);
    assert!(MMIO_DEVICES + MAX_DEVICES as u64 * MMIO_DEVICE_SIZE <= IO_APIC as u64);
    assert!(IO_APIC + 0x1000 <= LOCAL_APIC);
    assert!((LOCAL_APIC + 0x1000) as u64 <= KVM_IDENTITY_MAP);
    assert!(KVM_IDENTITY_MAP + 0x1000 <= KVM_TSS as u64);
    assert!(KVM_TSS as u64 + 0x3000 <= DEVICE_HOLE_END);
    assert!(INITRAMFS_END <= DEVICE_HOLE);
    assert!(FIRST_DEVICE_IRQ as usize + MAX_DEVICES == IRQ_PINS as usize);
    assert!(SERIAL_IRQ < FIRST_DEVICE_IRQ);
};

/// Where the `index`th virtio-mmio device lies.
pub(crate) fn device_address(index: usize) -> u64 {
    MMIO_DEVICES + index as u64 * MMIO_DEVICE_SIZE
}

/// The `index`th virtio-mmio device's interrupt line.
pub(crate) fn device_irq(index: usize) -> u32 {
    FIRST_DEVICE_IRQ + u32::try_from(index).expect("a machine has at most MAX_DEVICES devices")
}

/// The guest's memory as ranges of address and length, around the hole for devices.
pub(crate) fn memory_ranges(bytes: u64) -> Vec<(u64, u64)> {
    if bytes <= DEVICE_HOLE {
        vec![(0, bytes)]
    } else {
        vec![(0, DEVICE_HOLE), (DEVICE_HOLE_END, bytes - DEVICE_HOLE)]
    }
}

/// Where `length` bytes at `address` lie when memory is counted without the hole; none if they do not
/// all lie in one of its ranges.
pub(crate) fn memory_offset(bytes: u64, address: u64, length: u64) -> Option<u64> {
    let mut before = 0;
    for (start, size) in memory_ranges(bytes) {
        if let Some(inside) = address.checked_sub(start)
            && inside.checked_add(length)? <= size
        {
            return Some(before + inside);
        }
        before += size;
    }
    None
}

/// The address of what lies at `offset` when memory is counted without the hole, the inverse of
/// [`memory_offset`].
pub(crate) fn memory_address(bytes: u64, offset: u64) -> Option<u64> {
    let mut before = 0;
    for (start, size) in memory_ranges(bytes) {
        if offset < before + size {
            return Some(start + (offset - before));
        }
        before += size;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        let gib = 1 << 30;
        let cases: &[(u64, &[(u64, u64)])] = &[
            (128 << 20, &[(0, 128 << 20)]),
            (3 * gib, &[(0, 3 * gib)]),
            (3 * gib + 4096, &[(0, 3 * gib), (4 * gib, 4096)]),
            (6 * gib, &[(0, 3 * gib), (4 * gib, 3 * gib)]),
        ];
        for (bytes, ranges) in cases {
            assert_eq!(memory_ranges(*bytes), *ranges, "{bytes}");
        }
    }

    #[test]
    fn offsets_leave_the_hole_out() {
        let gib = 1 << 30;
        assert_eq!(memory_address(4 * gib, 4 * gib), None);
        let cases = [
            (4096, 4096, Some(4096)),
            (3 * gib - 4096, 4096, Some(3 * gib - 4096)),
            (3 * gib - 4096, 8192, None),
            (3 * gib, 1, None),
            (4 * gib, 4096, Some(3 * gib)),
            (5 * gib - 1, 1, Some(4 * gib - 1)),
            (5 * gib, 1, None),
            (1, u64::MAX, None),
        ];
        for (address, length, offset) in cases {
            assert_eq!(memory_offset(4 * gib, address, length), offset, "{address:#x} {length:#x}");
            if let Some(offset) = offset {
                assert_eq!(memory_address(4 * gib, offset), Some(address), "{offset:#x}");
            }
        }
    }

    #[test]
    fn the_last_device_has_the_last_pin() {
        assert_eq!(device_irq(MAX_DEVICES - 1), u32::from(IRQ_PINS) - 1);
        assert_eq!(device_address(2), 0xd000_2000);
    }
}
