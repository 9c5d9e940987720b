//! Modes as Linux keeps them, whatever a tar says.

use super::tree::Node;
use crate::layer::Metadata;

/// The attribute that a file's mode is a part of.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

// linux/posix_acl.h and linux/posix_acl_xattr.h.
const POSIX_ACL_XATTR_VERSION: [u8; 4] = 2_u32.to_le_bytes();
const ACL_USER_OBJ: u16 = 0x01;
const ACL_GROUP_OBJ: u16 = 0x04;
const ACL_MASK: u16 = 0x10;
const ACL_OTHER: u16 = 0x20;

/// The mode that a file system would have for a node after it was unpacked: symbolic links have no
/// permissions of their own, and those of a file with an ACL are the ACL's (`posix_acl_update_mode`).
pub(super) fn kept(node: &Node, metadata: &Metadata) -> u16 {
    match node {
        Node::Symlink { .. } => 0o777,
        _ => file_mode(metadata),
    }
}

/// The same for a node that is a file, or at least no symbolic link.
pub(crate) fn file_mode(metadata: &Metadata) -> u16 {
    let acl = metadata.xattrs.iter().find(|(name, _)| name == ACCESS_ACL);
    match acl.and_then(|(_, value)| permissions(value)) {
        Some(permissions) => metadata.mode & !0o777 | permissions,
        None => metadata.mode,
    }
}

/// The permissions that an ACL stands for; `None` if it is malformed.
fn permissions(acl: &[u8]) -> Option<u16> {
    let entries = acl.strip_prefix(&POSIX_ACL_XATTR_VERSION)?;
    let (mut user, mut group, mut mask, mut other) = (None, None, None, None);
    for entry in entries.chunks(8) {
        let entry: &[u8; 8] = entry.try_into().ok()?;
        let permissions = u16::from_le_bytes([entry[2], entry[3]]) & 7;
        match u16::from_le_bytes([entry[0], entry[1]]) {
            ACL_USER_OBJ => user = Some(permissions),
            ACL_GROUP_OBJ => group = Some(permissions),
            ACL_MASK => mask = Some(permissions),
            ACL_OTHER => other = Some(permissions),
            _ => {}
        }
    }
    Some(user? << 6 | mask.or(group)? << 3 | other?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_decides_about_the_mode() {
        let entry = |tag: u8, permissions: u8| [tag, 0, permissions, 0, 255, 255, 255, 255];
        let acl = |entries: &[[u8; 8]]| [&POSIX_ACL_XATTR_VERSION[..], &entries.concat()].concat();
        let minimal = acl(&[entry(1, 6), entry(4, 5), entry(32, 1)]);
        let masked = acl(&[entry(1, 7), entry(2, 7), entry(4, 5), entry(16, 4), entry(32, 0)]);
        for (value, mode) in [
            (minimal, 0o4651),
            (masked, 0o4740),
            (acl(&[entry(1, 6)]), 0o4777),
            (b"\x02\0\0\0\x01".to_vec(), 0o4777),
            (Vec::new(), 0o4777),
        ] {
            let xattrs = vec![(ACCESS_ACL.to_vec(), value)];
            let metadata = Metadata { mode: 0o4777, xattrs, ..Metadata::default() };
            assert_eq!(kept(&Node::Fifo, &metadata), mode);
        }
        let target = b"x".to_vec();
        let metadata = Metadata { mode: 0o644, ..Metadata::default() };
        assert_eq!(kept(&Node::Symlink { target }, &metadata), 0o777);
    }
}
