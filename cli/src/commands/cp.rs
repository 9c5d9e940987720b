//! `hyperrun cp`: files out of a container and into one.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runtime::{CopyIn, CopyOut, Inside, Links, Outside, Owner, Owners};

use crate::arguments::Common;
use crate::commands::places;
use crate::commands::save::{is_stream, refuse_terminal};
use crate::failure::Failure;
use crate::words::size;

/// Copy files between a container and this machine
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hyperrun cp [OPTIONS] CONTAINER:PATH PATH|-\n       \
                      hyperrun cp [OPTIONS] PATH|- CONTAINER:PATH",
    after_help = "\
Examples:
  hyperrun cp web:/etc/nginx .
  hyperrun cp site/. web:/srv
  hyperrun cp web:/var/log - | tar -t"
)]
pub(crate) struct CpArgs {
    /// Out of a container: keep the owners. Into one: its user owns the files
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to, if PATH is one
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say how much was copied
    #[arg(short, long)]
    quiet: bool,
    /// What is copied; `-` is a tar on standard input
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// Where it is copied to; `-` is a tar on standard output
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
}

/// Copies, and says how much on a terminal.
pub(crate) fn run(args: &CpArgs, common: &Common) -> Result<ExitCode, Failure> {
    for (path, what) in [(&args.source, "source"), (&args.destination, "destination")] {
        if path.is_empty() {
            return Err(misuse(&format!("{what} can not be empty")));
        }
    }
    let links = if args.follow_link { Links::Followed } else { Links::Kept };
    let places = places(common)?;
    let copied = match (inside(&args.source), inside(&args.destination)) {
        (Some(_), Some(_)) => return Err(misuse("copying between containers is not supported")),
        (None, None) => return Err(misuse("must specify at least one container source")),
        (Some(from), None) => {
            let to = outside(&args.destination);
            if to == Outside::Archive {
                refuse_terminal("copy")?;
            }
            let owners = if args.archive { Owners::Kept } else { Owners::Mine };
            runtime::copy_out(&CopyOut { from, to, links, owners }, &places)?
        }
        (None, Some(to)) => {
            let from = outside(&args.source);
            if from == Outside::Archive && stdin().is_terminal() {
                return Err(misuse("standard input is a terminal, not a tar"));
            }
            let owner = if args.archive { Owner::Container } else { Owner::Kept };
            runtime::copy_in(&CopyIn { from, to, links, owner }, &places)?
        }
    };
    // Docker says nothing where standard output is no terminal.
    if !args.quiet && stdout().is_terminal() && !is_stream(Path::new(&args.destination)) {
        use std::io::Write;
        let destination = args.destination.display();
        writeln!(stderr(), "Successfully copied {} to {destination}", size(copied))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn misuse(words: &str) -> Failure {
    Failure::new(words, "one side is CONTAINER:PATH, the other a path or `-`")
}

/// `CONTAINER:PATH`; a path that begins with a slash or a dot is one of this machine.
fn inside(text: &OsStr) -> Option<Inside> {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    if matches!(bytes[0], b'/' | b'.') {
        return None;
    }
    let container = String::from_utf8_lossy(&bytes[..colon]).into_owned();
    let path = PathBuf::from(OsStr::from_bytes(&bytes[colon + 1..]));
    Some(Inside { container, path })
}

fn outside(text: &OsStr) -> Outside {
    let path = PathBuf::from(text);
    if is_stream(&path) { Outside::Archive } else { Outside::Path(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_paths_as_docker_tells_them() {
        for (text, container) in [
            ("web:/etc", Some(("web", "/etc"))),
            ("web:etc", Some(("web", "etc"))),
            ("web:", Some(("web", ""))),
            ("web:a:b", Some(("web", "a:b"))),
            ("./web:etc", None),
            ("../web:etc", None),
            ("/web:etc", None),
            ("etc", None),
            ("-", None),
        ] {
            let found = inside(OsStr::new(text));
            let wanted = container.map(|(container, path)| Inside {
                container: container.to_owned(),
                path: PathBuf::from(path),
            });
            assert_eq!(found, wanted, "{text}");
        }
    }
}
