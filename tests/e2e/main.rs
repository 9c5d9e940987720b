//! What a user sees: the built binary, real images, a real KVM.

mod agent;
mod events;
mod exec;
mod failures;
mod files;
mod guests;
mod health;
mod home;
mod images;
mod install;
mod isolation;
mod kernels;
mod lifecycle;
mod logs;
mod memory;
mod process;
mod refusals;
mod registry;
mod resources;
mod restarts;
mod run_flags;
mod screens;
mod stdio;
mod templates;
mod terminal;
mod update;
