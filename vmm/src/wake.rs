//! What the machine's own thread is woken for.

use crate::exit::Exit;
use crate::machine::live::Begun;
use crate::order::Order;

/// A message to the machine's own thread, from a vCPU's, from that which listens to its owner, or from one that
/// writes what is saved without a pause.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The agent rang.
    AgentReady,
    /// A line of the guest's console, when tracing.
    Console(Vec<u8>),
    /// What the owner wants done.
    Order(Order),
    /// What was begun to save the machine while it lives, or why it was not.
    Begun(Result<Box<Begun>, String>),
    /// The guest is at its end; the first such message counts.
    Ended(Ending),
}

/// The end as a vCPU sees it: an [`Exit`] but for what the machine adds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The kernel panicked.
    Panic,
    /// Anything else.
    Exit(Exit),
}
