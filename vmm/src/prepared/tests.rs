//! A kernel with one of everything, as it was linked and as it has booted.

use super::*;

use linux_loader::loader::{KernelLoader, elf::Elf};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const BYTES: u64 = 64 << 20;

/// A segment: where it lies in memory, where it was linked to, where the kernel's file has it, and its length.
struct Place(u64, u64, usize, usize);

const TEXT: Place = Place(16 << 20, 0xffff_ffff_8100_0000, 0x1000, 0x1800);
const DATA: Place = Place(18 << 20, 0xffff_ffff_8120_0000, 0x3000, 0x100);
/// Code of the beginning, then tables.
const INIT: Place = Place(20 << 20, 0xffff_ffff_8140_0000, 0x4000, 0x1200);
const NOTE_AT: usize = 0x2780;
const SECTIONS_AT: usize = 0x6000;

/// Where what is where in the text: returns, that of a static call's trampoline, a call through pv_ops, a count of
/// bits, another alternative, and a branch that was switched.
const RETURNS: [usize; 2] = [0x10, 0x1700];
const TRAMPOLINE: usize = 0x20;
const CALL: usize = 0x30;
const COUNT: usize = 0x40;
const OTHER: usize = 0x50;
const BRANCH: usize = 0x60;
/// And in the code of the beginning.
const EARLY_RETURN: usize = 0x80;
/// The tables there.
const RETURN_TABLE: usize = 0x1000;
const ALTERNATIVE_TABLE: usize = 0x1100;

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn words<const COUNT: usize>(words: [u64; COUNT]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn segment(kind: u64, flags: u64, Place(address, linked, at, bytes): Place) -> Vec<u8> {
    words([flags << 32 | kind, at as u64, linked, address, bytes as u64, bytes as u64, 4])
}

fn section(name: u64, flags: u64, linked: u64, at: usize, bytes: usize) -> Vec<u8> {
    words([1 << 32 | name, flags, linked, at as u64, bytes as u64, 0, 4, 0])
}

/// How far it is, in four bytes.
fn distance(from: u64, to: u64) -> [u8; 4] {
    i32::try_from(to.wrapping_sub(from).cast_signed()).unwrap().to_le_bytes()
}

/// A jump from a place in the text, of five bytes.
fn jump(at: usize, target: u64) -> [u8; 5] {
    let [a, b, c, d] = distance(TEXT.1 + at as u64 + 5, target);
    [JUMP, a, b, c, d]
}

const JUMP: u8 = 0xe9;
const THUNK: u64 = TEXT.1 + 0x1000;
const OTHER_THUNK: u64 = TEXT.1 + 0x1100;

fn text() -> Vec<u8> {
    let mut text = vec![0x90; TEXT.3];
    for at in RETURNS.into_iter().chain([TRAMPOLINE]) {
        put(&mut text, at, &jump(at, THUNK));
    }
    put(&mut text, TRAMPOLINE + 5, &[0x0f, 0xb9, 0xcc]);
    put(&mut text, CALL, &[0xff, 0x15, 0, 0, 0, 0]);
    text
}

/// What a boot makes of the text.
fn booted(returns: impl Fn(usize) -> [u8; 5]) -> Vec<u8> {
    let mut text = text();
    RETURNS.into_iter().for_each(|at| put(&mut text, at, &returns(at)));
    put(&mut text, TRAMPOLINE, &jump(TRAMPOLINE, TEXT.1));
    put(&mut text, CALL, &[0xe8, 7, 7, 7, 7, 0x90]);
    put(&mut text, COUNT, &[0xf3, 0x48, 0x0f, 0xb8, 0xc7, 0x90]);
    put(&mut text, OTHER, &[0x0f, 0x01, 0xcb, 0x90, 0x90, 0x90]);
    put(&mut text, BRANCH, &[5; 5]);
    text
}

fn kernel() -> Vec<u8> {
    let mut image = vec![0; SECTIONS_AT + 0x300];
    put(&mut image, 0, b"\x7fELF\x02\x01\x01");
    put(&mut image, 16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(&mut image, 24, &words([TEXT.0 + 0x123, 64, SECTIONS_AT as u64]));
    put(&mut image, 52, &[64, 0, 56, 0, 4, 0, 64, 0, 7, 0, 6, 0]);
    let note = (NOTE_AT - TEXT.2) as u64;
    let note = Place(TEXT.0 + note, TEXT.1 + note, NOTE_AT, 28);
    let heads =
        [segment(1, 5, TEXT), segment(1, 6, DATA), segment(1, 7, INIT), segment(4, 4, note)];
    put(&mut image, 64, &heads.concat());
    put(&mut image, TEXT.2, &text());
    put(&mut image, NOTE_AT, b"\x09\0\0\0\x04\0\0\0\x01\0\0\0hyperrun\0\0\0\0\x01\0\0\0");
    put(&mut image, DATA.2, &[3; DATA.3]);
    put(&mut image, INIT.2, &[0x90; PAGE]);
    let early = INIT.1 + EARLY_RETURN as u64;
    put(&mut image, INIT.2 + EARLY_RETURN, &[JUMP]);
    put(&mut image, INIT.2 + EARLY_RETURN + 1, &distance(early + 5, THUNK));
    let enter = |image: &mut [u8], entry: usize, site: u64| {
        put(image, INIT.2 + entry, &distance(INIT.1 + entry as u64, site));
    };
    let in_text = |at: usize| TEXT.1 + at as u64;
    let returns = [in_text(RETURNS[0]), early, in_text(TRAMPOLINE), DATA.1, in_text(RETURNS[1])];
    for (index, site) in returns.into_iter().enumerate() {
        enter(&mut image, RETURN_TABLE + 4 * index, site);
    }
    let alternatives = [(in_text(CALL), 2), (in_text(COUNT), 0), (in_text(OTHER), 0), (early, 2)];
    for (index, (site, flags)) in alternatives.into_iter().enumerate() {
        let entry = ALTERNATIVE_TABLE + 14 * index;
        enter(&mut image, entry, site);
        put(&mut image, INIT.2 + entry + 8, &[0, 0, flags, 0, 6, 5]);
    }
    let names = b"\0.text\0.return_sites\0.altinstructions\0";
    put(&mut image, SECTIONS_AT + 7 * 64, names);
    let table = |name, at, bytes| section(name, 2, INIT.1 + at as u64, INIT.2 + at, bytes);
    let sections = [
        section(0, 0, 0, 0, 0),
        section(1, 6, TEXT.1, TEXT.2, TEXT.3),
        section(0, 3, DATA.1, DATA.2, DATA.3),
        section(0, 6, INIT.1, INIT.2, PAGE - 0x10),
        table(7, RETURN_TABLE, 4 * returns.len()),
        table(21, ALTERNATIVE_TABLE, 14 * alternatives.len()),
        section(0, 0, 0, SECTIONS_AT + 7 * 64, names.len()),
    ];
    put(&mut image, SECTIONS_AT, &sections.concat());
    image
}

fn file(content: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(content, 0).unwrap();
    file
}

fn memory(text: &[u8]) -> File {
    let memory = tempfile::tempfile().unwrap();
    memory.write_all_at(text, TEXT.0).unwrap();
    memory.write_all_at(&[0xee; PAGE], INIT.0).unwrap();
    memory.set_len(BYTES).unwrap();
    memory
}

fn read(file: &File, at: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, at).unwrap();
    content
}

fn prepared(text: &[u8]) -> File {
    let to = tempfile::tempfile().unwrap();
    assert!(prepare_kernel(&file(&kernel()), &memory(text), &to).unwrap());
    to
}

#[test]
fn what_a_boot_may_find_is_as_another_left_it_and_all_else_as_it_was_linked() {
    let jumps = |at| jump(at, OTHER_THUNK);
    let (kernel, booted) = (kernel(), booted(jumps));
    let to = prepared(&booted);
    let mut expected = kernel[TEXT.2..TEXT.2 + TEXT.3].to_vec();
    for (at, bytes) in [(RETURNS[0], 5), (RETURNS[1], 5), (CALL, 6), (COUNT, 6)] {
        put(&mut expected, at, &booted[at..at + bytes]);
    }
    assert!(read(&to, TEXT.0, TEXT.3) == expected);
    assert!(read(&to, DATA.0, DATA.3) == kernel[DATA.2..DATA.2 + DATA.3]);
    // Memory has something else there by now.
    let mut expected = kernel[INIT.2..INIT.2 + INIT.3].to_vec();
    let early = usize::try_from(INIT.1 - TEXT.1).unwrap() + EARLY_RETURN;
    put(&mut expected, EARLY_RETURN, &jump(early, OTHER_THUNK));
    assert!(read(&to, INIT.0, INIT.3) == expected);
    snapshot::check_memory(&to, BYTES).unwrap();
    let prepared = Prepared::look(&to).unwrap();
    assert_eq!(prepared.entry, TEXT.0 + 0x123);
    assert_eq!(prepared.code, [(TEXT.0, 0x2000), (INIT.0, 0x1000)], "whole pages");
    let tables = INIT.0 + PAGE as u64;
    let rest = [(DATA.0, DATA.0, DATA.3), (tables, tables, INIT.3 - PAGE)];
    assert_eq!(prepared.rest, rest);
}

#[test]
fn returns_of_the_beginning_are_as_all_others_or_as_they_were() {
    const PLAIN: [u8; 5] = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc];
    let early = |text: &[u8]| read(&prepared(text), INIT.0 + EARLY_RETURN as u64, 5);
    assert_eq!(early(&booted(|_| PLAIN)), PLAIN);
    let mixed = |at| if at == RETURNS[0] { PLAIN } else { jump(at, THUNK) };
    let linked = INIT.2 + EARLY_RETURN;
    assert_eq!(early(&booted(mixed)), kernel()[linked..linked + 5]);
}

#[test]
fn a_prepared_kernel_is_one_for_everybody_else() {
    let text = booted(|at| jump(at, THUNK));
    let guest = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
    let loaded = Elf::load(&guest, None, &mut prepared(&text), None).unwrap();
    assert_eq!(loaded.kernel_load, GuestAddress(TEXT.0 + 0x123));
    let mut call = [0; 6];
    guest.read_slice(&mut call, GuestAddress(TEXT.0 + CALL as u64)).unwrap();
    assert_eq!(call[..], text[CALL..CALL + 6]);
}

#[test]
fn what_does_not_boot_with_a_prepared_text_is_not_prepared() {
    let mut unmarked = kernel();
    put(&mut unmarked, NOTE_AT + 12, b"Hyperrun");
    let mut other_version = kernel();
    other_version[NOTE_AT + 8] = 2;
    for image in [unmarked, other_version, b"MZ a bzImage".to_vec(), Vec::new()] {
        let to = tempfile::tempfile().unwrap();
        assert!(!prepare_kernel(&file(&image), &memory(&text()), &to).unwrap());
        assert_eq!(to.metadata().unwrap().len(), 0);
    }
}

#[test]
fn another_machines_memory_prepares_nothing() {
    let other = booted(|_| [0x90; 5]);
    let prepare =
        |memory: &File| prepare_kernel(&file(&kernel()), memory, &tempfile::tempfile().unwrap());
    assert!(prepare(&memory(&other)).unwrap_err().to_string().contains("another kernel"));
    let short = memory(&text());
    short.set_len(TEXT.0 + 5).unwrap();
    prepare(&short).unwrap_err();
}

#[test]
fn a_damaged_kernel_is_an_error_or_no_kernel() {
    let memory = memory(&text());
    let whole = kernel();
    let prepare = |image: &[u8]| {
        let to = tempfile::tempfile().unwrap();
        let prepared = prepare_kernel(&file(image), &memory, &to);
        if prepared.is_ok_and(|prepared| prepared) {
            let looked = Prepared::look(&to).unwrap();
            assert!(looked.code.iter().all(|(address, bytes)| address + bytes <= BYTES));
        }
    };
    // Every byte of its headers and tables, in which nothing else lies.
    let heads = (0..64 + 4 * 56).chain(NOTE_AT..NOTE_AT + 28);
    let tables = (INIT.2 + RETURN_TABLE..INIT.2 + INIT.3).chain(SECTIONS_AT..whole.len());
    for at in heads.chain(tables) {
        for byte in [0, 0x7f, 0x80, 0xff] {
            let mut image = whole.clone();
            image[at] = byte;
            prepare(&image);
        }
    }
    for length in (0..whole.len()).step_by(0x40) {
        prepare(&whole[..length]);
    }
}

#[test]
fn a_prepared_kernel_that_was_changed_is_looked_at_without_harm() {
    let to = prepared(&text());
    for at in 0..64 + 4 * 56 {
        let [before] = read(&to, at, 1)[..] else { panic!("one byte") };
        for byte in [0, 0x7f, 0xff] {
            to.write_all_at(&[byte], at).unwrap();
            let _ = Prepared::look(&to);
        }
        to.write_all_at(&[before], at).unwrap();
    }
    Prepared::look(&to).unwrap();
    to.set_len(100).unwrap();
    Prepared::look(&to).unwrap_err();
}
