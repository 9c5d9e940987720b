//! What the end-to-end tests share: a place to run the built binary, and words to judge it by.

pub mod archive;
mod output;
mod sample;
mod sandbox;
mod snapshot;
mod terminal;

pub use output::Output;
pub use sample::Sample;
pub use sandbox::{Sandbox, binary, store};
pub use snapshot::Snapshot;
pub use terminal::Terminal;
