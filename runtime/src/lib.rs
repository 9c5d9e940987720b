//! A container's life: what was asked for, the plan, the supervisor that carries it out, and the
//! person attached to it. Knows images and machines; knows no command lines.
//!
//! Read [`plan`] first, then `launch`, then `supervisor`.

#![forbid(unsafe_code)]

pub mod capabilities;
pub mod doctor;
pub mod limits;
pub mod options;
pub mod places;
pub mod plan;
pub mod spec;
pub mod templates;

mod attach;
mod build;
mod containers;
mod env;
mod error;
mod guest_files;
mod host;
mod kvm;
mod launch;
mod link;
mod process;
mod scratch;
mod seccomp;
mod supervisor;
mod timings;
mod transfer;
mod voice;
mod working_set;

pub use attach::terminal_size;
pub use build::build_template;
pub use error::Error;
pub use guest_files::{GuestFile, Origin, find_agent, find_kernel, find_registry};
pub use launch::{Outcome, run};
pub use link::{Blame, Failure};
pub use seccomp::SeccompError;
pub use timings::{Clocks, Stopwatch};
pub use transfer::{become_client, fetch_blobs};
pub use vmm::error::chain;
