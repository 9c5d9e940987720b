//! The two vsock ports on which the host finds the agent, and nobody else does.

use std::os::fd::OwnedFd;

use protocol::{CONTROL_PORT, STREAM_PORT};
use rustix::io::Errno;

use crate::{
    step::{Doing, StepError},
    sys,
};

/// The two vsock ports on which the host finds the agent.
pub(crate) struct Doors {
    /// Where the control connection comes in, and any second one that is turned away.
    pub(crate) control: OwnedFd,
    /// Where streams come in.
    pub(crate) stream: OwnedFd,
}

impl Doors {
    /// Listens on both ports.
    pub(crate) fn open() -> Result<Self, StepError> {
        let listen =
            |port| sys::vsock_listen(port).doing(format_args!("listen on vsock port {port}"));
        Ok(Self { control: listen(CONTROL_PORT)?, stream: listen(STREAM_PORT)? })
    }

    /// Waits for the control connection.
    pub(crate) fn wait_for_host(&self) -> Result<OwnedFd, StepError> {
        loop {
            match sys::vsock_accept(&self.control) {
                Ok(peer) if peer.cid == sys::HOST_CID => return Ok(peer.socket),
                // Not the host, or gone again before it was let in.
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error).doing("wait for the host"),
            }
        }
    }

    /// The connection waiting at the control port, if it is the host's.
    pub(crate) fn accept_at_control(&self) -> Option<OwnedFd> {
        accept_host(&self.control)
    }

    /// The connection waiting at the streams' port, if it is the host's.
    pub(crate) fn accept_at_stream(&self) -> Option<OwnedFd> {
        accept_host(&self.stream)
    }
}

/// The connection waiting at a door, if it is the host's; any other is closed.
fn accept_host(door: &OwnedFd) -> Option<OwnedFd> {
    let peer = sys::vsock_accept(door).ok()?;
    (peer.cid == sys::HOST_CID).then_some(peer.socket)
}

/// Whether an `accept` failed for a reason that concerns one connection only.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INTR | Errno::CONNABORTED | Errno::CONNRESET | Errno::AGAIN)
    )
}
