//! `hyperrun top`: the processes of a container.

use std::process::ExitCode;
use std::time::Duration;

use runtime::TopRow;

use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;
use crate::table;

/// Show the processes of a container, with their numbers inside it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun top web")]
pub(crate) struct TopArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints Docker's columns. A command is the container's own word: it is shown without control
/// characters.
pub(crate) fn run(args: &TopArgs, common: &Common) -> Result<ExitCode, Failure> {
    let rows = runtime::top(&containers(common)?.find(&args.container)?)?;
    let mut text = "UID\tPID\tPPID\tC\tELAPSED\tTTY\tTIME\tCMD\n".to_owned();
    rows.iter().for_each(|row| text.push_str(&line(row)));
    print(&table::lay_out(&text))?;
    Ok(ExitCode::SUCCESS)
}

fn line(row: &TopRow) -> String {
    let user = row.user.clone().unwrap_or_else(|| row.uid.to_string());
    let busy = row.cpu_ms.saturating_mul(100).checked_div(row.age_ms).unwrap_or(0);
    let terminal = row.terminal.map_or_else(|| "?".to_owned(), |number| format!("pts/{number}"));
    let command = shown(&String::from_utf8_lossy(&row.command));
    format!(
        "{}\t{}\t{}\t{busy}\t{}\t{terminal}\t{}\t{command}\n",
        shown(&user),
        row.pid,
        row.parent,
        clock(row.age_ms),
        clock(row.cpu_ms),
    )
}

/// Without what would spoil a terminal or a table.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

/// `HH:MM:SS`.
fn clock(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_no_control_characters() {
        let row = TopRow {
            pid: 7,
            parent: 1,
            uid: 1000,
            user: None,
            state: 'S',
            terminal: Some(0),
            age_ms: 3_661_000,
            cpu_ms: 36_610,
            virtual_bytes: 0,
            resident_bytes: 0,
            threads: 1,
            command: b"evil\x1b[2J\tname\n".to_vec(),
        };
        assert_eq!(line(&row), "1000\t7\t1\t1\t01:01:01\tpts/0\t00:00:36\tevil[2Jname\n");
    }
}
