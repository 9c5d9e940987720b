//! Finds bytes among others, eight at a time: a log is read and written at the pace of this.

const ONES: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = ONES * 0x80;

/// The first part of `bytes` that is a line, with its end, or all of them.
pub(super) fn line(bytes: &[u8]) -> usize {
    let end = position(bytes, |word| equal(word, b'\n'), |byte| byte == b'\n');
    bytes.len().min(end + 1)
}

/// How many bytes at the beginning stand for themselves in a JSON string and are ASCII.
pub(super) fn plain(bytes: &[u8]) -> usize {
    position(
        bytes,
        |word| special(word) | (word & HIGH_BITS),
        |byte| is_special(byte) || !byte.is_ascii(),
    )
}

/// How many bytes at the beginning stand for themselves in a JSON string.
pub(super) fn unescaped(bytes: &[u8]) -> usize {
    position(bytes, special, is_special)
}

/// How many bytes at the beginning are not ASCII.
pub(super) fn not_ascii(bytes: &[u8]) -> usize {
    position(bytes, |word| !word & HIGH_BITS, |byte| byte.is_ascii())
}

/// Whether a byte has an escape, or is one's beginning.
pub(super) fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

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

/// Bytes of a word of which [`is_special`] is true.
fn special(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH_BITS;
    control | equal(word, b'"') | equal(word, b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place among others, beside what looks like it in arithmetic on words.
    #[test]
    fn what_is_found_eight_at_a_time_is_what_is_found_one_by_one() {
        for filler in [b'a', b' ', 0x7f, 0x80, 0xff, b'#', b'!', b'[', b']', b'\n', 0] {
            for at in 0..19 {
                for byte in 0..=255 {
                    let mut bytes = [filler; 19];
                    bytes[at] = byte;
                    let first = |wanted: fn(u8) -> bool| {
                        bytes.iter().position(|byte| wanted(*byte)).unwrap_or(bytes.len())
                    };
                    assert_eq!(line(&bytes), (first(|byte| byte == b'\n') + 1).min(19));
                    assert_eq!(plain(&bytes), first(|byte| is_special(byte) || byte >= 0x80));
                    assert_eq!(unescaped(&bytes), first(is_special));
                    assert_eq!(not_ascii(&bytes), first(|byte| byte < 0x80));
                }
            }
        }
    }
}
