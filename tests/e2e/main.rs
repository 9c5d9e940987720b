//! What a user sees: the built binary, real images, a real KVM.

mod failures;
mod images;
mod isolation;
mod kernels;
mod memory;
mod process;
mod refusals;
mod registry;
mod resources;
mod stdio;
mod templates;
mod terminal;
