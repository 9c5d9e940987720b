//! Reads `--security-opt`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityOption {
    /// `no-new-privileges`, or with `:false` or `=false` the opposite.
    NoNewPrivileges(bool),
    /// `seccomp=FILE`.
    Seccomp(PathBuf),
    /// What is so anyway, in the words for it: no profile of seccomp, AppArmor or SELinux.
    AsItIs(String),
}

/// Text that is no option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid --security-opt: \"{0}\"")]
pub struct SecurityError(String);

impl FromStr for SecurityOption {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<Self, SecurityError> {
        let (key, value) = match text.split_once(['=', ':']) {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("seccomp" | "apparmor", Some("unconfined")) | ("label", Some("disable")) => {
                Ok(Self::AsItIs(text.to_owned()))
            }
            ("seccomp", Some(file)) if !file.is_empty() => Ok(Self::Seccomp(file.into())),
            _ => Err(SecurityError(text.to_owned())),
        }
    }
}

impl fmt::Display for SecurityOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNewPrivileges(true) => formatter.write_str("no-new-privileges"),
            Self::NoNewPrivileges(false) => formatter.write_str("no-new-privileges=false"),
            Self::Seccomp(file) => write!(formatter, "seccomp={}", file.display()),
            Self::AsItIs(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers() {
        for (text, wanted) in [
            ("no-new-privileges", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges:true", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges=false", SecurityOption::NoNewPrivileges(false)),
            ("seccomp=unconfined", SecurityOption::AsItIs("seccomp=unconfined".to_owned())),
            ("apparmor=unconfined", SecurityOption::AsItIs("apparmor=unconfined".to_owned())),
            ("label=disable", SecurityOption::AsItIs("label=disable".to_owned())),
            ("label:disable", SecurityOption::AsItIs("label:disable".to_owned())),
            ("seccomp=a=b.json", SecurityOption::Seccomp("a=b.json".into())),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for text in ["", "seccomp", "seccomp=", "no-new-privileges=maybe", "apparmor=docker", "x=y"]
        {
            let error = text.parse::<SecurityOption>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid --security-opt: \"{text}\""));
        }
    }
}
