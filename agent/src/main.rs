//! PID 1 of the machine: makes one container for the host, starts its process and reports its end.
//!
//! Everything up to the doorbell knows no image and no container, so that a machine can be saved
//! there and every container start from the copy. docs/protocol.md tells what is said with the host.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]
mod bpf;
mod capability;
mod cgroup;
mod clock;
mod confinement;
mod connections;
mod container;
mod devices;
mod disks;
mod doors;
mod etc;
mod exchange;
mod exec;
mod files;
mod first_process;
mod freezer;
#[allow(unsafe_code, reason = "an allocator is unsafe by its nature")]
mod heap;
mod hooks;
mod init;
mod inside;
mod interface;
mod kernel_log;
mod launch;
mod mounts;
mod network;
mod power;
mod process;
mod program;
mod pump;
mod questions;
mod reaper;
mod report;
mod rootfs;
mod server;
mod stdio;
mod step;
#[allow(unsafe_code, reason = "the system calls that have no safe wrapper live here")]
mod sys;
mod tmpfs;
mod top;
mod tty;
mod user;
mod volumes;
mod waiting;
mod warmth;

use std::process::ExitCode;

use crate::{
    cgroup::Cgroup,
    doors::Doors,
    reaper::Reaper,
    server::{Farewell, Server},
    step::{StepError, describe},
};

fn main() -> ExitCode {
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // PID 1 that ends is a kernel panic: the host learns of it and shows this line.
            power::say_last_words(&describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// The whole life of the machine. Returns only on failure: the end of success is power-off.
fn live() -> Result<(), StepError> {
    init::take_over()?;
    let reaper = Reaper::new()?;
    let cgroup = Cgroup::make();
    let doors = Doors::open()?;
    power::ring_doorbell()?;

    let control = doors.wait_for_host()?;
    let mut server = Server::new(control, doors, reaper, cgroup);
    loop {
        match server.serve() {
            Ok(Farewell::PowerOff) => break,
            Ok(Farewell::Prepared) => server = server.await_next()?,
            Ok(Farewell::Copied) => server.meet_next_host()?,
            Err(error) => {
                power::say_last_words(&describe(&error));
                break;
            }
        }
    }
    server.settle();
    power::off()
}
