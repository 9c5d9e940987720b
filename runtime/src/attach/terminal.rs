//! The terminal `hyperrun` was started from: its size, and raw mode while a container has it.

use std::io;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use protocol::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal's settings before it was raw. The main thread writes it; the signal thread reads
/// it to make a terminal raw again, and a panic in any thread to restore it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The size of the terminal on standard input, if there is one.
#[must_use]
pub fn terminal_size() -> Option<WindowSize> {
    let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Standard input as a raw terminal: every key is the program's. Dropping it brings the old
/// settings back; so does a panic.
pub(super) struct RawTerminal(());

impl RawTerminal {
    /// Makes the terminal raw.
    pub(super) fn enter() -> io::Result<Self> {
        let original = tcgetattr(rustix::stdio::stdin())?;
        *before() = Some(original);
        restore_on_panic();
        let terminal = Self(());
        make_raw()?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether the terminal is raw now.
pub(crate) fn is_raw() -> bool {
    before().is_some()
}

/// Makes a raw terminal raw again, after a shell had it in between.
pub(super) fn make_raw() -> io::Result<()> {
    if let Some(original) = &*before() {
        let mut raw = original.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
    }
    Ok(())
}

fn restore() {
    if let Some(original) = before().take() {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &original);
    }
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A release build aborts on a panic and drops nothing.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            previous(panic);
        }));
    });
}
