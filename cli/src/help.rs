//! The help of the program as a whole: its commands in Docker's groups.

use std::fmt::Write;

use clap::Command;

/// What people do all day.
const COMMON: [&str; 10] =
    ["run", "exec", "ps", "pull", "push", "images", "login", "logout", "version", "info"];
/// What has commands of its own.
const MANAGEMENT: [&str; 6] = ["container", "image", "network", "snapshot", "system", "template"];

/// The command with a help that shows its commands in groups.
pub(crate) fn grouped(command: Command) -> Command {
    let listed = |names: &[&str]| {
        let find = |name: &&str| command.get_subcommands().find(|one| one.get_name() == *name);
        names.iter().filter_map(find).collect::<Vec<_>>()
    };
    let (common, management) = (listed(&COMMON), listed(&MANAGEMENT));
    let is_left = |one: &&Command| {
        ![&COMMON[..], &MANAGEMENT].iter().any(|names| names.contains(&one.get_name()))
    };
    let others = command.get_subcommands().filter(is_left).collect();
    let mut groups = String::new();
    for (title, commands) in
        [("Common Commands", common), ("Management Commands", management), ("Commands", others)]
    {
        groups += &group(&command, title, &commands);
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}{options}\n{{options}}{{after-help}}",
        options = heading(&command, "Options")
    );
    command.help_template(template)
}

fn group(command: &Command, title: &str, commands: &[&Command]) -> String {
    let name = command.get_styles().get_literal();
    let mut text = heading(command, title) + "\n";
    for one in commands {
        let about = one.get_about().map(ToString::to_string).unwrap_or_default();
        // A `String` takes everything.
        let _ = writeln!(text, "  {name}{:<11}{name:#} {about}", one.get_name());
    }
    text + "\n"
}

fn heading(command: &Command, title: &str) -> String {
    let style = command.get_styles().get_header();
    format!("{style}{title}:{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;

    #[test]
    fn every_command_is_in_one_group() {
        let help = Arguments::whole().render_help().to_string();
        let command = Arguments::whole();
        for one in command.get_subcommands() {
            let begin = format!("  {} ", one.get_name());
            let lines = help.lines().filter(|line| line.starts_with(&begin));
            assert_eq!(lines.count(), 1, "{}", one.get_name());
        }
        for name in COMMON.iter().chain(&MANAGEMENT) {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
        let begin = "Runs container images, each in a virtual machine of its own\n\n\
                     Usage: hyperrun [OPTIONS] <COMMAND>\n\n\
                     Common Commands:\n  run         Run a program";
        assert!(help.starts_with(begin), "{help}");
        let end = "\nOptions:\n      --root <FOLDER>";
        assert!(help.contains(end) && help.contains("\nExample"), "{help}");
    }
}
