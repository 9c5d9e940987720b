//! `hyperrun diff`: how a container's files differ from its image's.

use std::io::{BufWriter, ErrorKind, IsTerminal, Write, stdout};
use std::process::ExitCode;

use runtime::{ChangeKind, Error, FileChange, FilesError};

use crate::arguments::Common;
use crate::commands::places;
use crate::failure::Failure;

/// Show how a container's files differ from those of its image
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun diff web")]
pub(crate) struct DiffArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints a line for each: A for what was added, C for what was changed, D for what was deleted.
pub(crate) fn run(args: &DiffArgs, common: &Common) -> Result<ExitCode, Failure> {
    let is_terminal = stdout().is_terminal();
    let mut output = BufWriter::new(stdout());
    let told = runtime::changes(&args.container, &places(common)?, |change| {
        output.write_all(&line(change, is_terminal))
    });
    let told = told.and_then(|()| Ok(output.flush().map_err(FilesError::Told)?));
    match told {
        // A reader that has gone away, as `head` does, has seen enough.
        Err(Error::Files(FilesError::Told(error))) if error.kind() == ErrorKind::BrokenPipe => {}
        told => told?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a container calls its files is not for a terminal to obey.
fn line(change: &FileChange, is_terminal: bool) -> Vec<u8> {
    let letter = match change.kind {
        ChangeKind::Added => b'A',
        ChangeKind::Changed => b'C',
        ChangeKind::Deleted => b'D',
    };
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    let path = match is_terminal {
        true => {
            let text = String::from_utf8_lossy(&change.path);
            text.chars().map(shown).collect::<String>().into_bytes()
        }
        false => change.path.clone(),
    };
    [&[letter, b' '][..], &path, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers_and_harmless() {
        let change = FileChange { path: b"/a\x1b[2J\n\xff".to_vec(), kind: ChangeKind::Deleted };
        assert_eq!(line(&change, false), b"D /a\x1b[2J\n\xff\n");
        assert_eq!(line(&change, true), "D /a?[2J?\u{fffd}\n".as_bytes());
    }
}
