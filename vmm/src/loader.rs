//! Puts a kernel, its command line and its initramfs into the guest's memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::Elf;
use linux_loader::loader::{self, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::arch::x86_64::layout;
use crate::prepared::Prepared;

/// The first bytes of an ELF file.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// The 64-bit entry of a bzImage, from where its protected-mode part is loaded.
const BZIMAGE_ENTRY_OFFSET: u64 = 0x200;
/// `xloadflags`: the kernel has a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;

/// A kernel in the guest's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    /// Where it is entered in long mode.
    pub(crate) entry: u64,
    /// A bzImage's own header.
    pub(crate) setup_header: Option<setup_header>,
    /// The command line's length.
    pub(crate) command_line_bytes: u32,
}

/// An initramfs in the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Initramfs {
    /// Where it begins, below 2 GiB.
    pub(crate) address: u64,
    /// How long it is.
    pub(crate) bytes: u64,
}

/// Loads an ELF `vmlinux` or a bzImage, and its command line.
///
/// # Errors
/// When the file is neither, is damaged, or does not fit.
pub(crate) fn load_kernel(
    memory: &GuestMemoryMmap,
    kernel: &mut File,
    command_line: &str,
) -> Result<Kernel, LoadError> {
    let command_line_bytes = write_command_line(memory, command_line)?;
    let (entry, setup_header) = match magic(kernel)? {
        ELF_MAGIC => (load_elf(memory, kernel)?, None),
        _ => {
            let (entry, header) = load_bzimage(memory, kernel)?;
            (entry, Some(header))
        }
    };
    Ok(Kernel { entry, setup_header, command_line_bytes })
}

/// Loads what a prepared kernel has beside its code, which is mapped already, and the command line.
///
/// # Errors
/// When the file is damaged.
pub(crate) fn load_prepared(
    memory: &GuestMemoryMmap,
    kernel: &mut File,
    prepared: &Prepared,
    command_line: &str,
) -> Result<Kernel, LoadError> {
    let command_line_bytes = write_command_line(memory, command_line)?;
    for &(address, offset, bytes) in &prepared.rest {
        kernel.seek(SeekFrom::Start(offset)).map_err(LoadError::ReadKernel)?;
        memory
            .read_exact_volatile_from(GuestAddress(address), kernel, bytes)
            .map_err(LoadError::CopyKernel)?;
    }
    Ok(Kernel { entry: prepared.entry, setup_header: None, command_line_bytes })
}

/// Loads an initramfs at the end of the memory below 2 GiB.
///
/// # Errors
/// When it cannot be read or does not fit.
pub(crate) fn load_initramfs(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    initramfs: &mut File,
) -> Result<Initramfs, LoadError> {
    let bytes = initramfs.seek(SeekFrom::End(0)).map_err(LoadError::ReadInitramfs)?;
    initramfs.rewind().map_err(LoadError::ReadInitramfs)?;
    let place = place_initramfs(memory_bytes, bytes)?;
    let count = usize::try_from(bytes).expect("it was found to fit in memory");
    memory
        .read_exact_volatile_from(GuestAddress(place.address), initramfs, count)
        .map_err(LoadError::CopyInitramfs)?;
    Ok(place)
}

fn place_initramfs(memory_bytes: u64, bytes: u64) -> Result<Initramfs, LoadError> {
    let end = memory_bytes.min(layout::INITRAMFS_END);
    let address = end.checked_sub(bytes).map(|address| address & !0xfff);
    match address {
        // Half of the memory is left to the kernel.
        Some(address) if address >= layout::HIGH_MEMORY.max(end / 2) => {
            Ok(Initramfs { address, bytes })
        }
        _ => Err(LoadError::LargeInitramfs { bytes, memory_bytes }),
    }
}

fn magic(kernel: &mut File) -> Result<[u8; 4], LoadError> {
    let mut magic = [0; 4];
    kernel.rewind().map_err(LoadError::ReadKernel)?;
    kernel.read_exact(&mut magic).map_err(LoadError::ReadKernel)?;
    kernel.rewind().map_err(LoadError::ReadKernel)?;
    Ok(magic)
}

fn load_elf(memory: &GuestMemoryMmap, kernel: &mut File) -> Result<u64, LoadError> {
    let high_memory = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded = Elf::load(memory, None, kernel, high_memory).map_err(LoadError::Kernel)?;
    Ok(loaded.kernel_load.0)
}

fn load_bzimage(
    memory: &GuestMemoryMmap,
    kernel: &mut File,
) -> Result<(u64, setup_header), LoadError> {
    let high_memory = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded = BzImage::load(memory, None, kernel, high_memory).map_err(LoadError::Kernel)?;
    let header = loaded.setup_header.expect("a bzImage was loaded by its setup header");
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(LoadError::Not64Bit);
    }
    Ok((loaded.kernel_load.0 + BZIMAGE_ENTRY_OFFSET, header))
}

fn write_command_line(memory: &GuestMemoryMmap, command_line: &str) -> Result<u32, LoadError> {
    if command_line.len() >= layout::COMMAND_LINE_CAPACITY {
        return Err(LoadError::LongCommandLine { bytes: command_line.len() });
    }
    let mut bytes = Vec::from(command_line);
    bytes.push(0);
    memory
        .write_slice(&bytes, GuestAddress(layout::COMMAND_LINE))
        .map_err(LoadError::CopyCommandLine)?;
    Ok(u32::try_from(command_line.len()).expect("its capacity is 2 KiB"))
}

/// Why a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's file gave an error.
    #[error("cannot read the kernel")]
    ReadKernel(#[source] io::Error),
    /// The kernel is no kernel or does not fit.
    #[error("cannot load the kernel, which is neither an ELF vmlinux nor a bzImage that fits")]
    Kernel(#[source] loader::Error),
    /// A prepared kernel is damaged.
    #[error("cannot use the prepared kernel")]
    Prepared(#[source] io::Error),
    /// What it has beside its code does not fit, or is cut off.
    #[error("cannot copy the prepared kernel into the guest")]
    CopyKernel(#[source] GuestMemoryError),
    /// The kernel is a 32-bit one.
    #[error("the kernel has no 64-bit entry")]
    Not64Bit,
    /// The command line is too long for the kernel.
    #[error("the kernel command line has {bytes} bytes, more than 2047")]
    LongCommandLine {
        /// Its length.
        bytes: usize,
    },
    /// The command line did not fit.
    #[error("cannot copy the command line into the guest")]
    CopyCommandLine(#[source] GuestMemoryError),
    /// The initramfs's file gave an error.
    #[error("cannot read the initramfs")]
    ReadInitramfs(#[source] io::Error),
    /// The initramfs's file is shorter than it was.
    #[error("cannot copy the initramfs into the guest")]
    CopyInitramfs(#[source] GuestMemoryError),
    /// The initramfs takes more than half of the memory.
    #[error("an initramfs of {bytes} bytes is too large for a machine of {memory_bytes} bytes")]
    LargeInitramfs {
        /// The initramfs's length.
        bytes: u64,
        /// The machine's memory.
        memory_bytes: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_lies_at_the_end_below_2_gib() {
        let mib = 1 << 20;
        let cases = [
            (128 * mib, 5000, Some(128 * mib - 8192)),
            (4096 * mib, 4096, Some(layout::INITRAMFS_END - 4096)),
            (128 * mib, 65 * mib, None),
            (128 * mib, 129 * mib, None),
            (128 * mib, u64::MAX, None),
        ];
        for (memory_bytes, bytes, address) in cases {
            let place = place_initramfs(memory_bytes, bytes).ok().map(|place| place.address);
            assert_eq!(place, address, "{memory_bytes} {bytes}");
        }
    }

    #[test]
    fn a_long_command_line_is_refused() {
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory is there");
        assert_eq!(write_command_line(&memory, "quiet").expect("it fits"), 5);
        assert!(matches!(
            write_command_line(&memory, &"x".repeat(2048)),
            Err(LoadError::LongCommandLine { bytes: 2048 })
        ));
    }
}
