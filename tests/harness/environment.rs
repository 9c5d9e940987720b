//! What a command is told by its environment.

use std::ffi::OsStr;
use std::process::Command;

/// The variables that a command sets for its program, for one that is started around it.
pub fn environment_of(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command.get_envs().filter_map(|(key, value)| Some((key, value?)))
}
