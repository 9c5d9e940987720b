//! Image references as people type them: `debian`, `ghcr.io/a/b:tag`, `localhost:5000/x@sha256:…`.
//!
//! The grammar is the one of the distribution project's `reference` package; Docker's defaults
//! (registry `docker.io`, repository folder `library`, tag `latest`) are filled in while parsing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A complete image reference: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library";
const DEFAULT_TAG: &str = "latest";
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

impl Reference {
    /// Host and optional port of the registry, for example `docker.io` or `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository in its registry, for example `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; present unless the reference names a digest only.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest after `@`, if the reference has one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository without Docker's defaults: `debian`, `grafana/grafana`, `quay.io/a/b`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        let whole = || self.whole_name();
        if self.registry != DEFAULT_REGISTRY {
            return whole();
        }
        match self.repository.split_once('/') {
            // `docker.io/library/a/b` must keep its folder: `a/b` is another repository.
            Some((DEFAULT_FOLDER, rest)) if !rest.contains('/') => rest.to_owned(),
            // `docker.io/a.b/c` must keep its registry: `a.b` would be taken for one.
            Some((first, _)) if is_registry(first) => whole(),
            _ => self.repository.clone(),
        }
    }

    /// Registry and repository in full: `docker.io/library/debian`.
    #[must_use]
    pub fn whole_name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The reference without Docker's defaults, for example `debian:bookworm`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffixes(self.familiar_name())
    }

    fn with_suffixes(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.with_suffixes(self.whole_name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Reference, ReferenceError> {
        parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// There is nothing to parse.
    #[error("an image reference must not be empty")]
    Empty,
    /// The name is longer than 255 bytes.
    #[error("image name is longer than {NAME_LIMIT} bytes")]
    TooLong,
    /// Repository names are lower-case.
    #[error("repository name {name:?} must be lower-case")]
    Uppercase {
        /// The repository as it was typed.
        name: String,
    },
    /// The registry's host or port is malformed.
    #[error("registry {registry:?} is not a host name with an optional port")]
    Registry {
        /// The part before the first slash.
        registry: String,
    },
    /// The repository path is malformed.
    #[error("{name:?} is not a valid repository name")]
    Repository {
        /// The repository as it was typed.
        name: String,
    },
    /// The tag is malformed.
    #[error("{tag:?} is not a valid tag")]
    Tag {
        /// The tag as it was typed.
        tag: String,
    },
    /// The digest is malformed.
    #[error("the digest of reference {reference:?} is malformed")]
    Digest {
        /// The whole reference.
        reference: String,
        /// What is wrong with the digest.
        source: crate::digest::DigestError,
    },
    /// 64 hex digits are an image id, never a name.
    #[error("{name:?} is an image id, not a name")]
    LooksLikeId {
        /// The 64 digits.
        name: String,
    },
}

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if text.len() == 64 && Digest::from_hex(text).is_ok() {
        return Err(ReferenceError::LooksLikeId { name: text.to_owned() });
    }
    let (rest, digest) = split_digest(text)?;
    let (name, tag) = split_tag(rest)?;
    let (registry, repository) = split_registry(name)?;
    check_repository(&repository)?;
    if registry.len() + 1 + repository.len() > NAME_LIMIT {
        return Err(ReferenceError::TooLong);
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference { registry, repository, tag, digest })
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = text.split_once('@') else { return Ok((text, None)) };
    match digest.parse() {
        Ok(digest) => Ok((rest, Some(digest))),
        Err(source) => Err(ReferenceError::Digest { reference: text.to_owned(), source }),
    }
}

/// A colon starts a tag only behind the last slash; before it, it starts a port.
fn split_tag(text: &str) -> Result<(&str, Option<&str>), ReferenceError> {
    let base = text.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = text[base..].find(':') else { return Ok((text, None)) };
    let (name, tag) = (&text[..base + colon], &text[base + colon + 1..]);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = tag.bytes().next().is_some_and(is_word);
    let all_allowed = tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
    if !starts_well || !all_allowed || tag.len() > TAG_LIMIT {
        return Err(ReferenceError::Tag { tag: tag.to_owned() });
    }
    Ok((name, Some(tag)))
}

fn split_registry(name: &str) -> Result<(String, String), ReferenceError> {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    check_registry(registry)?;
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{DEFAULT_FOLDER}/{path}")
    } else {
        path.to_owned()
    };
    Ok((registry.to_owned(), repository))
}

/// The first component is a registry if it has a dot, a port, is `localhost` or has upper case.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), ReferenceError> {
    let refuse = || ReferenceError::Registry { registry: registry.to_owned() };
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(refuse)?;
            if !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
                return Err(refuse());
            }
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or_else(refuse)?),
            };
            ("v6", port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label_is_fine = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let port_is_fine =
        port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok());
    if host.split('.').all(label_is_fine) && port_is_fine { Ok(()) } else { Err(refuse()) }
}

fn check_repository(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase { name: path.to_owned() });
    }
    if path.split('/').all(component_is_fine) {
        return Ok(());
    }
    Err(ReferenceError::Repository { name: path.to_owned() })
}

/// Runs of lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn component_is_fine(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(is_word) || !component.ends_with(is_word) {
        return false;
    }
    let separator_is_fine = |separator: &str| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    component.split(is_word).all(separator_is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn defaults_are_filled_in_and_left_out_again() {
        let cases = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest", "grafana/grafana:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("docker.io/localhost/x", "docker.io/localhost/x:latest", ""),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("ghcr.io/a/b_c/d__e/f---g.h:v1.2-3", "ghcr.io/a/b_c/d__e/f---g.h:v1.2-3", ""),
            ("Registry/x", "Registry/x:latest", "Registry/x:latest"),
        ];
        for (typed, canonical, familiar) in cases {
            let reference: Reference = typed.parse().unwrap();
            assert_eq!(reference.to_string(), canonical);
            if !familiar.is_empty() {
                assert_eq!(reference.familiar(), familiar);
            }
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_the_default_tag() {
        let reference: Reference = format!("debian@sha256:{HEX}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.digest().unwrap().hex(), HEX);
        assert_eq!(reference.to_string(), format!("docker.io/library/debian@sha256:{HEX}"));
        let both: Reference = format!("debian:12@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.tag(), Some("12"));
        assert_eq!(both.familiar(), format!("debian:12@sha256:{HEX}"));
    }

    #[test]
    fn malformed_references_say_what_is_wrong() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        let cases = [
            ("", "empty"),
            ("Debian", "lower-case"),
            ("docker.io/Debian", "lower-case"),
            ("a//b", "repository name"),
            ("a/", "repository name"),
            ("/a", "repository name"),
            ("a..b", "repository name"),
            ("a___b", "repository name"),
            ("-a", "repository name"),
            ("a b", "repository name"),
            ("../../etc", "registry"),
            ("a/../b", "repository name"),
            ("debian:", "tag"),
            ("debian:-x", "tag"),
            ("debian:a:b", "tag"),
            (":tag", "repository name"),
            ("host.:80/x", "registry"),
            ("host:99999/x", "registry"),
            ("host:/x", "registry"),
            ("[::1/x", "registry"),
            ("debian@sha256:12", "digest"),
            ("debian@", "digest"),
            (HEX, "image id"),
            (&long, "longer than"),
            (&long_tag, "tag"),
            ("h\u{e9}.io/x", "registry"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
