//! What the guest's kernel has said: the records of `/dev/kmsg`
//! (Documentation/ABI/testing/dev-kmsg), as `dmesg` shows them.

use protocol::{Answer, MAX_KERNEL_LOG_BYTES};
use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, read},
};

use crate::step::{Doing, StepError};

/// The longest record of any kernel (`CONSOLE_EXT_LOG_MAX`).
const MAX_RECORD_BYTES: usize = 8192;

/// All records that the kernel still has, the oldest first.
pub(crate) fn read_all() -> Result<Answer, StepError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = open("/dev/kmsg", flags, Mode::empty()).doing("open the kernel's log")?;
    let (mut text, mut record) = (Vec::new(), vec![0; MAX_RECORD_BYTES]);
    loop {
        match read(&log, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(Answer::KernelLog(text)),
            Ok(bytes) => {
                let line = line(&record[..bytes]);
                if text.len() + line.len() > MAX_KERNEL_LOG_BYTES {
                    return Ok(Answer::KernelLog(text));
                }
                text.extend(line);
            }
            // The kernel has overwritten what was to be read next.
            Err(Errno::PIPE | Errno::INTR) => {}
            other => {
                other.doing("read the kernel's log")?;
            }
        }
    }
}

/// `6,339,5140900,-;text` and lines of properties becomes `[    5.140900] text`. Nothing of what is no
/// record.
fn line(record: &[u8]) -> Vec<u8> {
    let parsed = || {
        let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
        let at = record[..end].iter().position(|byte| *byte == b';')?;
        let head = std::str::from_utf8(&record[..at]).ok()?;
        let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
        Some((microseconds, &record[at + 1..end]))
    };
    let Some((microseconds, text)) = parsed() else { return Vec::new() };
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let mut line = format!("[{seconds:5}.{rest:06}] ").into_bytes();
    line.extend_from_slice(text);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_lines_of_dmesg() {
        for (record, wanted) in [
            (
                &b"6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n"[..],
                "[    5.140900] NET: Registered\n",
            ),
            (b"4,1,12345678901234,c,caller=T1;a;b\n", "[12345678.901234] a;b\n"),
            (b"6,1,0,-;\n", "[    0.000000] \n"),
            (b"no record", ""),
            (b"6,1,x,-;text\n", ""),
            (b"6,1;text\n", ""),
            (b"", ""),
        ] {
            assert_eq!(String::from_utf8(line(record)).unwrap(), wanted);
        }
    }
}
