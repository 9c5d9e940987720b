//! Text as a JSON string, the way Go writes it: what is no UTF-8 becomes U+FFFD.

use super::bytes::{is_plain, not_ascii, plain_in_word};

/// How many bytes are looked at with one question.
const BLOCK_BYTES: usize = 32;

/// Appends `bytes` to `to`, without the quotes around it.
pub(super) fn escape(mut bytes: &[u8], to: &mut Vec<u8>) {
    loop {
        bytes = copy_plain(bytes, to);
        let Some(first) = bytes.first() else { return };
        let count = if first.is_ascii() {
            let same = bytes.iter().take_while(|byte| *byte == first);
            same.inspect(|byte| escape_byte(**byte, to)).count()
        } else {
            let count = not_ascii(bytes);
            copy_valid(&bytes[..count], to);
            count
        };
        bytes = &bytes[count..];
    }
}

/// Appends the part at the beginning of `bytes` that needs no escape: what comes behind it.
fn copy_plain<'a>(mut bytes: &'a [u8], to: &mut Vec<u8>) -> &'a [u8] {
    while let Some((block, rest)) = bytes.split_first_chunk::<BLOCK_BYTES>() {
        if !is_plain(block) {
            break;
        }
        to.extend_from_slice(block);
        bytes = rest;
    }
    while let Some((word, rest)) = bytes.split_first_chunk() {
        let count = plain_in_word(*word);
        // All of it is copied sooner than a part of it.
        to.extend_from_slice(word);
        if count < word.len() {
            to.truncate(to.len() - word.len() + count);
            return &bytes[count..];
        }
        bytes = rest;
    }
    let count = bytes.iter().take_while(|byte| is_plain(&[**byte])).count();
    to.extend_from_slice(&bytes[..count]);
    &bytes[count..]
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

    /// Each byte at each place of a block and behind it, among others that are plain or are not.
    #[test]
    fn a_byte_is_written_alike_wherever_it_stands() {
        for filler in [b'a', b'"'] {
            let around = |count: usize| {
                let mut text = Vec::new();
                (0..count).for_each(|_| escape(&[filler], &mut text));
                text
            };
            for at in 0..BLOCK_BYTES + 10 {
                for byte in 0..=255 {
                    let mut bytes = [filler; 2 * BLOCK_BYTES];
                    bytes[at] = byte;
                    let (mut alone, mut text) = (Vec::new(), Vec::new());
                    escape(&[byte], &mut alone);
                    escape(&bytes, &mut text);
                    let wanted = [around(at), alone, around(bytes.len() - at - 1)].concat();
                    assert!(text == wanted, "{byte} at {at}");
                }
            }
        }
    }
}
