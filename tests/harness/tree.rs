//! A file tree as text: one line for each path, so that two trees can be compared anywhere, also when
//! one of them is seen inside a guest and the other one outside.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

/// Type, mode, owner, size, time, content, attributes and links of everything below `root`, in the
/// order of the paths. Reads attributes through `/proc`, and everything else relative to folders, so
/// paths may be as long as an image can make them.
///
/// Left out is what says more about the file system than about the tree: the sizes of folders.
///
/// # Errors
/// If something cannot be read.
pub fn listing(root: &Path) -> io::Result<String> {
    listing_without(root, &BTreeSet::new())
}

/// The same without these paths, relative to `root`, and what is below them.
///
/// # Errors
/// If something cannot be read.
pub fn listing_without(root: &Path, left_out: &BTreeSet<Vec<u8>>) -> io::Result<String> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags, Mode::empty())?;
    let mut lines = BTreeMap::new();
    let mut inodes: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
    let top = Rc::new(folder);
    lines.insert(Vec::new(), line(&top, b".", &rustix::fs::fstat(&*top)?)?);
    let mut left = vec![(Vec::new(), top)];
    while let Some((path, folder)) = left.pop() {
        for name in names(&folder)? {
            let stat = rustix::fs::statat(&*folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            if left_out.contains(&below) {
                continue;
            }
            lines.insert(below.clone(), line(&folder, &name, &stat)?);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let inner = flags | OFlags::NOFOLLOW;
                let opened = rustix::fs::openat(&*folder, name.as_slice(), inner, Mode::empty())?;
                left.push((below, Rc::new(opened)));
            } else if stat.st_nlink > 1 {
                inodes.entry((stat.st_dev, stat.st_ino)).or_default().push(below);
            }
        }
    }
    for mut paths in inodes.into_values() {
        paths.sort();
        for path in &paths {
            let line = lines.get_mut(path).expect("every path has a line");
            write!(line, " links={} first={}", paths.len(), escaped(&paths[0]))
                .expect("a String takes it");
        }
    }
    Ok(lines.iter().map(|(path, line)| format!("/{} {line}\n", escaped(path))).collect())
}

/// Lines of one listing that the other one does not have, for a test that has to show why two trees
/// are not the same.
#[must_use]
pub fn difference(left: &str, right: &str) -> String {
    let only = |sign: char, a: &str, b: &str| {
        let known: BTreeSet<&str> = b.lines().collect();
        let lines = a.lines().filter(|line| !known.contains(line));
        lines.take(50).fold(String::new(), |text, line| text + &format!("{sign} {line}\n"))
    };
    only('-', left, right) + &only('+', right, left)
}

/// What hyperrun adds to every tree that lacks it, to mount something over.
const FURNISHED: [&str; 7] =
    ["/dev", "/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

/// A listing of a guest's tree without what hyperrun has added to it: those places that `image`, a
/// listing of the image itself, does not have.
#[must_use]
pub fn unfurnished(guest: &str, image: &str) -> String {
    let path = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let known: BTreeSet<String> = image.lines().map(path).collect();
    let is_added = |line: &&str| FURNISHED.contains(&&*path(line)) && !known.contains(&path(line));
    guest.lines().filter(|line| !is_added(line)).map(|line| format!("{line}\n")).collect()
}

fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn line(folder: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<String> {
    let mode = stat.st_mode & 0o7777;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let about = match kind {
        FileType::Directory => format!("dir mode={mode:04o}"),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
            format!("file mode={mode:04o} size={} content={}", stat.st_size, content(file)?)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
            format!("link mode={mode:04o} target={}", escaped(target.to_bytes()))
        }
        FileType::Fifo => format!("fifo mode={mode:04o}"),
        FileType::Socket => format!("socket mode={mode:04o}"),
        FileType::CharacterDevice | FileType::BlockDevice => {
            let kind = if kind == FileType::BlockDevice { "block" } else { "char" };
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            format!("{kind} mode={mode:04o} device={major}:{minor}")
        }
        FileType::Unknown => "unknown".to_owned(),
    };
    let owner = format!("owner={}:{}", stat.st_uid, stat.st_gid);
    let mtime = format!("mtime={}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
    Ok(format!("{about} {owner} {mtime}{}", attributes(folder, name)?))
}

fn content(mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// Every attribute with its value, in the order of the names.
fn attributes(folder: &OwnedFd, name: &[u8]) -> io::Result<String> {
    let mut path = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd())).into_vec();
    path.extend_from_slice(name);
    let path = OsString::from_vec(path);
    let mut buffer = vec![0; 65_536];
    let length = match rustix::fs::llistxattr(&path, &mut buffer) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<Vec<u8>> = buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let key = std::ffi::OsStr::from_bytes(&name);
        let length = rustix::fs::lgetxattr(&path, key, &mut buffer)?;
        write!(text, " {}={}", escaped(&name), hex(&buffer[..length])).expect("a String takes it");
    }
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes it");
        text
    })
}

/// Bytes as text of one word: blanks, control bytes and what is no ASCII become `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x21..=0x7e => text.push(char::from(*byte)),
            byte => write!(text, "\\x{byte:02x}").expect("a String takes it"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed_with_its_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a b"), "x").unwrap();
        std::fs::hard_link(root.path().join("a b"), root.path().join("c")).unwrap();
        std::os::unix::fs::symlink("to where", root.path().join("d")).unwrap();
        let text = listing(root.path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("/ dir mode=0"), "{text}");
        assert!(
            lines[1].starts_with("/a\\x20b file mode=0644 size=1 content=2d711642b7"),
            "{text}"
        );
        assert!(lines[2].ends_with(" links=2 first=a\\x20b"), "{text}");
        assert!(lines[3].starts_with("/d link mode=0777 target=to\\x20where owner="), "{text}");
        assert_eq!(difference(&text, &text), "");
        let guest = format!("{text}/etc dir mode=0755\n/etc/hosts file mode=0644\n");
        assert_eq!(unfurnished(&guest, &text), text);
        assert_eq!(unfurnished(&guest, &guest), guest);
        assert!(difference(&text, "").starts_with("- / dir"));
    }
}
