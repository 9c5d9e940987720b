//! A SHA-256 digest, the name of everything in the store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// `sha256:` and 64 lower-case hex digits, held as 32 bytes.
///
/// OCI image-spec, descriptor.md: other algorithms exist there; nothing that registries serve uses
/// them, so they are refused here with [`DigestError::Algorithm`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }

    /// The first 12 hex digits, as tables show an image id.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(12);
        text
    }

    /// Reads 64 lower-case hex digits without an algorithm.
    pub(crate) fn from_hex(text: &str) -> Result<Digest, DigestError> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(DigestError::Length { text: clip(text) });
        }
        let mut out = [0; 32];
        for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            let (high, low) = (nibble(pair[0]), nibble(pair[1]));
            let (Some(high), Some(low)) = (high, low) else {
                return Err(DigestError::NotHex { text: clip(text) });
            };
            *slot = high << 4 | low;
        }
        Ok(Digest(out))
    }

    /// The first 16 bytes, for formats that want a UUID.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.0[..16]);
        uuid
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Digest::from_hex(hex),
            Some((algorithm, _)) => Err(DigestError::Algorithm { algorithm: clip(algorithm) }),
            None => Err(DigestError::NoAlgorithm { text: clip(text) }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Digest, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Why a text is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("digest {text:?} does not begin with `sha256:`")]
    NoAlgorithm {
        /// The text, cut to a readable length.
        text: String,
    },
    /// The algorithm is not SHA-256.
    #[error("digest algorithm {algorithm:?} is not supported, only sha256 is")]
    Algorithm {
        /// The algorithm's name, cut to a readable length.
        algorithm: String,
    },
    /// There are not exactly 64 digits.
    #[error("digest {text:?} does not have 64 hex digits")]
    Length {
        /// The text, cut to a readable length.
        text: String,
    },
    /// A character is not a lower-case hex digit.
    #[error("digest {text:?} has a character that is not a lower-case hex digit")]
    NotHex {
        /// The text, cut to a readable length.
        text: String,
    },
}

/// Computes a [`Digest`] from bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Adds these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Hasher::default().finish().to_string(), EMPTY);
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn digests_are_read_strictly() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        let upper = EMPTY.replace('b', "B");
        let cases = [
            ("", "does not begin with"),
            ("e3b0", "does not begin with"),
            ("md5:00", "algorithm \"md5\""),
            ("sha256:00", "64 hex digits"),
            ("sha256:../../../etc/passwd", "64 hex digits"),
            (&upper, "lower-case"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
