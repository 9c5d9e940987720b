//! A cgroup's device program: which devices a container may open, decided in the kernel.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Closes every device to `cgroup` but those of [`DEVICES`].
///
/// Making nodes stays allowed, as in Docker: a node that cannot be opened is harmless, and package
/// managers make them.
pub(crate) fn restrict_devices(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let program = load(&device_program())?;
    attach(cgroup, &program)
}

/// Opens every device to `cgroup` again.
pub(crate) fn free_devices(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    const PROG_DETACH: i32 = 9;
    let arguments = AttachArguments {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: 0,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    let size = mem::size_of::<AttachArguments>();
    // SAFETY: the arguments begin with the fields of their command and are of the given size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_DETACH, &raw const arguments, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A character device that containers may use.
struct Allowed {
    major: i32,
    /// None is every minor number.
    minor: Option<i32>,
}

/// Docker's default list (runc's specconv.AllowedDevices): null, zero, full, random, urandom,
/// tty, console, ptmx and the pseudo-terminals.
const DEVICES: [Allowed; 9] = [
    Allowed { major: 1, minor: Some(3) },
    Allowed { major: 1, minor: Some(5) },
    Allowed { major: 1, minor: Some(7) },
    Allowed { major: 1, minor: Some(8) },
    Allowed { major: 1, minor: Some(9) },
    Allowed { major: 5, minor: Some(0) },
    Allowed { major: 5, minor: Some(1) },
    Allowed { major: 5, minor: Some(2) },
    Allowed { major: 136, minor: None },
];

/// `BPF_DEVCG_DEV_CHAR`, linux/bpf.h.
const DEVICE_CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`, linux/bpf.h.
const ACCESS_MKNOD: i32 = 1;

/// `struct bpf_insn`, linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The instructions the program is made of (RFC 9669).
mod opcode {
    /// `BPF_LDX | BPF_MEM | BPF_W`: load a word from source plus offset.
    pub(super) const LOAD_WORD: u8 = 0x61;
    /// `BPF_ALU | BPF_MOV | BPF_X`: copy the source's low word.
    pub(super) const COPY: u8 = 0xbc;
    /// `BPF_ALU64 | BPF_MOV | BPF_K`: set to the immediate.
    pub(super) const SET: u8 = 0xb7;
    /// `BPF_ALU | BPF_AND | BPF_K`.
    pub(super) const AND: u8 = 0x54;
    /// `BPF_ALU | BPF_RSH | BPF_K`.
    pub(super) const SHIFT_RIGHT: u8 = 0x74;
    /// `BPF_JMP | BPF_JEQ | BPF_K`: skip `offset` instructions when equal to the immediate.
    pub(super) const SKIP_IF_EQUAL: u8 = 0x15;
    /// `BPF_JMP | BPF_JNE | BPF_K`.
    pub(super) const SKIP_UNLESS_EQUAL: u8 = 0x55;
    /// `BPF_JMP | BPF_EXIT`: the verdict is in register 0.
    pub(super) const EXIT: u8 = 0x95;
}

/// The program as instructions. Its input (register 1) is `struct bpf_cgroup_dev_ctx`: access type
/// (access in the high half, device type in the low one), major, minor.
fn device_program() -> Vec<Instruction> {
    const VERDICT: u8 = 0;
    const INPUT: u8 = 1;
    const TYPE: u8 = 2;
    const MAJOR: u8 = 3;
    const MINOR: u8 = 4;
    const ACCESS: u8 = 5;
    let load = |to: u8, offset| op(opcode::LOAD_WORD, to | INPUT << 4, offset, 0);
    let on = |code, register, immediate| op(code, register, 0, immediate);
    let skip_unless =
        |register, count, value| op(opcode::SKIP_UNLESS_EQUAL, register, count, value);
    let allow = [on(opcode::SET, VERDICT, 1), on(opcode::EXIT, 0, 0)];
    let deny = [on(opcode::SET, VERDICT, 0), on(opcode::EXIT, 0, 0)];

    let mut program = vec![
        load(TYPE, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        op(opcode::COPY, ACCESS | TYPE << 4, 0, 0),
        on(opcode::SHIFT_RIGHT, ACCESS, 16),
        on(opcode::AND, ACCESS, !ACCESS_MKNOD),
        skip_unless(ACCESS, 2, 0),
    ];
    program.extend(allow);
    program.push(on(opcode::AND, TYPE, 0xffff));
    program.push(op(opcode::SKIP_IF_EQUAL, TYPE, 2, DEVICE_CHARACTER));
    program.extend(deny);
    for device in &DEVICES {
        match device.minor {
            Some(minor) => {
                program.extend([skip_unless(MAJOR, 3, device.major), skip_unless(MINOR, 2, minor)]);
            }
            None => program.push(skip_unless(MAJOR, 2, device.major)),
        }
        program.extend(allow);
    }
    program.extend(deny);
    program
}

fn op(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// The part of `union bpf_attr` that BPF_PROG_LOAD needs here, linux/bpf.h.
#[repr(C)]
struct LoadArguments {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_ATTACH needs here, linux/bpf.h.
#[repr(C)]
struct AttachArguments {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// `BPF_CGROUP_DEVICE` of `enum bpf_attach_type`.
const ATTACH_CGROUP_DEVICE: u32 = 6;

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const PROG_LOAD: i32 = 5;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    let arguments = LoadArguments {
        program_type: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"container_dev\0\0\0",
        interface: 0,
        attach_type: ATTACH_CGROUP_DEVICE,
    };
    let size = mem::size_of::<LoadArguments>();
    // SAFETY: the arguments begin with the fields of their command and are of the given size; the
    // instructions and the licence they point to are live.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const arguments, size) };
    let Some(descriptor) = i32::try_from(result).ok().filter(|fd| *fd >= 0) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel has just returned it (BPF descriptors are close-on-exec by birth).
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn attach(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> io::Result<()> {
    const PROG_ATTACH: i32 = 8;
    let arguments = AttachArguments {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    let size = mem::size_of::<AttachArguments>();
    // SAFETY: the arguments begin with the fields of their command and are of the given size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const arguments, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;
    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    /// Runs the program as the kernel would.
    fn verdict(access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let input = [access << 16 | kind, major, minor];
        let program = device_program();
        let mut registers = [0_u32; 6];
        let mut next = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[next];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let immediate = immediate.cast_unsigned();
            let skip = usize::try_from(offset).unwrap();
            next += 1;
            match code {
                opcode::LOAD_WORD => registers[to] = input[skip / 4],
                opcode::COPY => registers[to] = registers[from],
                opcode::SET => registers[to] = immediate,
                opcode::AND => registers[to] &= immediate,
                opcode::SHIFT_RIGHT => registers[to] >>= immediate,
                opcode::SKIP_IF_EQUAL if registers[to] == immediate => next += skip,
                opcode::SKIP_UNLESS_EQUAL if registers[to] != immediate => next += skip,
                opcode::SKIP_IF_EQUAL | opcode::SKIP_UNLESS_EQUAL => {}
                opcode::EXIT => return registers[0] != 0,
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    #[test]
    fn the_default_devices_open_and_no_other() {
        for (name, access, kind, major, minor, expected) in [
            ("null", READ | WRITE, CHARACTER, 1, 3, true),
            ("zero", READ, CHARACTER, 1, 5, true),
            ("full", WRITE, CHARACTER, 1, 7, true),
            ("random", READ, CHARACTER, 1, 8, true),
            ("urandom", READ | WRITE | MKNOD, CHARACTER, 1, 9, true),
            ("mem", READ, CHARACTER, 1, 1, false),
            ("port", WRITE, CHARACTER, 1, 4, false),
            ("kmsg", WRITE, CHARACTER, 1, 11, false),
            ("tty", READ | WRITE, CHARACTER, 5, 0, true),
            ("console", READ | WRITE, CHARACTER, 5, 1, true),
            ("ptmx", READ | WRITE, CHARACTER, 5, 2, true),
            ("ttyprintk", WRITE, CHARACTER, 5, 3, false),
            ("pts/7", READ | WRITE, CHARACTER, 136, 7, true),
            ("ttyS0", WRITE, CHARACTER, 4, 64, false),
            ("vda", READ, BLOCK, 254, 0, false),
            ("a block device with null's numbers", READ, BLOCK, 1, 3, false),
            ("a node of a disk", MKNOD, BLOCK, 254, 0, true),
            ("a node of a disk, to be read", MKNOD | READ, BLOCK, 254, 0, false),
            ("a node of mem", MKNOD, CHARACTER, 1, 1, true),
        ] {
            assert_eq!(verdict(access, kind, major, minor), expected, "{name}");
        }
    }
}
