//! The published ports of a container that is looked after: open as long as its program runs.

use super::serve::Supervisor;
use crate::link::FromSupervisor;
use crate::publish::{Door, Proxy};

impl Supervisor<'_> {
    /// Leads whoever comes to the container's ports to its program. Until now they have waited.
    pub(super) fn lead_in(&mut self) {
        let Some(place) = self.record.networks.first() else { return };
        let doors = std::mem::take(&mut self.parts.doors);
        self.state.ports = doors.iter().map(|door| door.published).collect();
        if doors.is_empty() {
            return;
        }
        match Proxy::start(doors, place.address.into()) {
            Ok(proxy) => self.proxy = Some(proxy),
            Err(error) => {
                self.state.ports.clear();
                let words = format!("published ports do not answer: {error}");
                self.clients.tell_all(&FromSupervisor::Warning(words));
            }
        }
    }

    /// Lets nobody in any more; the doors stay ours. Another machine is forked by a process of one thread
    /// only.
    pub(super) fn shut_doors(&mut self) -> Vec<Door> {
        let doors = std::mem::take(&mut self.parts.doors);
        self.proxy.take().map_or(doors, Proxy::stop)
    }
}
