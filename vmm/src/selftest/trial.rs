//! Runs the micro-guest within bounds and tells how far it came.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use kvm_ioctls::{Kvm, VcpuExit};
use vmm_sys_util::signal::Killable;

use super::guest::{self, Message, Step};
use super::vm::Vm;
use super::{Failure, SelfTestError};
use crate::kick::{self, Kickable};

/// The guest needs about a millisecond; a machine may be busy, or emulated.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The guest leaves about a dozen times.
const EXIT_LIMIT: u32 = 64;

/// Runs the guest. Its vCPU has a thread of its own, which a signal can get out of the guest.
pub(super) fn run(kvm: &Kvm) -> Result<(), SelfTestError> {
    kick::install().map_err(SelfTestError::host("install a signal handler"))?;
    let mut vm = Vm::create(kvm)?;
    let (done, finished) = mpsc::channel();
    let trial = thread::Builder::new()
        .name("self-test".to_owned())
        .spawn(move || follow(&mut vm, &done))
        .map_err(SelfTestError::host("start a thread"))?;
    if finished.recv_timeout(TIME_LIMIT) == Err(RecvTimeoutError::Timeout) {
        let kicked = trial.kill(kick::signal());
        kicked.map_err(|error| SelfTestError::host("stop a vCPU")(error.into()))?;
    }
    trial.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Follows the guest from step to step. Dropping `done` ends the time limit.
fn follow(vm: &mut Vm, _done: &Sender<()>) -> Result<(), SelfTestError> {
    let mut step = Step::Entry;
    let mut kickable = Kickable::new(&mut vm.vcpu);
    for _ in 0..EXIT_LIMIT {
        let unfit = |failure| Err(SelfTestError::Unfit { what: step, failure });
        let message = match kickable.vcpu().run() {
            Ok(VcpuExit::IoOut(guest::STEP_PORT, &[byte])) => Message::from_byte(byte),
            Ok(VcpuExit::InternalError) => return unfit(Failure::Emulation),
            Ok(VcpuExit::Shutdown) => return unfit(Failure::TripleFault),
            Ok(VcpuExit::FailEntry(..)) => return unfit(Failure::EntryRefused),
            Ok(_) => return unfit(Failure::UnexpectedExit),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                // Only our own signal's handler asks for the exit; any other may come at any time.
                if kickable.vcpu().get_kvm_run().immediate_exit != 0 {
                    return unfit(Failure::Hang);
                }
                continue;
            }
            Err(error) => return Err(SelfTestError::refused("run a vCPU")(error)),
        };
        match message {
            Some(Message::Begin(next)) => step = next,
            Some(Message::Done) => return Ok(()),
            Some(Message::Wrong) => return unfit(Failure::WrongResult),
            Some(Message::Exception) => return unfit(Failure::Exception),
            None => return unfit(Failure::UnexpectedExit),
        }
        if step == Step::InterruptLine {
            let raised: Result<(), io::Error> = vm.irq.write(1);
            raised.map_err(SelfTestError::host("raise an interrupt line"))?;
        }
    }
    Err(SelfTestError::Unfit { what: step, failure: Failure::Hang })
}
