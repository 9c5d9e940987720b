//! Who one is to a registry: credentials, where they are kept, and what they are exchanged for.

pub(crate) mod challenge;
pub(crate) mod docker_config;
pub(crate) mod helper;
pub(crate) mod token;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use challenge::Challenge;
pub(crate) use docker_config::DockerConfig;

/// A text that must not be seen: its own formatting shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the wire, a helper or Docker's own file and nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// What a person logged in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A name and a password.
    Password { username: String, password: Secret },
    /// A token that stands for a name and a password: OAuth 2's refresh token.
    Identity { token: Secret },
}

/// The name under which helpers and Docker's file keep identity tokens.
const IDENTITY_USER: &str = "<token>";

impl Credentials {
    pub(crate) fn new(username: String, secret: Secret) -> Credentials {
        if username == IDENTITY_USER {
            return Credentials::Identity { token: secret };
        }
        Credentials::Password { username, password: secret }
    }

    pub(crate) fn username(&self) -> &str {
        match self {
            Credentials::Password { username, .. } => username,
            Credentials::Identity { .. } => IDENTITY_USER,
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        match self {
            Credentials::Password { password, .. } => password,
            Credentials::Identity { token } => token,
        }
    }

    /// RFC 7617's header, where these credentials can be sent so.
    pub(crate) fn basic(&self) -> Option<Secret> {
        match self {
            Credentials::Password { .. } => Some(Secret(format!("Basic {}", self.encoded().0))),
            Credentials::Identity { .. } => None,
        }
    }

    /// `name:password` in base64, as Docker keeps it as well.
    pub(crate) fn encoded(&self) -> Secret {
        Secret(STANDARD.encode(format!("{}:{}", self.username(), self.secret().reveal())))
    }
}

/// Reads `name:password` in base64.
pub(crate) fn decode(encoded: &str) -> Option<Credentials> {
    let bytes = STANDARD.decode(encoded.trim_end_matches('\0')).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credentials::new(username.to_owned(), Secret::new(password.trim_end_matches('\0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let credentials = decode("dXNlcjpodW50ZXIy").unwrap();
        assert_eq!(credentials.secret().reveal(), "hunter2");
        assert!(!format!("{credentials:?}").contains("hunter2"));
        assert_eq!(credentials.encoded().reveal(), "dXNlcjpodW50ZXIy");
        assert_eq!(credentials.basic().unwrap().reveal(), "Basic dXNlcjpodW50ZXIy");
        assert_eq!(decode("dXNlcg=="), None);
        assert_eq!(decode("?"), None);
    }
}
