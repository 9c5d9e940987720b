//! A place whose device comes and goes.

use super::*;

/// A place that has been left empty.
fn empty() -> Rig {
    let mut rig = rig(false);
    assert!(rig.transport.unplug());
    rig
}

/// A device such as the rig's, and what it tells.
fn another() -> (Box<dyn VirtioDevice>, Arc<AtomicUsize>, Receiver<usize>) {
    let (sender, kicked) = mpsc::channel();
    let runs = Arc::new(AtomicUsize::new(0));
    (Box::new(Fake { runs: Arc::clone(&runs), kicked: sender, fails: false }), runs, kicked)
}

#[test]
fn a_driver_finds_nothing_in_an_empty_place() {
    let mut rig = empty();
    assert_eq!(rig.get(register::MAGIC_VALUE), MAGIC);
    assert_eq!(rig.get(register::DEVICE_ID), 0);
    // One that goes on all the same gets nowhere.
    assert_eq!(rig.start() & status::DRIVER_OK, 0);
    rig.set(register::QUEUE_NOTIFY, 0);
    assert!(!rig.transport.unplug(), "there is nothing");
}

#[test]
fn a_plugged_device_works_until_it_is_unplugged() {
    let mut rig = empty();
    // What a driver has left in the registers is gone.
    rig.start();
    for _ in 0..2 {
        let (device, runs, kicked) = another();
        assert!(rig.transport.plug(device));
        assert_eq!(rig.get(register::DEVICE_ID), DeviceKind::Rng.id());
        assert_eq!(rig.get(register::STATUS), 0);
        assert_eq!(rig.start() & status::DRIVER_OK, status::DRIVER_OK);
        rig.kicks[1].write(1).expect("there is room");
        assert_eq!(kicked.recv_timeout(Duration::from_secs(10)), Ok(1));
        assert!(!rig.transport.plug(another().0), "the place is taken");
        assert!(rig.transport.unplug());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(kicked.recv().is_err(), "the device is no more");
        assert_eq!((rig.get(register::DEVICE_ID), rig.get(register::STATUS)), (0, 0));
    }
}

#[test]
fn an_empty_place_is_saved_as_such() {
    let saved = empty().transport.save().expect("nothing has failed");
    empty().transport.restore(&saved).expect("it is the same");
    let mut full = rig(false);
    assert!(full.transport.restore(&saved).is_err(), "there is a device");
    let saved = full.transport.save().expect("nothing has failed");
    assert!(empty().transport.restore(&saved).is_err(), "there is none");
}
