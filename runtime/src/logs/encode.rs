//! Text as a JSON string, the way Go writes it: what is no UTF-8 becomes U+FFFD.

/// Appends `bytes` to `to`, without the quotes around it.
pub(super) fn escape(bytes: &[u8], to: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid().as_bytes(), to);
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// What needs no escape goes over in whole runs.
fn escape_text(mut text: &[u8], to: &mut Vec<u8>) {
    while !text.is_empty() {
        let plain = text.iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len());
        to.extend_from_slice(&text[..plain]);
        let Some(byte) = text.get(plain) else { return };
        match byte {
            b'"' => to.extend_from_slice(b"\\\""),
            b'\\' => to.extend_from_slice(b"\\\\"),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            other => to.extend_from_slice(&unicode(*other)),
        }
        text = &text[plain + 1..];
    }
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
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
