//! What ps(1) knows of a process, as text.

use std::time::{Duration, SystemTime};

use images::format_rfc3339;
use runtime::TopRow;

/// A column with what stands above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) field: Field,
    pub(super) header: String,
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    User,
    UserNumber,
    Pid,
    Parent,
    /// CPU time of its life, in percent, without a fraction.
    Busy,
    BusyShare,
    MemoryShare,
    Virtual,
    Resident,
    Terminal,
    State,
    Begun,
    Elapsed,
    ElapsedSeconds,
    Time,
    Threads,
    Name,
    Arguments,
}

/// What a cell depends on beside its process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) now: SystemTime,
    /// All memory of the machine.
    pub(super) memory_bytes: u64,
}

impl Column {
    /// The column that ps(1) knows by this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (field, header) = match name {
            "user" | "euser" | "uname" => (Field::User, "USER"),
            "uid" | "euid" => (Field::UserNumber, "UID"),
            "pid" => (Field::Pid, "PID"),
            "ppid" => (Field::Parent, "PPID"),
            "c" => (Field::Busy, "C"),
            "%cpu" | "pcpu" => (Field::BusyShare, "%CPU"),
            "%mem" | "pmem" => (Field::MemoryShare, "%MEM"),
            "vsz" | "vsize" => (Field::Virtual, "VSZ"),
            "rss" | "rssize" | "rsz" => (Field::Resident, "RSS"),
            "tty" | "tt" | "tname" => (Field::Terminal, "TTY"),
            "stat" | "state" | "s" => (Field::State, "S"),
            "stime" | "start" | "start_time" => (Field::Begun, "STIME"),
            "etime" => (Field::Elapsed, "ELAPSED"),
            "etimes" => (Field::ElapsedSeconds, "ELAPSED"),
            "time" | "cputime" => (Field::Time, "TIME"),
            "nlwp" | "thcount" => (Field::Threads, "NLWP"),
            "comm" | "ucmd" | "ucomm" => (Field::Name, "COMMAND"),
            "args" | "cmd" | "command" => (Field::Arguments, "COMMAND"),
            _ => return None,
        };
        Some(Self { field, header: header.to_owned() })
    }
}

impl Field {
    /// What it is of a process. A command is the container's own word.
    pub(super) fn cell(self, row: &TopRow, circumstances: Circumstances) -> String {
        match self {
            Self::User => row.user.clone().unwrap_or_else(|| row.uid.to_string()),
            Self::UserNumber => row.uid.to_string(),
            Self::Pid => row.pid.to_string(),
            Self::Parent => row.parent.to_string(),
            Self::Busy => (tenths_of_percent(row.cpu_ms, row.age_ms) / 10).to_string(),
            Self::BusyShare => percent(tenths_of_percent(row.cpu_ms, row.age_ms)),
            Self::MemoryShare => {
                percent(tenths_of_percent(row.resident_bytes, circumstances.memory_bytes))
            }
            Self::Virtual => (row.virtual_bytes >> 10).to_string(),
            Self::Resident => (row.resident_bytes >> 10).to_string(),
            Self::Terminal => {
                row.terminal.map_or_else(|| "?".to_owned(), |number| format!("pts/{number}"))
            }
            Self::State => row.state.to_string(),
            Self::Begun => begun(row.age_ms, circumstances.now),
            Self::Elapsed => elapsed(row.age_ms),
            Self::ElapsedSeconds => (row.age_ms / 1000).to_string(),
            Self::Time => clock(row.cpu_ms),
            Self::Threads => row.threads.to_string(),
            Self::Name => name(&row.command),
            Self::Arguments => String::from_utf8_lossy(&row.command).into_owned(),
        }
    }
}

/// The file name of the first word; one of the kernel's own stays in its brackets.
fn name(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(command);
    let first = text.split(' ').next().unwrap_or_default();
    if first.starts_with('[') {
        return first.to_owned();
    }
    first.rsplit('/').next().unwrap_or_default().to_owned()
}

fn tenths_of_percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or(0)
}

fn percent(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// `HH:MM` of today, `Mon02` of a day before, in UTC.
fn begun(age_ms: u64, now: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let then = now.checked_sub(Duration::from_millis(age_ms)).unwrap_or(SystemTime::UNIX_EPOCH);
    let then = then.max(SystemTime::UNIX_EPOCH);
    let text = format_rfc3339(then);
    let part = |range| text.get(range).unwrap_or_default();
    if age_ms < DAY_MS {
        return part(11..16).to_owned();
    }
    let month =
        part(5..7).parse::<usize>().ok().and_then(|number| MONTHS.get(number.checked_sub(1)?));
    format!("{}{}", month.unwrap_or(&"?"), part(8..10))
}

/// `HH:MM:SS`.
fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let minutes = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => minutes,
        (0, hours) => format!("{hours:02}:{minutes}"),
        (days, hours) => format!("{days}-{hours:02}:{minutes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_those_of_ps() {
        let row = TopRow {
            pid: 7,
            parent: 1,
            uid: 1000,
            user: None,
            state: 'S',
            terminal: Some(0),
            age_ms: 3_661_000,
            cpu_ms: 36_610,
            virtual_bytes: 8192,
            resident_bytes: 64 << 20,
            threads: 3,
            command: b"/bin/sh -c x".to_vec(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_715_650_086);
        let circumstances = Circumstances { now, memory_bytes: 512 << 20 };
        for (name, wanted) in [
            ("user", "1000"),
            ("pid", "7"),
            ("ppid", "1"),
            ("c", "1"),
            ("pcpu", "1.0"),
            ("pmem", "12.5"),
            ("vsz", "8"),
            ("rss", "65536"),
            ("tty", "pts/0"),
            ("stat", "S"),
            ("stime", "00:27"),
            ("etime", "01:01:01"),
            ("etimes", "3661"),
            ("time", "00:00:36"),
            ("nlwp", "3"),
            ("comm", "sh"),
            ("args", "/bin/sh -c x"),
        ] {
            let column = Column::named(name).unwrap();
            assert_eq!(column.field.cell(&row, circumstances), wanted, "{name}");
        }
        let old = TopRow { age_ms: 90_061_000, user: Some("web".into()), terminal: None, ..row };
        for (name, wanted) in
            [("stime", "May13"), ("etime", "1-01:01:01"), ("user", "web"), ("tty", "?")]
        {
            let column = Column::named(name).unwrap();
            assert_eq!(column.field.cell(&old, circumstances), wanted, "{name}");
        }
        assert!(Column::named("wchan").is_none());
    }

    #[test]
    fn numbers_of_any_size_are_shown() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(begun(u64::MAX, now), "Jan01");
        assert_eq!(elapsed(u64::MAX).len(), "213503982334-14:25:51".len());
        assert_eq!(tenths_of_percent(u64::MAX, 0), 0);
        assert_eq!(name(b""), "");
        assert_eq!(name(b"[kworker/0:1]"), "[kworker/0:1]");
    }
}
