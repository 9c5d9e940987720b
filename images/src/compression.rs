//! Decompresses a layer or an archive, whatever it turns out to be by its first bytes; compresses by zstd.

mod compress;
mod window;
mod zstd;

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use self::zstd::Frames;

pub use compress::Compressor;
pub(crate) use window::{WINDOW_LIMIT, Windows};

/// How a stream is compressed, told by magic numbers, never by names or media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// Known, and not supported: the name is for the error.
    Unsupported(&'static str),
}

/// Bytes the decoder asks of its source at once.
const INPUT_BUFFER: usize = 128 << 10;

const SNIFF: usize = 6;

/// A stream and what decompresses it.
pub(crate) enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Box<Frames<Input<R>>>),
    /// Fails when it is read, and can still be drained.
    Unsupported(&'static str, Input<R>),
}

/// The stream from its first byte on, although some were read to tell what it is.
type Input<R> = BufReader<io::Chain<io::Take<io::Cursor<[u8; SNIFF]>>, R>>;

/// Reads the first bytes of `input` and gives a reader of the decompressed stream, the only one at this
/// time.
pub(crate) fn decompress<R: Read>(input: R) -> io::Result<Decoder<R>> {
    match Decoder::new(input, &Windows::default())? {
        Decoder::Unsupported(name, _) => Err(unsupported(name)),
        decoder => Ok(decoder),
    }
}

fn unsupported(name: &str) -> io::Error {
    let text = format!("{name} compression is not supported, only gzip and zstd are");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `input` to tell how it is compressed. The memory for zstd's window is
    /// taken out of `windows`.
    pub(crate) fn new(mut input: R, windows: &Windows) -> io::Result<Decoder<R>> {
        let mut magic = [0; SNIFF];
        let length = read_up_to(&mut input, &mut magic)?;
        let compression = Compression::of(&magic[..length]);
        let whole = io::Cursor::new(magic).take(length as u64).chain(input);
        let buffered = BufReader::with_capacity(INPUT_BUFFER, whole);
        Ok(match compression {
            Compression::None => Decoder::Plain(buffered),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(buffered))),
            Compression::Zstd => Decoder::Zstd(Box::new(Frames::new(buffered, windows.clone()))),
            Compression::Unsupported(name) => Decoder::Unsupported(name, buffered),
        })
    }

    pub(crate) fn compression(&self) -> Compression {
        match self {
            Decoder::Plain(_) => Compression::None,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Zstd(_) => Compression::Zstd,
            Decoder::Unsupported(name, _) => Compression::Unsupported(name),
        }
    }

    /// Whether it asked for a larger window than [`WINDOW_LIMIT`].
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Decoder::Zstd(frames) if frames.is_refused())
    }

    /// Reads the compressed stream to its end, whatever it holds.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let input = match self {
            Decoder::Plain(input) | Decoder::Unsupported(_, input) => input,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
        };
        io::copy(input, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Unsupported(name, _) => Err(unsupported(name)),
        }
    }
}

impl Compression {
    pub(crate) fn of(magic: &[u8]) -> Compression {
        match magic {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // RFC 8878, section 3.1.2: a skippable frame may come first (eStargz, zstd:chunked).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Compression::Unsupported("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Unsupported("bzip2"),
            _ => Compression::None,
        }
    }

    /// The media type suffix of a layer, as OCI image-spec layer.md has it.
    pub(crate) fn layer_media_type(self) -> &'static str {
        match self {
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::None | Compression::Unsupported(_) => {
                "application/vnd.oci.image.layer.v1.tar"
            }
        }
    }
}

/// Fills as much of `buffer` as the stream has.
pub(crate) fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_kind_is_told_by_its_first_bytes() {
        let text = b"seven bytes and a few more".repeat(100);
        let zstd = ::zstd::encode_all(&text[..], 3).unwrap();
        let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        skippable.extend_from_slice(&zstd);
        assert_eq!(read(&text).unwrap(), text);
        assert_eq!(read(&gzip(&text)).unwrap(), text);
        assert_eq!(read(&zstd).unwrap(), text);
        assert_eq!(read(&skippable).unwrap(), text);
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"x").unwrap(), b"x");
        let members = [gzip(&text), gzip(b"tail")].concat();
        assert_eq!(read(&members).unwrap(), [&text[..], b"tail"].concat());
    }

    #[test]
    fn broken_streams_are_errors() {
        let text = b"some text, some more".repeat(1000);
        let gzip = gzip(&text);
        let zstd = ::zstd::encode_all(&text[..], 3).unwrap();
        assert!(read(&gzip[..gzip.len() - 1]).is_err());
        assert!(read(&zstd[..zstd.len() - 1]).is_err());
        let mut flipped = gzip.clone();
        let crc = flipped.len() - 8;
        flipped[crc] ^= 1;
        assert!(read(&flipped).is_err());
        assert!(read(b"\xfd7zXZ\0more").unwrap_err().to_string().contains("xz"));
        assert!(read(b"BZh9more").unwrap_err().to_string().contains("bzip2"));
    }
}
