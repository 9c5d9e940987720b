//! Shares out the memory for zstd's windows among the layers that are unpacked at once.

use std::sync::{Arc, Condvar, Mutex};

/// The largest window that is taken: what `zstd --ultra -22` and `--long` make, and what the zstd tool
/// itself reads unasked.
pub(crate) const WINDOW_LIMIT: u64 = 128 << 20;

/// Bytes of all windows at one time: the largest that container tools make, or three of the usual 8 MiB.
/// A window that is larger than this waits until it is the only one.
const TOGETHER: u64 = 32 << 20;

/// What decoders hold of the memory for windows. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Locked by the threads that decompress an image's layers.
    bytes: Mutex<u64>,
    freed: Condvar,
}

/// Memory for one window, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    held: Arc<Held>,
    pub(crate) bytes: u64,
}

impl Windows {
    /// Waits until there is room for a window. Whoever waits must hold no share, or two may wait for
    /// each other.
    pub(crate) fn take(&self, bytes: u64) -> Share {
        let Windows(held) = self;
        let mut sum = held.bytes.lock().expect("no thread panics with it");
        while *sum > 0 && *sum + bytes > TOGETHER {
            sum = held.freed.wait(sum).expect("no thread panics with it");
        }
        *sum += bytes;
        Share { held: Arc::clone(held), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut sum = self.held.bytes.lock().expect("no thread panics with it");
        *sum -= self.bytes;
        drop(sum);
        self.held.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    /// Has threads take and drop windows of these sizes; gives the largest sum that was held.
    fn most(sizes: &[u64]) -> u64 {
        let (windows, sum, most) = (Windows::default(), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for size in sizes {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let share = windows.take(*size);
                        let now = sum.fetch_add(share.bytes, Ordering::SeqCst) + share.bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        sum.fetch_sub(share.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(*windows.0.bytes.lock().unwrap(), 0);
        most.into_inner()
    }

    #[test]
    fn windows_share_what_there_is() {
        let mib = |sizes: &[u64]| sizes.iter().map(|size| size << 20).collect::<Vec<_>>();
        assert!(most(&mib(&[8, 8, 8])) <= TOGETHER);
        assert!(most(&mib(&[32, 8, 16, 1])) <= TOGETHER);
    }

    #[test]
    fn a_large_window_is_the_only_one() {
        assert_eq!(most(&[WINDOW_LIMIT, WINDOW_LIMIT, 8 << 20]), WINDOW_LIMIT);
    }
}
