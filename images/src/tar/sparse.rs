//! Sparse files: GNU tar's old maps in header blocks and its PAX 1.0 maps in front of the data.

use super::Segment;
use super::header::{BLOCK, Header, number};
use super::pax::decimal;

/// Segments one file may have: a hostile map must not fill memory.
pub(super) const SEGMENT_LIMIT: usize = 1 << 20;

/// The part of an old GNU sparse map that one block holds, and whether another block follows.
pub(super) struct MapBlock {
    pub(super) segments: Vec<Segment>,
    pub(super) continues: bool,
}

/// GNU tar manual, "struct oldgnu_header": four pairs at 386, `isextended` at 482.
pub(super) fn old_gnu_header(header: &Header) -> Option<MapBlock> {
    Some(MapBlock { segments: pairs(&header.0[386..482])?, continues: header.0[482] != 0 })
}

/// `realsize` of the same header.
pub(super) fn old_gnu_size(header: &Header) -> Option<i64> {
    number(&header.0[483..495])
}

/// "struct sparse_header": 21 pairs, then `isextended` at 504.
pub(super) fn old_gnu_extension(block: &[u8; BLOCK]) -> Option<MapBlock> {
    Some(MapBlock { segments: pairs(&block[..504])?, continues: block[504] != 0 })
}

fn pairs(bytes: &[u8]) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    for pair in bytes.chunks_exact(24) {
        // Unused pairs at the end are all NUL.
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        let offset = u64::try_from(number(&pair[..12])?).ok()?;
        let length = u64::try_from(number(&pair[12..])?).ok()?;
        segments.push(Segment { offset, length });
    }
    Some(segments)
}

/// A PAX 1.0 map being read line by line: a count, then offsets and lengths in turn.
#[derive(Default)]
pub(super) struct MapText {
    line: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<u64>,
}

impl MapText {
    /// Takes a block of the map; `Some(done)` unless the map is malformed.
    pub(super) fn push(&mut self, block: &[u8; BLOCK]) -> Option<bool> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return None;
                }
                continue;
            }
            let value = decimal(&self.line)?;
            self.line.clear();
            match self.count {
                Some(_) => self.numbers.push(value),
                None => {
                    let count = usize::try_from(value).ok()?;
                    if count > SEGMENT_LIMIT {
                        return None;
                    }
                    self.count = Some(count);
                }
            }
        }
        Some(self.is_complete())
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        let pairs = self.numbers.chunks_exact(2);
        pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect()
    }

    fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.numbers.len() == count * 2)
    }
}

/// Whether the segments ascend without overlap, lie within `size`, and add up to `stored` bytes.
/// Empty segments, which mark the end of a file, are dropped.
pub(super) fn checked(segments: Vec<Segment>, size: u64, stored: u64) -> Option<Vec<Segment>> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for segment in &segments {
        if segment.offset < end {
            return None;
        }
        end = segment.offset.checked_add(segment.length)?;
        sum = sum.checked_add(segment.length)?;
    }
    if end > size || sum != stored {
        return None;
    }
    Some(segments.into_iter().filter(|segment| segment.length > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_ascend_and_add_up() {
        let map = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            pairs
                .iter()
                .map(|(offset, length)| Segment { offset: *offset, length: *length })
                .collect()
        };
        assert_eq!(
            checked(map(&[(0, 5), (10, 5), (20, 0)]), 20, 10),
            Some(map(&[(0, 5), (10, 5)]))
        );
        assert_eq!(checked(map(&[]), 20, 0), Some(map(&[])));
        assert_eq!(checked(map(&[(0, 5), (4, 5)]), 20, 10), None);
        assert_eq!(checked(map(&[(10, 5), (0, 5)]), 20, 10), None);
        assert_eq!(checked(map(&[(0, 21)]), 20, 21), None);
        assert_eq!(checked(map(&[(0, 5)]), 20, 6), None);
        assert_eq!(checked(map(&[(u64::MAX, 5)]), u64::MAX, 5), None);
    }

    #[test]
    fn a_text_map_may_span_blocks() {
        let mut text = b"60\n".to_vec();
        for at in 0..60 {
            text.extend_from_slice(format!("{}\n{}\n", at * 10_000, 512).as_bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let mut map = MapText::default();
        let blocks = text.as_chunks::<BLOCK>().0;
        for block in &blocks[..blocks.len() - 1] {
            assert_eq!(map.push(block), Some(false));
        }
        assert_eq!(map.push(&blocks[blocks.len() - 1]), Some(true));
        assert_eq!(map.segments().len(), 60);
        assert_eq!(map.segments()[59], Segment { offset: 590_000, length: 512 });
        assert_eq!(MapText::default().push(&[b'9'; BLOCK]), None);
    }
}
