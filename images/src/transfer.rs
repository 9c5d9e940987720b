//! What `hyperrun` asks of `hyperrun-registry`: all that the two programs share, as one word of JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::platform::Platform;
use crate::reference::Reference;

/// A request, with the version of whoever wrote it. It holds no secret: whoever lists processes
/// sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Of `hyperrun`; `hyperrun-registry` must have the same.
    pub version: String,
    /// The process that waits, whose end is the other's end as well; none where the one becomes the
    /// other.
    pub parent: Option<u32>,
    /// What is to be done.
    pub transfer: Transfer,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Transfer {
    /// An image out of a registry into the store.
    Pull(Pull),
    /// An image out of the store into a registry.
    Push(Push),
    /// Blobs of an image that were not kept, out of a registry into the store.
    Fetch(Fetch),
    /// Keep credentials for a registry.
    Login(Login),
    /// Forget them.
    Logout {
        /// Its name.
        registry: String,
    },
}

/// An image out of a registry into the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// The store's folder.
    pub store: PathBuf,
    /// As the user typed it.
    pub name: String,
    /// One image, or all that the repository has a tag for.
    pub tags: Tags,
    /// Of an index's images, the one for this platform.
    pub platform: Platform,
    /// What the image may ask for.
    pub limits: Limits,
    /// How much is said, and where.
    pub talk: Talk,
}

/// Which images of a repository are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tags {
    /// The one that the name means.
    One,
    /// Each that has a tag; the name has none.
    All,
}

/// An image out of the store into a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The store's folder.
    pub store: PathBuf,
    /// Where to.
    pub reference: Reference,
    /// How much is said, and where.
    pub talk: Talk,
}

/// Blobs of an image that were not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// The store's folder.
    pub store: PathBuf,
    /// A name or an id of the image.
    pub name: String,
}

/// Keep credentials for a registry. The password comes through standard input or a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Its name.
    pub registry: String,
    /// Who; asked for when it is not given.
    pub username: Option<String>,
    /// Whether standard input is the password.
    pub password_stdin: bool,
}

/// How much is said, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Talk {
    /// Results to stdout, progress to stderr.
    Normal,
    /// The name of the image, nothing else.
    Quiet,
    /// All to stderr, since stdout belongs to the program that is about to run.
    Aside,
}

impl Order {
    /// The request as one argument.
    #[must_use]
    pub fn to_argument(&self) -> String {
        serde_json::to_string(self).expect("an order is text and numbers")
    }

    /// Reads the argument.
    ///
    /// # Errors
    /// If it is no order: perhaps one of another version.
    pub fn from_argument(argument: &str) -> Result<Order, serde_json::Error> {
        serde_json::from_str(argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_comes_back_as_it_was() {
        let pull = Pull {
            store: "/var/lib/hyperrun/images".into(),
            name: "ubuntu".into(),
            tags: Tags::All,
            platform: Platform::host(),
            limits: Limits::DEFAULT,
            talk: Talk::Aside,
        };
        let transfers = [
            Transfer::Pull(pull),
            Transfer::Push(Push {
                store: "/s".into(),
                reference: "localhost:5000/a:b".parse().unwrap(),
                talk: Talk::Quiet,
            }),
            Transfer::Fetch(Fetch { store: "/s".into(), name: "a:b".into() }),
            Transfer::Login(Login { registry: "r".into(), username: None, password_stdin: true }),
            Transfer::Logout { registry: "docker.io".into() },
        ];
        for transfer in transfers {
            let order = Order { version: "1.2.3".into(), parent: Some(7), transfer };
            assert_eq!(Order::from_argument(&order.to_argument()).unwrap(), order);
        }
        assert!(Order::from_argument("{}").is_err());
        assert!(Order::from_argument("--help").is_err());
    }
}
