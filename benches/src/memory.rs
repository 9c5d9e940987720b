//! What hyperrun's own processes take of the host for one container.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The guest's memory in the machine measured; nothing else maps as much in one piece.
const GUEST_KIB: u64 = 512 << 10;

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
    let (mut total, mut is_guest) = (0, false);
    for line in smaps.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Size:", kib, "kB"] => is_guest = number(kib) >= GUEST_KIB,
            ["Rss:", kib, "kB"] if !is_guest => total += number(kib),
            _ => {}
        }
    }
    total
}

fn number(text: &str) -> u64 {
    text.parse().expect("the kernel writes a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_large_as_the_guest_is_the_guests() {
        let smaps = "7f00-8f00 rw-p 0 00:00 0\nSize: 524288 kB\nRss: 70000 kB\nPss: 1 kB\n\
                     9f00-af00 rw-p 0 00:00 0\nSize: 132 kB\nRss: 12 kB\nPss: 3 kB\n\
                     b000-c000 rw-p 0 00:00 0\nSize: 4 kB\nRss: 4 kB\n";
        assert_eq!(own_kib(smaps), 16);
    }
}
