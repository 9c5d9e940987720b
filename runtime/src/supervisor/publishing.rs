//! The published ports of a container that is looked after: open as long as its program runs.

use super::serve::Supervisor;
use crate::containers::Status;
use crate::link::FromSupervisor;
use crate::publish::{Entrance, Proxy};

impl Supervisor<'_> {
    /// Leads whoever comes to the container's ports to its program. Until now they have waited.
    pub(super) fn lead_in(&mut self) {
        if self.parts.passt.is_some() {
            // It leads them on itself.
            self.state.ports.clone_from(&self.parts.entrance.by_passt);
            return;
        }
        let Some(first) = self.parts.interfaces.first() else { return };
        let target = first.address.into();
        let doors = std::mem::take(&mut self.parts.entrance.doors);
        self.state.ports = doors.iter().map(|door| door.published).collect();
        if doors.is_empty() {
            return;
        }
        match Proxy::start(doors, target) {
            Ok(proxy) => {
                self.proxy = Some(proxy);
                self.led_to = Some(target);
            }
            Err(error) => {
                self.state.ports.clear();
                let words = format!("published ports do not answer: {error}");
                self.clients.tell_all(&FromSupervisor::Warning(words));
            }
        }
    }

    /// The container's first network need not be the one that it was. Where it is on none, those who come are
    /// turned away as long as that lasts.
    pub(super) fn lead_elsewhere(&mut self) {
        let target = self.parts.interfaces.first().map(|first| first.address.into());
        if self.state.status == Status::Starting || target.is_none() || target == self.led_to {
            return;
        }
        self.parts.entrance = self.shut_doors();
        self.lead_in();
        self.enter(self.state.status);
    }

    /// Lets nobody in any more; the doors stay ours. Another machine is forked by a process of one thread
    /// only.
    pub(super) fn shut_doors(&mut self) -> Entrance {
        let Entrance { doors, by_passt } = std::mem::take(&mut self.parts.entrance);
        Entrance { doors: self.proxy.take().map_or(doors, Proxy::stop), by_passt }
    }
}
