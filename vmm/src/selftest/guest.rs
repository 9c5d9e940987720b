//! The micro-guest: its machine code, its tables, and what it says about itself.
//!
//! It begins in 64-bit mode in ring 0 and names each step at port 0x10 before it takes it, so that
//! whoever runs it knows what went wrong last. Everything lies below 64 KiB, identity-mapped.

use std::fmt;

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// The guest's memory, in bytes.
pub(super) const MEMORY_BYTES: usize = 64 << 10;
/// The port at which the guest names its steps.
pub(super) const STEP_PORT: u16 = 0x10;
/// The interrupt line that the guest waits for in its last step.
pub(super) const IRQ: u32 = 4;
/// The CPUID features that the guest asks for before it uses them: bits of leaf 1, ECX.
pub(super) const FEATURE_LEAF: u32 = 1;
/// `OSXSAVE` may be set only where XSAVE is there: leaf 1, ECX.
const CPUID_XSAVE: u32 = 1 << 26;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const GDT: u64 = 0x4000;
const TSS: u64 = 0x4800;
const IDT: u64 = 0x5000;
const CODE: u64 = 0x6000;
/// Where ring 0 begins, and where an interrupt from ring 3 goes on.
const STACKS: [u64; 2] = [0x9000, 0x8800];

const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
/// SYSRET takes the stack's selector from here plus 8 and the code's from here plus 16.
const USER_BASE: u16 = 0x18;
const TASK: u16 = 0x30;
/// The IDT's descriptors of DPL 0 and 3: present 64-bit interrupt gates.
const GATES: [u64; 2] = [0x8e, 0xee];

/// What the guest is about to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Entering the guest.
    Entry,
    /// 64-bit mode, and reading what was written.
    Memory,
    /// SYSRET into ring 3.
    Ring3,
    /// SYSCALL from ring 3 into ring 0.
    SystemCall,
    /// SYSRET back to where the system call came from.
    SystemReturn,
    /// INT from ring 3 into ring 0 through IDT and TSS.
    SoftwareInterrupt,
    /// INT3 in ring 0, and IRET.
    Breakpoint,
    /// POPCNT in ring 0, where CPUID has it.
    Popcnt,
    /// CMPXCHG16B in ring 0, where CPUID has it.
    Cmpxchg16b,
    /// XSAVE and XRSTOR in ring 0, where CPUID has it.
    Xsave,
    /// HLT until an interrupt line is raised through an eventfd.
    InterruptLine,
}

/// What the guest says at its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// It takes this step now.
    Begin(Step),
    /// All steps went well.
    Done,
    /// The step gave a wrong result.
    Wrong,
    /// The step gave an exception.
    Exception,
}

impl Message {
    /// Reads a byte from the port.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Begin(Step::Memory),
            2 => Self::Begin(Step::Ring3),
            3 => Self::Begin(Step::SystemCall),
            4 => Self::Begin(Step::SystemReturn),
            5 => Self::Begin(Step::SoftwareInterrupt),
            6 => Self::Begin(Step::Breakpoint),
            7 => Self::Begin(Step::Popcnt),
            8 => Self::Begin(Step::Cmpxchg16b),
            9 => Self::Begin(Step::Xsave),
            10 => Self::Begin(Step::InterruptLine),
            11 => Self::Done,
            0xff => Self::Wrong,
            0xfe => Self::Exception,
            _ => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry => "entering 64-bit mode",
            Self::Memory => "memory",
            Self::Ring3 => "SYSRET into ring 3",
            Self::SystemCall => "SYSCALL from ring 3 into ring 0",
            Self::SystemReturn => "SYSRET after a system call",
            Self::SoftwareInterrupt => "an interrupt from ring 3",
            Self::Breakpoint => "INT3 in ring 0",
            Self::Popcnt => "POPCNT in ring 0",
            Self::Cmpxchg16b => "CMPXCHG16B in ring 0",
            Self::Xsave => "XSAVE in ring 0",
            Self::InterruptLine => "an interrupt line",
        })
    }
}

/// Writes code and tables into an empty memory of [`MEMORY_BYTES`].
pub(super) fn write(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    let quads = |at: u64, values: &[u64]| {
        (at..).step_by(8).zip(values).try_for_each(|(at, value)| put(memory, at, *value))
    };
    // Present, writable, for ring 3 too; the directory's entry is a page of 2 MiB.
    quads(PML4, &[PDPT | 7])?;
    quads(PDPT, &[PAGE_DIRECTORY | 7])?;
    quads(PAGE_DIRECTORY, &[0x87])?;
    // Nothing, then code and data of ring 0, an unused one, data and code of ring 3.
    let flat = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    quads(GDT, &flat)?;
    quads(GDT + 0x18, &[0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff])?;
    // An available 64-bit TSS of 104 bytes.
    quads(GDT + u64::from(TASK), &[0x0000_8900_0000_0067 | TSS << 16, 0])?;
    // RSP0 lies at the odd offset 4 (AMD64 manual volume 2, 12.2.5).
    memory.write_obj(STACKS[1].to_le(), GuestAddress(TSS + 4))?;
    for vector in 0..=255u8 {
        let (label, gate) = match vector {
            3 => ("breakpoint", GATES[0]),
            // The interrupt controller is told to begin at 0x20.
            0x24 => ("interrupt_line", GATES[0]),
            0x80 => ("software_interrupt", GATES[1]),
            _ => ("exception", GATES[0]),
        };
        let target = address_of(label);
        // Below 64 KiB the target's address lies in the lowest 16 bits.
        let descriptor = target | u64::from(KERNEL_CODE) << 16 | gate << 40;
        quads(IDT + 16 * u64::from(vector), &[descriptor, 0])?;
    }
    memory.write_slice(&code(), GuestAddress(CODE))
}

/// The registers to begin with. `features` is CPUID leaf 1, ECX.
pub(super) fn registers(features: u32) -> kvm_regs {
    kvm_regs {
        rip: address_of("start"),
        rsp: STACKS[0],
        r15: u64::from(features),
        // Bit 1 is always set.
        rflags: 2,
        ..kvm_regs::default()
    }
}

/// Puts the CPU into 64-bit mode in ring 0.
pub(super) fn set_system_registers(sregs: &mut kvm_sregs, features: u32) {
    let segment = |selector: u16, type_: u8, long: u8| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = segment(KERNEL_CODE, 11, 1);
    let data = segment(KERNEL_DATA, 3, 0);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    // A busy 64-bit TSS.
    let task = segment(TASK, 11, 0);
    sregs.tr = kvm_segment { base: TSS, limit: 103, s: 0, g: 0, db: 0, ..task };
    (sregs.gdt.base, sregs.gdt.limit) = (GDT, TASK + 15);
    (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
    sregs.cr3 = PML4;
    // PE, MP, ET, NE, WP, PG.
    sregs.cr0 = 0x8001_0033;
    // PAE, OSFXSR, OSXMMEXCPT; OSXSAVE.
    sregs.cr4 = 0x620 | if features & CPUID_XSAVE == 0 { 0 } else { 1 << 18 };
    // SCE, LME, LMA.
    sregs.efer = 0x501;
}

/// What SYSCALL and SYSRET need: register numbers and values (AMD64 manual volume 2, 6.1.1).
pub(super) fn model_specific_registers() -> [(u32, u64); 3] {
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const SFMASK: u32 = 0xc000_0084;
    const INTERRUPT_FLAG: u64 = 1 << 9;
    [
        (STAR, u64::from(USER_BASE | 3) << 48 | u64::from(KERNEL_CODE) << 32),
        (LSTAR, address_of("system_call")),
        (SFMASK, INTERRUPT_FLAG),
    ]
}

fn put(memory: &GuestMemoryMmap, at: u64, value: u64) -> Result<(), GuestMemoryError> {
    memory.write_obj(value.to_le(), GuestAddress(at))
}

fn code() -> Vec<u8> {
    instructions().flat_map(|(bytes, _)| bytes.iter().copied()).collect()
}

fn instructions() -> impl Iterator<Item = Instruction> {
    PROGRAM.iter().flat_map(|(_, instructions)| instructions.iter().copied())
}

fn address_of(label: &str) -> u64 {
    let before = PROGRAM.iter().take_while(|(name, _)| *name != label);
    let bytes = before.flat_map(|(_, instructions)| *instructions).map(|(bytes, _)| bytes.len());
    CODE + bytes.sum::<usize>() as u64
}

/// The bytes of an instruction, and how they are written.
type Instruction = (&'static [u8], &'static str);

/// The whole guest, by labels. 0xb000 and on is scratch memory: a pattern at 0, what `breakpoint`
/// and `interrupt_line` have seen at 8 and 9, sixteen bytes to exchange at 0x10, the XSAVE area at
/// 0x40. Ring 3 gets an I/O privilege level of 3, so that it can use the port.
#[rustfmt::skip]
const PROGRAM: &[(&str, &[Instruction])] = &[
    (
        "start",
        &[
            (&[0xb0, 0x01], "mov al, 1"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0x48, 0xbb, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01], "movabs rbx, 0x0123456789abcdef"),
            (&[0x48, 0x89, 0x1c, 0x25, 0x00, 0xb0, 0x00, 0x00], "mov [0xb000], rbx"),
            (&[0x48, 0x39, 0x1c, 0x25, 0x00, 0xb0, 0x00, 0x00], "cmp [0xb000], rbx"),
            (&[0x0f, 0x85, 0xf2, 0x00, 0x00, 0x00], "jne wrong"),
            (&[0xb0, 0x02], "mov al, 2"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0x48, 0x8d, 0x0d, 0x09, 0x00, 0x00, 0x00], "lea rcx, [rip+user]"),
            (&[0x41, 0xbb, 0x02, 0x30, 0x00, 0x00], "mov r11d, 0x3002"),
            (&[0x48, 0x0f, 0x07], "sysretq"),
        ],
    ),
    (
        "user",
        &[
            (&[0x8c, 0xc8], "mov eax, cs"),
            (&[0x83, 0xf8, 0x2b], "cmp eax, 0x2b"),
            (&[0x0f, 0x85, 0xd3, 0x00, 0x00, 0x00], "jne wrong"),
            (&[0xb0, 0x03], "mov al, 3"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0x0f, 0x05], "syscall"),
            (&[0x8c, 0xc8], "mov eax, cs"),
            (&[0x83, 0xf8, 0x2b], "cmp eax, 0x2b"),
            (&[0x0f, 0x85, 0xc2, 0x00, 0x00, 0x00], "jne wrong"),
            (&[0xb0, 0x05], "mov al, 5"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0xcd, 0x80], "int 0x80"),
        ],
    ),
    (
        "system_call",
        &[
            (&[0x8c, 0xc8], "mov eax, cs"),
            (&[0x83, 0xf8, 0x08], "cmp eax, 0x08"),
            (&[0x0f, 0x85, 0xb1, 0x00, 0x00, 0x00], "jne wrong"),
            (&[0xb0, 0x04], "mov al, 4"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0x48, 0x0f, 0x07], "sysretq"),
        ],
    ),
    (
        "software_interrupt",
        &[
            (&[0x8c, 0xc8], "mov eax, cs"),
            (&[0x83, 0xf8, 0x08], "cmp eax, 0x08"),
            (&[0x0f, 0x85, 0x9f, 0x00, 0x00, 0x00], "jne wrong"),
            (&[0xb0, 0x06], "mov al, 6"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0xcc], "int3"),
            (&[0x80, 0x3c, 0x25, 0x08, 0xb0, 0x00, 0x00, 0x01], "cmp byte ptr [0xb008], 1"),
            (&[0x0f, 0x85, 0x8c, 0x00, 0x00, 0x00], "jne wrong"),
            (&[0x41, 0x0f, 0xba, 0xe7, 0x17], "bt r15d, 23"),
            (&[0x73, 0x0e], "jnc no_popcnt"),
            (&[0xb0, 0x07], "mov al, 7"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0xf3, 0x48, 0x0f, 0xb8, 0xc3], "popcnt rax, rbx"),
            (&[0x83, 0xf8, 0x20], "cmp eax, 32"),
            (&[0x75, 0x77], "jne wrong"),
        ],
    ),
    (
        "no_popcnt",
        &[
            (&[0x41, 0x0f, 0xba, 0xe7, 0x0d], "bt r15d, 13"),
            (&[0x73, 0x23], "jnc no_cmpxchg16b"),
            (&[0xb0, 0x08], "mov al, 8"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0x31, 0xc0], "xor eax, eax"),
            (&[0x31, 0xd2], "xor edx, edx"),
            (&[0xb9, 0x01, 0x00, 0x00, 0x00], "mov ecx, 1"),
            (&[0xf0, 0x48, 0x0f, 0xc7, 0x0c, 0x25, 0x10, 0xb0, 0x00, 0x00], "lock cmpxchg16b [0xb010]"),
            (&[0x75, 0x57], "jne wrong"),
            (&[0x48, 0x39, 0x1c, 0x25, 0x10, 0xb0, 0x00, 0x00], "cmp [0xb010], rbx"),
            (&[0x75, 0x4d], "jne wrong"),
        ],
    ),
    (
        "no_cmpxchg16b",
        &[
            (&[0x41, 0x0f, 0xba, 0xe7, 0x1a], "bt r15d, 26"),
            (&[0x73, 0x1b], "jnc no_xsave"),
            (&[0xb0, 0x09], "mov al, 9"),
            (&[0xe6, 0x10], "out 0x10, al"),
            (&[0xb8, 0x01, 0x00, 0x00, 0x00], "mov eax, 1"),
            (&[0x31, 0xd2], "xor edx, edx"),
            (&[0x0f, 0xae, 0x24, 0x25, 0x40, 0xb0, 0x00, 0x00], "xsave [0xb040]"),
            (&[0x0f, 0xae, 0x2c, 0x25, 0x40, 0xb0, 0x00, 0x00], "xrstor [0xb040]"),
        ],
    ),
    (
        "no_xsave",
        &[
            (&[0xb0, 0x11], "mov al, 0x11"),
            (&[0xe6, 0x20], "out 0x20, al"),
            (&[0xb0, 0x20], "mov al, 0x20"),
            (&[0xe6, 0x21], "out 0x21, al"),
            (&[0xb0, 0x04], "mov al, 0x04"),
            (&[0xe6, 0x21], "out 0x21, al"),
            (&[0xb0, 0x01], "mov al, 0x01"),
            (&[0xe6, 0x21], "out 0x21, al"),
            (&[0xb0, 0xef], "mov al, 0xef"),
            (&[0xe6, 0x21], "out 0x21, al"),
            (&[0xb0, 0x0a], "mov al, 10"),
            (&[0xe6, 0x10], "out 0x10, al"),
        ],
    ),
    (
        "wait",
        &[
            (&[0xfa], "cli"),
            (&[0x80, 0x3c, 0x25, 0x09, 0xb0, 0x00, 0x00, 0x01], "cmp byte ptr [0xb009], 1"),
            (&[0x74, 0x04], "je done"),
            (&[0xfb], "sti"),
            (&[0xf4], "hlt"),
            (&[0xeb, 0xf1], "jmp wait"),
        ],
    ),
    (
        "done",
        &[
            (&[0xb0, 0x0b], "mov al, 11"),
            (&[0xe6, 0x10], "out 0x10, al"),
        ],
    ),
    (
        "wrong",
        &[
            (&[0xb0, 0xff], "mov al, 0xff"),
            (&[0xe6, 0x10], "out 0x10, al"),
        ],
    ),
    (
        "exception",
        &[
            (&[0xb0, 0xfe], "mov al, 0xfe"),
            (&[0xe6, 0x10], "out 0x10, al"),
        ],
    ),
    (
        "breakpoint",
        &[
            (&[0xc6, 0x04, 0x25, 0x08, 0xb0, 0x00, 0x00, 0x01], "mov byte ptr [0xb008], 1"),
            (&[0x48, 0xcf], "iretq"),
        ],
    ),
    (
        "interrupt_line",
        &[
            (&[0xc6, 0x04, 0x25, 0x09, 0xb0, 0x00, 0x00, 0x01], "mov byte ptr [0xb009], 1"),
            (&[0x50], "push rax"),
            (&[0xb0, 0x20], "mov al, 0x20"),
            (&[0xe6, 0x20], "out 0x20, al"),
            (&[0x58], "pop rax"),
            (&[0x48, 0xcf], "iretq"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the jumps' bytes say is where their text says.
    #[test]
    fn jumps_go_to_their_labels() {
        let mut next = CODE;
        let mut jumps = 0;
        for (bytes, text) in instructions() {
            next += bytes.len() as u64;
            let label = match text.split_once(' ') {
                Some(("jne" | "jnc" | "je" | "jmp", label)) => label,
                _ if text.starts_with("lea") => "user",
                _ => continue,
            };
            let distance = match *bytes {
                [_, near] => i64::from(near.cast_signed()),
                [.., a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
                _ => panic!("{text} has no target"),
            };
            assert_eq!(next.checked_add_signed(distance), Some(address_of(label)), "{text}");
            jumps += 1;
        }
        assert_eq!(jumps, 15);
    }

    #[test]
    fn the_guest_fits_between_its_tables() {
        assert!(code().len() <= 0x1000);
        assert_eq!(address_of("no such label"), CODE + code().len() as u64);
    }

    #[test]
    fn each_step_has_its_byte() {
        let known: Vec<u8> = (0..=255).filter(|byte| Message::from_byte(*byte).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0xfe, 0xff]);
    }
}
