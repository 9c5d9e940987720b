//! Initial file systems made in memory: cpio archives in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of Linux).

use std::fmt::Write as _;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive of programs, with `/dev/console` so that they can be heard.
pub fn initramfs(programs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut folders = vec!["dev"];
    for (path, _) in programs {
        if let Some((folder, _)) = path.rsplit_once('/')
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    for folder in folders {
        entry(&mut archive, folder, FOLDER, (0, 0), b"");
    }
    entry(&mut archive, "dev/console", CHARACTER_DEVICE, (5, 1), b"");
    for (path, content) in programs {
        entry(&mut archive, path, PROGRAM, (0, 0), content);
    }
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), b"");
    archive
}

fn entry(archive: &mut Vec<u8>, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    let inode = u32::try_from(archive.len()).expect("a test's archive is small");
    let size = u32::try_from(content.len()).expect("a test's archive is small");
    let name_size = u32::try_from(path.len()).expect("paths are short") + 1;
    let (major, minor) = device;
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
    let mut header = String::from("070701");
    for field in fields {
        write!(header, "{field:08x}").expect("a string takes everything");
    }
    archive.extend(header.as_bytes());
    archive.extend(path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend(content);
    pad(archive);
}

/// Names and contents end at multiples of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
