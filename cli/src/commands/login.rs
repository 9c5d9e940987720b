//! `hyperrun login`: who one is to a registry.

use std::process::ExitCode;
use std::str::FromStr;

use images::{Login, Reference, Transfer};

use crate::commands::hand_over;
use crate::failure::Failure;

/// Log in to a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The name and the password are tried, then kept where Docker keeps them, and used by pull and push.

Example:
  pass show registry | hyperrun login -u me --password-stdin localhost:5000")]
pub(crate) struct LoginArgs {
    /// The user's name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// The registry
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    pub(crate) server: Server,
}

/// Hands over to the client of registries.
pub(crate) fn run(args: LoginArgs) -> Result<ExitCode, Failure> {
    Err(hand_over(Transfer::Login(Login {
        registry: args.server.0,
        username: args.username,
        password_stdin: args.password_stdin,
    })))
}

/// A registry by its host and port, however it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Server(pub(crate) String);

impl Server {
    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let host = lower.split_once("://").map_or(&lower[..], |(_, rest)| rest);
        let host = host.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
        // A name without a dot is a registry here, and a repository in an image's name: a port
        // makes it one there too.
        let probe = if host.contains([':', '.']) { host.to_owned() } else { format!("{host}:443") };
        match format!("{probe}/x").parse::<Reference>() {
            Ok(found) if found.repository() == "x" => Ok(Self(host.to_owned())),
            Ok(found) if found.registry() == "docker.io" => Ok(Self("docker.io".to_owned())),
            _ => Err(format!("{text:?} is not the name of a registry")),
        }
    }
}
