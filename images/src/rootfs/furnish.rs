//! Adds the places that every container mounts something over, where an image lacks them. Docker
//! does so in a layer of its own between image and container; left to the start, each container
//! would write them to its disk before its program runs.

use std::collections::BTreeMap;

use super::tree::{Dirent, Inode, InodeId, Node, ROOT, Tree};
use crate::layer::{FileData, Metadata};

/// Folders at the root.
const FOLDERS: [&[u8]; 4] = [b"dev", b"etc", b"proc", b"sys"];
/// Files in `/etc`, wherever that is.
const ETC_FILES: [&[u8]; 3] = [b"hostname", b"hosts", b"resolv.conf"];

impl Tree {
    /// Adds what is missing of those places. What the image has under such a name stays as it is,
    /// whatever it is; a link that leads nowhere is left to the start.
    pub(crate) fn furnish(&mut self) {
        for name in FOLDERS {
            self.add_missing(ROOT, name, Node::Directory(BTreeMap::new()), 0o755);
        }
        let Some(etc) = self.folder(b"etc") else { return };
        for name in ETC_FILES {
            let data = FileData::Contiguous { block: 0 };
            self.add_missing(etc, name, Node::File { size: 0, data, layer: 0 }, 0o644);
        }
    }

    /// As root's, and as old as the root, so that the same layers make the same disk.
    fn add_missing(&mut self, folder: InodeId, name: &[u8], node: Node, mode: u16) {
        if self.lookup(folder, name).is_none() {
            let mtime = self.inode(ROOT).metadata.mtime;
            let metadata = Metadata { mode, mtime, ..Metadata::default() };
            let inode = self.add(Inode { node, metadata });
            self.name(folder, name, Dirent { inode, layer: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Content, Record};

    fn furnished(entries: &[(&str, Content)]) -> Tree {
        let mut tree = Tree::new();
        for (path, content) in entries {
            let metadata = Metadata { mode: 0o700, ..Metadata::default() };
            let record =
                Record { path: path.as_bytes().into(), content: content.clone(), metadata };
            tree.apply(0, record).unwrap();
        }
        tree.furnish();
        tree
    }

    fn names(tree: &Tree, folder: InodeId) -> Vec<String> {
        let names = tree.names(folder).unwrap().keys();
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    fn link(target: &str) -> Content {
        Content::Symlink { target: target.into() }
    }

    #[test]
    fn an_empty_image_gets_every_place() {
        let tree = furnished(&[]);
        assert_eq!(names(&tree, ROOT), ["dev", "etc", "proc", "sys"]);
        let etc = tree.lookup(ROOT, b"etc").unwrap().inode;
        assert_eq!(names(&tree, etc), ["hostname", "hosts", "resolv.conf"]);
        let hosts = tree.inode(tree.lookup(etc, b"hosts").unwrap().inode);
        assert!(matches!(hosts.node, Node::File { size: 0, .. }));
        assert_eq!(hosts.metadata.mode, 0o644);
    }

    #[test]
    fn what_is_there_stays() {
        let entries =
            [("etc", Content::Directory), ("etc/hosts", link("../hosts")), ("proc", Content::Fifo)];
        let tree = furnished(&entries);
        let etc = tree.lookup(ROOT, b"etc").unwrap().inode;
        assert_eq!(tree.inode(etc).metadata.mode, 0o700);
        let hosts = tree.lookup(etc, b"hosts").unwrap().inode;
        assert!(matches!(tree.inode(hosts).node, Node::Symlink { .. }));
        let proc = tree.lookup(ROOT, b"proc").unwrap().inode;
        assert!(matches!(tree.inode(proc).node, Node::Fifo));
    }

    #[test]
    fn etc_may_be_elsewhere_or_nowhere() {
        let moved = furnished(&[("usr/etc", Content::Directory), ("etc", link("usr/etc"))]);
        let usr = moved.lookup(ROOT, b"usr").unwrap().inode;
        let etc = moved.lookup(usr, b"etc").unwrap().inode;
        assert_eq!(names(&moved, etc), ["hostname", "hosts", "resolv.conf"]);
        for nowhere in [link("nowhere"), link("etc"), Content::Fifo] {
            let tree = furnished(&[("etc", nowhere)]);
            assert_eq!(names(&tree, ROOT), ["dev", "etc", "proc", "sys"]);
        }
    }
}
