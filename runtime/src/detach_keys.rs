//! The keys that leave a container alone: typed one after the other on its terminal, they are not the
//! program's.

use std::str::FromStr;

use thiserror::Error;

/// A sequence of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// Text that is no sequence of keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid detach keys: {0:?} is no letter, nor ctrl- with one of a-z @ [ \\ ] ^ _")]
pub struct DetachKeysError(String);

impl Default for DetachKeys {
    /// Docker's: ctrl-p, ctrl-q.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    /// Keys separated by commas, each a character or `ctrl-` and one of `a-z@[\]^_`.
    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        let key = |word: &str| -> Result<u8, DetachKeysError> {
            let wrong = || DetachKeysError(word.to_owned());
            let one = |text: &str| match text.as_bytes() {
                [byte] if byte.is_ascii() => Some(*byte),
                _ => None,
            };
            match word.strip_prefix("ctrl-").map(one) {
                Some(Some(letter @ (b'a'..=b'z' | b'@' | b'['..=b'_'))) => Ok(letter & 0x1f),
                Some(_) => Err(wrong()),
                None => one(word).ok_or_else(wrong),
            }
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// Looks for the keys in what is typed.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    /// How many of them were typed last.
    seen: usize,
}

/// What was typed, without the keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// It goes to the program.
    Input(Vec<u8>),
    /// The same, and then the keys came.
    Detach(Vec<u8>),
}

impl Watch {
    pub(crate) fn new(keys: &DetachKeys) -> Self {
        Self { keys: keys.0.clone(), seen: 0 }
    }

    /// Looks at what is typed next. The beginning of the keys is held back until it is known what
    /// follows it.
    pub(crate) fn look(&mut self, typed: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(typed.len() + self.seen);
        for byte in typed {
            if *byte == self.keys[self.seen] {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return Typed::Detach(input);
                }
                continue;
            }
            // What was held back is the program's after all, but for what may begin the keys anew.
            let mut held = self.keys[..self.seen].to_vec();
            held.push(*byte);
            self.seen = (0..held.len())
                .rev()
                .find(|length| self.keys.starts_with(&held[held.len() - length..]))
                .unwrap_or(0);
            input.extend_from_slice(&held[..held.len() - self.seen]);
        }
        Typed::Input(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_dockers() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(DetachKeys::default().0));
        assert_eq!(keys("a,ctrl-[,ctrl-@"), Ok(vec![b'a', 0x1b, 0]));
        for text in ["", "ab", "ctrl-", "ctrl-1", "a,,b", "ctrl-ä", "ä"] {
            assert!(keys(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_the_keys_is_the_programs() {
        for (keys, typed, wanted, detached) in [
            ("ctrl-p,ctrl-q", "abc", "abc", false),
            ("ctrl-p,ctrl-q", "a\x10b", "a\x10b", false),
            ("ctrl-p,ctrl-q", "a\x10\x11", "a", true),
            ("ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true),
            ("a,a,b", "aaab", "a", true),
            ("a,b,a,c", "ababac", "ab", true),
            ("a,b,a,c", "abad", "abad", false),
        ] {
            for size in 1..=typed.len() {
                let mut watch = Watch::new(&keys.parse().unwrap());
                let (mut input, mut left) = (Vec::new(), false);
                for piece in typed.as_bytes().chunks(size) {
                    match watch.look(piece) {
                        Typed::Input(bytes) => input.extend(bytes),
                        Typed::Detach(bytes) => {
                            input.extend(bytes);
                            left = true;
                        }
                    }
                }
                assert_eq!((input, left), (wanted.into(), detached), "{keys} {typed:?} by {size}");
            }
        }
    }
}
