//! Decompresses zstd frame by frame, and has room made for each frame's window before it is begun.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{Decoder, Operation};

use super::window::{Share, WINDOW_LIMIT, Windows};
use crate::compression::read_up_to;

/// RFC 8878, section 3.1.1: what a frame begins with.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// The longest header, with its magic number: section 3.1.1.1.
const HEADER_MAX: usize = 18;

/// A stream of frames.
pub(crate) struct Frames<R> {
    input: R,
    windows: Windows,
    /// Used for frame after frame, as long as their windows fit into its share.
    decoder: Option<(Decoder<'static>, Share)>,
    /// A frame's header, which the decoder wants to see as well.
    header: Header,
    is_in_frame: bool,
    refused: bool,
}

/// The header of a frame, and how much of it the decoder has taken.
#[derive(Default)]
struct Header {
    bytes: [u8; HEADER_MAX],
    length: usize,
    taken: usize,
}

impl<R: BufRead> Frames<R> {
    pub(crate) fn new(input: R, windows: Windows) -> Frames<R> {
        let header = Header::default();
        Frames { input, windows, decoder: None, header, is_in_frame: false, refused: false }
    }

    /// Whether a frame asked for a larger window than is taken.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Goes on to the next frame with content; `false` at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            self.header = Header::default();
            match read_up_to(&mut self.input, &mut self.header.bytes[..4])? {
                0 => return Ok(false),
                4 => self.header.length = 4,
                _ => return Err(cut_off()),
            }
            match self.header.bytes[..4] {
                [0x50..=0x5f, 0x2a, 0x4d, 0x18] => self.skip()?,
                ref magic if *magic == MAGIC => break,
                _ => return Err(invalid("a zstd frame has a wrong magic number")),
            }
        }
        let (window, needed) = self.read_header()?;
        if window > WINDOW_LIMIT {
            self.refused = true;
            return Err(invalid("the zstd window is too large"));
        }
        if self.decoder.as_ref().is_none_or(|(_, share)| share.bytes < needed) {
            // Given back first: whoever waits must hold nothing.
            self.decoder = None;
            let share = self.windows.take(needed);
            self.decoder = Some((Decoder::new()?, share));
        }
        self.is_in_frame = true;
        Ok(true)
    }

    /// Passes over a frame without content: section 3.1.2.
    fn skip(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length).map_err(|_| cut_off())?;
        let length = u64::from(u32::from_le_bytes(length));
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(cut_off()) }
    }

    /// Reads the rest of a header: section 3.1.1.1. Gives the bytes of the window, and of the memory for
    /// it, which is less where the content is.
    fn read_header(&mut self) -> io::Result<(u64, u64)> {
        let descriptor = self.more(1)?[0];
        let is_single = descriptor & 1 << 5 != 0;
        let window = match is_single {
            true => None,
            false => Some(window_size(self.more(1)?[0])),
        };
        self.more([0, 1, 2, 4][usize::from(descriptor & 3)])?;
        let size = match (descriptor >> 6, is_single) {
            (0, false) => None,
            (0, true) => Some(little_endian(self.more(1)?)),
            (1, _) => Some(little_endian(self.more(2)?) + 256),
            (2, _) => Some(little_endian(self.more(4)?)),
            _ => Some(little_endian(self.more(8)?)),
        };
        let window = window.or(size).unwrap_or(u64::MAX);
        Ok((window, window.min(size.unwrap_or(u64::MAX))))
    }

    /// Reads so many more bytes of the header.
    fn more(&mut self, count: usize) -> io::Result<&[u8]> {
        let start = self.header.length;
        self.header.length += count;
        let bytes = &mut self.header.bytes[start..start + count];
        self.input.read_exact(bytes).map_err(|_| cut_off())?;
        Ok(bytes)
    }

    /// One step of the decoder. Ends the frame where it ends.
    fn decode(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((decoder, _)) = &mut self.decoder else { return Ok(0) };
        let header = &self.header.bytes[self.header.taken..self.header.length];
        let is_header = !header.is_empty();
        let input = if is_header { header } else { self.input.fill_buf()? };
        let is_at_end = input.is_empty();
        let step = decoder.run_on_buffers(input, buffer)?;
        if is_header {
            self.header.taken += step.bytes_read;
        } else {
            self.input.consume(step.bytes_read);
        }
        self.is_in_frame = step.remaining != 0;
        if is_at_end && self.is_in_frame && step.bytes_written == 0 {
            return Err(cut_off());
        }
        Ok(step.bytes_written)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() && (self.is_in_frame || self.begin()?) {
            match self.decode(buffer)? {
                0 => {}
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

/// Section 3.1.1.1.2.
fn window_size(descriptor: u8) -> u64 {
    let base = 1 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete zstd frame")
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A frame with this window, as `zstd --long=LOG` makes it of a pipe.
    fn frame(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        // In two pieces, so that the encoder cannot know the size when it writes the header.
        encoder.write_all(bytes).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Frames::new(stream, Windows::default()).read_to_end(&mut out).map(|_| out)
    }

    fn text() -> Vec<u8> {
        (0..300_000_u32).flat_map(|at| (at / 7).to_le_bytes()).collect()
    }

    #[test]
    fn headers_are_read() {
        let text = text();
        for (stream, window, needed) in [
            (frame(&text, 27), 128 << 20, 128 << 20),
            (frame(&text, 28), 256 << 20, 256 << 20),
            (frame(&text, 10), 1024, 1024),
            // Of a known size: a single segment.
            (zstd::bulk::compress(&text, 3).unwrap(), 1_200_000, 1_200_000),
            (zstd::bulk::compress(b"abc", 3).unwrap(), 3, 3),
        ] {
            let mut frames = Frames::new(&stream[..], Windows::default());
            frames.header.length =
                read_up_to(&mut frames.input, &mut frames.header.bytes[..4]).unwrap();
            assert_eq!(frames.read_header().unwrap(), (window, needed));
        }
        // Section 3.1.1.1.2, "The minimum Window_Size is 1 KB".
        assert_eq!((window_size(0), window_size(0xff)), (1024, (1 << 41) + 7 * (1 << 38)));
    }

    #[test]
    fn frames_follow_each_other() {
        let text = text();
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [
            &skipped[..],
            &frame(&text, 20),
            &frame(b"", 10),
            &skipped,
            &frame(&text, 27),
            &skipped,
        ];
        assert!(read(&stream.concat()).unwrap() == [&text[..], &text].concat());
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn no_cut_is_taken_for_the_end() {
        let stream =
            [frame(b"some text", 20), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2]].concat();
        let boundary = stream.len() - 10;
        for cut in (1..stream.len()).filter(|cut| *cut != boundary) {
            let error = read(&stream[..cut]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}: {error}");
        }
        assert!(read(&[&stream[..], b"rest"].concat()).is_err());
    }

    #[test]
    fn a_window_that_is_too_large_is_refused() {
        let (largest, larger) = (frame(&text(), 27), frame(b"little", 28));
        assert!(read(&largest).unwrap() == text());
        let stream = [&largest[..], &larger].concat();
        let mut frames = Frames::new(&stream[..], Windows::default());
        assert!(frames.read_to_end(&mut Vec::new()).is_err());
        assert!(frames.is_refused());
    }

    #[test]
    fn a_larger_window_waits_for_its_share() {
        let windows = Windows::default();
        let stream = [frame(&text(), 20), frame(&text(), 25)].concat();
        let mut frames = Frames::new(&stream[..], windows.clone());
        let mut first = vec![0; text().len()];
        frames.read_exact(&mut first).unwrap();
        std::thread::scope(|scope| {
            let share = windows.take(30 << 20);
            let rest = scope.spawn(move || frames.read_to_end(&mut Vec::new()).unwrap());
            // It cannot be done before the share is given back.
            assert!(!rest.is_finished());
            drop(share);
            assert_eq!(rest.join().unwrap(), text().len());
        });
    }
}
