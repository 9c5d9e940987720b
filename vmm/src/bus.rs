//! Where the guest's port and memory-mapped accesses go.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::arch::x86_64::layout;
use crate::devices::power::{self, PowerRequest};
use crate::devices::serial::{self, Uart, UartState};
use crate::exit::Exit;
use crate::virtio::device::VirtioDevice;
use crate::virtio::mmio::{MmioTransport, TransportState};
use crate::wake::{Ending, Wake};

/// The keyboard controller's "pulse the reset line".
const I8042_RESET: u8 = 0xfe;
/// The reset control register's "reset now".
const RESET_NOW: u8 = 1 << 2;
/// How often an agent rings at most: when it is ready, and when it has prepared an image.
const MOST_RINGS: u8 = 2;
/// What an access to nothing reads.
const NOTHING: u8 = 0xff;

/// The machine's devices, shared by all vCPU threads; each has its lock.
pub(crate) struct Bus {
    /// Between vCPU threads.
    uart: Mutex<Uart>,
    /// Between vCPU threads.
    transports: Vec<Mutex<MmioTransport>>,
    wakes: SyncSender<Wake>,
    /// How often the agent has rung; by vCPU threads.
    rings: AtomicU8,
}

impl Bus {
    /// A bus with these devices; what they cause is sent to `wakes`.
    pub(crate) fn new(uart: Uart, transports: Vec<MmioTransport>, wakes: SyncSender<Wake>) -> Self {
        let transports = transports.into_iter().map(Mutex::new).collect();
        Self { uart: Mutex::new(uart), transports, wakes, rings: AtomicU8::new(0) }
    }

    /// Serves a read from a port. `data` may hold several accesses of a string instruction.
    pub(crate) fn port_read(&self, port: u16, data: &mut [u8]) {
        match port {
            layout::SERIAL_PORT..=layout::SERIAL_PORT_END => {
                let mut uart = lock(&self.uart);
                for byte in data {
                    *byte = uart.read(serial_offset(port));
                }
            }
            // The keyboard controller is idle, so that a kernel does not wait for it to reset.
            layout::I8042_COMMAND_PORT => data.fill(0),
            _ => data.fill(NOTHING),
        }
    }

    /// Serves a write to a port; gives the reason when that ends the machine.
    pub(crate) fn port_write(&self, port: u16, data: &[u8]) -> Option<Ending> {
        match port {
            layout::SERIAL_PORT..=layout::SERIAL_PORT_END => {
                let mut uart = lock(&self.uart);
                for byte in data {
                    // The one failure is an interrupt that is pending already.
                    let _ = uart.write(serial_offset(port), *byte);
                }
                None
            }
            layout::I8042_COMMAND_PORT if data == [I8042_RESET] => reboot(),
            layout::RESET_CONTROL_PORT if data.iter().any(|byte| byte & RESET_NOW != 0) => reboot(),
            layout::POWER_PORT => self.serve_power(power::request(data)?),
            _ => None,
        }
    }

    /// Serves a read from a memory-mapped device.
    pub(crate) fn mmio_read(&self, address: u64, data: &mut [u8]) {
        match self.transport(address) {
            Some((transport, offset)) => transport.read(offset, data),
            None => data.fill(NOTHING),
        }
    }

    /// Serves a write to a memory-mapped device.
    pub(crate) fn mmio_write(&self, address: u64, data: &[u8]) {
        if let Some((mut transport, offset)) = self.transport(address) {
            transport.write(offset, data);
        }
    }

    /// Puts a device where the `index`th has been left out; whether it was.
    pub(crate) fn plug(&self, index: usize, device: Box<dyn VirtioDevice>) -> bool {
        self.transports.get(index).is_some_and(|transport| lock(transport).plug(device))
    }

    /// Takes the `index`th device away; whether it was there.
    pub(crate) fn unplug(&self, index: usize) -> bool {
        self.transports.get(index).is_some_and(|transport| lock(transport).unplug())
    }

    /// Stops all devices.
    pub(crate) fn stop(&self) {
        for transport in &self.transports {
            lock(transport).stop();
        }
    }

    /// Stops all devices and keeps what they were doing.
    pub(crate) fn pause(&self) {
        for transport in &self.transports {
            lock(transport).pause();
        }
    }

    /// Lets paused devices go on.
    pub(crate) fn resume(&self) {
        for transport in &self.transports {
            lock(transport).resume();
        }
    }

    /// The state of the UART and of all paused devices; none if one of them has failed.
    pub(crate) fn save(&self) -> Option<(UartState, Vec<TransportState>)> {
        let devices = self.transports.iter().map(|transport| lock(transport).save());
        Some((serial::save(&lock(&self.uart)), devices.collect::<Option<_>>()?))
    }

    /// The agent of a machine that was saved after it rang does not ring again.
    pub(crate) fn agent_has_rung(&self) {
        self.rings.store(MOST_RINGS, Ordering::Relaxed);
    }

    fn serve_power(&self, request: PowerRequest) -> Option<Ending> {
        match request {
            PowerRequest::PowerOff => Some(Ending::Exit(Exit::PowerOff)),
            PowerRequest::Reboot => reboot(),
            PowerRequest::Panic => Some(Ending::Panic),
            PowerRequest::Halt => Some(Ending::Exit(Exit::Halt)),
            PowerRequest::AgentReady => {
                let rung = |rings| (rings < MOST_RINGS).then_some(rings + 1);
                if self.rings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rung).is_ok() {
                    // Nobody listens once the machine has ended.
                    let _ = self.wakes.send(Wake::AgentReady);
                }
                None
            }
        }
    }

    fn transport(&self, address: u64) -> Option<(MutexGuard<'_, MmioTransport>, u64)> {
        let distance = address.checked_sub(layout::MMIO_DEVICES)?;
        let index = usize::try_from(distance / layout::MMIO_DEVICE_SIZE).ok()?;
        let transport = self.transports.get(index)?;
        Some((lock(transport), distance % layout::MMIO_DEVICE_SIZE))
    }
}

fn reboot() -> Option<Ending> {
    Some(Ending::Exit(Exit::Reboot))
}

fn serial_offset(port: u16) -> u8 {
    u8::try_from(port - layout::SERIAL_PORT).expect("the UART has eight ports")
}

/// A device whose thread panicked is used as it was left.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::serial::{Console, uart};
    use std::sync::Arc;
    use std::sync::mpsc::{self, Receiver};
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    fn bus() -> (Bus, Console, Receiver<Wake>) {
        let (sender, receiver) = mpsc::sync_channel(8);
        let console = Console::new(None);
        let irq = Arc::new(EventFd::new(EFD_NONBLOCK).expect("a descriptor"));
        (Bus::new(uart(&console, irq), Vec::new(), sender), console, receiver)
    }

    #[test]
    fn ports_end_the_machine_for_their_reason() {
        let (bus, _, _) = bus();
        let cases: [(u16, &[u8], Option<Ending>); 7] = [
            (0x64, &[0xfe], Some(Ending::Exit(Exit::Reboot))),
            (0x64, &[0x20], None),
            (0xcf9, &[0x06], Some(Ending::Exit(Exit::Reboot))),
            (0xcf0, &[1, 0, 0, 0], Some(Ending::Exit(Exit::PowerOff))),
            (0xcf0, &[3, 0, 0, 0], Some(Ending::Panic)),
            (0xcf0, &[9, 0, 0, 0], None),
            (0x80, &[1], None),
        ];
        for (port, data, expected) in cases {
            assert_eq!(bus.port_write(port, data), expected, "{port:#x} {data:?}");
        }
    }

    #[test]
    fn the_agent_rings_once() {
        let (bus, _, wakes) = bus();
        for _ in 0..100 {
            assert_eq!(bus.port_write(layout::POWER_PORT, &[5, 0, 0, 0]), None);
        }
        let wakes: Vec<_> = wakes.try_iter().collect();
        assert!(matches!(wakes[..], [Wake::AgentReady, Wake::AgentReady]), "{wakes:?}");
    }

    #[test]
    fn the_uart_writes_to_the_console() {
        let (bus, console, _) = bus();
        bus.port_write(0x3f8, b"hello");
        assert_eq!(console.last_lines(), "hello");
    }

    #[test]
    fn the_uart_is_saved_with_all_its_registers() {
        let (bus, _, wakes) = bus();
        // Line control opens the divisor; then interrupts, modem control, scratch.
        let written: [(u16, u8); 7] = [
            (0x3fb, 0x80),
            (0x3f8, 0x0c),
            (0x3f9, 0x01),
            (0x3fb, 0x03),
            (0x3f9, 0x05),
            (0x3fc, 0x0b),
            (0x3ff, 0x5a),
        ];
        for (port, value) in written {
            bus.port_write(port, &[value]);
        }
        let (state, devices) = bus.save().expect("nothing has failed");
        assert!(devices.is_empty());
        let console = Console::new(None);
        let irq = Arc::new(EventFd::new(EFD_NONBLOCK).expect("a descriptor"));
        let (sender, _wakes) = mpsc::sync_channel(8);
        let copy = Bus::new(serial::restore(&state, &console, irq), Vec::new(), sender);
        assert_eq!(copy.save().expect("nothing has failed").0, state);
        for port in 0x3f9..=0x3ff {
            let (mut here, mut there) = ([0], [0]);
            bus.port_read(port, &mut here);
            copy.port_read(port, &mut there);
            assert_eq!(here, there, "{port:#x}");
        }
        copy.port_write(0x3f8, b"x");
        assert_eq!(console.last_lines(), "x");
        drop(wakes);
    }

    #[test]
    fn the_agent_of_a_copy_has_rung() {
        let (bus, _, wakes) = bus();
        bus.agent_has_rung();
        bus.port_write(layout::POWER_PORT, &[5, 0, 0, 0]);
        assert_eq!(wakes.try_iter().count(), 0);
    }

    #[test]
    fn an_access_to_nothing_reads_ones() {
        let (bus, _, _) = bus();
        let mut data = [0; 4];
        for address in [layout::MMIO_DEVICES, layout::MMIO_DEVICES - 1, u64::MAX] {
            bus.mmio_read(address, &mut data);
            assert_eq!(data, [0xff; 4]);
            bus.mmio_write(address, &data);
        }
    }
}
