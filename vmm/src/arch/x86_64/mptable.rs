//! The MP table: CPUs, I/O APIC and interrupt lines (Intel MultiProcessor Specification 1.4).

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;

/// The specification's revision 1.4.
const SPECIFICATION: u8 = 4;
/// The version of an integrated local APIC, and of an I/O APIC that goes with it.
const APIC_VERSION: u8 = 0x14;
/// The one bus, an ISA bus: its lines are edge-triggered and active high.
const BUS: u8 = 0;
/// The floating pointer's size.
const POINTER_BYTES: usize = 16;
/// The configuration table's header.
const HEADER_BYTES: usize = 44;

/// Kinds of entries, table 4-3.
const PROCESSOR: u8 = 0;
const BUS_ENTRY: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;
/// Kinds of interrupts, table 4-11.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Processor flags, table 4-4.
const CPU_ENABLED: u8 = 1;
const CPU_BOOTSTRAP: u8 = 2;
/// Every local APIC.
const ALL_APICS: u8 = 0xff;

/// Writes the table for `vcpus` processors, the first of which boots.
///
/// # Errors
/// When the memory is too small to hold it.
pub(crate) fn write(memory: &GuestMemoryMmap, vcpus: u8) -> Result<(), GuestMemoryError> {
    memory.write_slice(&build(vcpus), GuestAddress(layout::MP_TABLE))
}

/// The floating pointer and behind it the configuration table.
fn build(vcpus: u8) -> Vec<u8> {
    let (entries, count) = entries(vcpus);
    let mut table = Vec::with_capacity(HEADER_BYTES + entries.len());
    table.extend_from_slice(b"PCMP");
    table.extend_from_slice(&length16(HEADER_BYTES + entries.len()).to_le_bytes());
    table.extend_from_slice(&[SPECIFICATION, 0]);
    table.extend_from_slice(b"HYPERRUN");
    table.extend_from_slice(b"MICROVM     ");
    table.extend_from_slice(&[0; 6]);
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    table.extend_from_slice(&[0; 4]);
    table.extend_from_slice(&entries);
    table[7] = checksum(&table);

    let mut all = Vec::with_capacity(POINTER_BYTES + table.len());
    let address = layout::MP_TABLE + POINTER_BYTES as u64;
    let address = u32::try_from(address).expect("the table lies in base memory");
    all.extend_from_slice(b"_MP_");
    all.extend_from_slice(&address.to_le_bytes());
    all.extend_from_slice(&[1, SPECIFICATION, 0, 0, 0, 0, 0, 0]);
    all[10] = checksum(&all);
    all.extend_from_slice(&table);
    all
}

/// The entries' bytes and their number.
fn entries(vcpus: u8) -> (Vec<u8>, u16) {
    let io_apic = vcpus;
    let mut bytes = Vec::new();
    let mut count = 0;
    let mut push = |entry: &[u8]| {
        bytes.extend_from_slice(entry);
        count += 1;
    };
    for cpu in 0..vcpus {
        let flags = if cpu == 0 { CPU_ENABLED | CPU_BOOTSTRAP } else { CPU_ENABLED };
        // Family 6, features FPU and APIC, as a Pentium Pro says; the kernel asks CPUID instead.
        push(&[
            PROCESSOR,
            cpu,
            APIC_VERSION,
            flags,
            0,
            6,
            0,
            0,
            1,
            2,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
    }
    push(&[BUS_ENTRY, BUS, b'I', b'S', b'A', b' ', b' ', b' ']);
    let [a, b, c, d] = layout::IO_APIC.to_le_bytes();
    push(&[IO_APIC, io_apic, APIC_VERSION, CPU_ENABLED, a, b, c, d]);
    for line in 0..layout::IRQ_PINS {
        push(&[IO_INTERRUPT, INT, 0, 0, BUS, line, io_apic, line]);
    }
    push(&[LOCAL_INTERRUPT, EXT_INT, 0, 0, BUS, 0, 0, 0]);
    push(&[LOCAL_INTERRUPT, NMI, 0, 0, BUS, 0, ALL_APICS, 1]);
    (bytes, count)
}

/// What makes the sum of all bytes 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("the table fits in a KiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_VCPUS;

    #[test]
    fn the_sums_are_zero_and_the_table_fits() {
        for vcpus in [1, 2, MAX_VCPUS] {
            let bytes = build(vcpus);
            assert_eq!(checksum(&bytes[..POINTER_BYTES]), 0);
            assert_eq!(checksum(&bytes[POINTER_BYTES..]), 0);
            assert!(layout::MP_TABLE + bytes.len() as u64 <= layout::BASE_MEMORY_END, "{vcpus}");
        }
    }

    #[test]
    fn the_header_says_how_much_follows() {
        let bytes = build(3);
        let table = &bytes[POINTER_BYTES..];
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        // Three CPUs, a bus, an I/O APIC, 24 lines, two local interrupts.
        assert_eq!(u16::from_le_bytes([table[34], table[35]]), 3 + 1 + 1 + 24 + 2);
    }
}
