//! The body of the fuzz target for saved machines: whatever a state's file says, it is refused or
//! means one thing, its memory lies where memory is, and its devices are stopped by their own rules.

use std::sync::Arc;
use std::sync::mpsc;

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::format::{decode, encode, seal};
use super::{MachineState, SnapshotError};
use crate::arch::x86_64::layout;
use crate::bus::Bus;
use crate::config::{DiskBacking, DiskConfig, DiskExtent, NetConfig, VsockConfig};
use crate::devices::serial::{self, Console, UartState};
use crate::fuzz::file;
use crate::machine::beginning::{check_fit, restore_devices};
use crate::memory;
use crate::virtio::device::{Interrupt, VirtioDevice};
use crate::virtio::mmio::{MmioTransport, TransportState, Wiring};
use crate::virtio::vsock::fuzz::listener;
use crate::wiring::{Parts, devices};

/// The machine that is to go on: the smallest there is, with what a container's has.
const MEMORY_MIB: u32 = 64;
const MEMORY_BYTES: usize = 64 << 20;
const VCPUS: u8 = 1;
const DISK_BYTES: usize = 4 * 4096;

/// Reads `bytes` as a state's file, as what follows the header of one, and as the devices in it alone,
/// since few states that are made up get so far.
///
/// # Panics
/// When a state reads differently once it is written again, a piece of memory lies where there is
/// none, or a device that was restored cannot be saved as it was.
pub fn snapshot(bytes: &[u8]) {
    let _refused = decode(bytes);
    if let Ok((uart, devices)) = postcard::from_bytes::<(UartState, Vec<TransportState>)>(bytes) {
        let _refused = go_on(&uart, &devices);
    }
    let Some(sealed) = seal(bytes) else { return };
    let Ok(state) = decode(&sealed) else { return };
    let again = encode(&state).expect("it is no longer than what it was read from");
    assert!(decode(&again).is_ok_and(|again| again == state), "a state reads differently");
    check_memory(&state);
    for vcpu in &state.vcpus {
        let _refused = (vcpu.cpuid().is_ok(), vcpu.xsave().is_ok());
    }
    let _refused = (check_fit(&state, MEMORY_MIB, VCPUS).is_ok(), state.vm.chips().is_ok());
    let _refused = go_on(&state.uart, &state.devices);
}

fn check_memory(state: &MachineState) {
    let bytes = u64::from(state.memory_mib) << 20;
    state.memory.iter().for_each(|pieces| check_pieces(bytes, pieces));
}

fn check_pieces(bytes: u64, pieces: &[(u64, u64)]) {
    let Ok(placed) = memory::place(bytes, pieces) else { return };
    let (mut end, mut end_in_file) = (0, 0);
    for piece in placed {
        let length = piece.length as u64;
        let is_memory = layout::memory_ranges(bytes).iter().any(|(start, size)| {
            *start <= piece.address.0 && piece.address.0 + length <= start + size
        });
        assert!(is_memory, "a piece lies where there is no memory");
        assert!(piece.address.0 >= end && piece.offset >= end_in_file, "pieces overlap");
        (end, end_in_file) = (piece.address.0 + length, piece.offset + length);
        assert!(end_in_file <= bytes, "a piece lies behind the file's end");
    }
}

/// Puts the state into devices like those of every container, and lets them run.
fn go_on(uart: &UartState, states: &[TransportState]) -> Result<(), SnapshotError> {
    let console = Console::new(None);
    let mut transports = transports(&console);
    restore_devices(&mut transports, states)?;
    let restored = serial::restore(uart, &console, Arc::new(event()));
    let (sender, _wakes) = mpsc::sync_channel(8);
    let bus = Bus::new(restored, transports, sender);
    let (saved, devices) = bus.save().expect("nothing runs, so nothing has failed");
    assert!(saved == *uart && devices == states, "devices are not as they were saved");
    bus.resume();
    for index in 0..devices.len() {
        let address = layout::device_address(index);
        (0..0x200).step_by(4).for_each(|register| bus.mmio_read(address + register, &mut [0; 4]));
        bus.mmio_write(address + 0x30, &[0; 4]);
        (0..4u32).for_each(|queue| bus.mmio_write(address + 0x50, &queue.to_le_bytes()));
    }
    bus.pause();
    bus.stop();
    Ok(())
}

/// The devices of a container's machine, and their transports.
fn transports(console: &Console) -> Vec<MmioTransport> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]);
    let memory = memory.expect("the host has room");
    assert_eq!(memory.num_regions(), 1);
    let extent = DiskExtent { file: file(&[7; DISK_BYTES]), offset: 0, length: DISK_BYTES as u64 };
    let scratch = DiskBacking::CopyOnWrite {
        base: None,
        base_bytes: 0,
        overlay: file(&[]),
        usable_bytes: DISK_BYTES as u64,
        capacity_bytes: DISK_BYTES as u64,
    };
    let disks = vec![
        DiskConfig { backing: DiskBacking::read_only(vec![extent]), id: "image".to_owned() },
        DiskConfig { backing: scratch, id: "scratch".to_owned() },
    ];
    let vsock = Some(VsockConfig { cid: 3, listener: listener() });
    let devices =
        devices(Parts { disks, vsock, net: Some(NetConfig::default()), ..Parts::default() });
    let transport = |device: Box<dyn VirtioDevice>| {
        let kicks = device.queue_sizes().iter().map(|_| event()).collect();
        let interrupt = Interrupt::new(Arc::new(event()));
        let wiring = Wiring { memory: memory.clone(), interrupt, kicks, console: console.clone() };
        MmioTransport::new(device, wiring)
    };
    devices.expect("the disks are sound").into_iter().map(transport).collect()
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).expect("the host has room")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CpuState, VmState};
    use std::fs;
    use std::path::{Path, PathBuf};

    fn corpus(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/snapshot").join(name)
    }

    /// A driver's way to `DRIVER_OK`, with queues from this address on.
    fn drive(transport: &mut MmioTransport, queues: &[u16], base: u32) {
        let mut set = |register: u64, value: u32| transport.write(register, &value.to_le_bytes());
        [1, 3].iter().for_each(|status| set(0x70, *status));
        set(0x24, 1);
        set(0x20, 1);
        set(0x70, 11);
        for (index, size) in (0..).zip(queues) {
            set(0x30, index);
            set(0x38, u32::from(*size));
            let ring = base + 0x1_0000 * index;
            let registers = [(0x80, ring), (0x90, ring + 0x4000), (0xa0, ring + 0x8000), (0x44, 1)];
            registers.iter().for_each(|(register, value)| set(*register, *value));
        }
        set(0x70, 15);
        let mut status = [0; 4];
        transport.read(0x70, &mut status);
        assert_eq!(status[0], 15, "the device runs");
    }

    /// A machine whose drivers all run.
    fn state() -> MachineState {
        let console = Console::new(None);
        let mut transports = transports(&console);
        let queues: [&[u16]; 5] = [&[256], &[256], &[128, 128, 16], &[], &[16, 16, 32]];
        for ((transport, base), sizes) in
            transports.iter_mut().zip((1..).map(|n| n << 20)).zip(queues)
        {
            if !sizes.is_empty() {
                drive(transport, sizes, base);
            }
            transport.pause();
        }
        let devices = transports.iter().map(|transport| transport.save().unwrap()).collect();
        transports.iter_mut().for_each(MmioTransport::stop);
        MachineState {
            memory_mib: MEMORY_MIB,
            memory: vec![vec![(0, 4 << 20), (62 << 20, 2 << 20)]],
            disks: vec![vec![vec![(0, 8192)]]],
            vm: VmState::fresh(),
            vcpus: vec![CpuState::default()],
            uart: serial::save(&serial::uart(&console, Arc::new(event()))),
            devices,
        }
    }

    #[test]
    fn a_machine_goes_on() {
        let state = state();
        go_on(&state.uart, &state.devices).unwrap();
        check_memory(&state);
        check_fit(&state, MEMORY_MIB, VCPUS).unwrap();
        assert_eq!(state.vm.chips().unwrap().len(), 3);
    }

    /// What the fuzzer begins with would be of no use if the format had changed since. Then
    /// `seeds_are_written` makes it anew.
    #[test]
    fn the_corpus_has_a_machine() {
        let found = fs::read(corpus("machine")).unwrap();
        let found = decode(&seal(&found).unwrap()).unwrap();
        assert_eq!(found, state());
    }

    #[test]
    #[ignore = "writes into the source"]
    fn seeds_are_written() {
        fs::create_dir_all(corpus("")).unwrap();
        let body = |state: &MachineState| postcard::to_stdvec(state).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(corpus(name), bytes).unwrap();
        let machine = body(&state());
        write("machine", &machine);
        write("cut", &machine[..machine.len() / 2]);
        write("with-header", &seal(&machine).unwrap());
        write("header-alone", &seal(&[]).unwrap());
        let large = MachineState {
            memory_mib: 8192,
            memory: vec![vec![(0, 2 << 20), (3 << 30, 1 << 30), (4 << 30, 1 << 30)]],
            ..state()
        };
        write("memory-in-the-hole", &body(&large));
        write(
            "many-vcpus",
            &body(&MachineState {
                vcpus: (0..3).map(|_| CpuState::default()).collect(),
                ..state()
            }),
        );
        let (uart, devices) = (state().uart, state().devices);
        write("devices-alone", &postcard::to_stdvec(&(uart, devices)).unwrap());
        write("no-devices", &body(&MachineState { devices: Vec::new(), ..state() }));
        // A status without `DRIVER_OK`'s step before.
        let text = body(&state());
        let flipped: Vec<u8> =
            text.iter().map(|byte| if *byte == 15 { 11 } else { *byte }).collect();
        write("drivers-not-ready", &flipped);
    }
}
