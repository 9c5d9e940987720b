//! What the machine's own thread is woken for.

use crate::exit::Exit;
use crate::order::Order;

/// A message to the machine's own thread, from a vCPU's or from that which listens to its owner.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The agent rang.
    AgentReady,
    /// A line of the guest's console, when tracing.
    Console(Vec<u8>),
    /// What the owner wants done.
    Order(Order),
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
