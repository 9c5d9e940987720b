//! The kernel's command line: what every machine has, its devices, and the caller's own words.

use std::fmt::Write;

use crate::arch::x86_64::layout;

/// What every machine has.
const DEFAULT: [&str; 12] = [
    "console=ttyS0",            // a panic is heard
    "panic=-1",                 // a kernel without our option for it does not wait after one
    "reboot=k",                 // a restart through the keyboard controller's port, which is ours
    "tsc=reliable",             // no watchdog over the clock
    "no_timer_check",           // nobody waits for the PIT's interrupt
    "noreplace-smp",            // one processor does not patch its locks away
    "random.trust_cpu=on",      // RDRAND seeds the entropy pool at once
    "cryptomgr.notests",        // no self-tests of algorithms
    "rcupdate.rcu_expedited=1", // mounts do not wait for grace periods
    "dummy.numdummies=0",       // no dummy0 that nobody asked for
    "swiotlb=noforce",          // 64 MiB for devices that do not reach all memory; ours do
    "hyperrun.power=0xcf0",     // where our patch tells the VMM the machine's end
];

/// The command line of a machine with `devices` virtio-mmio devices. Unless `trace` is on, the
/// kernel tells only what is critical, since each byte on the UART is an exit; a panic is told with
/// all its lines anyway. `extra` comes last, so that it wins.
pub(crate) fn build(trace: bool, devices: usize, extra: &str) -> String {
    let mut line = DEFAULT.join(" ");
    if !trace {
        line.push_str(" quiet loglevel=2");
    }
    for index in 0..devices {
        let (address, irq) = (layout::device_address(index), layout::device_irq(index));
        let size = layout::MMIO_DEVICE_SIZE >> 10;
        write!(line, " virtio_mmio.device={size}K@{address:#x}:{irq}")
            .expect("a string takes everything");
    }
    if !extra.is_empty() {
        line.push(' ');
        line.push_str(extra);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_extra_words_follow() {
        let line = build(false, 2, "init=/bin/sh -- x");
        assert!(line.ends_with(
            " quiet loglevel=2 virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 \
             init=/bin/sh -- x"
        ));
        assert!(!build(true, 0, "").contains("quiet"));
    }

    #[test]
    fn the_fullest_machine_leaves_room_for_extra_words() {
        assert!(
            build(false, layout::MAX_DEVICES, "").len() < layout::COMMAND_LINE_CAPACITY / 2 + 128
        );
    }
}
