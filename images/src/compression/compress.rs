//! Compresses a stream by zstd, for whoever makes a file of much.

use std::io::{self, Write};

use zstd::stream::write::Encoder;

/// What is written to it goes to an output, compressed, with a checksum at its end.
pub struct Compressor<W: Write>(Encoder<'static, W>);

impl<W: Write> Compressor<W> {
    /// The level at which a disk is waited for rather than this.
    const LEVEL: i32 = 1;

    /// Compresses to `output`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(output: W) -> io::Result<Self> {
        let mut encoder = Encoder::new(output, Self::LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::compression::decompress;

    #[test]
    fn what_was_compressed_comes_back_and_damage_is_found() {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(|at| (at / 5).to_le_bytes()).collect();
        let mut compressor = Compressor::new(Vec::new()).unwrap();
        compressor.write_all(&bytes).unwrap();
        let stream = compressor.finish().unwrap();
        assert!(stream.len() < bytes.len() / 4);
        let read = |stream: &[u8]| {
            let mut out = Vec::new();
            decompress(stream).and_then(|mut decoder| decoder.read_to_end(&mut out)).map(|_| out)
        };
        assert!(read(&stream).unwrap() == bytes);
        let mut damaged = stream.clone();
        damaged[stream.len() / 2] ^= 1;
        assert!(read(&damaged).is_err());
        assert!(read(&stream[..stream.len() - 1]).is_err());
    }
}
