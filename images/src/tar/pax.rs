//! PAX extended headers: records of `length key=value\n`, cut by their length and nothing else.

use super::{Segment, Timestamp, Xattrs};

/// Attributes of one entry; real ones have a handful. Bounds the search for repeated names.
const XATTR_LIMIT: usize = 1000;

/// What one extended header says about the entry behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: GnuSparse,
}

/// GNU.sparse.* records: formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GnuSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// The file's real size: `realsize` in 1.0, `size` before.
    pub(super) size: Option<u64>,
    pub(super) segments: Vec<Segment>,
    /// Whether there was a map of format 0.0 or 0.1, perhaps an empty one.
    pub(super) has_map: bool,
    pending_offset: Option<u64>,
}

impl GnuSparse {
    /// Format 1.0 keeps its map in front of the data.
    pub(super) fn map_is_in_data(&self) -> bool {
        self.major == Some(1) && self.minor == Some(0)
    }
}

/// Reads all records; `None` if any is malformed.
pub(super) fn parse(mut rest: &[u8]) -> Option<Pax> {
    let mut pax = Pax::default();
    while !rest.is_empty() {
        let (record, after) = split_record(rest)?;
        apply(&mut pax, record)?;
        rest = after;
    }
    // A 0.0 map must not end between an offset and its length.
    pax.sparse.pending_offset.is_none().then_some(pax)
}

/// Cuts `25 ctime=1084839148.1212\n` off the front; the length counts itself and the newline.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    if length <= blank + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    Some((&bytes[blank + 1..length - 1], &bytes[length..]))
}

fn apply(pax: &mut Pax, record: &[u8]) -> Option<()> {
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        if pax.xattrs.len() == XATTR_LIMIT {
            return None;
        }
        pax.xattrs.retain(|(known, _)| known != name);
        pax.xattrs.push((name.to_vec(), value.to_vec()));
        return Some(());
    }
    // An empty value takes an earlier record back; there are none but those of a global header,
    // which Docker ignores as well.
    if value.is_empty() {
        return Some(());
    }
    match key {
        b"path" => pax.path = Some(without_nul(value)?),
        b"linkpath" => pax.link = Some(without_nul(value)?),
        b"size" => pax.size = Some(decimal(value)?),
        b"uid" => pax.uid = Some(decimal(value)?),
        b"gid" => pax.gid = Some(decimal(value)?),
        b"mtime" => pax.mtime = Some(timestamp(value)?),
        b"GNU.sparse.major" => pax.sparse.major = Some(decimal(value)?),
        b"GNU.sparse.minor" => pax.sparse.minor = Some(decimal(value)?),
        b"GNU.sparse.name" => pax.sparse.name = Some(without_nul(value)?),
        b"GNU.sparse.realsize" | b"GNU.sparse.size" => pax.sparse.size = Some(decimal(value)?),
        b"GNU.sparse.numblocks" => pax.sparse.has_map = true,
        b"GNU.sparse.offset" => {
            let earlier = pax.sparse.pending_offset.replace(decimal(value)?);
            return earlier.is_none().then_some(());
        }
        b"GNU.sparse.numbytes" => {
            let offset = pax.sparse.pending_offset.take()?;
            pax.sparse.segments.push(Segment { offset, length: decimal(value)? });
            pax.sparse.has_map = true;
        }
        b"GNU.sparse.map" => {
            pax.sparse.segments = comma_map(value)?;
            pax.sparse.has_map = true;
        }
        _ => {}
    }
    Some(())
}

fn without_nul(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

fn comma_map(value: &[u8]) -> Option<Vec<Segment>> {
    let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
    let numbers = numbers?;
    if numbers.len() % 2 != 0 {
        return None;
    }
    let pairs = numbers.chunks_exact(2);
    Some(pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

/// Decimal digits without sign, at most `i64::MAX`.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    i64::try_from(value).is_ok().then_some(value)
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are dropped, as Go drops them.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let whole = i64::try_from(decimal(&digits[..point])?).ok()?;
    let fraction = digits.get(point + 1..).unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = padded.fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, nanoseconds) => Timestamp { seconds: whole, nanoseconds },
        (true, 0) => Timestamp { seconds: -whole, nanoseconds: 0 },
        (true, nanos) => Timestamp { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        let mut out = format!("{length} {key}=").into_bytes();
        out.extend_from_slice(value);
        out.push(b'\n');
        out
    }

    #[test]
    fn values_may_hold_any_byte() {
        let value = b"\x01\0\0\x02=\n12 path=evil\n\xff";
        let bytes =
            [record("SCHILY.xattr.security.capability", value), record("path", b"a/b")].concat();
        let pax = parse(&bytes).unwrap();
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), value.to_vec())]);
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
    }

    #[test]
    fn times_have_nanoseconds_on_both_sides_of_zero() {
        let cases: [(&[u8], i64, u32); 5] = [
            (b"1350244992.023960108", 1_350_244_992, 23_960_108),
            (b"5", 5, 0),
            (b"-1", -1, 0),
            (b"-1.5", -2, 500_000_000),
            (b"0.1234567899", 0, 123_456_789),
        ];
        for (text, seconds, nanoseconds) in cases {
            assert_eq!(timestamp(text), Some(Timestamp { seconds, nanoseconds }));
        }
        for text in [&b""[..], b"-", b"1.x", b"1e3", b"+1", b"99999999999999999999"] {
            assert_eq!(timestamp(text), None);
        }
    }

    #[test]
    fn sparse_maps_come_in_two_kinds_of_records() {
        let old = [
            record("GNU.sparse.size", b"100"),
            record("GNU.sparse.numblocks", b"2"),
            record("GNU.sparse.offset", b"0"),
            record("GNU.sparse.numbytes", b"1"),
            record("GNU.sparse.offset", b"50"),
            record("GNU.sparse.numbytes", b"2"),
        ];
        let new = [record("GNU.sparse.size", b"100"), record("GNU.sparse.map", b"0,1,50,2")];
        let expected = [Segment { offset: 0, length: 1 }, Segment { offset: 50, length: 2 }];
        assert_eq!(parse(&old.concat()).unwrap().sparse.segments, expected);
        assert_eq!(parse(&new.concat()).unwrap().sparse.segments, expected);
    }

    #[test]
    fn malformed_records_are_refused() {
        let cases: [&[u8]; 12] = [
            b"path=x\n",
            b"0 path=x\n",
            b"3 \n",
            b"9 path=x",
            b"99 path=x\n",
            b"8 path=x\n",
            b"x path=x\n",
            b"7 path\n",
            b"99999999999999999999 path=x\n",
            &record("path", b"a\0b"),
            &record("size", b"-1"),
            &record("GNU.sparse.offset", b"1"),
        ];
        for bytes in cases {
            assert_eq!(parse(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
