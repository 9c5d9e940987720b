//! A container's life: what was asked for, the plan, the supervisor that carries it out, and the
//! person attached to it. Knows images and machines; knows no command lines.
//!
//! Read [`plan`] first, then `launch`, then `supervisor`; `containers` is what lies on the disk, and
//! `control` what is done to a container that exists.

#![forbid(unsafe_code)]

pub mod capabilities;
pub mod doctor;
pub mod keeping;
pub mod limits;
pub mod logs;
pub mod network;
pub mod options;
pub mod places;
pub mod plan;
pub mod settings;
pub mod signal;
pub mod snapshots;
pub mod spec;
pub mod templates;

mod attach;
mod boot;
mod build;
mod containers;
mod control;
mod detach_keys;
mod env;
mod error;
mod events;
mod exec;
mod files;
mod guest_files;
mod health;
mod host;
mod host_cgroup;
mod kvm;
mod launch;
mod link;
mod moment;
mod preparation;
mod process;
mod publish;
mod questions;
mod record_of;
mod resolver;
mod scratch;
mod seccomp;
mod supervisor;
mod timings;
mod transfer;
mod update;
mod voice;
mod wishes;
mod working_set;

pub use attach::{Attendance, Presence, terminal_size};
pub use boot::runs_after_boot;
pub use build::{build_image_template, build_template, stand_aside};
pub use containers::{Containers, CopyOf, Found, Record, State, Status, Unread};
pub use control::{
    Afterwards, Removal, SAVED_FILES, Stop, Taken, attach_by_name, is_of_another_version, kill,
    remove, rename, restart, stop, take_snapshot, wait,
};
pub use detach_keys::{DetachKeys, DetachKeysError};
pub use error::Error;
pub use events::{EventQuery, TakeEvent, event_log, follow_events};
pub use exec::{Exec, exec};
pub use files::{
    Commit, CopyIn, CopyOut, FilesError, Inside, Outside, changes, commit, copy_in, copy_out,
};
pub use guest_files::{GuestFile, Origin, find_agent, find_kernel, find_registry, find_resolver};
pub use health::{CheckResult, Health, HealthCheck, HealthStatus};
pub use launch::{Created, Outcome, UNSEEN_SIZE, create, start};
pub use link::{Blame, Failure};
pub use logs::{follow_log, read_log};
pub use moment::Moment;
pub use places::is_superuser;
pub use protocol::{ChangeKind, FileChange, Links, Owner, Processes, Stats, TopRow};
pub use publish::{DoorError, Published};
pub use questions::{kernel_log, pause, stats, top, unpause};
pub use scratch::{Ground, Journal};
pub use seccomp::SeccompError;
pub use timings::{Clocks, Stopwatch};
pub use transfer::{become_client, fetch_blobs};
pub use trees::Owners;
pub use update::{Changes, UpdateError, update};
pub use vmm::error::chain;
pub use wishes::Wishes;
