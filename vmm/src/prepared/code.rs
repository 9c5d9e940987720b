//! What a boot writes to a kernel's code, and what of that is known before it (arch/x86/kernel/alternative.c).

use std::io;
use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::FileHeader64;
use object::read::elf::{SectionHeader, SectionTable};

use super::invalid;

/// Where the returns are: a distance from each entry.
const RETURN_SITES: (&[u8], usize) = (b".return_sites", 4);
/// A return as it was linked, `jmp` to a thunk, and as it is where none is needed: `ret`, and traps.
const JUMP: u8 = 0xe9;
const RETURN_BYTES: usize = 5;
const PLAIN_RETURN: [u8; RETURN_BYTES] = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc];
/// What follows one that is the trampoline of a static call, whose target is known later than any
/// (arch/x86/include/asm/static_call.h).
const TRAMPOLINE: &[u8] = &[0x0f, 0xb9, 0xcc];

/// Where instructions have alternatives: `struct alt_instr`, which begins with the distance to the instruction, and
/// has its flags at 10 and the instruction's length at 12 (arch/x86/include/asm/alternative.h).
const ALTERNATIVES: (&[u8], usize) = (b".altinstructions", 14);
/// The alternative is a direct call: `ALT_FLAG_DIRECT_CALL`.
const DIRECT_CALL: u8 = 1 << 1;
/// `call *disp(%rip)`, which such a one is until then.
const INDIRECT_CALL: &[u8] = &[0xff, 0x15];
/// `popcnt` of 32 and of 64 bits, which needs nothing but a processor that has it.
const COUNTS: [&[u8]; 2] = [&[0xf3, 0x0f, 0xb8], &[0xf3, 0x48, 0x0f, 0xb8]];

/// Code, and where it was linked to.
#[derive(Default)]
pub(super) struct Code {
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
}

/// Where a boot may write, by the tables of a kernel.
pub(super) struct Sites {
    returns: Vec<u64>,
    alternatives: Vec<Alternative>,
}

/// An instruction with an alternative.
struct Alternative {
    address: u64,
    length: usize,
    is_call: bool,
}

/// How a function returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Return {
    Plain,
    /// By the thunk at this address.
    By(u64),
}

impl Code {
    fn range(&self, address: u64, length: usize) -> Option<Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.address)?).ok()?;
        Some(start..start.checked_add(length)?)
    }

    fn get(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.bytes.get(self.range(address, length)?)
    }

    /// Writes what has its place in it.
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let range = self.range(address, bytes.len());
        if let Some(there) = range.and_then(|range| self.bytes.get_mut(range)) {
            there.copy_from_slice(bytes);
        }
    }

    /// Whether a return is here that nothing but the need for a thunk decides on.
    fn has_return(&self, site: u64) -> bool {
        let jumps = self.get(site, RETURN_BYTES).is_some_and(|linked| linked[0] == JUMP);
        let behind = site.wrapping_add(RETURN_BYTES as u64);
        jumps && self.get(behind, TRAMPOLINE.len()) != Some(TRAMPOLINE)
    }
}

impl Return {
    fn read(site: u64, bytes: &[u8]) -> Option<Self> {
        if bytes == PLAIN_RETURN {
            return Some(Self::Plain);
        }
        let (&JUMP, distance) = bytes.split_first()? else { return None };
        let distance = i32::from_le_bytes(*distance.first_chunk()?);
        let behind = site.wrapping_add(RETURN_BYTES as u64);
        Some(Self::By(behind.wrapping_add_signed(distance.into())))
    }

    /// None for a thunk that is out of reach.
    fn write(self, site: u64) -> Option<[u8; RETURN_BYTES]> {
        let Self::By(thunk) = self else { return Some(PLAIN_RETURN) };
        let behind = site.wrapping_add(RETURN_BYTES as u64);
        let distance = i32::try_from(thunk.wrapping_sub(behind).cast_signed()).ok()?;
        let [a, b, c, d] = distance.to_le_bytes();
        Some([JUMP, a, b, c, d])
    }
}

impl Sites {
    /// # Errors
    /// When a table is cut off, or has another form.
    pub(super) fn of(
        sections: &SectionTable<'_, FileHeader64<LE>>,
        image: &[u8],
    ) -> io::Result<Self> {
        let mut sites = Self { returns: Vec::new(), alternatives: Vec::new() };
        for_each(sections, image, RETURN_SITES, |address, _| sites.returns.push(address))?;
        for_each(sections, image, ALTERNATIVES, |address, entry| {
            let (is_call, length) = (entry[10] & DIRECT_CALL != 0, entry[12].into());
            sites.alternatives.push(Alternative { address, length, is_call });
        })?;
        Ok(sites)
    }
}

/// Has `found` look at each entry of a table, and where that leads. A kernel without the table has none.
fn for_each(
    sections: &SectionTable<'_, FileHeader64<LE>>,
    image: &[u8],
    (name, bytes): (&[u8], usize),
    mut found: impl FnMut(u64, &[u8]),
) -> io::Result<()> {
    let Some((_, section)) = sections.section_by_name(LE, name) else { return Ok(()) };
    let table = section.data(LE, image).map_err(io::Error::other)?;
    if !table.len().is_multiple_of(bytes) {
        return Err(invalid("a table of its code has another form"));
    }
    let mut address = section.sh_addr(LE);
    for entry in table.chunks_exact(bytes) {
        let distance = entry.first_chunk().expect("an entry is longer");
        found(address.wrapping_add_signed(i32::from_le_bytes(*distance).into()), entry);
        address = address.wrapping_add(bytes as u64);
    }
    Ok(())
}

/// Makes of code what a boot makes of it: of a `text` what it was found to be, and of what runs at the `beginning`
/// alone, in whose place memory has something else later, the returns.
///
/// # Errors
/// When the text that was found is another one.
pub(super) fn prepare(
    text: &mut Code,
    beginning: &mut Code,
    found: &Code,
    sites: &Sites,
) -> io::Result<()> {
    let mut kinds = Vec::new();
    for &site in &sites.returns {
        if text.has_return(site) {
            let bytes = found.get(site, RETURN_BYTES).unwrap_or_default();
            let other = || invalid("the machine had another kernel");
            kinds.push(Return::read(site, bytes).ok_or_else(other)?);
            text.put(site, bytes);
        }
    }
    // Where a return needs a thunk in some places alone, which ones is the kernel's to know.
    let usual = kinds.first().filter(|first| kinds.iter().all(|other| other == *first));
    for &site in &sites.returns {
        if beginning.has_return(site)
            && let Some(bytes) = usual.and_then(|usual| usual.write(site))
        {
            beginning.put(site, &bytes);
        }
    }
    for Alternative { address, length, is_call } in &sites.alternatives {
        let Some(linked) = text.get(*address, *length) else { continue };
        let Some(bytes) = found.get(*address, *length) else { continue };
        let is_known = if *is_call {
            linked.starts_with(INDIRECT_CALL)
        } else {
            COUNTS.iter().any(|count| bytes.starts_with(count))
        };
        if is_known {
            text.put(*address, bytes);
        }
    }
    Ok(())
}
