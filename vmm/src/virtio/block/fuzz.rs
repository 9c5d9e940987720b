//! The body of the fuzz target for disks: whatever requests a guest makes, nothing but the disk
//! changes, and what it holds is there for the next machine.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::config::{DiskBacking, DiskExtent};
use crate::fuzz::{Image, file};

/// What lies below both disks: three blocks, each of its own letter, and a half one.
const BASE_BYTES: usize = 3 * 4096 + 2048;
/// The writable disk's size: less than the memory, so that all of it can be read at once.
const CAPACITY_BYTES: u32 = 16 * BLOCK_BYTES;

/// Serves the requests in a guest's memory; see `fuzz::Image`. The choice's lowest bit makes the disk a
/// read-only one.
///
/// # Panics
/// When a file changes that must not, or a disk reads differently once it is opened again.
pub fn block(bytes: &[u8]) {
    let mut image = Image::new(bytes, 1);
    let base = base();
    let overlay = file(&[]);
    let mut block = open(&base, &overlay, image.choice);
    let served = serve_all(&mut image.activated, 0, |memory, chain| block.serve(memory, chain));
    // A guest that broke the device has what it deserves; its disk stays sound.
    let _broken = served.is_err();
    let before = contents(&block, &image.activated.memory);
    block.disk.settle().expect("the file has room");
    let again = contents(&open(&base, &overlay, image.choice), &image.activated.memory);
    assert!(before == again, "a disk reads differently once it is opened again");
    assert!(bytes_of(&base) == pattern(), "what lies below a disk has changed");
}

fn open(base: &File, overlay: &File, choice: u8) -> Block {
    let clone = |file: &File| file.try_clone().expect("the host has room");
    let backing = if choice & 1 == 1 {
        DiskBacking::read_only(vec![
            DiskExtent { file: clone(base), offset: 4096, length: 8192 },
            DiskExtent { file: clone(base), offset: 0, length: 4096 },
        ])
    } else {
        DiskBacking::CopyOnWrite {
            base: Some(clone(base)),
            base_bytes: BASE_BYTES as u64,
            overlay: clone(overlay),
            usable_bytes: CAPACITY_BYTES.into(),
            capacity_bytes: CAPACITY_BYTES.into(),
        }
    };
    Block::open(DiskConfig { backing, id: "fuzz".to_owned() }).expect("the disk is sound")
}

/// All of a disk, read through the guest's memory as a request would.
fn contents(block: &Block, memory: &GuestMemoryMmap) -> Vec<u8> {
    let bytes = u32::try_from(block.disk.capacity_bytes()).expect("the disk is small");
    let mut buffer = super::super::buffer::Buffer::default();
    buffer.push(memory, GuestAddress(0), bytes).expect("the memory is larger");
    block.disk.read(0, buffer).expect("all of the disk can be read");
    let mut contents = vec![0; bytes as usize];
    memory.read_slice(&mut contents, GuestAddress(0)).expect("the memory is larger");
    contents
}

fn base() -> File {
    file(&pattern())
}

fn pattern() -> Vec<u8> {
    [[b'a'; 4096], [b'b'; 4096], [b'c'; 4096], [b'd'; 4096]].concat()[..BASE_BYTES].to_vec()
}

fn bytes_of(file: &File) -> Vec<u8> {
    let length = file.metadata().expect("it is open").len();
    let mut bytes = vec![0; usize::try_from(length).expect("it is small")];
    file.read_exact_at(&mut bytes, 0).expect("it is that long");
    bytes
}
