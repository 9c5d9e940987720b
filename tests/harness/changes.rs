//! Sees every file that comes or goes in a store's folders, to stop something behind any of them.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// How long a child that makes no change is not looked at.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The changes in a store since it was looked at first.
pub struct Changes {
    watch: OwnedFd,
}

impl Changes {
    /// Begins to look at the store in this folder, whose own folders are there.
    pub fn of(store: &Path) -> Self {
        use inotify::WatchFlags;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).expect("inotify");
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        for folder in ["", "records", "layers", "disks", "blobs/sha256", "tmp"] {
            inotify::add_watch(&watch, store.join(folder), flags).expect("a folder of the store");
        }
        Self { watch }
    }

    /// Those that have not been counted yet.
    pub fn count(&self) -> usize {
        self.count_up_to(usize::MAX)
    }

    /// Waits for so many, or until the child has ended.
    pub fn wait(&self, wanted: usize, child: &mut Child) {
        let mut seen = self.count_up_to(wanted);
        while seen < wanted && child.try_wait().expect("a child of ours").is_none() {
            poll(&mut [PollFd::new(&self.watch, PollFlags::IN)], Some(&LOOK)).expect("inotify");
            seen += self.count_up_to(wanted - seen);
        }
    }

    fn count_up_to(&self, wanted: usize) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.watch, &mut buffer);
        let mut seen = 0;
        while seen < wanted && reader.next().is_ok() {
            seen += 1;
        }
        seen
    }
}
