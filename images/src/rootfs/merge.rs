//! Applies the records of one layer after another to a tree.
//!
//! Paths are followed inside the tree only: a symbolic link among the parents of an entry leads to
//! another place in it, `..` ends at its root, and nothing here can name anything outside.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use super::MergeError;
use super::tree::{Dirent, Inode, InodeId, Node, ROOT, Tree};
use crate::layer::{Content, Metadata, NAME_LIMIT, Record};
use crate::tar::Timestamp;

/// Links followed on the way to one entry: MAXSYMLINKS of Linux, path_resolution(7).
const SYMLINK_LIMIT: usize = 40;

/// Nested directories: what a path of 4,095 bytes can name at most.
const DEPTH_LIMIT: usize = 2048;

/// What happens on the way to a directory that is not there.
#[derive(Clone, Copy)]
enum Missing {
    /// Make it, as of this layer, with this time.
    Create {
        layer: usize,
        mtime: Timestamp,
    },
    GiveUp,
}

impl Tree {
    /// Applies one record of the layer with this number; numbers ascend from the base upwards.
    pub(crate) fn apply(&mut self, layer: usize, record: Record) -> Result<(), MergeError> {
        let Record { path, content, metadata } = record;
        let components: Vec<&[u8]> = split(&path).collect();
        if matches!(content, Content::Opaque) {
            if let Some(directory) = self.resolve(&components, Missing::GiveUp, &path)? {
                self.remove_lower(directory, layer);
            }
            return Ok(());
        }
        let Some((name, parents)) = components.split_last() else {
            self.set_metadata(ROOT, metadata);
            return Ok(());
        };
        if matches!(content, Content::Whiteout) {
            if let Some(parent) = self.resolve(parents, Missing::GiveUp, &path)? {
                self.whiteout(parent, name, layer);
            }
            return Ok(());
        }
        let missing = Missing::Create { layer, mtime: metadata.mtime };
        let Some(parent) = self.resolve(parents, missing, &path)? else { return Ok(()) };
        let node = match content {
            Content::HardLink { target } => return self.link(parent, name, &target, layer, &path),
            Content::Directory => return self.directory(parent, name, metadata, layer),
            Content::File { size, data } => Node::File { size, data, layer },
            Content::Symlink { target } => Node::Symlink { target },
            Content::CharDevice { major, minor } => Node::CharDevice { major, minor },
            Content::BlockDevice { major, minor } => Node::BlockDevice { major, minor },
            Content::Fifo => Node::Fifo,
            Content::Whiteout | Content::Opaque => return Ok(()),
        };
        let inode = self.add(Inode { node, metadata });
        self.name(parent, name, Dirent { inode, layer });
        Ok(())
    }

    /// A directory keeps what a directory of its name already has, and replaces anything else.
    fn directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        metadata: Metadata,
        layer: usize,
    ) -> Result<(), MergeError> {
        let known = self.lookup(parent, name).filter(|known| self.names(known.inode).is_some());
        let inode = match known {
            Some(known) => {
                self.set_metadata(known.inode, metadata);
                known.inode
            }
            None => self.add(Inode { node: Node::Directory(BTreeMap::new()), metadata }),
        };
        self.name(parent, name, Dirent { inode, layer });
        Ok(())
    }

    /// A further name for what `target` names, in this layer or one below. Owner, mode and time
    /// stay those of the target, whatever the link's own header says.
    fn link(
        &mut self,
        parent: InodeId,
        name: &[u8],
        target: &[u8],
        layer: usize,
        path: &[u8],
    ) -> Result<(), MergeError> {
        let components: Vec<&[u8]> = split(target).collect();
        let missing = || MergeError::LinkTarget { entry: lossy(path), target: lossy(target) };
        let (target_name, parents) = components.split_last().ok_or_else(missing)?;
        let directory = self.resolve(parents, Missing::GiveUp, path)?.ok_or_else(missing)?;
        let inode = self.lookup(directory, target_name).ok_or_else(missing)?.inode;
        if self.names(inode).is_some() {
            let (entry, target) = (lossy(path), lossy(target));
            return Err(MergeError::LinkToDirectory { entry, target });
        }
        self.name(parent, name, Dirent { inode, layer });
        Ok(())
    }

    /// Hides a name of the layers below; what this layer itself put there stays.
    fn whiteout(&mut self, parent: InodeId, name: &[u8], layer: usize) {
        let Some(dirent) = self.lookup(parent, name) else { return };
        let is_directory = self.names(dirent.inode).is_some();
        if is_directory {
            self.remove_lower(dirent.inode, layer);
        }
        let is_empty = self.names(dirent.inode).is_none_or(BTreeMap::is_empty);
        if dirent.layer != layer
            && is_empty
            && let Some(names) = self.names_mut(parent)
        {
            names.remove(name);
        }
    }

    /// Removes all that is below `directory` and not of this layer. Calls nothing for each directory
    /// in another: a hostile tree is deeper than a stack.
    fn remove_lower(&mut self, directory: InodeId, layer: usize) {
        let mut below = Vec::new();
        let mut left = vec![directory];
        while let Some(inode) = left.pop() {
            if self.names(inode).is_some() && self.prune_once(inode, layer) {
                below.push(inode);
                left.extend(self.names(inode).into_iter().flatten().map(|(_, name)| name.inode));
            }
        }
        // What is in a directory comes behind it, and decides whether it stays.
        for directory in below.into_iter().rev() {
            let Some(names) = self.names_mut(directory) else { continue };
            let mut kept = std::mem::take(names);
            kept.retain(|_, dirent| {
                let has_names = self.names(dirent.inode).is_some_and(|names| !names.is_empty());
                dirent.layer == layer || has_names
            });
            if let Some(names) = self.names_mut(directory) {
                *names = kept;
            }
        }
    }

    pub(super) fn lookup(&self, directory: InodeId, name: &[u8]) -> Option<Dirent> {
        self.names(directory)?.get(name).copied()
    }

    pub(super) fn name(&mut self, directory: InodeId, name: &[u8], dirent: Dirent) {
        if let Some(names) = self.names_mut(directory) {
            names.insert(name.into(), dirent);
        }
    }

    /// The directory at `path`, if there is one, through symbolic links.
    pub(super) fn folder(&mut self, path: &[u8]) -> Option<InodeId> {
        let components: Vec<&[u8]> = split(path).collect();
        self.resolve(&components, Missing::GiveUp, path).ok().flatten()
    }

    /// The directory that `components` lead to, through symbolic links, never above the root.
    fn resolve(
        &mut self,
        components: &[&[u8]],
        missing: Missing,
        path: &[u8],
    ) -> Result<Option<InodeId>, MergeError> {
        let mut stack = vec![ROOT];
        let mut rest: VecDeque<Cow<'_, [u8]>> =
            components.iter().map(|name| Cow::Borrowed(*name)).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let here = stack[stack.len() - 1];
            if &*name == b".." {
                stack.truncate((stack.len() - 1).max(1));
                continue;
            }
            if stack.len() >= DEPTH_LIMIT {
                return Err(MergeError::TooDeep { entry: lossy(path), limit: DEPTH_LIMIT });
            }
            let known = self.lookup(here, &name).map(|dirent| dirent.inode);
            match known.map(|inode| (inode, &self.inode(inode).node)) {
                Some((inode, Node::Directory(_))) => stack.push(inode),
                Some((_, Node::Symlink { target })) => {
                    links += 1;
                    if links > SYMLINK_LIMIT {
                        return Err(MergeError::SymlinkLoop { entry: lossy(path) });
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    for name in split(target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(Cow::Owned(name.to_owned()));
                    }
                }
                _ => match missing {
                    Missing::GiveUp => return Ok(None),
                    // The names of entries were checked when they were read, those of targets not.
                    Missing::Create { .. } if name.len() > NAME_LIMIT => {
                        return Err(MergeError::LongName { entry: lossy(path) });
                    }
                    Missing::Create { layer, mtime } => {
                        let metadata = Metadata { mode: 0o755, mtime, ..Metadata::default() };
                        let node = Node::Directory(BTreeMap::new());
                        let inode = self.add(Inode { node, metadata });
                        self.name(here, &name, Dirent { inode, layer });
                        stack.push(inode);
                    }
                },
            }
        }
        Ok(stack.last().copied())
    }
}

/// Components of a path in the tree, or of a symbolic link's target, where `..` may stand.
fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::FileData;

    fn record(path: &str, content: Content) -> Record {
        Record {
            path: path.into(),
            content,
            metadata: Metadata { mode: 0o700, ..Metadata::default() },
        }
    }

    fn file(path: &str) -> Record {
        record(path, Content::File { size: 1, data: FileData::Contiguous { block: 0 } })
    }

    fn dir(path: &str) -> Record {
        record(path, Content::Directory)
    }

    fn symlink(path: &str, target: &str) -> Record {
        record(path, Content::Symlink { target: target.into() })
    }

    fn link(path: &str, target: &str) -> Record {
        record(path, Content::HardLink { target: target.into() })
    }

    fn whiteout(path: &str) -> Record {
        record(path, Content::Whiteout)
    }

    fn opaque(path: &str) -> Record {
        record(path, Content::Opaque)
    }

    fn merge(layers: Vec<Vec<Record>>) -> Result<Tree, MergeError> {
        let mut tree = Tree::new();
        for (layer, records) in layers.into_iter().enumerate() {
            for record in records {
                tree.apply(layer, record)?;
            }
        }
        Ok(tree)
    }

    /// `a/ a/b@0 a/l>target`: directories, files with their layer, symbolic links.
    fn list(tree: &Tree) -> String {
        fn walk(tree: &Tree, at: InodeId, prefix: &str, out: &mut Vec<String>) {
            for (name, dirent) in tree.names(at).unwrap() {
                let path = format!("{prefix}{}", String::from_utf8_lossy(name));
                match &tree.inode(dirent.inode).node {
                    Node::Directory(_) => {
                        out.push(format!("{path}/"));
                        walk(tree, dirent.inode, &format!("{path}/"), out);
                    }
                    Node::File { layer, .. } => out.push(format!("{path}@{layer}")),
                    Node::Symlink { target } => {
                        out.push(format!("{path}>{}", String::from_utf8_lossy(target)));
                    }
                    other => out.push(format!("{path}?{other:?}")),
                }
            }
        }
        let mut out = Vec::new();
        walk(tree, ROOT, "", &mut out);
        out.join(" ")
    }

    #[test]
    fn later_layers_win() {
        let cases = vec![
            ("replace", vec![vec![file("a")], vec![file("a")]], "a@1"),
            (
                "merge",
                vec![vec![dir("d"), file("d/x")], vec![dir("d"), file("d/y")]],
                "d/ d/x@0 d/y@1",
            ),
            ("parents", vec![vec![file("a/b/c")]], "a/ a/b/ a/b/c@0"),
            ("dir to file", vec![vec![file("d/x")], vec![file("d")]], "d@1"),
            ("file to dir", vec![vec![file("d")], vec![dir("d"), file("d/x")]], "d/ d/x@1"),
            ("file as parent", vec![vec![file("d")], vec![file("d/x")]], "d/ d/x@1"),
            ("and back", vec![vec![dir("d")], vec![file("d")], vec![dir("d")]], "d/"),
            ("symlink to dir", vec![vec![dir("r"), symlink("d", "r")], vec![dir("d")]], "d/ r/"),
        ];
        for (name, layers, expected) in cases {
            assert_eq!(list(&merge(layers).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let base = || vec![file("d/x"), file("d/y"), file("d/s/z"), file("k")];
        let cases = vec![
            ("name", vec![base(), vec![whiteout("d/x")]], "d/ d/s/ d/s/z@0 d/y@0 k@0"),
            ("folder", vec![base(), vec![whiteout("d")]], "k@0"),
            (
                "missing",
                vec![base(), vec![whiteout("q/x"), whiteout("q")]],
                "d/ d/s/ d/s/z@0 d/x@0 d/y@0 k@0",
            ),
            ("again", vec![base(), vec![whiteout("d"), file("d/n")]], "d/ d/n@1 k@0"),
            (
                "again, first",
                vec![base(), vec![dir("d"), file("d/n"), whiteout("d")]],
                "d/ d/n@1 k@0",
            ),
            (
                "own file",
                vec![base(), vec![file("k"), whiteout("k")]],
                "d/ d/s/ d/s/z@0 d/x@0 d/y@0 k@1",
            ),
            ("opaque", vec![base(), vec![opaque("d"), file("d/n")]], "d/ d/n@1 k@0"),
            ("opaque, last", vec![base(), vec![file("d/n"), opaque("d")]], "d/ d/n@1 k@0"),
            ("opaque, deep", vec![base(), vec![file("d/s/n"), opaque("d")]], "d/ d/s/ d/s/n@1 k@0"),
            ("opaque root", vec![base(), vec![opaque(""), file("n")]], "n@1"),
            (
                "deep",
                vec![vec![dir(&vec!["d"; 2040].join("/"))], vec![opaque(""), file("n")]],
                "n@1",
            ),
            (
                "then again",
                vec![base(), vec![whiteout("k")], vec![file("k")]],
                "d/ d/s/ d/s/z@0 d/x@0 d/y@0 k@2",
            ),
        ];
        for (name, layers, expected) in cases {
            assert_eq!(list(&merge(layers).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn symbolic_links_among_parents_stay_inside() {
        let cases = vec![
            (
                "relative",
                vec![vec![dir("usr/lib"), symlink("lib", "usr/lib")], vec![file("lib/x")]],
                "lib>usr/lib usr/ usr/lib/ usr/lib/x@1",
            ),
            ("absolute", vec![vec![dir("r"), symlink("l", "/r"), file("l/x")]], "l>/r r/ r/x@0"),
            (
                "climbing",
                vec![vec![symlink("l", "../../../etc"), file("l/passwd")]],
                "etc/ etc/passwd@0 l>../../../etc",
            ),
            (
                "dangling",
                vec![vec![symlink("l", "to/here"), file("l/x")]],
                "l>to/here to/ to/here/ to/here/x@0",
            ),
            ("the link itself", vec![vec![symlink("l", "/etc")], vec![file("l")]], "l@1"),
            (
                "whiteout behind one",
                vec![vec![file("r/x"), symlink("l", "r")], vec![whiteout("l/x")]],
                "l>r r/",
            ),
        ];
        for (name, layers, expected) in cases {
            assert_eq!(list(&merge(layers).unwrap()), expected, "{name}");
        }
        let circle = vec![vec![symlink("a", "b"), symlink("b", "a"), file("a/x")]];
        assert_eq!(merge(circle).unwrap_err(), MergeError::SymlinkLoop { entry: "a/x".into() });
        let long = |length| vec![vec![symlink("l", &"n".repeat(length)), file("l/x")]];
        assert!(merge(long(255)).is_ok());
        assert_eq!(merge(long(256)).unwrap_err(), MergeError::LongName { entry: "l/x".into() });
    }

    #[test]
    fn hard_links_share_an_inode_across_layers() {
        let tree = merge(vec![vec![file("a")], vec![link("b", "a"), link("b", "b")]]).unwrap();
        let inode = |name: &[u8]| tree.names(ROOT).unwrap()[name].inode;
        assert_eq!(inode(b"a"), inode(b"b"));
        let replaced = merge(vec![vec![file("a"), link("b", "a")], vec![file("a")]]).unwrap();
        assert_eq!(list(&replaced), "a@1 b@0");
        let bad = [
            (link("b", "nope"), "does not exist"),
            (link("b", ""), "does not exist"),
            (link("b", "d"), "directory"),
        ];
        for (record, expected) in bad {
            let error = merge(vec![vec![dir("d"), record]]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn depth_is_bounded_even_behind_links() {
        let mut records = Vec::new();
        let deep = vec!["d"; 1000].join("/");
        records.push(dir(&deep));
        for at in 0..3 {
            let target = if at == 0 { deep.clone() } else { format!("l{}/{deep}", at - 1) };
            records.push(symlink(&format!("l{at}"), &target));
            records.push(dir(&format!("l{at}/{deep}")));
        }
        assert!(matches!(merge(vec![records]), Err(MergeError::TooDeep { .. })));
    }
}
