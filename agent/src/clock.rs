//! What a machine copied from another must be told before it runs anything: the time, and chance.

use std::fs::File;

use protocol::WallClock;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::{
    step::{Doing, StepError},
    sys,
};

/// Sets the wall clock.
pub(crate) fn set(now: WallClock) -> Result<(), StepError> {
    let time = Timespec {
        tv_sec: now.seconds.try_into().unwrap_or(i64::MAX),
        tv_nsec: now.nanoseconds.into(),
    };
    clock_settime(ClockId::Realtime, time).doing("set the clock")
}

/// Makes the kernel's random numbers differ from those of every other copy of this machine.
pub(crate) fn stir(entropy: &[u8; 32]) -> Result<(), StepError> {
    let random = File::open("/dev/urandom").doing("open /dev/urandom")?;
    sys::add_entropy(&random, entropy).doing("add to the kernel's random pool")
}
