//! Text as a JSON string, the way Go writes it: what is no UTF-8 becomes U+FFFD.

use super::bytes::{is_special, not_ascii, plain};

/// Appends `bytes` to `to`, without the quotes around it. What needs no escape goes over in whole runs.
pub(super) fn escape(mut bytes: &[u8], to: &mut Vec<u8>) {
    while let Some(first) = bytes.first() {
        let kind = kind(*first);
        let count = match kind {
            Kind::Escaped => bytes.iter().take_while(|byte| *byte == first).count(),
            Kind::Plain => plain(bytes),
            Kind::NotAscii => not_ascii(bytes),
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
    if !byte.is_ascii() {
        Kind::NotAscii
    } else if is_special(byte) {
        Kind::Escaped
    } else {
        Kind::Plain
    }
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
