//! The agent's heap: the system's, behind a lock that a clone holds. The copy of a process has one
//! of its threads only, and would wait for ever for a lock that another one had.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Taken by the main thread and by those that carry streams, each for one call.
static LOCK: Mutex<()> = Mutex::new(());

#[global_allocator]
static HEAP: Heap = Heap;

struct Heap;

/// Keeps the other threads out of the heap, and so out of its own locks, until the guard is
/// dropped. The caller must not allocate or free anything meanwhile.
pub(crate) fn hold() -> MutexGuard<'static, ()> {
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: every call is passed on to the system's allocator as it came. The lock in front of it
// allocates nothing, and nothing that is called while it is held takes it again.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _held = hold();
        // SAFETY: the caller keeps to the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let _held = hold();
        // SAFETY: the caller keeps to the contract of this same function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _held = hold();
        // SAFETY: the caller keeps to the contract of this same function.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _held = hold();
        // SAFETY: the caller keeps to the contract of this same function.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
