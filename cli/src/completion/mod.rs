//! What may follow on a command line that is being typed: commands, flags, values and the names of what there
//! is. The shells' scripts beside this file ask for it with `hyperrun completion SHELL -- WORDS`.

mod line;
mod names;
mod place;

use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use runtime::places::Places;

use crate::arguments::Arguments;
use names::{Kind, Named, States, names};
use place::{Place, Typed, understand};

/// The script for a shell that asks; none for those that have one of the commands alone.
pub(crate) fn script(shell: Shell) -> Option<&'static str> {
    match shell {
        Shell::Bash => Some(include_str!("hyperrun.bash")),
        Shell::Fish => Some(include_str!("hyperrun.fish")),
        Shell::Zsh => Some(include_str!("hyperrun.zsh")),
        _ => None,
    }
}

/// What may stand in place of the last word, a line each in the shell's form. bash gives the line up to the
/// cursor, and what of it is replaced; others the words, the program's name first.
pub(crate) fn answer(shell: Shell, typed: &[String]) -> String {
    match shell {
        Shell::Bash => {
            let [line, replaced] = typed else { return String::new() };
            let words = line::words(line);
            let last = words.last().map_or("", String::as_str);
            // bash may take a colon or an equals sign for the end of a word.
            let kept = last.strip_suffix(replaced.as_str()).unwrap_or_default();
            let found = complete(&words);
            let rest = found.iter().map(|(word, _)| word.strip_prefix(kept).unwrap_or(word));
            rest.map(|word| format!("{word}\n")).collect()
        }
        Shell::Zsh => {
            let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
            let line = |(word, about): &Named| format!("{}:{}\n", escaped(word), escaped(about));
            complete(typed).iter().map(line).collect()
        }
        _ => complete(typed).iter().map(|(word, about)| format!("{word}\t{about}\n")).collect(),
    }
}

/// What may stand in place of the last of these words, of which the first is the program.
fn complete(words: &[String]) -> Vec<Named> {
    let [_, words @ .., last] = words else { return Vec::new() };
    let mut program = Arguments::command();
    program.build();
    let typed = understand(&program, words, last);
    let mut found = match typed.place {
        Place::Command(command) => commands(command),
        Place::Flag(command) => flags(command),
        Place::Value { command, argument, behind } => {
            let mut values = values(command, argument, &typed);
            // Nobody names one thing twice.
            values.retain(|(value, _)| !words.contains(value));
            values.into_iter().map(|(value, about)| (format!("{behind}{value}"), about)).collect()
        }
        Place::Other => Vec::new(),
    };
    found.retain(|(word, _)| word.starts_with(last.as_str()));
    found
}

fn commands(command: &Command) -> Vec<Named> {
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    shown.map(|one| (one.get_name().to_owned(), first_line(one.get_about()))).collect()
}

fn flags(command: &Command) -> Vec<Named> {
    let options = command.get_arguments().filter(|one| !one.is_positional() && !one.is_hide_set());
    let named = |one: &Arg| {
        let word = match (one.get_long(), one.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, short) => short.map(|short| format!("-{short}"))?,
        };
        Some((word, first_line(one.get_help())))
    };
    options.filter_map(named).collect()
}

/// The values that an argument may have: a choice of words, or names.
fn values(command: &Command, argument: &Arg, typed: &Typed<'_>) -> Vec<Named> {
    let possible = argument.get_possible_values();
    if !possible.is_empty() {
        let shown = possible.iter().filter(|one| !one.is_hide_set());
        return shown.map(|one| (one.get_name().to_owned(), first_line(one.get_help()))).collect();
    }
    let names_of = argument.get_value_names().unwrap_or_default();
    let Some(kind) =
        names_of.first().and_then(|name| kind(command.get_name(), &typed.commands, name))
    else {
        return Vec::new();
    };
    Places::find(typed.root.map(Path::new)).map(|places| names(kind, &places)).unwrap_or_default()
}

/// Of what the value of this name is a name, in a command of these.
fn kind(command: &str, commands: &[&str], value: &str) -> Option<Kind> {
    let group = commands.first().copied().filter(|_| commands.len() > 1);
    Some(match (value, group, command) {
        ("CONTAINER", Some("snapshot"), _) | ("CONTAINER", _, "clone") => {
            Kind::Containers(States::Running)
        }
        ("CONTAINER", _, command) => Kind::Containers(match command {
            "start" => States::Startable,
            "exec" | "attach" | "top" | "stats" | "pause" => States::Running,
            "unpause" => States::Paused,
            "stop" | "kill" => States::Alive,
            _ => States::Any,
        }),
        ("IMAGE" | "SOURCE_IMAGE[:TAG]", ..) => Kind::Images,
        ("NETWORK", Some("network"), "create") => return None,
        ("NETWORK", Some("network"), _) => Kind::Networks,
        ("NETWORK", ..) => Kind::Connections,
        ("SNAPSHOT", ..) | ("NAME", Some("snapshot"), "rm" | "inspect" | "export") => {
            Kind::Snapshots
        }
        ("NAME", None, "inspect") => Kind::Objects,
        ("NAME", Some("container"), "inspect") => Kind::Containers(States::Any),
        ("NAME", Some("image"), "inspect") => Kind::Images,
        ("SOURCE" | "DESTINATION", _, "cp") => Kind::Roots,
        _ => return None,
    })
}

fn first_line(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_has_names_is_known() {
        // Whoever gives a command a new kind of value decides here whether there are names for it.
        let mut program = Arguments::command();
        program.build();
        let mut found = Vec::new();
        walk(&program, &mut Vec::new(), &mut found);
        for line in [
            "start CONTAINER",
            "container rm CONTAINER",
            "exec CONTAINER",
            "run IMAGE",
            "rmi IMAGE",
            "image rm IMAGE",
            "history IMAGE",
            "tag SOURCE_IMAGE[:TAG]",
            "restore SNAPSHOT",
            "snapshot rm NAME",
            "network rm NETWORK",
            "run NETWORK",
            "cp SOURCE",
            "inspect NAME",
        ] {
            assert!(found.contains(&line.to_owned()), "{line}: {found:#?}");
        }
        for line in
            ["snapshot import NAME", "network create NETWORK", "run FILE", "tag TARGET_IMAGE[:TAG]"]
        {
            assert!(!found.contains(&line.to_owned()), "{line}");
        }
    }

    fn walk<'a>(command: &'a Command, path: &mut Vec<&'a str>, found: &mut Vec<String>) {
        for argument in command.get_arguments() {
            for name in argument.get_value_names().unwrap_or_default() {
                if kind(command.get_name(), path, name).is_some() {
                    found.push(format!("{} {name}", path.join(" ")));
                }
            }
        }
        for one in command.get_subcommands() {
            path.push(one.get_name());
            walk(one, path, found);
            path.pop();
        }
    }
}
