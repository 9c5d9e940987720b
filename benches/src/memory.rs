//! What hyperrun's own processes take of the host for one container.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The guest's memory in the machine measured; nothing else maps as much in one piece.
const GUEST_KIB: u64 = 512 << 10;

/// Resident memory of all processes of one running container, less the guest's, in KiB: the sum
/// of `Rss` in their `smaps_rollup`, so that pages they share count once for each.
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
            let rollup = fs::read_to_string(folder.join("smaps_rollup"))?;
            let maps = fs::read_to_string(folder.join("smaps"))?;
            total += field(&rollup, "Rss:") - guest_kib(&maps);
        }
    }
    if total == 0 { Err("no process of the container was found".into()) } else { Ok(total) }
}

/// How much of the guest's memory is resident.
fn guest_kib(smaps: &str) -> u64 {
    let mut lines = smaps.lines();
    let mut resident = 0;
    while let Some(line) = lines.next() {
        if line.starts_with("Size:") && field(line, "Size:") >= GUEST_KIB {
            resident += lines.by_ref().find(|line| line.starts_with("Rss:")).map_or(0, kib);
        }
    }
    resident
}

/// The value behind the first `name`, in KiB.
fn field(text: &str, name: &str) -> u64 {
    text.lines().find(|line| line.starts_with(name)).map_or(0, kib)
}

fn kib(line: &str) -> u64 {
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_large_as_the_guest_is_the_guests() {
        let smaps = "7f00-8f00 rw-p 0 00:00 0\nSize: 524288 kB\nRss: 70000 kB\nPss: 1 kB\n\
                     9f00-af00 rw-p 0 00:00 0\nSize: 132 kB\nRss: 12 kB\n";
        assert_eq!(guest_kib(smaps), 70_000);
        assert_eq!(field("x\nRss: 12 kB\nPss: 3 kB\n", "Rss:"), 12);
    }
}
