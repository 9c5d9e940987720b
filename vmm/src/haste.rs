//! How soon a thread that moves bytes wants a processor when more of them have come.
#![allow(unsafe_code, reason = "scheduling policies are asked for by bare system calls")]

use std::ffi::c_int;

/// From how many bytes at once on much is moved.
const MUCH: usize = 32 << 10;
/// And below how many little.
const LITTLE: usize = 4 << 10;

/// The haste of the thread that has this, for as long as it has it.
///
/// Who moves much interrupts nobody when it is woken (`SCHED_BATCH`, sched(7)). Woken for each piece, it
/// would take the processor from whoever writes the next one, and each piece would cost two switches; so
/// pieces gather meanwhile. A processor that has nothing to do it has at once. Who moves little is in a
/// hurry.
#[derive(Debug, Default)]
pub struct Haste {
    has_none: bool,
}

impl Haste {
    /// The thread has moved so many bytes at once.
    pub fn moved(&mut self, bytes: usize) {
        let most = if self.has_none { LITTLE } else { MUCH };
        self.set(bytes >= most);
    }

    fn set(&mut self, has_none: bool) {
        if has_none != self.has_none {
            self.has_none = has_none;
            if has_none {
                replace(libc::SCHED_OTHER, libc::SCHED_BATCH);
            } else {
                replace(libc::SCHED_BATCH, libc::SCHED_OTHER);
            }
        }
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Changes this thread's policy, unless somebody has given it another one. Failing changes nothing but
/// speed.
fn replace(from: c_int, to: c_int) {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: it takes a number.
    if unsafe { libc::sched_getscheduler(0) } == from {
        // SAFETY: the pointer is to a live structure, which is only read.
        let _ = unsafe { libc::sched_setscheduler(0, to, &raw const parameters) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> c_int {
        // SAFETY: it takes a number.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn who_moves_much_is_in_no_hurry_until_it_is_little() {
        let mut haste = Haste::default();
        for (bytes, expected) in [
            (MUCH - 1, libc::SCHED_OTHER),
            (MUCH, libc::SCHED_BATCH),
            (LITTLE, libc::SCHED_BATCH),
            (LITTLE - 1, libc::SCHED_OTHER),
            (LITTLE, libc::SCHED_OTHER),
            (MUCH, libc::SCHED_BATCH),
        ] {
            haste.moved(bytes);
            assert_eq!(policy(), expected, "{bytes}");
        }
        drop(haste);
        assert_eq!(policy(), libc::SCHED_OTHER);
    }

    #[test]
    fn a_policy_that_was_given_stays() {
        replace(libc::SCHED_OTHER, libc::SCHED_IDLE);
        let mut haste = Haste::default();
        haste.moved(MUCH);
        assert_eq!(policy(), libc::SCHED_IDLE);
        drop(haste);
        assert_eq!(policy(), libc::SCHED_IDLE);
    }
}
