//! What the end-to-end tests share: a place to run the built binary, and words to judge it by.

pub mod archive;
mod changes;
mod ended;
mod environment;
pub mod fidelity;
pub mod guest;
mod initramfs;
pub mod load;
mod output;
mod outside;
mod read_only;
pub mod registry;
mod running;
mod sample;
mod sandbox;
mod screen;
mod small_disk;
mod snapshot;
mod terminal;
mod tmux;
pub mod tree;

pub use changes::Changes;
pub use environment::environment_of;
pub use initramfs::{initramfs, initramfs_of};
pub use output::Output;
pub use outside::{Outside, answer_names, echoed};
pub use read_only::ReadOnly;
pub use running::Running;
pub use sample::{Sample, is_full, sample_size};
pub use sandbox::{Sandbox, busybox_archive};
pub use small_disk::SmallDisk;
pub use snapshot::Snapshot;
pub use terminal::Terminal;
pub use tmux::Tmux;
