//! The UART, whose output is kept to its last lines.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::wake::Wake;

/// How much of the guest's output is kept, in bytes.
const TAIL_BYTES: usize = 64 * 1024;
/// How much of it is passed on at once when tracing.
const LINE_BYTES: usize = 1024;

/// The UART as the bus sees it.
pub(crate) type Uart = Serial<IrqLine, NoEvents, ConsoleWriter>;

/// Makes the UART that writes to `console` and interrupts through `irqfd`.
pub(crate) fn uart(console: &Console, irqfd: Arc<EventFd>) -> Uart {
    Serial::new(IrqLine(irqfd), ConsoleWriter(console.clone()))
}

/// The UART's registers; it never holds a byte for the guest.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UartState {
    divisor: [u8; 2],
    interrupt: [u8; 2],
    line: [u8; 2],
    modem: [u8; 2],
    scratch: u8,
}

/// Takes the registers.
pub(crate) fn save(uart: &Uart) -> UartState {
    let state = uart.state();
    UartState {
        divisor: [state.baud_divisor_low, state.baud_divisor_high],
        interrupt: [state.interrupt_enable, state.interrupt_identification],
        line: [state.line_control, state.line_status],
        modem: [state.modem_control, state.modem_status],
        scratch: state.scratch,
    }
}

/// Makes a UART with registers that were saved.
pub(crate) fn restore(state: &UartState, console: &Console, irqfd: Arc<EventFd>) -> Uart {
    let state = SerialState {
        baud_divisor_low: state.divisor[0],
        baud_divisor_high: state.divisor[1],
        interrupt_enable: state.interrupt[0],
        interrupt_identification: state.interrupt[1],
        line_control: state.line[0],
        line_status: state.line[1],
        modem_control: state.modem[0],
        modem_status: state.modem[1],
        scratch: state.scratch,
        in_buffer: Vec::new(),
    };
    Serial::from_state(&state, IrqLine(irqfd), NoEvents, ConsoleWriter(console.clone()))
        .expect("an empty buffer is not too full, and an eventfd takes an interrupt")
}

/// What the guest wrote to its UART. Written by vCPU threads and, about failed devices, by those
/// of the devices; read by the machine's own thread at the end.
#[derive(Debug, Clone)]
pub(crate) struct Console(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    tail: VecDeque<u8>,
    line: Vec<u8>,
    trace: Option<SyncSender<Wake>>,
}

impl Console {
    /// A console that passes its lines on to `trace`, if there is one.
    pub(crate) fn new(trace: Option<SyncSender<Wake>>) -> Self {
        let (tail, line) = (VecDeque::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { tail, line, trace })))
    }

    /// The last of what was written, as text.
    pub(crate) fn last_lines(&self) -> String {
        String::from_utf8_lossy(self.lock().tail.make_contiguous()).into_owned()
    }

    /// Adds a line of the machine's own.
    pub(crate) fn note(&self, line: &str) {
        self.write(format!("hyperrun: {line}\r\n").as_bytes());
    }

    /// What nobody has been told yet: all of the tail, or when tracing a line without an end.
    pub(crate) fn unreported(&self) -> Vec<u8> {
        let mut state = self.lock();
        match state.trace {
            Some(_) => std::mem::take(&mut state.line),
            None => state.tail.iter().copied().collect(),
        }
    }

    fn write(&self, bytes: &[u8]) {
        let mut state = self.lock();
        for byte in bytes {
            if state.tail.len() == TAIL_BYTES {
                state.tail.pop_front();
            }
            state.tail.push_back(*byte);
            if let Some(trace) = &state.trace {
                let trace = trace.clone();
                state.line.push(*byte);
                if *byte == b'\n' || state.line.len() == LINE_BYTES {
                    let line = std::mem::take(&mut state.line);
                    // Nobody listens once the machine has ended.
                    let _ = trace.send(Wake::Console(line));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The UART's output end.
#[derive(Debug)]
pub(crate) struct ConsoleWriter(Console);

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The UART's interrupt line.
#[derive(Debug)]
pub(crate) struct IrqLine(Arc<EventFd>);

impl Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn only_the_tail_is_kept() {
        let console = Console::new(None);
        console.write(&[b'a'; TAIL_BYTES]);
        console.write(b"end");
        let tail = console.last_lines();
        assert_eq!(tail.len(), TAIL_BYTES);
        assert!(tail.ends_with("aend"));
    }

    #[test]
    fn a_trace_gets_whole_lines() {
        let (sender, receiver) = mpsc::sync_channel(8);
        let console = Console::new(Some(sender));
        console.write(b"one\ntw");
        console.write(b"o\nrest");
        let lines = receiver.try_iter().map(|wake| match wake {
            Wake::Console(line) => line,
            other => panic!("{other:?}"),
        });
        assert_eq!(lines.collect::<Vec<_>>(), [b"one\n", b"two\n"]);
        assert_eq!(console.unreported(), b"rest");
    }
}
