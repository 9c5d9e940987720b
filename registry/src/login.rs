//! `login` and `logout`: credentials are tried before they are kept, and forgotten on request.

use std::io::{self, BufRead, IsTerminal, Read};

use images::Login;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use ureq::http::Method;

use crate::auth::docker_config::Kept;
use crate::auth::{Credentials, Secret};
use crate::config::Endpoint;
use crate::error::Error;
use crate::http::{Call, Client};
use crate::progress::{aside, print};

/// The longest name or password.
const INPUT_LIMIT: u64 = 64 << 10;

/// Tries credentials and keeps them.
pub(crate) fn login(client: &mut Client, login: &Login) -> Result<(), Error> {
    let registry = &login.registry;
    let credentials = ask(login)?;
    let endpoint = client.config.endpoint(registry);
    try_out(client, &endpoint, &credentials)?;
    if let Kept::InFile(path) = client.docker.store(registry, &credentials)? {
        aside(&format!(
            "warning: the password lies unencrypted in {}; `credsStore` there names a helper that \
             keeps it safe",
            path.display()
        ));
    }
    print("Login Succeeded")
}

/// Forgets credentials.
pub(crate) fn logout(client: &mut Client, registry: &str) -> Result<(), Error> {
    if client.docker.erase(registry)? {
        print(&format!("Removing login credentials for {registry}"))
    } else {
        print(&format!("Not logged in to {registry}"))
    }
}

/// A registry answers its first address only to those it knows.
fn try_out(client: &Client, endpoint: &Endpoint, credentials: &Credentials) -> Result<(), Error> {
    let what = "a login";
    let call = Call::new(Method::GET, endpoint.base.with_path("/v2/"), what, "");
    let answer = client.exchange(&call, None)?;
    if answer.status != 401 {
        // One that asks nobody for anything: Docker keeps what it was told all the same.
        return answer.success(what).map(drop);
    }
    let Some(challenge) = answer.challenge() else {
        return Err(answer.bad(what, "no way to log in"));
    };
    let grant = client.grant(endpoint, &call, &challenge, Some(credentials))?;
    client.exchange(&call, grant.as_ref())?.success(what).map(drop)
}

fn ask(login: &Login) -> Result<Credentials, Error> {
    let username = match &login.username {
        Some(username) => username.clone(),
        None if login.password_stdin => {
            return Err(Error::Request {
                problem: "--password-stdin needs a name as well".into(),
                hint: "name the user with `-u`",
            });
        }
        None => prompt("Username: ", Echo::On)?,
    };
    let password =
        if login.password_stdin { from_stdin()? } else { prompt("Password: ", Echo::Off)? };
    if username.is_empty() || password.is_empty() {
        return Err(Error::Request {
            problem: "neither the user's name nor the password may be empty".into(),
            hint: "`-u` gives the name, `--password-stdin` reads the password from stdin",
        });
    }
    Ok(Credentials::new(username, Secret::new(password)))
}

fn from_stdin() -> Result<String, Error> {
    let mut text = String::new();
    let read = io::stdin().lock().take(INPUT_LIMIT).read_to_string(&mut text);
    read.map_err(|source| Error::Stdio { action: "read the password from stdin", source })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

fn prompt(words: &str, echo: Echo) -> Result<String, Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::Request {
            problem: "the input device is no terminal to ask for a name or a password".into(),
            hint: "give `-u NAME --password-stdin`",
        });
    }
    let failed = |source| Error::Stdio { action: "read from the terminal", source };
    // Without a line's end, so that the answer stands behind it.
    let _ = io::Write::write_all(&mut io::stderr().lock(), words.as_bytes());
    let silence = (echo == Echo::Off).then(|| Silence::begin().map_err(failed)).transpose()?;
    let mut line = String::new();
    let read = stdin.lock().take(INPUT_LIMIT).read_line(&mut line);
    if silence.is_some() {
        aside("");
    }
    drop(silence);
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence {
    before: rustix::termios::Termios,
}

impl Silence {
    fn begin() -> io::Result<Silence> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Silence { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone needs no settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
