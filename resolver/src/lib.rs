//! Answers for the names of containers on the networks under one root, and passes every other question
//! on to the host's own resolvers. Knows no machines: what it reads is the networks' files.
//!
//! `hyperrun` starts this as a program of its own, `hyperrun-resolver`, when a container on a network
//! starts and none runs. Read `judge` first, which decides about one question and touches nothing, then
//! `serve`.
#![forbid(unsafe_code)]

mod arpa;
mod folders;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod judge;
mod names;
mod presence;
mod serve;
mod stream;
mod upstream;

pub use presence::Presence;
pub use serve::{Setting, serve};
