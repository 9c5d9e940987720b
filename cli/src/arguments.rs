//! The command line as a whole: what holds for every command, and which commands there are.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    completion, doctor, images, load, login, logout, pull, push, rmi, run, version,
};

/// Runs container images, each in a virtual machine of its own
#[derive(Debug, Parser)]
#[command(
    name = "hyperrun",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  hyperrun run -t debian:bookworm bash"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Keep images and containers under FOLDER [env: HYPERRUN_ROOT]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// Show what the guest's kernel says
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}

/// The commands, in the order of their help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::RunArgs),
    Pull(pull::PullArgs),
    Push(push::PushArgs),
    Login(login::LoginArgs),
    Logout(logout::LogoutArgs),
    Load(load::LoadArgs),
    Images(images::ImagesArgs),
    Rmi(rmi::RmiArgs),
    Doctor(doctor::DoctorArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command)
    }

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_behind_the_image_are_the_commands() {
        let Ok(Command::Run(run)) = parse("hyperrun run -it --rm debian ls -i --rm -- --root x")
        else {
            panic!("a run")
        };
        assert!(run.interactive && run.tty && run.rm);
        assert_eq!(run.image_and_command, ["debian", "ls", "-i", "--rm", "--", "--root", "x"]);
    }

    #[test]
    fn flags_have_dockers_short_names() {
        let line = "hyperrun run -eA=b -e C -w /d -u 1:2 -h web -m 1g --cpus=1.5 debian";
        let Ok(Command::Run(run)) = parse(line) else { panic!("a run") };
        assert_eq!(run.env.len(), 2);
        assert_eq!(run.workdir.as_deref(), Some("/d"));
        assert_eq!(run.user.as_deref(), Some("1:2"));
        assert_eq!(run.hostname.unwrap().as_str(), "web");
        assert_eq!(run.memory.mib(), 1024);
        assert_eq!(run.cpus.vcpus(), 2);
    }

    #[test]
    fn registries_go_by_their_host() {
        for (typed, wanted) in [
            ("hyperrun login", "docker.io"),
            ("hyperrun login https://index.docker.io/v1/", "docker.io"),
            ("hyperrun login -u me localhost:5000", "localhost:5000"),
            ("hyperrun login http://Ghcr.io/", "ghcr.io"),
        ] {
            let Ok(Command::Login(login)) = parse(typed) else { panic!("{typed}") };
            assert_eq!(login.server.as_str(), wanted);
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        let cases = [
            ("hyperrun run -m 4m debian", "minimum memory limit allowed is 64MB"),
            ("hyperrun run -m 2t debian", "maximum memory limit allowed is 1024 GiB"),
            ("hyperrun run -m lots debian", "invalid size: 'lots'"),
            ("hyperrun run --cpus 0 debian", "range of CPUs is from 0.01 to 32.00"),
            ("hyperrun run --cpus 33 debian", "range of CPUs is from 0.01 to 32.00"),
            ("hyperrun run -e =x debian", "invalid environment variable: =x"),
            ("hyperrun run --name a/b debian", "invalid container name (a/b)"),
            ("hyperrun run", "IMAGE"),
            ("hyperrun run --pull often debian", "possible values: always, missing, never"),
            ("hyperrun pull --platform linux debian", "OS/ARCHITECTURE"),
            ("hyperrun login a/b@c", "is not the name of a registry"),
        ];
        for (line, wanted) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
