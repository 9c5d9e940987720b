//! One 512-byte tar header: fields, checksum, numbers.

pub(super) const BLOCK: usize = 512;

/// A header whose checksum was right.
pub(super) struct Header(pub(super) [u8; BLOCK]);

/// The dialects that differ in what the last 167 bytes mean.
#[derive(PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    /// POSIX ustar and PAX: a 155-byte name prefix.
    Ustar,
    /// Jörg Schilling's star: a 131-byte name prefix, then times.
    Star,
    /// Old GNU: no prefix; times and sparse maps instead.
    Gnu,
}

impl Header {
    pub(super) fn is_zero(block: &[u8; BLOCK]) -> bool {
        block == &[0; BLOCK]
    }

    /// Both sums are accepted: some old writers added signed bytes.
    pub(super) fn checksum_is_right(block: &[u8; BLOCK]) -> bool {
        let Some(expected) = number(&block[148..156]) else { return false };
        // The field itself counts as blanks. Slices and narrow sums: an image has a header for every
        // file, and so the compiler adds many bytes at once.
        let sum = |part: &[u8]| part.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let negative = |part: &[u8]| part.iter().map(|byte| u32::from(*byte >> 7)).sum::<u32>();
        let (before, after) = (&block[..148], &block[156..]);
        let unsigned = i64::from(sum(before) + sum(after)) + 8 * i64::from(b' ');
        let signed = || unsigned - 256 * i64::from(negative(before) + negative(after));
        expected == unsigned || expected == signed()
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => {
                if &self.0[508..512] == b"tar\0" {
                    Dialect::Star
                } else {
                    Dialect::Ustar
                }
            }
            _ => Dialect::V7,
        }
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::Gnu | Dialect::V7 => b"",
        };
        let name = text(&self.0[..100]);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<i64> {
        number(&self.0[124..136])
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    pub(super) fn device(&self) -> Option<(i64, i64)> {
        if self.dialect() == Dialect::V7 {
            return Some((0, 0));
        }
        Some((number(&self.0[329..337])?, number(&self.0[337..345])?))
    }
}

/// A field's bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A numeric field: octal digits padded with blanks or NULs, or GNU's big-endian two's complement,
/// marked by the highest bit of the first byte.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return base256(field);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let mut bytes = [fill; 8];
    let mut digits = field.to_vec();
    // The marker bit is not part of the number; restore the sign in its place.
    digits[0] = if negative { digits[0] | 0x80 } else { digits[0] & 0x7f };
    let split = digits.len().saturating_sub(8);
    if digits[..split].iter().any(|byte| *byte != fill) {
        return None;
    }
    let low = &digits[split..];
    bytes[8 - low.len()..].copy_from_slice(low);
    let value = i64::from_be_bytes(bytes);
    ((value < 0) == negative).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let cases: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777 ", Some(0o777_7777_7777)),
            (b"0000648\0", None),
            (b"-0000001", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\x01\0\0", Some(65_536)),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
