//! `hyperrun history`: how an image was built.

use std::process::ExitCode;

use clap::ArgAction;
use images::{History, Image};
use serde_json::{Value, json};

use crate::arguments::Common;
use crate::commands::images::{at, since};
use crate::commands::{open_store, print};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::words;

/// Show how an image was built
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hyperrun history --no-trunc debian:bookworm")]
pub(crate) struct HistoryArgs {
    /// Print a table, JSON, or what a template makes of each step: table, 'table TEMPLATE', json,
    /// TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show ages and sizes in words; with `--human=false`, times and bytes
    #[arg(
        short = 'H', long, num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set
    )]
    human: bool,
    /// Show whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Name or id
    image: String,
}

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// How much of a command the table shows, as with Docker.
const COMMAND_WIDTH: usize = 45;

/// Prints a line for each step, the last one first.
pub(crate) fn run(args: &HistoryArgs, common: &Common) -> Result<ExitCode, Failure> {
    let image = open_store(common)?.find(&args.image)?;
    let steps = steps(&image)?;
    if args.quiet && args.format.is_none() {
        let ids = (0..steps.len()).map(|at| step_id(args, &image, at) + "\n");
        print(&ids.collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(at, (step, size))| row(args, step_id(args, &image, at), step, *size))
        .collect();
    let age = if args.human { "{{.CreatedSince}}" } else { "{{.CreatedAt}}" };
    let table = format!("{{{{.ID}}}}\t{age}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}");
    let listing = Listing { table: &table, headers: HEADERS };
    print(&listing.lay_out(args.format.as_deref(), &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The steps, the last one first, each with the size of its layer. Layers that the history does not
/// tell of are steps of which nothing is known.
fn steps(image: &Image) -> Result<Vec<(History, u64)>, Failure> {
    let mut sizes = image.layer_sizes()?.into_iter();
    let mut steps = Vec::new();
    for step in &image.config.history {
        let size = if step.empty_layer { Some(0) } else { sizes.next() };
        steps.push((step.clone(), size.unwrap_or(0)));
    }
    let unknown = || History { created: image.created, ..History::default() };
    steps.extend(sizes.map(|size| (unknown(), size)));
    steps.reverse();
    Ok(steps)
}

/// Only the image itself has an id; its steps have none.
fn step_id(args: &HistoryArgs, image: &Image, at: usize) -> String {
    match at {
        0 if args.no_trunc => image.id.to_string(),
        0 => image.id.short(),
        _ => "<missing>".to_owned(),
    }
}

fn row(args: &HistoryArgs, id: String, step: &History, size: u64) -> Value {
    let command = one_line(&step.created_by);
    json!({
        "ID": id,
        "CreatedSince": since(step.created),
        "CreatedAt": at(step.created),
        "CreatedBy": if args.no_trunc { command } else { shorten(&command) },
        "Size": if args.human { words::size(size) } else { size.to_string() },
        "Comment": one_line(&step.comment),
    })
}

/// A text that a stranger has written, without anything that a terminal takes for a command.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Cuts a text so that it ends in an ellipsis.
fn shorten(text: &str) -> String {
    if text.chars().count() <= COMMAND_WIDTH {
        return text.to_owned();
    }
    text.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(shorten("short"), "short");
        let long = shorten(&"ö".repeat(46));
        assert_eq!(long.chars().count(), 45);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_strangers_text_moves_no_cursor() {
        assert_eq!(one_line("RUN a\n\tb\u{1b}[2J\u{9b}c"), "RUN a  b [2J c");
    }
}
