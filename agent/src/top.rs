//! The container's processes as `/proc` shows them: those in a PID namespace below the agent's.

use std::{collections::HashMap, fs};

use protocol::{MAX_TOP_COMMAND_BYTES, MAX_TOP_ROWS, TopRow};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    time::{ClockId, clock_gettime},
};

use crate::step::{Doing, StepError};

/// All of them, in the order of their numbers in the container, without the users' names.
pub(crate) fn rows() -> Result<Vec<TopRow>, StepError> {
    let scale = Scale::of_this_machine();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").doing("read the list of processes")? {
        let name = entry.doing("read the list of processes")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile has nothing to say.
        found.extend(look_at(pid, &scale));
        if found.len() == MAX_TOP_ROWS {
            break;
        }
    }
    let inner: HashMap<u32, u32> = found.iter().map(|(outer, row)| (*outer, row.pid)).collect();
    let mut rows: Vec<_> = found
        .into_iter()
        .map(|(_, row)| TopRow { parent: *inner.get(&row.parent).unwrap_or(&0), ..row })
        .collect();
    rows.sort_by_key(|row| row.pid);
    Ok(rows)
}

/// What the kernel's numbers are to be multiplied with.
struct Scale {
    uptime_ms: u64,
    tick_ms: u64,
    page_bytes: u64,
}

impl Scale {
    fn of_this_machine() -> Self {
        let uptime = clock_gettime(ClockId::Boottime);
        Self {
            uptime_ms: u64::try_from(uptime.tv_sec).unwrap_or_default() * 1000
                + u64::try_from(uptime.tv_nsec).unwrap_or_default() / 1_000_000,
            tick_ms: 1000 / clock_ticks_per_second().max(1),
            page_bytes: page_size() as u64,
        }
    }
}

/// A process with its number here; its parent is still numbered so, too. None for what is no
/// process of the container.
fn look_at(pid: u32, scale: &Scale) -> Option<(u32, TopRow)> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let inner = inner_pid(&String::from_utf8_lossy(&status))?;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let mut row = parse(&String::from_utf8_lossy(&stat), scale)?;
    row.pid = inner;
    row.uid = effective_uid(&String::from_utf8_lossy(&status))?;
    let mut command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    while command.last() == Some(&0) {
        command.pop();
    }
    if !command.is_empty() {
        row.command = command;
        row.command.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
        row.command.truncate(MAX_TOP_COMMAND_BYTES);
    }
    Some((pid, row))
}

/// The number in the container's namespace, the second of those in `NSpid`.
fn inner_pid(status: &str) -> Option<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// The second of the numbers in `Uid`.
fn effective_uid(status: &str) -> Option<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name in it is the process's own choice, closing
/// parentheses and all: the last one ends it.
fn parse(stat: &str, scale: &Scale) -> Option<TopRow> {
    /// The number of the field behind the name.
    const FIRST: usize = 3;
    /// Pseudo-terminals have this major number and the seven after it.
    const PTY_MAJOR: u32 = 136;
    let (start, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(start + 1..end)?;
    let fields: Vec<&str> = stat.get(end + 1..)?.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - FIRST)?.parse::<u64>().ok();
    let small = |field: usize| u32::try_from(number(field)?).ok();
    let ticks = |count: u64| count.saturating_mul(scale.tick_ms);
    let device = fields.get(7 - FIRST)?.parse::<i32>().ok()?.cast_unsigned();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    Some(TopRow {
        pid: 0,
        parent: small(4)?,
        uid: 0,
        user: None,
        state: fields.first()?.chars().next()?,
        terminal: (PTY_MAJOR..PTY_MAJOR + 8)
            .contains(&major)
            .then(|| (major - PTY_MAJOR) << 20 | minor),
        age_ms: scale.uptime_ms.saturating_sub(ticks(number(22)?)),
        cpu_ms: ticks(number(14)?.saturating_add(number(15)?)),
        virtual_bytes: number(23)?,
        resident_bytes: number(24)?.saturating_mul(scale.page_bytes),
        threads: small(20)?,
        command: format!("[{name}]").into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { uptime_ms: 10_000, tick_ms: 10, page_bytes: 4096 };

    #[test]
    fn a_line_of_stat_is_read_behind_its_name() {
        let stat = "41 (a) S 9 (b) R 40 41 41 34817 41 4194304 1 2 3 4 150 50 0 0 20 0 3 0 400 \
            8192 2 18446744073709551615 1 1";
        let row = parse(stat, &SCALE).unwrap();
        assert_eq!((row.state, row.parent, row.threads), ('R', 40, 3));
        assert_eq!(row.command, b"[a) S 9 (b]");
        assert_eq!(row.terminal, Some(1));
        assert_eq!((row.cpu_ms, row.age_ms), (2_000, 6_000));
        assert_eq!((row.virtual_bytes, row.resident_bytes), (8192, 8192));
    }

    #[test]
    fn without_a_terminal_there_is_none() {
        let stat = "1 (sh) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0";
        assert_eq!(parse(stat, &SCALE).unwrap().terminal, None);
        let serial = "1 (sh) S 0 1 1 1088 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0";
        assert_eq!(parse(serial, &SCALE).unwrap().terminal, None);
    }

    #[test]
    fn what_is_cut_is_no_row() {
        for stat in ["", "1 (sh", "1 (sh)", "1 )sh( S 1", "1 (sh) S 0 1 1 0 -1 0", "1 (sh) S x"] {
            assert!(parse(stat, &SCALE).is_none(), "{stat}");
        }
    }

    #[test]
    fn only_processes_of_a_namespace_below_count() {
        assert_eq!(inner_pid("Name:\tsh\nNSpid:\t41\t7\nUid:\t0\t33\t0\t0\n"), Some(7));
        assert_eq!(inner_pid("Name:\tsh\nNSpid:\t41\t7\t1\n"), Some(7));
        assert_eq!(inner_pid("Name:\tsh\nNSpid:\t41\n"), None);
        assert_eq!(inner_pid(""), None);
        assert_eq!(effective_uid("NSpid:\t41\t7\nUid:\t0\t33\t0\t0\n"), Some(33));
    }
}
