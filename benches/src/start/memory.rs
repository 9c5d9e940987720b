//! What hyperrun's processes take of the host, from smaps: the guests' memory and their own.

use std::error::Error;
use std::fs;
use std::ops::AddAssign;
use std::path::Path;

/// Memory of all processes of some containers, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// In memory for nobody else, the guests' memory with it.
    pub(crate) private_kib: u64,
    /// Mapped by other processes too.
    pub(crate) shared_kib: u64,
    /// The part of `private_kib` that is the guests' memory.
    pub(crate) guest_private_kib: u64,
    /// All that is resident but the guests' memory; what processes share counts once for each.
    pub(crate) own_kib: u64,
}

impl Footprint {
    /// What one of `count` containers takes, on average.
    pub(crate) fn divided_by(self, count: u64) -> Footprint {
        Footprint {
            private_kib: self.private_kib / count,
            shared_kib: self.shared_kib / count,
            guest_private_kib: self.guest_private_kib / count,
            own_kib: self.own_kib / count,
        }
    }
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Footprint) {
        self.private_kib += other.private_kib;
        self.shared_kib += other.shared_kib;
        self.guest_private_kib += other.guest_private_kib;
        self.own_kib += other.own_kib;
    }
}

/// Of all processes of this program, where every guest has this much memory.
///
/// # Errors
/// When there is none, or `/proc` cannot be read.
pub(crate) fn footprint(program: &Path, guest_mib: u32) -> Result<Footprint, Box<dyn Error>> {
    let program = fs::canonicalize(program)?;
    let mut total = Footprint::default();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // Most of what is in /proc is no process, or one that has just ended.
        if fs::read_link(folder.join("exe")).is_ok_and(|exe| exe == program) {
            total += of_smaps(&fs::read_to_string(folder.join("smaps"))?, guest_mib);
        }
    }
    if total.own_kib == 0 { Err("no process of the container was found".into()) } else { Ok(total) }
}

/// One reading for all, since a guest's memory grows while it is looked at. The guest's are the
/// mappings side by side that come to its memory: nothing else maps as much in one piece.
fn of_smaps(smaps: &str, guest_mib: u32) -> Footprint {
    let mut pieces: Vec<Piece> = Vec::new();
    for line in smaps.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, kib, "kB"] => {
                let piece = pieces.last_mut().expect("a mapping's addresses come first");
                let kib: u64 = kib.parse().expect("the kernel writes a number");
                match name {
                    "Rss:" => piece.resident_kib += kib,
                    "Private_Clean:" | "Private_Dirty:" => piece.private_kib += kib,
                    "Shared_Clean:" | "Shared_Dirty:" => piece.shared_kib += kib,
                    _ => {}
                }
            }
            [addresses, _, _, _, ..] => {
                let Some((start, end)) = parse_addresses(addresses) else { continue };
                match pieces.last_mut() {
                    Some(piece) if piece.end == start => piece.end = end,
                    _ => pieces.push(Piece { start, end, ..Piece::default() }),
                }
            }
            _ => {}
        }
    }
    let guest_bytes = u64::from(guest_mib) << 20;
    let mut total = Footprint::default();
    for piece in pieces {
        total.private_kib += piece.private_kib;
        total.shared_kib += piece.shared_kib;
        if piece.end - piece.start < guest_bytes {
            total.own_kib += piece.resident_kib;
        } else {
            total.guest_private_kib += piece.private_kib;
        }
    }
    total
}

/// Mappings side by side.
#[derive(Default)]
struct Piece {
    start: u64,
    end: u64,
    resident_kib: u64,
    private_kib: u64,
    shared_kib: u64,
}

fn parse_addresses(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// The most memory that a process has had resident, as long as it is there.
pub(crate) fn high_water_kib(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_large_as_the_guest_is_the_guests() {
        let mapping = |addresses: &str, private: u64, shared: u64| {
            let resident = private + shared;
            format!(
                "{addresses} rw-p 00000000 00:00 0\nSize: 4 kB\nRss: {resident} kB\nPss: 1 kB\n\
                 Shared_Clean: {shared} kB\nShared_Dirty: 0 kB\nPrivate_Clean: 0 kB\n\
                 Private_Dirty: {private} kB\nVmFlags: rd wr mr mw me ac\n"
            )
        };
        let smaps = [
            mapping("10000000-20000000", 70_000, 1000),
            mapping("20000000-30000000", 80_000, 2000),
            mapping("40000000-40021000", 12, 3),
            mapping("50000000-50001000", 4, 0),
        ];
        let expected = Footprint {
            private_kib: 150_016,
            shared_kib: 3003,
            guest_private_kib: 150_000,
            own_kib: 19,
        };
        assert_eq!(of_smaps(&smaps.concat(), 512), expected);
        assert_eq!(expected.divided_by(2).own_kib, 9);
    }
}
