//! The power port: how the guest's kernel says that it ends, and why; and how its agent rings.

/// The causes that the guest's kernel and agent write.
const POWER_OFF: u32 = 1;
const REBOOT: u32 = 2;
const PANIC: u32 = 3;
const HALT: u32 = 4;
const AGENT_READY: u32 = 5;

/// What a write to the port asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerRequest {
    /// Turn the machine off.
    PowerOff,
    /// Start it again.
    Reboot,
    /// The kernel panicked.
    Panic,
    /// All processors are stopped.
    Halt,
    /// The agent listens.
    AgentReady,
}

/// Reads `code << 8 | cause` from what was written to the port. No cause of today has a code; what
/// is not 32 bits wide or has an unknown cause asks for nothing.
pub(crate) fn request(data: &[u8]) -> Option<PowerRequest> {
    let value = u32::from_le_bytes(data.try_into().ok()?);
    match value & 0xff {
        POWER_OFF => Some(PowerRequest::PowerOff),
        REBOOT => Some(PowerRequest::Reboot),
        PANIC => Some(PowerRequest::Panic),
        HALT => Some(PowerRequest::Halt),
        AGENT_READY => Some(PowerRequest::AgentReady),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_lowest_byte() {
        let cases: [(&[u8], Option<PowerRequest>); 7] = [
            (&[1, 0, 0, 0], Some(PowerRequest::PowerOff)),
            (&[2, 7, 0, 0], Some(PowerRequest::Reboot)),
            (&[3, 0xff, 1, 2], Some(PowerRequest::Panic)),
            (&[5, 0, 0, 0], Some(PowerRequest::AgentReady)),
            (&[0, 1, 0, 1], None),
            (&[1], None),
            (&[0, 1, 0, 0, 0, 1, 0, 0], None),
        ];
        for (data, expected) in cases {
            assert_eq!(request(data), expected, "{data:?}");
        }
    }
}
