//! What an image may still use up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LayerError;
use super::record::Summary;
use crate::compression::{WINDOW_LIMIT, Windows};
use crate::limits::{Excess, Limits};

/// What an image has used up of its limits. All layers of one image draw on it, at the same time
/// where each is unpacked by a thread of its own; the counters order nothing else.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    entries: AtomicU64,
    bytes: AtomicU64,
    metadata: AtomicU64,
    pub(super) windows: Windows,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Budget {
        let none = || AtomicU64::new(0);
        Budget {
            limits: *limits,
            entries: none(),
            bytes: none(),
            metadata: none(),
            windows: Windows::default(),
        }
    }

    /// Counts a layer that is unpacked already: merging it costs as much as if it were new.
    pub(crate) fn take_known(&self, layer: &Summary) -> Result<(), LayerError> {
        take(&self.entries, layer.records);
        self.take_metadata(layer.metadata_bytes)?;
        self.check_entries()
    }

    pub(super) fn take_entry(&self) -> Result<(), LayerError> {
        take(&self.entries, 1);
        self.check_entries()
    }

    fn check_entries(&self) -> Result<(), LayerError> {
        let limit = self.limits.max_entries;
        if self.entries.load(Ordering::Relaxed) > limit {
            return Err(LayerError::Limit { what: Excess::Entries, limit });
        }
        Ok(())
    }

    pub(super) fn take_metadata(&self, bytes: u64) -> Result<(), LayerError> {
        let limit = self.limits.max_metadata_bytes;
        if take(&self.metadata, bytes) > limit {
            return Err(LayerError::Limit { what: Excess::MetadataBytes, limit });
        }
        Ok(())
    }

    /// Counts unpacked bytes; tells whether they were allowed.
    pub(super) fn take_bytes(&self, count: u64) -> bool {
        take(&self.bytes, count) <= self.limits.max_unpacked_bytes
    }

    pub(super) fn window_exceeded() -> LayerError {
        LayerError::Limit { what: Excess::WindowBytes, limit: WINDOW_LIMIT }
    }

    pub(super) fn bytes_exceeded(&self) -> LayerError {
        LayerError::Limit { what: Excess::UnpackedBytes, limit: self.limits.max_unpacked_bytes }
    }
}

/// Adds to a counter without ever wrapping round, and gives the sum.
fn take(counter: &AtomicU64, count: u64) -> u64 {
    let add = |sum: u64| Some(sum.saturating_add(count));
    let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    before.unwrap_or(u64::MAX).saturating_add(count)
}
