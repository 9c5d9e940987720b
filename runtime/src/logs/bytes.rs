//! Finds bytes among others, eight at a time: a log is read and written at the pace of this.

const ONES: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = ONES * 0x80;

/// The first part of `bytes` that is a line, with its end, or all of them.
pub(super) fn line(bytes: &[u8]) -> usize {
    let end = position(bytes, |word| equal(word, b'\n'), |byte| byte == b'\n');
    bytes.len().min(end + 1)
}

/// As many whole lines at the beginning as are shorter than `most` together, or else the first line.
pub(super) fn lines(bytes: &[u8], most: usize) -> usize {
    let window = &bytes[..bytes.len().min(most - 1)];
    match window.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None => line(bytes),
    }
}

/// How many bytes at the beginning are no backslash.
pub(super) fn no_escape(bytes: &[u8]) -> usize {
    position(bytes, |word| equal(word, b'\\'), |byte| byte == b'\\')
}

/// How many bytes at the beginning stand for themselves in a JSON string and are ASCII.
pub(super) fn plain(bytes: &[u8]) -> usize {
    position(bytes, special_or_not_ascii, |byte| is_special(byte) || !byte.is_ascii())
}

/// How many bytes at the beginning of a word stand for themselves in a JSON string and are ASCII.
pub(super) fn plain_in_word(word: [u8; 8]) -> usize {
    special_or_not_ascii(u64::from_le_bytes(word)).trailing_zeros() as usize / 8
}

/// Whether all of a block's bytes stand for themselves in a JSON string and are ASCII. Compilers look at
/// sixteen of them at a time, as long as no question hangs on the answer to another.
pub(super) fn is_plain<const N: usize>(block: &[u8; N]) -> bool {
    let special = block.iter().fold(0, |any, byte| {
        let is_control_or_not_ascii = byte.cast_signed() < 0x20;
        any | u8::from(is_control_or_not_ascii) | u8::from(*byte == b'"') | u8::from(*byte == b'\\')
    });
    special == 0
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
    let wanted = |word: &[u8; 8]| wanted(u64::from_le_bytes(*word));
    // Four of them with one question.
    let (fours, _) = words.as_chunks::<4>();
    let is_empty = |four: &&[_; 4]| four.iter().fold(0, |all, word| all | wanted(word)) == 0;
    let passed = 4 * fours.iter().take_while(is_empty).count();
    for (at, word) in words.iter().enumerate().skip(passed) {
        let found = wanted(word);
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
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

/// The high bits of bytes of a word of which [`is_special`] is true or that are not ASCII: exact up to the
/// first of them, below which nothing borrows, and cheaper than what tells of all.
fn special_or_not_ascii(word: u64) -> u64 {
    let no_control = word.wrapping_sub(ONES * 0x20);
    let no_quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let no_backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (no_control | no_quote | no_backslash | word) & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole_as_long_as_they_are_short() {
        for (text, count) in [
            ("", 0),
            ("a", 1),
            ("a\n", 2),
            ("a\nb\nc", 4),
            ("abc\ndef\n", 4),
            ("abcd\n\n", 5),
            ("abcde\n\n", 6),
            ("abcdefghi\nj\n", 10),
            ("abcdefghi", 9),
        ] {
            assert_eq!(lines(text.as_bytes(), 6), count, "{text:?}");
        }
    }

    /// Each byte at each place among others, beside what looks like it in arithmetic on words.
    #[test]
    fn what_is_found_eight_at_a_time_is_what_is_found_one_by_one() {
        for filler in [b'a', b' ', 0x7f, 0x80, 0xff, b'#', b'!', b'[', b']', b'\n', 0] {
            for at in 0..43 {
                for byte in 0..=255 {
                    let mut bytes = [filler; 43];
                    bytes[at] = byte;
                    let first = |wanted: fn(u8) -> bool| {
                        bytes.iter().position(|byte| wanted(*byte)).unwrap_or(bytes.len())
                    };
                    assert_eq!(line(&bytes), (first(|byte| byte == b'\n') + 1).min(43));
                    assert_eq!(plain(&bytes), first(|byte| is_special(byte) || byte >= 0x80));
                    assert_eq!(unescaped(&bytes), first(is_special));
                    assert_eq!(no_escape(&bytes), first(|byte| byte == b'\\'));
                    assert_eq!(not_ascii(&bytes), first(|byte| byte < 0x80));
                }
            }
        }
    }
}
