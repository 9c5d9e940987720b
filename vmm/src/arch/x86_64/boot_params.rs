//! The "zero page": what the 64-bit boot protocol tells the kernel (Documentation/arch/x86/boot.rst).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;
use crate::loader::{Initramfs, Kernel};

/// `boot_flag`: a boot sector's last two bytes.
const BOOT_FLAG: u16 = 0xaa55;
/// `header`: "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
/// `type_of_loader`: one without a registered number.
const LOADER_UNDEFINED: u8 = 0xff;
/// `kernel_alignment` of an ELF kernel, which tells none.
const KERNEL_ALIGNMENT: u32 = 0x100_0000;
/// Usable memory in the e820 map.
const E820_RAM: u32 = 1;
/// Memory in the e820 map that the kernel leaves alone.
const E820_RESERVED: u32 = 2;

/// Writes the zero page for `kernel`.
///
/// # Errors
/// When the memory is too small to hold it.
pub(crate) fn write(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    kernel: &Kernel,
    initramfs: Option<Initramfs>,
) -> Result<(), GuestMemoryError> {
    let mut params = boot_params { hdr: header(kernel, initramfs), ..Default::default() };
    let map = e820(memory_bytes);
    for (slot, entry) in params.e820_table.iter_mut().zip(&map) {
        *slot = *entry;
    }
    params.e820_entries = u8::try_from(map.len()).expect("the map has a handful of entries");
    memory.write_slice(params.as_slice(), GuestAddress(layout::BOOT_PARAMS))
}

/// A bzImage's own header, or what an ELF kernel needs of one, with the loader's fields filled in.
fn header(kernel: &Kernel, initramfs: Option<Initramfs>) -> setup_header {
    let mut header = kernel.setup_header.unwrap_or(setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        kernel_alignment: KERNEL_ALIGNMENT,
        ..Default::default()
    });
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = address32(layout::COMMAND_LINE);
    header.cmdline_size = kernel.command_line_bytes;
    if let Some(initramfs) = initramfs {
        header.ramdisk_image = address32(initramfs.address);
        header.ramdisk_size = address32(initramfs.bytes);
    }
    header
}

/// The memory map: base memory, the MP table's page end, high memory, memory above 4 GiB.
fn e820(memory_bytes: u64) -> Vec<boot_e820_entry> {
    let entry = |addr, end: u64, kind| boot_e820_entry { addr, size: end - addr, r#type: kind };
    let mut map = vec![
        entry(0, layout::MP_TABLE, E820_RAM),
        entry(layout::MP_TABLE, layout::BASE_MEMORY_END, E820_RESERVED),
    ];
    for (start, length) in layout::memory_ranges(memory_bytes) {
        map.push(entry(start.max(layout::HIGH_MEMORY), start + length, E820_RAM));
    }
    map
}

fn address32(address: u64) -> u32 {
    u32::try_from(address).expect("the layout keeps it below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_a_hole_below_4_gib() {
        let map = e820(5 << 30);
        let ranges: Vec<(u64, u64, u32)> =
            map.iter().map(|e| ({ e.addr }, { e.size }, { e.r#type })).collect();
        assert_eq!(
            ranges,
            [
                (0, 0x9_fc00, E820_RAM),
                (0x9_fc00, 0x400, E820_RESERVED),
                (0x10_0000, (3 << 30) - 0x10_0000, E820_RAM),
                (4 << 30, 2 << 30, E820_RAM),
            ]
        );
    }

    #[test]
    fn a_bzimage_keeps_its_own_header() {
        let own = setup_header { init_size: 77, type_of_loader: 0, ..Default::default() };
        let kernel = Kernel { entry: 0x10_0200, setup_header: Some(own), command_line_bytes: 9 };
        let header = header(&kernel, Some(Initramfs { address: 0x700_0000, bytes: 5 }));
        assert_eq!({ header.init_size }, 77);
        assert_eq!(header.type_of_loader, LOADER_UNDEFINED);
        assert_eq!({ header.ramdisk_image }, 0x700_0000);
        assert_eq!({ header.ramdisk_size }, 5);
        assert_eq!({ header.cmdline_size }, 9);
    }
}
