//! What a user sees: the built binary, real images, a real KVM.

mod agent;
mod failures;
mod images;
mod isolation;
mod kernels;
mod process;
mod refusals;
mod registry;
mod resources;
mod run_flags;
mod stdio;
mod templates;
mod terminal;
