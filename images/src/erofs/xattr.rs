//! Extended attributes, stored behind their inode.

/// `struct erofs_xattr_ibody_header`: a name filter, a count of shared attributes, reserved bytes.
const HEADER_SIZE: usize = 12;

/// `EROFS_XATTR_INDEX_*` by the prefix each takes the place of.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The bytes behind the inode; empty if there are no attributes.
pub(super) fn encode(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    if xattrs.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0; HEADER_SIZE];
    for (name, value) in xattrs {
        let Some((rest, index)) = split_prefix(name) else { continue };
        // The layer's reader dropped what does not fit; see `kept_xattrs` there.
        let (Ok(name_length), Ok(value_length)) =
            (u8::try_from(rest.len()), u16::try_from(value.len()))
        else {
            continue;
        };
        out.push(name_length);
        out.push(index);
        out.extend(value_length.to_le_bytes());
        out.extend(rest);
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    if out.len() == HEADER_SIZE {
        out.clear();
    }
    out
}

/// `i_xattr_icount` of that many bytes: the header counts as one, each further four bytes as one.
pub(super) fn count(bytes: usize) -> u16 {
    match bytes {
        0 => 0,
        bytes => u16::try_from((bytes - HEADER_SIZE) / 4 + 1).unwrap_or(u16::MAX),
    }
}

fn split_prefix(name: &[u8]) -> Option<(&[u8], u8)> {
    PREFIXES.iter().find_map(|(prefix, index)| Some((name.strip_prefix(*prefix)?, *index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_entries_of_four_byte_units() {
        assert!(encode(&[]).is_empty());
        assert_eq!(count(0), 0);
        let xattrs = [
            (b"user.a".to_vec(), b"xyz".to_vec()),
            (b"system.posix_acl_access".to_vec(), b"\x02\0\0\0".to_vec()),
            (b"lustre.x".to_vec(), b"dropped".to_vec()),
        ];
        let bytes = encode(&xattrs);
        assert_eq!(&bytes[12..], b"\x01\x01\x03\0axyz\0\x02\x04\0\x02\0\0\0");
        assert_eq!(count(bytes.len()), 1 + 4);
    }
}
