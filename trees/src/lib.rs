//! A tree of files in, a stream of entries out, and the other way round. Host and guest have the same
//! code for both, so that a file is the same whichever way it goes.
//!
//! Nothing that lies in a tree leads out of it: folders are opened one below the other, and no link is
//! followed on the way. What a stranger sends is put down by [`Receiver`] under [`Rules::STRANGER`].

#![forbid(unsafe_code)]

mod contents;
mod metadata;
mod place;
mod receive;
mod send;
mod source;
mod stream;
mod walk;

pub use contents::copy_exactly;
pub use place::{Destination, Target, name_of};
pub use receive::{Owners, Receiver, Rules, below};
pub use send::{Sender, Sent};
pub use source::Source;
pub use stream::{Items, StreamError};
pub use walk::{Place, Walk, open_below};

use std::fmt::Display;
use std::io;

use protocol::FileFailure;

/// Gives a kernel's refusal the step at which it came.
pub fn step(doing: impl Display, error: impl Into<io::Error>) -> FileFailure {
    FileFailure::Step { doing: doing.to_string(), reason: reason(&error.into()) }
}

/// The kernel's words without the number behind them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// A path for a message, without control characters.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().filter(|letter| !letter.is_control()).collect()
}
