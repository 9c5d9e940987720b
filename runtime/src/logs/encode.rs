//! Text as a JSON string, the way Go writes it: what is no UTF-8 becomes U+FFFD.

/// Appends `bytes` to `to`, without the quotes around it. What needs no escape goes over in whole runs.
pub(super) fn escape(mut bytes: &[u8], to: &mut Vec<u8>) {
    while let Some(first) = bytes.first() {
        let kind = kind(*first);
        let count = match kind {
            Kind::Escaped => bytes.iter().take_while(|byte| *byte == first).count(),
            Kind::Plain => position(bytes, not_plain, |byte| self::kind(byte) != kind),
            Kind::NotAscii => position(bytes, ascii, |byte| self::kind(byte) != kind),
        };
        let (run, rest) = bytes.split_at(count);
        match kind {
            Kind::Plain => to.extend_from_slice(run),
            Kind::Escaped => {
                let start = to.len();
                escape_byte(*first, to);
                let end = to.len();
                (1..count).for_each(|_| to.extend_from_within(start..end));
            }
            Kind::NotAscii => copy_valid(run, to),
        }
        bytes = rest;
    }
}

/// The first part of `bytes` that is a line, with its end, or all of them.
pub(super) fn line(bytes: &[u8]) -> usize {
    let end = position(bytes, |word| equal(word, b'\n'), |byte| byte == b'\n');
    bytes.len().min(end + 1)
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = ONES * 0x80;

/// Where the first byte is that `is_wanted`, or how many bytes there are. Eight of them at a time are
/// asked for by `wanted`: the high bit of the first wanted byte of the word is set then, and no lower
/// one.
fn position(bytes: &[u8], wanted: impl Fn(u64) -> u64, is_wanted: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let found = words.iter().position(|word| wanted(u64::from_le_bytes(*word)) != 0);
    if let Some(at) = found {
        let first = wanted(u64::from_le_bytes(words[at])).trailing_zeros() / 8;
        return at * 8 + first as usize;
    }
    words.len() * 8 + rest.iter().position(|byte| is_wanted(*byte)).unwrap_or(rest.len())
}

/// Bytes of a word that are this one.
fn equal(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGH_BITS
}

/// Bytes of a word that are of [`Kind::Escaped`] or [`Kind::NotAscii`].
fn not_plain(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH_BITS;
    control | equal(word, b'"') | equal(word, b'\\') | (word & HIGH_BITS)
}

/// Bytes of a word that are not of [`Kind::NotAscii`].
fn ascii(word: u64) -> u64 {
    !word & HIGH_BITS
}

/// What becomes of a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It goes over as it is.
    Plain,
    /// It has an escape of its own.
    Escaped,
    /// It is a part of a longer character, or of none.
    NotAscii,
}

fn kind(byte: u8) -> Kind {
    static KINDS: [Kind; 256] = {
        let mut kinds = [Kind::Plain; 256];
        let mut byte = 0;
        while byte < 256 {
            if byte < 0x20 || byte == 0x22 || byte == 0x5c {
                kinds[byte] = Kind::Escaped;
            } else if byte >= 0x80 {
                kinds[byte] = Kind::NotAscii;
            }
            byte += 1;
        }
        kinds
    };
    KINDS[usize::from(byte)]
}

fn escape_byte(byte: u8, to: &mut Vec<u8>) {
    match byte {
        b'"' => to.extend_from_slice(b"\\\""),
        b'\\' => to.extend_from_slice(b"\\\\"),
        b'\n' => to.extend_from_slice(b"\\n"),
        b'\r' => to.extend_from_slice(b"\\r"),
        b'\t' => to.extend_from_slice(b"\\t"),
        other => to.extend_from_slice(&unicode(other)),
    }
}

/// No character has bytes below 0x80 and above alike, so that such a run can be looked at alone.
fn copy_valid(run: &[u8], to: &mut Vec<u8>) {
    for chunk in run.utf8_chunks() {
        to.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// `\u00XX`.
fn unicode(byte: u8) -> [u8; 6] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 0xf)];
    [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place among others, beside what looks like it in arithmetic on words.
    #[test]
    fn what_is_found_eight_at_a_time_is_what_is_found_one_by_one() {
        for filler in [b'a', b' ', 0x7f, 0x80, 0xff, b'#', b'!', b'[', b'\n', 0] {
            for at in 0..19 {
                for byte in 0..=255 {
                    let mut bytes = [filler; 19];
                    bytes[at] = byte;
                    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(19, |at| at + 1);
                    assert_eq!(line(&bytes), end);
                    let mut text = vec![b'"'];
                    escape(&bytes, &mut text);
                    text.push(b'"');
                    let read: String = serde_json::from_slice(&text).unwrap();
                    assert_eq!(read, String::from_utf8_lossy(&bytes));
                }
            }
        }
    }

    #[test]
    fn text_comes_back_through_any_json_reader() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for bytes in
            [&b"plain"[..], b"", b"\"\\\n\r\t\0\x1b[0m", "\u{e4}\u{1f426}".as_bytes(), &every_byte]
        {
            let mut text = vec![b'"'];
            escape(bytes, &mut text);
            text.push(b'"');
            let read: String = serde_json::from_slice(&text).unwrap();
            assert_eq!(read, String::from_utf8_lossy(bytes));
        }
    }
}
