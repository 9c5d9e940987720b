//! The `data` file of a layer: contents of files, each from a block boundary on, and between them
//! blocks of small files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::BLOCK_SIZE;
use super::record::FileData;
use super::writeback::Writeback;
use crate::erofs::ISLOT;
use crate::tar::Segment;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// Chunks a sparse file is cut into at most: what its map costs in the metadata image.
const CHUNK_LIMIT: u64 = 1 << 16;

/// Longest sparse file: 16 TiB, what a guest's ext4 could hold as well.
pub(super) const SPARSE_LIMIT: u64 = 1 << 44;

/// Where a copy failed, since a bad archive and a full disk are different errors.
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
    /// More blocks than 32 bits can number.
    Full,
}

/// Appends contents to a new file. Content goes from the reader straight into one buffer.
pub(super) struct DataWriter {
    file: File,
    writeback: Option<Writeback>,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes from the start of the file to the end of the buffer's content.
    position: u64,
    pack: Option<Pack>,
}

/// The block that small files are put into. Its place in the file is taken when it is begun, its bytes
/// go there when it is full.
struct Pack {
    block: u32,
    bytes: [u8; BLOCK_LENGTH],
    filled: usize,
}

/// [`BLOCK_SIZE`] and [`ISLOT`] for lengths in memory.
const BLOCK_LENGTH: usize = 4096;
const SLOT: usize = 32;
const _: () = assert!(BLOCK_LENGTH as u64 == BLOCK_SIZE && SLOT as u64 == ISLOT);

impl DataWriter {
    pub(super) fn new(file: File, writeback: Option<Writeback>) -> DataWriter {
        DataWriter { file, writeback, buffer: vec![0; BUFFER], filled: 0, position: 0, pack: None }
    }

    /// Copies `size` bytes and says where they lie.
    pub(super) fn append(
        &mut self,
        input: &mut impl Read,
        size: u64,
    ) -> Result<FileData, CopyError> {
        let block = self.next_block()?;
        self.copy(input, size)?;
        self.pad()?;
        Ok(FileData::Contiguous { block })
    }

    /// Puts a file with its `head` ([`crate::erofs::head`]) beside other small ones.
    pub(super) fn append_packed(
        &mut self,
        head: &[u8],
        input: &mut impl Read,
        size: u64,
    ) -> Result<FileData, CopyError> {
        let length = head.len() + usize::try_from(size).map_err(|_| CopyError::Full)?;
        let mut pack = match self.pack.take() {
            Some(pack) if pack.has_room(length) => pack,
            full => {
                full.map_or(Ok(()), |full| self.put(&full))?;
                let block = self.next_block()?;
                self.copy(&mut io::repeat(0), BLOCK_SIZE)?;
                Pack { block, bytes: [0; BLOCK_LENGTH], filled: 0 }
            }
        };
        let start = pack.filled.next_multiple_of(SLOT);
        let (front, content) = pack.bytes[start..start + length].split_at_mut(head.len());
        front.copy_from_slice(head);
        input.read_exact(content).map_err(CopyError::Read)?;
        pack.filled = start + length;
        let slot = (u64::from(pack.block) * BLOCK_SIZE + start as u64) / ISLOT;
        self.pack = Some(pack);
        Ok(FileData::Packed { slot })
    }

    /// Puts a block of small files into its place, which the buffer may have left behind.
    fn put(&mut self, pack: &Pack) -> Result<(), CopyError> {
        let start = u64::from(pack.block) * BLOCK_SIZE;
        let buffered = start.checked_sub(self.position - self.filled as u64);
        if let Some(at) = buffered.and_then(|at| usize::try_from(at).ok()) {
            self.buffer[at..at + BLOCK_LENGTH].copy_from_slice(&pack.bytes);
            return Ok(());
        }
        // Half of the place may still be in the buffer.
        self.flush()?;
        self.file.write_all_at(&pack.bytes, start).map_err(CopyError::Write)
    }

    /// Copies the segments of a sparse file; only chunks that have data take blocks, and the parts
    /// of them that have none are holes in the data file.
    pub(super) fn append_sparse(
        &mut self,
        input: &mut impl Read,
        size: u64,
        segments: &[Segment],
    ) -> Result<FileData, CopyError> {
        let block_bits = block_bits_of_chunks(size);
        let chunk = BLOCK_SIZE << block_bits;
        let count = usize::try_from(size.div_ceil(chunk)).map_err(|_| CopyError::Full)?;
        let mut blocks = vec![None; count];
        for segment in segments {
            let (mut offset, end) = (segment.offset, segment.offset + segment.length);
            while offset < end {
                let stop = end.min((offset / chunk + 1) * chunk);
                let index = usize::try_from(offset / chunk).map_err(|_| CopyError::Full)?;
                let block = match blocks[index] {
                    Some(block) => block,
                    None => {
                        let block = self.next_block()?;
                        self.seek(u64::from(block) * BLOCK_SIZE + chunk)?;
                        blocks[index] = Some(block);
                        block
                    }
                };
                let after = self.position;
                self.seek(u64::from(block) * BLOCK_SIZE + offset % chunk)?;
                self.copy(input, stop - offset)?;
                self.seek(after)?;
                offset = stop;
            }
        }
        Ok(FileData::Chunked { block_bits, blocks })
    }

    /// Writes what is left and gives the file and its length in blocks.
    pub(super) fn finish(mut self) -> Result<(File, u32), CopyError> {
        if let Some(pack) = self.pack.take() {
            self.put(&pack)?;
        }
        let blocks = self.next_block()?;
        self.flush()?;
        self.file.set_len(self.position).map_err(CopyError::Write)?;
        Ok((self.file, blocks))
    }

    /// The position in blocks; it is on a boundary between files.
    fn next_block(&self) -> Result<u32, CopyError> {
        // The highest number is EROFS_NULL_ADDR.
        match u32::try_from(self.position / BLOCK_SIZE) {
            Ok(block) if block != u32::MAX => Ok(block),
            _ => Err(CopyError::Full),
        }
    }

    fn copy(&mut self, input: &mut impl Read, size: u64) -> Result<(), CopyError> {
        let mut left = size;
        while left > 0 {
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
            let room = self.buffer.len() - self.filled;
            let wanted = room.min(usize::try_from(left).unwrap_or(usize::MAX));
            let slot = &mut self.buffer[self.filled..self.filled + wanted];
            let count = match input.read(slot) {
                Ok(0) => return Err(CopyError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            self.filled += count;
            self.position += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    fn pad(&mut self) -> Result<(), CopyError> {
        let padding = self.position.wrapping_neg() % BLOCK_SIZE;
        self.copy(&mut io::repeat(0), padding)
    }

    fn seek(&mut self, position: u64) -> Result<(), CopyError> {
        if position != self.position {
            self.flush()?;
            self.file.seek(SeekFrom::Start(position)).map_err(CopyError::Write)?;
            self.position = position;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CopyError> {
        self.file.write_all(&self.buffer[..self.filled]).map_err(CopyError::Write)?;
        if let Some(writeback) = &mut self.writeback {
            writeback.grow(self.filled);
        }
        self.filled = 0;
        Ok(())
    }
}

impl Pack {
    fn has_room(&self, length: usize) -> bool {
        self.filled.next_multiple_of(SLOT) + length <= BLOCK_LENGTH
    }
}

/// The smallest chunk size, as a power of two of blocks, that keeps the map short.
fn block_bits_of_chunks(size: u64) -> u8 {
    let blocks = size.div_ceil(BLOCK_SIZE);
    let mut bits = 0;
    while blocks.div_ceil(1 << bits) > CHUNK_LIMIT {
        bits += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> DataWriter {
        DataWriter::new(tempfile::tempfile().unwrap(), None)
    }

    fn contents(writer: DataWriter) -> (Vec<u8>, u32) {
        let Ok((mut file, blocks)) = writer.finish() else { panic!("cannot finish") };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        (bytes, blocks)
    }

    #[test]
    fn every_content_begins_a_block() {
        let mut data = writer();
        let sizes = [1_u64, 4096, 0, 4097, 3 << 20];
        let mut at = Vec::new();
        for size in sizes {
            let Ok(FileData::Contiguous { block }) = data.append(&mut io::repeat(7), size) else {
                panic!("cannot append {size}")
            };
            at.push(block);
        }
        assert_eq!(at, [0, 1, 2, 2, 4]);
        let (bytes, blocks) = contents(data);
        assert_eq!((blocks, bytes.len()), (4 + 768, (4 + 768) * 4096));
        assert_eq!((bytes[0], bytes[1], bytes[4095], bytes[4096]), (7, 0, 0, 7));
    }

    #[test]
    fn small_files_share_blocks_wherever_the_buffer_is() {
        let mut data = writer();
        let pack = |data: &mut DataWriter, head: u8, size: u64| match data.append_packed(
            &[head; 64],
            &mut io::repeat(head + 1),
            size,
        ) {
            Ok(FileData::Packed { slot }) => slot,
            _ => panic!("cannot pack {size}"),
        };
        let mut slots = vec![pack(&mut data, 10, 1), pack(&mut data, 20, 1000)];
        // The first block leaves the buffer before it is full, and that at an odd place.
        let segments =
            [Segment { offset: 5, length: 2 << 20 }, Segment { offset: 3 << 20, length: 1 }];
        assert!(data.append_sparse(&mut io::repeat(7), 4 << 20, &segments).is_ok());
        slots.extend([pack(&mut data, 30, 2800), pack(&mut data, 40, 4032)]);
        assert!(data.append(&mut io::repeat(9), 1).is_ok());
        slots.push(pack(&mut data, 50, 1));
        let (bytes, blocks) = contents(data);
        assert_eq!(bytes.len(), blocks as usize * 4096);
        assert_eq!(slots[..3], [0, 3, 37], "one block has room for three");
        for ((slot, head), size) in
            slots.into_iter().zip([10, 20, 30, 40, 50]).zip([1, 1000, 2800, 4032, 1])
        {
            let at = usize::try_from(slot).unwrap() * 32;
            assert_eq!(bytes[at..at + 64], [head; 64]);
            assert!(bytes[at + 64..at + 64 + size].iter().all(|byte| *byte == head + 1), "{head}");
            assert!(at % 4096 + 64 + size <= 4096);
        }
    }

    #[test]
    fn sparse_files_take_blocks_only_where_they_have_data() {
        let mut data = writer();
        let segments = [
            Segment { offset: 10, length: 5 },
            Segment { offset: 20, length: 5 },
            Segment { offset: 8190, length: 4 },
        ];
        let mut input = &b"aaaaabbbbbcccc"[..];
        let Ok(map) = data.append_sparse(&mut input, 20_000, &segments) else { panic!() };
        let blocks = vec![Some(0), Some(1), Some(2), None, None];
        assert_eq!(map, FileData::Chunked { block_bits: 0, blocks });
        let (bytes, blocks) = contents(data);
        assert_eq!((blocks, bytes.len()), (3, 3 * 4096));
        assert_eq!(&bytes[8..26], b"\0\0aaaaa\0\0\0\0\0bbbbb\0");
        assert_eq!(&bytes[8190..8195], b"cccc\0");
    }

    #[test]
    fn a_huge_hole_costs_a_short_map() {
        let mut data = writer();
        let segments = [Segment { offset: 1 << 40, length: 3 }];
        let Ok(map) = data.append_sparse(&mut &b"end"[..], (1 << 40) + 3, &segments) else {
            panic!()
        };
        let FileData::Chunked { block_bits, blocks } = map else { panic!() };
        assert_eq!((block_bits, blocks.len()), (13, 32_769));
        assert_eq!(blocks.iter().flatten().count(), 1);
    }

    #[test]
    fn a_short_source_is_the_readers_fault() {
        assert!(matches!(writer().append(&mut &b"ab"[..], 3), Err(CopyError::Read(_))));
    }
}
