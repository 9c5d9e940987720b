//! A kernel with its code as a boot leaves it: no boot has to patch that again, and many machines share it.
//!
//! A boot writes to most pages of a kernel's code. It gives each return the form that the processor needs against
//! speculation, makes each call through `pv_ops` a direct one, and counts bits by an instruction. What a guest has
//! made of these is taken from the memory of one that was saved, and put into a copy of its kernel. All else stays
//! as it was linked: some of it runs before the processor is known. A kernel says by a note that it boots so
//! (guest-kernel/patches); it puts right a return that is not as this boot wants it.
//!
//! The copy is an ELF file in which each segment lies where the guest's memory has it, as in the memory file of
//! a saved machine, and it is as long as that: so its code is mapped as such a memory is.

mod code;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::LittleEndian as LE;
use object::elf::{
    FileHeader64, NoteType, PF_R, PF_W, PF_X, PT_LOAD, ProgramHeader64, SHF_ALLOC, SHF_EXECINSTR,
    SHN_UNDEF, SectionFlags,
};
use object::pod::bytes_of;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable};

use self::code::{Code, Sites};
use crate::arch::x86_64::layout;
use crate::layers::{PAGE, Pieces};
use crate::memory;
use crate::snapshot;

/// The note of a kernel that boots with prepared code.
const NOTE: (&[u8], NoteType) = (b"hyperrun", NoteType(1));
/// No kernel is larger, in bytes.
const MAX_KERNEL_BYTES: u64 = 256 << 20;
/// What holds the headers: the first page.
const HEAD_BYTES: usize = PAGE;

type Segment = ProgramHeader64<LE>;

/// Segments, and what is in them.
type Parts<'a> = Vec<(Segment, Cow<'a, [u8]>)>;

/// Writes a prepared copy of `kernel` to an empty file: what a machine that booted it had made of its code when
/// its memory was `saved`. Gives whether it can be prepared; nothing is written of one that cannot.
///
/// # Errors
/// When a file cannot be read or written, the kernel is damaged, or was not the machine's.
pub fn prepare_kernel(kernel: &File, saved: &File, to: &File) -> io::Result<bool> {
    let image = read_kernel(kernel)?;
    let Some(kernel) = Kernel::parse(&image)? else { return Ok(false) };
    let bytes = saved.metadata()?.len();
    let parts = kernel.prepare(|text| {
        let mut found = vec![0; text.p_filesz(LE).try_into().map_err(io::Error::other)?];
        saved.read_exact_at(&mut found, place(text, bytes)?)?;
        Ok(found)
    })?;
    to.write_all_at(&head(kernel.header, &parts)?, 0)?;
    for (segment, data) in &parts {
        to.write_all_at(data, place(segment, bytes)?)?;
    }
    to.set_len(bytes)?;
    // What no machine could use is not kept for one.
    memory::place(bytes, &Prepared::look(to)?.code)?;
    snapshot::seal(to)?;
    Ok(true)
}

/// A kernel that boots with prepared code.
struct Kernel<'a> {
    image: &'a [u8],
    header: &'a FileHeader64<LE>,
    segments: &'a [Segment],
    sections: SectionTable<'a, FileHeader64<LE>>,
}

impl<'a> Kernel<'a> {
    /// None of what is no such kernel.
    fn parse(image: &'a [u8]) -> io::Result<Option<Self>> {
        let Ok(header) = FileHeader64::parse(image) else { return Ok(None) };
        let segments = header.program_headers(LE, image).map_err(io::Error::other)?;
        let sections = header.sections(LE, image).map_err(io::Error::other)?;
        let kernel = Self { image, header, segments, sections };
        Ok(kernel.is_preparable()?.then_some(kernel))
    }

    fn is_preparable(&self) -> io::Result<bool> {
        for segment in self.segments {
            let notes = segment.notes(LE, self.image).map_err(io::Error::other)?;
            let Some(mut notes) = notes else { continue };
            while let Some(note) = notes.next().map_err(io::Error::other)? {
                if (note.name(), note.n_type(LE)) == NOTE {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Its segments with the code prepared; `find` tells what is in memory in place of one. The code that runs at the
    /// beginning of a boot alone lies before data, and becomes a segment of its own.
    fn prepare(&self, find: impl Fn(&Segment) -> io::Result<Vec<u8>>) -> io::Result<Parts<'a>> {
        let (mut text, mut beginning, mut parts) = (None, None, Parts::new());
        for segment in self.segments.iter().filter(|segment| segment.p_type(LE) == PT_LOAD) {
            let data = segment.data(LE, self.image).map_err(|()| invalid("it is cut off"))?;
            let leading = self.leading_code(segment).min(data.len());
            if is_code(segment) && text.is_none() {
                text = Some((parts.len(), find(segment)?));
            }
            if leading > 0 && beginning.is_none() {
                beginning = Some(parts.len());
                let (code, rest) = cut(segment, leading as u64);
                let (first, others) = data.split_at(leading);
                parts.extend([(code, first.into()), (rest, others.into())]);
            } else {
                parts.push((*segment, data.into()));
            }
        }
        let (text, found) = text.ok_or_else(|| invalid("it has no text"))?;
        let code = |part: usize| {
            let (segment, data) = &parts[part];
            Code { address: segment.p_vaddr(LE), bytes: data.to_vec() }
        };
        let mut prepared = code(text);
        let mut first = beginning.map_or_else(Code::default, code);
        let found = Code { address: prepared.address, bytes: found };
        let sites = Sites::of(&self.sections, self.image)?;
        code::prepare(&mut prepared, &mut first, &found, &sites)?;
        parts[text].1 = prepared.bytes.into();
        if let Some(part) = beginning {
            parts[part].1 = first.bytes.into();
        }
        Ok(parts)
    }

    /// How long the code is with which a segment begins that has data too, in bytes of whole pages.
    fn leading_code(&self, segment: &Segment) -> usize {
        const CODE: SectionFlags = SectionFlags(SHF_ALLOC.0 | SHF_EXECINSTR.0);
        let (start, flags) = (segment.p_vaddr(LE), segment.p_flags(LE));
        if !flags.contains(PF_X) || !flags.contains(PF_W) {
            return 0;
        }
        let behind = self.sections.iter().filter(|section| section.sh_addr(LE) >= start);
        let code = behind.take_while(|section| section.sh_flags(LE).contains(CODE));
        let ends = code.map(|section| section.sh_addr(LE).saturating_add(section.sh_size(LE)));
        let length = ends.max().map_or(0, |end| end - start);
        let whole = length.checked_next_multiple_of(PAGE as u64);
        whole.and_then(|length| usize::try_from(length).ok()).unwrap_or(0)
    }
}

/// The first bytes of a segment, as code, and its rest.
fn cut(segment: &Segment, bytes: u64) -> (Segment, Segment) {
    let (mut code, mut rest) = (*segment, *segment);
    code.p_flags.set(LE, PF_R | PF_X);
    code.p_filesz.set(LE, bytes);
    code.p_memsz.set(LE, bytes);
    rest.p_flags.set(LE, PF_R | PF_W);
    rest.p_vaddr.set(LE, segment.p_vaddr(LE).wrapping_add(bytes));
    rest.p_paddr.set(LE, segment.p_paddr(LE).wrapping_add(bytes));
    rest.p_filesz.set(LE, segment.p_filesz(LE).saturating_sub(bytes));
    rest.p_memsz.set(LE, segment.p_memsz(LE).saturating_sub(bytes));
    (code, rest)
}

/// A segment that nobody writes to but a boot that patches it: code, and constants.
fn is_code(segment: &Segment) -> bool {
    segment.p_flags(LE).contains(PF_X) && !segment.p_flags(LE).contains(PF_W)
}

/// Where a segment lies in a memory of `bytes`, and in the file with that.
fn place(segment: &Segment, bytes: u64) -> io::Result<u64> {
    let address = segment.p_paddr(LE);
    let place = layout::memory_offset(bytes, address, segment.p_filesz(LE));
    place
        .filter(|place| *place == address && address >= layout::HIGH_MEMORY)
        .ok_or_else(|| invalid("a segment does not fit in the machine"))
}

/// The headers of a kernel whose segments lie in the file where they lie in memory, and that has no sections.
fn head(header: &FileHeader64<LE>, parts: &Parts<'_>) -> io::Result<Vec<u8>> {
    let bytes = size_of_val(header) + parts.len() * size_of::<Segment>();
    let count = u16::try_from(parts.len()).ok().filter(|_| bytes <= HEAD_BYTES);
    let mut header = *header;
    header.e_phnum.set(LE, count.ok_or_else(|| invalid("it has too many segments"))?);
    header.e_phoff.set(LE, size_of_val(&header) as u64);
    header.e_shoff.set(LE, 0);
    header.e_shnum.set(LE, 0);
    header.e_shstrndx.set(LE, SHN_UNDEF);
    let mut head = bytes_of(&header).to_vec();
    for (segment, _) in parts {
        let mut segment = *segment;
        segment.p_offset.set(LE, segment.p_paddr(LE));
        head.extend_from_slice(bytes_of(&segment));
    }
    Ok(head)
}

fn read_kernel(kernel: &File) -> io::Result<Vec<u8>> {
    let bytes = kernel.metadata()?.len();
    if bytes > MAX_KERNEL_BYTES {
        return Err(invalid("it is too large"));
    }
    let mut image = vec![0; usize::try_from(bytes).expect("256 MiB at most")];
    kernel.read_exact_at(&mut image, 0)?;
    Ok(image)
}

/// What a machine has to know of a prepared kernel.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Where it is entered.
    pub(crate) entry: u64,
    /// What is mapped, as addresses and lengths.
    pub(crate) code: Pieces,
    /// What is read, as addresses, places in the file and lengths.
    pub(crate) rest: Vec<(u64, u64, usize)>,
}

impl Prepared {
    /// Looks at a kernel that [`prepare_kernel`] has written, or that somebody has put in its place.
    ///
    /// # Errors
    /// When it cannot be read, or is no such file.
    pub(crate) fn look(kernel: &File) -> io::Result<Self> {
        let mut head = [0; HEAD_BYTES];
        kernel.read_exact_at(&mut head, 0)?;
        let head = head.as_slice();
        let header = FileHeader64::<LE>::parse(head).map_err(io::Error::other)?;
        let segments = header.program_headers(LE, head).map_err(io::Error::other)?;
        let (mut code, mut rest) = (Pieces::new(), Vec::new());
        for segment in segments.iter().filter(|segment| segment.p_type(LE) == PT_LOAD) {
            let (address, offset) = (segment.p_paddr(LE), segment.p_offset(LE));
            let bytes = segment.p_filesz(LE);
            if is_code(segment) && address == offset {
                let whole = bytes.checked_next_multiple_of(PAGE as u64);
                code.push((address, whole.ok_or_else(|| invalid("a segment has no end"))?));
            } else {
                let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
                rest.push((address, offset, bytes));
            }
        }
        code.sort_unstable();
        let entry = header.e_entry(LE);
        if entry < layout::HIGH_MEMORY {
            return Err(invalid("it is entered where no kernel lies"));
        }
        Ok(Self { entry, code, rest })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
