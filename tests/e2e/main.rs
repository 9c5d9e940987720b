//! What a user sees: the built binary, real images, a real KVM.

mod images;
mod isolation;
mod process;
mod refusals;
mod resources;
mod stdio;
mod terminal;
