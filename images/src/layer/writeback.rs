//! Has growing files written to the disk on the way, so that the sync at their end has little to wait
//! for.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Bytes after which a file is written back: enough that a commit of the journal is worth it.
const STEP: u64 = 16 << 20;

/// Counts what one file has grown by, and tells the thread that writes it back.
pub(super) struct Writeback {
    grown: u64,
    step: SyncSender<()>,
}

impl Writeback {
    /// Starts a thread for `file`, which ends soon after the returned value is dropped. What it gives
    /// then must be looked at: the kernel tells a failed write to one sync only.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        file: &File,
    ) -> io::Result<(Writeback, ScopedJoinHandle<'scope, io::Result<()>>)> {
        let file = file.try_clone()?;
        let (step, steps) = sync_channel(1);
        let thread = scope.spawn(move || steps.iter().try_for_each(|()| file.sync_data()));
        Ok((Writeback { grown: 0, step }, thread))
    }

    pub(super) fn grow(&mut self, count: usize) {
        self.grown += count as u64;
        if self.grown >= STEP {
            self.grown = 0;
            // One that is at work already will find these bytes with the next step.
            let _ = self.step.try_send(());
        }
    }
}
