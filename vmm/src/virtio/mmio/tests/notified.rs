//! A device that is served by whoever notifies it.

use std::thread::{self, ThreadId};

use super::super::super::device::Server;
use super::*;

/// A device that tells of each notification and the thread it came in, and fails at its second queue.
struct Notified(mpsc::Sender<(usize, ThreadId)>);

impl VirtioDevice for Notified {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Balloon
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 8]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn server(&self) -> Server {
        Server::Notifier
    }

    fn serve(&mut self, _: &mut Activated, queue: usize) -> Result<(), DeviceError> {
        self.0.send((queue, thread::current().id())).expect("the test listens");
        if queue == 1 { Err(DeviceError::Protocol { what: "told to fail" }) } else { Ok(()) }
    }
}

fn rig() -> (Rig, Receiver<(usize, ThreadId)>) {
    let (sender, served) = mpsc::channel();
    (rig_of(Box::new(Notified(sender))), served)
}

fn notify(rig: &mut Rig, queue: u32) {
    rig.set(register::QUEUE_NOTIFY, queue);
}

#[test]
fn whoever_notifies_it_serves_it() {
    let (mut rig, served) = rig();
    notify(&mut rig, 0);
    rig.choose_features(FEATURE_VERSION_1);
    notify(&mut rig, 0);
    assert_eq!(served.try_iter().count(), 0, "it does not run yet");
    rig.start();
    [0, 2, 0, 0xffff, u32::MAX].iter().for_each(|queue| notify(&mut rig, *queue));
    let here = thread::current().id();
    assert_eq!(served.try_iter().collect::<Vec<_>>(), [(0, here), (0, here)]);
    rig.set(register::STATUS, 0);
    notify(&mut rig, 0);
    assert_eq!(served.try_iter().count(), 0, "it was reset");
}

#[test]
fn one_that_failed_is_silent_until_a_reset() {
    let (mut rig, served) = rig();
    rig.start();
    notify(&mut rig, 1);
    assert_ne!(rig.get(register::STATUS) & status::NEEDS_RESET, 0);
    assert_eq!(rig.irq.read().expect("it was raised"), 1);
    assert_eq!(rig.get(register::INTERRUPT_STATUS), 3);
    assert!(rig.console.last_lines().contains("the balloon device failed"));
    notify(&mut rig, 0);
    assert_eq!(served.try_iter().count(), 1);
    rig.start();
    assert_eq!(rig.get(register::STATUS) & status::NEEDS_RESET, 0);
    notify(&mut rig, 0);
    assert_eq!(served.try_iter().count(), 1);
    notify(&mut rig, 1);
    rig.transport.pause();
    assert_eq!(rig.transport.save(), None, "one that failed is not saved");
}

#[test]
fn another_one_goes_on_where_it_was_saved() {
    let (mut rig, _served) = self::rig();
    rig.start();
    rig.transport.pause();
    let state = rig.transport.save().expect("it has not failed");
    let (mut copy, served) = self::rig();
    copy.transport.restore(&state).expect("it is the same device");
    notify(&mut copy, 0);
    assert_eq!(served.try_iter().count(), 0, "it is paused");
    copy.transport.resume();
    notify(&mut copy, 0);
    assert_eq!(served.try_iter().count(), 1);
    copy.transport.pause();
    assert_eq!(copy.transport.save(), Some(state));
}
