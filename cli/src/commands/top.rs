//! `hyperrun top`: the processes of a container.

mod columns;
mod options;

use std::process::ExitCode;
use std::time::SystemTime;

use crate::arguments::Common;
use crate::commands::{containers, print};
use crate::failure::Failure;
use crate::table;

use self::columns::Circumstances;

/// Show the processes of a container, with their numbers inside it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The options are those of ps(1) that say which columns there are: -f, aux, and -o with a list of them.

Examples:
  hyperrun top web
  hyperrun top web aux
  hyperrun top web -o pid,user,etime,args")]
pub(crate) struct TopArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of ps
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Prints Docker's columns, or those that were asked for. What a process says of itself is shown
/// without control characters.
pub(crate) fn run(args: &TopArgs, common: &Common) -> Result<ExitCode, Failure> {
    let columns = options::columns(&args.options).map_err(|error| {
        let hint = "there are -e, -f, -o COLUMNS and aux; the numbers are those in the container";
        Failure::new(&error.to_string(), hint)
    })?;
    let found = containers(common)?.find(&args.container)?;
    let memory_bytes = u64::from(found.record.vm.memory_mib) << 20;
    let circumstances = Circumstances { now: SystemTime::now(), memory_bytes };
    let rows = runtime::top(&found)?;
    let line = |cells: Vec<String>| cells.join("\t") + "\n";
    let mut text = line(columns.iter().map(|column| column.header.clone()).collect());
    for row in &rows {
        let cell = |column: &columns::Column| shown(&column.field.cell(row, circumstances));
        text.push_str(&line(columns.iter().map(cell).collect()));
    }
    print(&table::lay_out(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Without what would spoil a terminal or a table.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_no_control_characters() {
        assert_eq!(shown("evil\x1b[2J\tname\n"), "evil[2Jname");
    }
}
