//! Credential helpers: programs named `docker-credential-NAME` that keep secrets in a safe place.
//! github.com/docker/docker-credential-helpers has their protocol.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credentials, Secret};
use crate::error::Error;

/// Longer answers are no credentials.
const ANSWER_LIMIT: u64 = 1 << 20;
/// What helpers say when they have nothing, and exit with 1.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A helper by its name, as `pass` or `secretservice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Helper {
    program: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Helper {
    /// Names with a slash are refused: only programs of the search path are helpers.
    pub(crate) fn new(name: &str) -> Result<Helper, Error> {
        let program = format!("docker-credential-{name}");
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(Error::Helper { program, message: "it has an impossible name".into() });
        }
        Ok(Helper { program })
    }

    /// The program's name.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// What is kept for a server, if anything.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credentials>, Error> {
        let Some(answer) = self.ask("get", server)? else { return Ok(None) };
        // Not the parser's own error: it would quote the secret.
        let kept: Kept = serde_json::from_slice(&answer)
            .map_err(|_| self.failed("its answer is no JSON object of Username and Secret"))?;
        Ok(Some(Credentials::new(kept.username, Secret::new(kept.secret))))
    }

    pub(crate) fn store(&self, server: &str, credentials: &Credentials) -> Result<(), Error> {
        let kept = Kept {
            server_url: server.to_owned(),
            username: credentials.username().to_owned(),
            secret: credentials.secret().reveal().to_owned(),
        };
        let input = serde_json::to_string(&kept).map_err(|_| self.failed("cannot be asked"))?;
        self.ask("store", &input).map(drop)
    }

    /// Forgets what is kept for a server; tells whether there was anything.
    pub(crate) fn erase(&self, server: &str) -> Result<bool, Error> {
        if self.get(server)?.is_none() {
            return Ok(false);
        }
        self.ask("erase", server).map(|_| true)
    }

    /// `None` if it says that it has nothing.
    fn ask(&self, verb: &str, input: &str) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error: io::Error| self.failed(&error.to_string());
        let mut child = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        // One that does not read its input may still answer.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let mut answer = Vec::new();
        let stdout = child.stdout.take().expect("it was piped");
        let read = stdout.take(ANSWER_LIMIT).read_to_end(&mut answer);
        let status = child.wait().map_err(failed)?;
        read.map_err(failed)?;
        if status.success() {
            return Ok(Some(answer));
        }
        let said = String::from_utf8_lossy(&answer).trim().to_owned();
        if said.contains(NOT_FOUND) {
            return Ok(None);
        }
        Err(self.failed(&if said.is_empty() {
            status.to_string()
        } else {
            crate::words::clean(&said)
        }))
    }

    fn failed(&self, message: &str) -> Error {
        Error::Helper { program: self.program.clone(), message: message.to_owned() }
    }
}
