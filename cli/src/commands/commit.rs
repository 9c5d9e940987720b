//! `hyperrun commit`: an image out of what a container has written.

use std::process::ExitCode;

use images::Change;
use runtime::{Commit, Processes};

use crate::arguments::Common;
use crate::commands::{new_name, places, print};
use crate::failure::Failure;

/// Make an image of a container's changes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hyperrun commit -m 'tools installed' -c 'CMD [\"bash\"]' work debian:tools")]
pub(crate) struct CommitArgs {
    /// Who has made it, as `Jane Doe <jane@host.example>`
    #[arg(short, long, value_name = "NAME", default_value = "", hide_default_value = true)]
    author: String,
    /// Change the image's configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER,
    /// VOLUME or WORKDIR, as in a Dockerfile
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Change>,
    /// What the image's history says
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Halt the container's processes meanwhile
    #[arg(
        short,
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pause: bool,
    /// The same as `--pause=false`
    #[arg(long)]
    no_pause: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Prints the image's id.
pub(crate) fn run(args: &CommitArgs, common: &Common) -> Result<ExitCode, Failure> {
    let halted = args.pause && !args.no_pause;
    let commit = Commit {
        reference: new_name(args.name.as_deref())?,
        author: args.author.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        processes: if halted { Processes::Halted } else { Processes::Running },
    };
    let id = runtime::commit(&args.container, &commit, &places(common)?)?;
    print(&format!("{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}
