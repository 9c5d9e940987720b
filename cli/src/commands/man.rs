//! `hyperrun man`: what `man` shows about each command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Write manual pages, one for each command, into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder, which is made if need be
    folder: PathBuf,
}

/// Writes `hyperrun.1`, `hyperrun-run.1`, `hyperrun-container-run.1` and so on.
pub(crate) fn run(args: &ManArgs) -> Result<ExitCode, Failure> {
    write_all(&args.folder).map_err(|error| {
        let words = format!("cannot write manual pages to {}: {error}", args.folder.display());
        Failure::new(&words, "name a folder that can be written")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut left = vec![Arguments::whole()];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|one| !one.is_hide_set()).cloned());
        let man = Man::new(command.clone())
            .source(concat!("hyperrun ", env!("CARGO_PKG_VERSION")))
            .manual("hyperrun");
        fs::write(folder.join(man.get_filename()), page(&man, &command)?)?;
    }
    Ok(())
}

fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = parts(&help);
    let mut rest = Roff::new();
    if !notes.is_empty() {
        rest.control("SH", ["NOTES"]);
        for paragraph in notes.split("\n\n") {
            rest.control("PP", []).text([roman(paragraph)]);
        }
    }
    if !examples.is_empty() {
        rest.control("SH", ["EXAMPLES"]).control("EX", []);
        rest.text([roman(examples)]).control("EE", []);
    }
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// What stands before the examples, and the examples.
fn parts(help: &str) -> (&str, &str) {
    let at = help.find("Example").unwrap_or(help.len());
    let (notes, examples) = help.split_at(at);
    let examples = examples.split_once('\n').map_or("", |(_, lines)| lines);
    (notes.trim_end(), examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let page = read("hyperrun-container-run.1");
        assert!(page.contains(".TH hyperrun-container-run 1"), "{page}");
        for wanted in [".SH NOTES", ".SH EXAMPLES", "hyperrun run \\-t", "\\-\\-memory"] {
            assert!(page.contains(wanted), "{wanted}: {page}");
        }
        assert!(read("hyperrun.1").contains(".SH SUBCOMMANDS"));
        assert!(!read("hyperrun-ps.1").contains(".SH SUBCOMMANDS"));
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert!(count > 60, "{count} pages");
    }

    #[test]
    fn notes_and_examples_are_apart() {
        assert_eq!(parts("Example:\n  a"), ("", "  a"));
        assert_eq!(parts("Words.\n\nExamples:\n  a\n  b"), ("Words.", "  a\n  b"));
        assert_eq!(parts("Words."), ("Words.", ""));
    }
}
