//! What hyperrun's own processes take of the host for one container.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The guest's memory in the machine measured: mappings side by side that come to this. Nothing else
/// maps as much in one piece.
const GUEST_BYTES: u64 = 512 << 20;

/// Resident memory of all processes of one running container, less the guest's, in KiB; pages that
/// they share count once for each.
///
/// # Errors
/// When the container does not start, or `/proc` cannot be read.
pub(crate) fn overhead_kib(hyperrun: &Path) -> Result<u64, Box<dyn Error>> {
    let mut child = Command::new(hyperrun)
        .args(["run", "-i", "--rm", "-m", "512m", "--cpus", "1", "busybox", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it was piped");
    let mut stdout = child.stdout.take().expect("it was piped");
    stdin.write_all(b"x")?;
    stdout.read_exact(&mut [0])?;
    let total = sum_over_processes(hyperrun);
    drop(stdin);
    child.wait()?;
    total
}

fn sum_over_processes(program: &Path) -> Result<u64, Box<dyn Error>> {
    let program = fs::canonicalize(program)?;
    let mut total = 0;
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // Most of what is in /proc is no process, or one that has just ended.
        if fs::read_link(folder.join("exe")).is_ok_and(|exe| exe == program) {
            total += own_kib(&fs::read_to_string(folder.join("smaps"))?);
        }
    }
    if total == 0 { Err("no process of the container was found".into()) } else { Ok(total) }
}

/// What is resident of all mappings but the guest's, which grow while they are looked at: so this is
/// one reading.
fn own_kib(smaps: &str) -> u64 {
    let mut pieces: Vec<Piece> = Vec::new();
    for line in smaps.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Rss:", kib, "kB"] => {
                pieces.last_mut().expect("a mapping's addresses come first").rss_kib += number(kib);
            }
            [addresses, _, _, _, ..] => {
                let Some((start, end)) = parse_addresses(addresses) else { continue };
                match pieces.last_mut() {
                    Some(piece) if piece.end == start => piece.end = end,
                    _ => pieces.push(Piece { start, end, rss_kib: 0 }),
                }
            }
            _ => {}
        }
    }
    let own = pieces.iter().filter(|piece| piece.end - piece.start < GUEST_BYTES);
    own.map(|piece| piece.rss_kib).sum()
}

/// Mappings side by side.
struct Piece {
    start: u64,
    end: u64,
    rss_kib: u64,
}

fn parse_addresses(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

fn number(text: &str) -> u64 {
    text.parse().expect("the kernel writes a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_large_as_the_guest_is_the_guests() {
        let mapping = |addresses: &str, rss: u64| {
            format!("{addresses} rw-p 00000000 00:00 0\nSize: 4 kB\nRss: {rss} kB\nPss: 1 kB\n")
        };
        let smaps = [
            mapping("10000000-20000000", 70_000),
            mapping("20000000-30000000", 80_000),
            mapping("40000000-40021000", 12),
            mapping("50000000-50001000", 4),
        ];
        assert_eq!(own_kib(&smaps.concat()), 16);
    }
}
