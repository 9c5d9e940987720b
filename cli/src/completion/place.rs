//! Where in a command line somebody is: which command it is, and what comes next.

use clap::{Arg, Command};

/// What may stand where somebody types.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// A command of this one.
    Command(&'a Command),
    /// A flag of it.
    Flag(&'a Command),
    /// A value of an argument, behind this text of the same word: `--network=`.
    Value { command: &'a Command, argument: &'a Arg, behind: &'a str },
    /// What is not ours: words of the program in the container, or too many of them.
    Other,
}

/// A command line up to the word that is typed.
#[derive(Debug)]
pub(super) struct Typed<'a> {
    /// The names of the commands, without the program's: `snapshot`, `rm`.
    pub(super) commands: Vec<&'a str>,
    /// The folder that `--root` names.
    pub(super) root: Option<&'a str>,
    pub(super) place: Place<'a>,
}

/// Understands the words between the program and the last one, and what the last one, which is being
/// typed, may become. The command has been built.
pub(super) fn understand<'a>(
    program: &'a Command,
    words: &'a [String],
    last: &'a str,
) -> Typed<'a> {
    let mut reader = Reader { command: program, commands: Vec::new(), root: None, given: 0 };
    let mut words = words.iter().map(String::as_str);
    let (mut is_escaped, mut is_of_program) = (false, false);
    while let Some(word) = words.next() {
        if is_escaped || !is_flag(word) {
            is_of_program |= reader.take_plain(word);
        } else if word == "--" {
            is_escaped = true;
        } else if let Some((option, value)) = reader.option(word) {
            let Some(value) = value.or_else(|| words.next()) else {
                return reader.at(Place::value(reader.command, option, ""));
            };
            reader.take_value(option, value);
        }
        if is_of_program {
            return reader.at(Place::Other);
        }
    }
    let place = reader.place(last, is_escaped);
    reader.at(place)
}

fn is_flag(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// What has been read.
struct Reader<'a> {
    command: &'a Command,
    commands: Vec<&'a str>,
    root: Option<&'a str>,
    /// How many words that are no flags this command has.
    given: usize,
}

impl<'a> Reader<'a> {
    /// Takes a word that is no flag. Whether all that follows is the program's.
    fn take_plain(&mut self, word: &str) -> bool {
        if let Some(command) = self.command.find_subcommand(word) {
            self.command = command;
            self.commands.push(command.get_name());
            return false;
        }
        self.given += 1;
        self.positional(0).is_some_and(Arg::is_trailing_var_arg_set)
    }

    fn take_value(&mut self, option: &Arg, value: &'a str) {
        if option.get_long() == Some("root") {
            self.root = Some(value);
        }
    }

    /// The option that takes a value in this word, or in the next one if there is none in it.
    fn option(&self, word: &'a str) -> Option<(&'a Arg, Option<&'a str>)> {
        let takes_value = |one: &&Arg| one.get_action().takes_values();
        let needs_next = |one: &Arg| !one.is_require_equals_set();
        if let Some(name) = word.strip_prefix("--") {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            let option = self.long(name).filter(takes_value)?;
            return (value.is_some() || needs_next(option)).then_some((option, value));
        }
        let mut rest = word.strip_prefix('-')?.chars();
        while let Some(letter) = rest.next() {
            let option =
                self.command.get_arguments().find(|one| one.get_short() == Some(letter))?;
            if takes_value(&option) {
                let value = Some(rest.as_str()).filter(|value| !value.is_empty());
                return (value.is_some() || needs_next(option)).then_some((option, value));
            }
        }
        None
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let has_alias = |one: &Arg| one.get_all_aliases().is_some_and(|all| all.contains(&name));
        let mut all = self.command.get_arguments();
        all.find(|one| one.get_long() == Some(name) || has_alias(one))
    }

    /// The argument that a word is for which is no flag, behind so many others.
    fn positional(&self, given: usize) -> Option<&'a Arg> {
        let many = |one: &&Arg| one.get_num_args().is_some_and(|count| count.max_values() > 1);
        let all: Vec<&Arg> = self.command.get_positionals().collect();
        all.get(given).copied().or_else(|| all.last().copied().filter(many))
    }

    fn place(&self, last: &'a str, is_escaped: bool) -> Place<'a> {
        if !is_escaped && last.starts_with('-') {
            return match last.find('=') {
                Some(at) if last.starts_with("--") => match self.option(last) {
                    Some((option, _)) => Place::value(self.command, option, &last[..=at]),
                    None => Place::Other,
                },
                _ => Place::Flag(self.command),
            };
        }
        match self.positional(self.given) {
            Some(argument) => Place::value(self.command, argument, ""),
            None if self.given == 0 && self.command.has_subcommands() => {
                Place::Command(self.command)
            }
            None => Place::Other,
        }
    }

    fn at(&self, place: Place<'a>) -> Typed<'a> {
        Typed { commands: self.commands.clone(), root: self.root, place }
    }
}

impl<'a> Place<'a> {
    fn value(command: &'a Command, argument: &'a Arg, behind: &'a str) -> Self {
        Self::Value { command, argument, behind }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::arguments::Arguments;

    /// What comes next, in a word: a command, a flag, or the name of a value.
    fn next(line: &str) -> String {
        let mut program = Arguments::command();
        program.build();
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let last = words.pop().unwrap_or_default();
        match understand(&program, &words, &last).place {
            Place::Command(of) => format!("command of {}", of.get_name()),
            Place::Flag(of) => format!("flag of {}", of.get_name()),
            Place::Other => "other".to_owned(),
            Place::Value { argument, behind, .. } => {
                let names = argument.get_value_names().unwrap_or_default();
                format!("{behind}{}", names.join(" "))
            }
        }
    }

    #[test]
    fn a_line_says_what_comes_next() {
        for (line, wanted) in [
            ("", "command of hyperrun"),
            ("st", "command of hyperrun"),
            ("--debug st", "command of hyperrun"),
            ("--root /x st", "command of hyperrun"),
            ("--root ", "FOLDER"),
            ("-", "flag of hyperrun"),
            ("snapshot ", "command of snapshot"),
            ("container ls --", "flag of ls"),
            ("container list -", "flag of ls"),
            ("run ", "IMAGE"),
            ("run --rm -it de", "IMAGE"),
            ("run --name one de", "IMAGE"),
            ("run --name=one de", "IMAGE"),
            ("run -eA=b de", "IMAGE"),
            ("run -ite A=b de", "IMAGE"),
            ("run --network ", "NETWORK"),
            ("run --net ", "NETWORK"),
            ("run --network=", "--network=NETWORK"),
            ("run --rm=", "other"),
            ("run -", "flag of run"),
            ("run busybox ", "other"),
            ("run busybox ls -", "other"),
            ("exec -it ", "CONTAINER COMMAND"),
            ("exec -u ", "USER[:GROUP]"),
            ("exec one ", "other"),
            ("rm one ", "CONTAINER"),
            ("rm -f one tw", "CONTAINER"),
            ("rm -- -", "CONTAINER"),
            ("rename one ", "NEW-NAME"),
            ("rename one two ", "other"),
            ("network connect ", "NETWORK"),
            ("network connect net ", "CONTAINER"),
            ("cp -a ", "SOURCE"),
            ("cp one:/x ", "DESTINATION"),
            ("history -H=false ", "IMAGE"),
            ("no-such-command ", "other"),
        ] {
            assert_eq!(next(line), wanted, "{line:?}");
        }
    }
}
