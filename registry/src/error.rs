//! What can go wrong between here and a registry, in words for the user.

use std::io;
use std::path::PathBuf;

use images::Digest;

/// Why nothing was pulled, pushed or logged in to. The store is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image cannot be stored, found or unpacked.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// The configuration of registries cannot be used.
    #[error("cannot use {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Docker's configuration, which has the credentials, cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Credentials {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// A credential helper failed.
    #[error("credential helper {program} failed: {message}")]
    Helper {
        /// Its name.
        program: String,
        /// What it said, or why it was not started.
        message: String,
    },
    /// No connection, or one that broke.
    #[error("cannot reach {host}")]
    Reach {
        /// The host.
        host: String,
        /// What failed.
        source: ureq::Error,
    },
    /// A connection that cannot be trusted.
    #[error("cannot trust {host}")]
    Tls {
        /// The host.
        host: String,
        /// What failed.
        source: ureq::Error,
    },
    /// 401: no credentials, or wrong ones.
    #[error("{host} asks for credentials for {what}{}", because(message))]
    Unauthorized {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry said.
        message: String,
    },
    /// 403: these credentials do not suffice.
    #[error("{host} denies access to {what}{}", because(message))]
    Forbidden {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry said.
        message: String,
    },
    /// 404.
    #[error("{host} has no {what}{}", because(message))]
    NotFound {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry said.
        message: String,
    },
    /// 429, still after some patience.
    #[error("{host} has had too many requests{}", because(message))]
    TooManyRequests {
        /// The host.
        host: String,
        /// What the registry said.
        message: String,
    },
    /// Any other status that is no success.
    #[error("{host} answers {status} to the request for {what}{}", because(message))]
    Status {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("{host} sends {problem} for {what}")]
    Answer {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Bytes that do not have the digest they go by.
    #[error("{host} sends other bytes for {what}: they have digest {actual}, not {expected}")]
    WrongDigest {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// The digest it goes by.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Words that cannot be done.
    #[error("{problem}")]
    Request {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// The terminal, standard input or output failed.
    #[error("cannot {action}")]
    Stdio {
        /// What was tried.
        action: &'static str,
        /// What failed.
        source: io::Error,
    },
}

fn because(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// What the user can do about it, if there is something; a sentence without its full stop.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Image(error) => return image_hint(error),
            Error::Config { .. } => "docs/image-store.md shows what the file may say".into(),
            Error::Credentials { .. } => {
                "DOCKER_CONFIG can name another folder; a broken file can be removed, and `hyperrun \
                 login` writes a new one"
                    .into()
            }
            Error::Helper { .. } => "`credsStore` and `credHelpers` in Docker's config.json name the \
                 helpers: install it, or take its name out there"
                .into(),
            Error::Reach { host, .. } => reach_hint(host),
            Error::Tls { host, .. } => format!(
                "where {host} has a certificate of your own authority, name it as `ca` in \
                 /etc/hyperrun/registries.toml; where it speaks no TLS, set `plain-http = true` there"
            ),
            Error::Unauthorized { host, .. } => format!(
                "`hyperrun login {host}` first; where the image should be public, look for a mistake \
                 in its name"
            ),
            Error::Forbidden { host, .. } => {
                format!("log in with `hyperrun login {host}` as somebody who may")
            }
            Error::NotFound { .. } => "look for a mistake in the name, the tag or the digest".into(),
            Error::TooManyRequests { host, .. } => {
                format!("try again later; logging in with `hyperrun login {host}` often raises the limit")
            }
            Error::Status { status: 500..=599, .. } => "the registry is in trouble; try again later".into(),
            Error::Status { .. } => "see whether the host is a registry at all".into(),
            Error::Answer { .. } => {
                "see whether the host is a registry, and whether a proxy changes what it sends".into()
            }
            Error::WrongDigest { .. } => DISTRUST.into(),
            Error::Request { hint, .. } => (*hint).into(),
            Error::Stdio { .. } => return None,
        })
    }

    /// Whether another host might still have what this one has not.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        !matches!(
            self,
            Error::Image(images::Error::Store(_))
                | Error::Config { .. }
                | Error::Credentials { .. }
        )
    }
}

const DISTRUST: &str = "the registry, or something on the way to it, damages or replaces what it \
     sends; try again, and do not trust it if this stays";

fn reach_hint(host: &str) -> String {
    format!(
        "see whether {host} is up and its name is right; HTTPS_PROXY and NO_PROXY name proxies, \
         /etc/hyperrun/registries.toml mirrors"
    )
}

/// Hints for images that came from a registry, where those for archives would mislead.
fn image_hint(error: &images::Error) -> Option<String> {
    match error {
        images::Error::WrongDigest { .. } => Some(DISTRUST.into()),
        images::Error::Layer { source, .. } if source.is_damage() => Some(DISTRUST.into()),
        images::Error::NoPlatform { .. } => {
            Some("`--platform` chooses one of those; only linux/amd64 runs here".into())
        }
        images::Error::Document { .. } => Some(
            "it may be no container image but a chart, a signature or the like; see whether the \
             name is right"
                .into(),
        ),
        error => error.hint(),
    }
}
