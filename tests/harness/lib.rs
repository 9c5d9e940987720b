//! What the end-to-end tests share: a place to run the built binary, and words to judge it by.

mod output;
mod sandbox;
mod terminal;

pub use output::Output;
pub use sandbox::{Sandbox, binary, store};
pub use terminal::Terminal;
