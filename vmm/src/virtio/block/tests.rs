//! Requests to disks, well-formed and hostile, and overlays against a model.

use std::fs::File;
use std::os::unix::fs::FileExt;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::config::{DiskBacking, DiskExtent};

const HEADER: u64 = 0x10_0000;
const STATUS: u64 = 0x10_1000;
const DATA: u64 = 0x11_0000;
const WRITE: u16 = 2;
/// What no answer is.
const UNANSWERED: u8 = 0xee;

const READ: u32 = 0;
const STORE: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).expect("memory is there")
}

fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(bytes, 0).expect("it has room");
    file
}

/// A disk of three blocks from two files: `a`, `b` and `c`.
fn read_only() -> Block {
    let first = file(&[vec![b'x'; 4096], vec![b'a'; 4096], vec![b'b'; 4096]].concat());
    let second = file(&[b'c'; 4096]);
    let extents = vec![
        DiskExtent { file: first, offset: 4096, length: 8192 },
        DiskExtent { file: second, offset: 0, length: 4096 },
    ];
    let config = DiskConfig { backing: DiskBacking::read_only(extents), id: "image".to_owned() };
    Block::open(config).expect("the extents are sound")
}

fn copy_on_write(base: &[u8], overlay: &File, blocks: u64) -> Result<Block, DiskError> {
    let backing = DiskBacking::CopyOnWrite {
        base: Some(file(base)),
        base_bytes: base.len() as u64,
        overlay: overlay.try_clone().expect("a descriptor"),
        usable_bytes: blocks * 4096,
        capacity_bytes: blocks * 4096,
    };
    Block::open(DiskConfig { backing, id: String::new() })
}

fn describe(address: u64, bytes: u32, flags: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, bytes, flags, 0))
}

/// Serves a chain of these descriptors, after a header of `kind` and `sector` is in its place.
fn serve(
    block: &mut Block,
    memory: &GuestMemoryMmap,
    (kind, sector): (u32, u64),
    descriptors: &[RawDescriptor],
) -> Result<(u32, u8), DeviceError> {
    memory.write_slice(&[0; 0x1000], GuestAddress(0)).expect("it is memory");
    memory.write_obj(u64::from(kind), GuestAddress(HEADER)).expect("it is memory");
    memory.write_obj(sector, GuestAddress(HEADER + 8)).expect("it is memory");
    memory.write_obj(UNANSWERED, GuestAddress(STATUS)).expect("it is memory");
    let ring = MockSplitQueue::new(memory, 16);
    let chain = ring.build_desc_chain(descriptors).expect("it is a chain");
    let written = block.serve(memory, chain)?;
    Ok((written, memory.read_obj(GuestAddress(STATUS)).expect("it is memory")))
}

/// Asks with one data buffer and a chain of the right shape.
fn ask(
    block: &mut Block,
    memory: &GuestMemoryMmap,
    kind: u32,
    sector: u64,
    bytes: u32,
) -> (u32, u8) {
    let flags = if matches!(kind, READ | GET_ID) { WRITE } else { 0 };
    let mut chain = vec![describe(HEADER, 16, 0)];
    if bytes > 0 {
        chain.push(describe(DATA, bytes, flags));
    }
    chain.push(describe(STATUS, 1, WRITE));
    serve(block, memory, (kind, sector), &chain).expect("the chain has the right shape")
}

fn data(memory: &GuestMemoryMmap, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    memory.read_slice(&mut data, GuestAddress(DATA)).expect("it is memory");
    data
}

#[test]
fn extents_are_one_disk() {
    let (memory, mut block) = (memory(), read_only());
    assert_eq!(block.config()[..8], 24u64.to_le_bytes());
    assert_eq!(ask(&mut block, &memory, READ, 0, 12288), (12289, 0));
    let bytes = data(&memory, 12288);
    assert_eq!([bytes[0], bytes[4095], bytes[4096], bytes[8191], bytes[8192]], *b"aabbc");

    let chain = [
        describe(HEADER, 16, 0),
        describe(DATA + 100, 512, WRITE),
        describe(DATA, 100, WRITE),
        describe(DATA + 8192, 412, WRITE),
        describe(STATUS, 1, WRITE),
    ];
    let answer = serve(&mut block, &memory, (READ, 15), &chain).expect("the chain is sound");
    assert_eq!(answer, (1025, 0));
    let bytes = data(&memory, 8704);
    assert_eq!([bytes[100], bytes[611], bytes[0], bytes[8192]], *b"bbcc");
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let (memory, mut block) = (memory(), read_only());
    assert_ne!(block.features() & FEATURE_RO, 0);
    assert_eq!(ask(&mut block, &memory, STORE, 0, 512), (1, 1));
    assert_eq!(ask(&mut block, &memory, DISCARD, 0, 16), (1, 2));
    assert_eq!(ask(&mut block, &memory, FLUSH, 0, 0), (1, 0));
    assert_eq!(ask(&mut block, &memory, 99, 0, 0), (1, 2));
}

#[test]
fn reads_behind_the_end_are_errors() {
    let (memory, mut block) = (memory(), read_only());
    for (sector, bytes) in [(24, 512), (23, 1024), (u64::MAX, 512), (1 << 55, 512)] {
        assert_eq!(ask(&mut block, &memory, READ, sector, bytes), (1, 1), "{sector}");
    }
    assert_eq!(ask(&mut block, &memory, READ, 23, 512), (513, 0));
    assert_eq!(ask(&mut block, &memory, READ, 24, 0), (1, 0));
}

#[test]
fn a_file_that_became_shorter_is_an_error() {
    let (memory, shared) = (memory(), file(&[b'c'; 8192]));
    let extent =
        DiskExtent { file: shared.try_clone().expect("a descriptor"), offset: 0, length: 8192 };
    let backing = DiskBacking::read_only(vec![extent]);
    let mut block = Block::open(DiskConfig { backing, id: String::new() }).expect("it is sound");
    shared.set_len(4096).expect("it can be cut");
    assert_eq!(ask(&mut block, &memory, READ, 0, 8192), (1, 1));
    assert_eq!(ask(&mut block, &memory, READ, 0, 4096), (4097, 0));
}

#[test]
fn a_slot_ends_where_its_pieces_do() {
    let memory = memory();
    let extents = vec![DiskExtent { file: file(&[b'a'; 8192]), offset: 0, length: 8192 }];
    let backing = DiskBacking::ReadOnly { extents, capacity_bytes: 1 << 40 };
    let mut block = Block::open(DiskConfig { backing, id: String::new() }).expect("it is sound");
    assert_eq!(block.config()[..8], (1u64 << 31).to_le_bytes());
    assert_eq!(ask(&mut block, &memory, READ, 0, 8192), (8193, 0));
    for sector in [8, 16, 1 << 30] {
        assert_eq!(ask(&mut block, &memory, READ, sector, 8192), (1, 1), "{sector}");
    }
}

#[test]
fn the_id_is_told() {
    let (memory, mut block) = (memory(), read_only());
    assert_eq!(ask(&mut block, &memory, GET_ID, 0, 20), (21, 0));
    assert_eq!(data(&memory, 20), b"image\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(ask(&mut block, &memory, GET_ID, 0, 2), (3, 0));
    assert_eq!(ask(&mut block, &memory, GET_ID, 0, 4096), (21, 0));
}

#[test]
fn chains_without_a_place_for_the_answer_fail_the_device() {
    let header = describe(HEADER, 16, 0);
    let status = describe(STATUS, 1, WRITE);
    let cases: [(&str, &[RawDescriptor]); 9] = [
        ("nothing but a header", &[header]),
        ("a short header", &[describe(HEADER, 15, 0), status]),
        ("a header to write to", &[describe(HEADER, 16, WRITE), status]),
        ("a header outside of memory", &[describe(0x20_0000, 16, 0), status]),
        ("an answer to read", &[header, describe(STATUS, 1, 0)]),
        ("an answer of no bytes", &[header, describe(STATUS, 0, WRITE)]),
        ("an answer outside of memory", &[header, describe(u64::MAX, 1, WRITE)]),
        ("data outside of memory", &[header, describe(0x1f_ffff, 2, WRITE), status]),
        ("data of 4 GiB", &[header, describe(DATA, u32::MAX, WRITE), status]),
    ];
    for (name, chain) in cases {
        let (memory, mut block) = (memory(), read_only());
        let served = serve(&mut block, &memory, (READ, 0), chain);
        assert!(matches!(served, Err(DeviceError::Protocol { .. })), "{name}");
    }
}

#[test]
fn bad_discards_are_errors() {
    let memory = memory();
    let overlay = file(&[]);
    let mut block = copy_on_write(&[], &overlay, 4).expect("it is new");
    let cases: [(u64, u32, u32, u8); 6] = [
        (0, 8, 16, 0),
        (0, 33, 16, 1),                      // behind the end
        (u64::MAX, 1, 16, 1),                // the offset is no number
        (0, MAX_DISCARD_SECTORS + 1, 16, 1), // more than was told
        (0, 8, 15, 1),                       // half a range
        (0, 8, 33 * 16, 1),                  // more ranges than were told
    ];
    for (sector, count, bytes, expected) in cases {
        memory.write_slice(&[0; 1024], GuestAddress(DATA)).expect("it is memory");
        memory.write_obj(sector, GuestAddress(DATA)).expect("it is memory");
        memory.write_obj(count, GuestAddress(DATA + 8)).expect("it is memory");
        assert_eq!(ask(&mut block, &memory, DISCARD, 0, bytes), (1, expected), "{sector} {count}");
    }
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from((self.0 >> 33) % u64::from(limit)).expect("the limit is one")
    }
}

#[test]
fn an_overlay_is_what_was_written_over_its_base() {
    const BLOCKS: u32 = 40;
    let (memory, overlay, mut numbers) = (memory(), file(&[]), Numbers(7));
    // The base ends within a block and before the disk does.
    let base: Vec<u8> =
        (0..25 * 4096 + 1000u32).map(|i| u8::try_from(i % 251 + 1).expect("small")).collect();
    let mut model = base.clone();
    model.resize(BLOCKS as usize * 4096, 0);
    let mut block = copy_on_write(&base, &overlay, BLOCKS.into()).expect("it is new");
    for round in 0..400u32 {
        let sector = numbers.below(BLOCKS * 8);
        let sectors = 1 + numbers.below(20.min(BLOCKS * 8 - sector));
        let (start, bytes) = (sector as usize * 512, sectors * 512);
        let sector = u64::from(sector);
        let range = start..start + bytes as usize;
        match numbers.below(8) {
            0..=2 => {
                let fill = vec![u8::try_from(round % 256).expect("a byte"); bytes as usize];
                memory.write_slice(&fill, GuestAddress(DATA)).expect("it is memory");
                assert_eq!(ask(&mut block, &memory, STORE, sector, bytes), (1, 0));
                model[range].copy_from_slice(&fill);
            }
            3 => {
                memory.write_obj(sector, GuestAddress(DATA)).expect("it is memory");
                memory.write_obj(sectors, GuestAddress(DATA + 8)).expect("it is memory");
                assert_eq!(ask(&mut block, &memory, DISCARD, 0, 16), (1, 0));
                model[range].fill(0);
            }
            4 => {
                assert_eq!(ask(&mut block, &memory, FLUSH, 0, 0), (1, 0));
                // What has been flushed is there for the next machine.
                block = copy_on_write(&base, &overlay, BLOCKS.into()).expect("it is sound");
            }
            _ => {
                assert_eq!(ask(&mut block, &memory, READ, sector, bytes), (bytes + 1, 0));
                assert!(data(&memory, bytes as usize) == model[range], "round {round}");
            }
        }
    }
    block.disk.settle().expect("the file has room");
    let mut again = copy_on_write(&base, &overlay, BLOCKS.into()).expect("it is sound");
    assert_eq!(ask(&mut again, &memory, READ, 0, 40 * 4096), (40 * 4096 + 1, 0));
    assert!(data(&memory, 40 * 4096) == model);
}

#[test]
fn foreign_overlays_are_refused() {
    let cases: [(&str, u64, &[u8]); 4] = [
        ("another magic", 0, b"HYPRCOW\n"),
        ("another version", 8, &[2]),
        ("another capacity", 16, &[1]),
        ("something behind the header", 1000, &[1]),
    ];
    for (name, offset, bytes) in cases {
        let overlay = file(&[]);
        copy_on_write(&[], &overlay, 4).expect("it is new");
        copy_on_write(&[], &overlay, 4).expect("it is sound");
        overlay.write_all_at(bytes, offset).expect("it has room");
        assert!(copy_on_write(&[], &overlay, 4).is_err(), "{name}");
    }
    let overlay = file(&[]);
    copy_on_write(&[], &overlay, 4).expect("it is new");
    assert!(copy_on_write(&[], &overlay, 5).is_err(), "another size of the disk");
    assert!(copy_on_write(&[1], &overlay, 4).is_err(), "another size of the base");
    assert!(copy_on_write(&[], &file(b"something else"), 4).is_err(), "another file");
}

#[test]
fn a_disk_can_be_smaller_than_its_slot() {
    let (memory, overlay) = (memory(), file(&[]));
    let backing = |usable_bytes| DiskBacking::CopyOnWrite {
        base: None,
        base_bytes: 0,
        overlay: overlay.try_clone().expect("a descriptor"),
        usable_bytes,
        capacity_bytes: 1 << 40,
    };
    let open = |usable_bytes| {
        Block::open(DiskConfig { backing: backing(usable_bytes), id: String::new() })
    };
    let mut block = open(8192).expect("the disk is sound");
    assert_eq!(block.config()[..8], (1u64 << 31).to_le_bytes());
    for kind in [READ, STORE] {
        assert_eq!(ask(&mut block, &memory, kind, 8, 4096).1, 0, "{kind}");
        assert_eq!(ask(&mut block, &memory, kind, 9, 4096).1, 1, "{kind}");
        assert_eq!(ask(&mut block, &memory, kind, 1 << 30, 4096).1, 1, "{kind}");
    }
    let length = overlay.metadata().expect("it is open").len();
    assert!(length < 1 << 20, "{length} bytes");
    assert!(matches!(open((1 << 40) + 4096), Err(DiskError::TooLarge)));
}

#[test]
fn bad_configurations_are_refused() {
    let extent = |offset, length| {
        let extent = DiskExtent { file: file(&[0; 8192]), offset, length };
        let backing = DiskBacking::read_only(vec![extent]);
        Block::open(DiskConfig { backing, id: String::new() })
    };
    assert!(extent(0, 8192).is_ok());
    assert!(matches!(extent(1, 4096), Err(DiskError::Unaligned { .. })));
    assert!(matches!(extent(0, 100), Err(DiskError::Unaligned { .. })));
    assert!(matches!(extent(4096, 8192), Err(DiskError::ShortFile { .. })));
    assert!(matches!(extent(!0xfff, 8192), Err(DiskError::TooLarge)));
    let small = DiskBacking::ReadOnly {
        extents: vec![DiskExtent { file: file(&[0; 8192]), offset: 0, length: 8192 }],
        capacity_bytes: 4096,
    };
    let small = DiskConfig { backing: small, id: String::new() };
    assert!(matches!(Block::open(small), Err(DiskError::TooLarge)));
    let backing = DiskBacking::read_only(Vec::new());
    let long = DiskConfig { backing, id: "x".repeat(21) };
    assert!(matches!(Block::open(long), Err(DiskError::LongId)));
}
