//! `hyperrun clone`: containers that go on beside one that runs.

use std::process::ExitCode;

use runtime::snapshots::{self, Copying};
use runtime::spec::ContainerName;

use crate::arguments::Common;
use crate::commands::restore::CopyArgs;
use crate::commands::{places, print};
use crate::failure::Failure;

/// Clone a container that runs: new ones go on from where it is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The container stands still for a moment, and goes on. Its clones share with it, and with each other,
the memory that they do not write.

Examples:
  hyperrun clone --name web2 web
  hyperrun clone -n 8 --rm worker")]
pub(crate) struct CloneArgs {
    /// Make so many
    #[arg(short = 'n', long = "number", value_name = "COUNT", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Name the clone; of several, NAME-1, NAME-2 and so on
    #[arg(long)]
    name: Option<ContainerName>,
    #[command(flatten)]
    copy: CopyArgs,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints the id of each clone once its program goes on.
pub(crate) fn run(args: CloneArgs, common: &Common) -> Result<ExitCode, Failure> {
    let names = names(args.name.as_ref(), args.count)?;
    let copying = args.copy.copying().map_err(Failure::of_run)?;
    let copies: Vec<_> =
        names.into_iter().map(|name| Copying { name, ..copying.clone() }).collect();
    let (mut ids, places) = (Vec::new(), places(common)?);
    let cloned = snapshots::clone(&args.container, &copies, &places, &mut |id| {
        ids.push(format!("{id}\n"));
    });
    print(&ids.concat())?;
    cloned.map_err(Failure::of_run)?;
    Ok(ExitCode::SUCCESS)
}

fn names(name: Option<&ContainerName>, count: u16) -> Result<Vec<Option<ContainerName>>, Failure> {
    let Some(name) = name else { return Ok(vec![None; usize::from(count)]) };
    if count == 1 {
        return Ok(vec![Some(name.clone())]);
    }
    let numbered = |number: u16| format!("{name}-{number}").parse().map(Some);
    let names: Result<Vec<_>, runtime::spec::NameError> = (1..=count).map(numbered).collect();
    names.map_err(|error| Failure::new(&error.to_string(), "choose a shorter one").with_code(125))
}
