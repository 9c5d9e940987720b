//! Interfaces that come and go while a container runs. The machine is told to plug something in, and the
//! agent takes it over; the other way round the agent lets go first.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use protocol::{Answer, Interface, MmioDevice, Question};
use vmm::config::{NetBackend, NetConfig};
use vmm::event::InterfaceOutcome;
use vmm::order::Order;

use super::clients::ClientId;
use super::error::Error;
use super::serve::Supervisor;
use crate::link::FromSupervisor;
use crate::network::Carrier;
use crate::options::Dns;

/// What is at the places of a machine's interfaces.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    /// Who answers for names on the network of an interface with this hardware address.
    resolvers: Resolvers,
}

/// By hardware addresses.
type Resolvers = BTreeMap<[u8; 6], IpAddr>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Free,
    /// An interface of the container, by its hardware address, or the one that a container without a
    /// network does not see.
    Taken([u8; 6]),
    /// One that the machine has been told to plug in.
    Awaited(Box<Wanted>),
}

/// An interface that a client wants plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    client: ClientId,
    interface: Interface,
    carrier: Carrier,
}

/// What a place of the machine is after something was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Filled,
    Empty,
}

impl Places {
    /// Those of a container that begins with these interfaces in a machine with so many places. The first
    /// place is never empty then.
    pub(super) fn new(interfaces: &[Interface], resolvers: Resolvers, count: usize) -> Self {
        let mut places = vec![Place::Free; count];
        places.iter_mut().take(1).for_each(|first| *first = Place::Taken([0; 6]));
        for (place, interface) in places.iter_mut().zip(interfaces) {
            *place = Place::Taken(interface.mac);
        }
        Self { places, resolvers }
    }

    /// Takes the first free place for an interface; its number.
    fn take(&mut self, wanted: Wanted) -> Option<u8> {
        let number = self.places.iter().position(|place| *place == Place::Free)?;
        self.places[number] = Place::Awaited(Box::new(wanted));
        u8::try_from(number).ok()
    }

    /// The hardware address of the interface at a place.
    fn at(&self, number: usize) -> Option<[u8; 6]> {
        match self.places.get(number)? {
            Place::Taken(mac) => Some(*mac),
            Place::Free | Place::Awaited(_) => None,
        }
    }

    /// The place of the interface with this hardware address.
    fn of(&self, mac: [u8; 6]) -> Option<usize> {
        self.places.iter().position(|place| *place == Place::Taken(mac))
    }

    /// What became of a place; what it was taken for, if it was.
    fn settle(&mut self, number: u8, now: Now) -> Option<Wanted> {
        let place = self.places.get_mut(usize::from(number))?;
        let before = std::mem::replace(place, Place::Free);
        match before {
            Place::Awaited(wanted) => {
                if now == Now::Filled {
                    *place = Place::Taken(wanted.interface.mac);
                }
                Some(*wanted)
            }
            other => {
                if now == Now::Filled {
                    *place = other;
                }
                None
            }
        }
    }
}

impl Supervisor<'_> {
    /// Plugs in what a client has brought.
    pub(super) fn connect(
        &mut self,
        client: ClientId,
        (interface, resolver): (Interface, Ipv4Addr),
        files: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let mut files = files.into_iter();
        let refusal = match (self.standing_still(), files.next()) {
            (Some(reason), _) => reason,
            (None, None) => "there is no interface with the message".to_owned(),
            (None, Some(tap)) => {
                let vhost = files.next().map(File::from);
                let carrier = Carrier::of(vhost.as_ref());
                match self.parts.places.take(Wanted { client, interface, carrier }) {
                    None => "its machine has no place for another interface".to_owned(),
                    Some(number) => {
                        self.parts.places.resolvers.insert(interface.mac, resolver.into());
                        let (backend, limits) =
                            (NetBackend::Tap(tap.into()), self.record.host.net_limits());
                        return self.plug(client, number, NetConfig { backend, vhost, limits });
                    }
                }
            }
        };
        self.clients.tell(client, &FromSupervisor::Refused(refusal));
        Ok(())
    }

    /// Has the agent let go of the interface with this hardware address.
    pub(super) fn disconnect(&mut self, client: ClientId, mac: [u8; 6]) -> Result<(), Error> {
        let device = self.parts.places.of(mac).and_then(|place| self.machine.devices().get(place));
        match (self.standing_still(), device.copied()) {
            (None, Some(device)) => self.ask(client, Question::Disconnect { device }),
            (reason, _) => {
                let reason = reason.unwrap_or_else(|| "it has no such interface".to_owned());
                self.clients.tell(client, &FromSupervisor::Refused(reason));
                Ok(())
            }
        }
    }

    fn plug(&mut self, client: ClientId, number: u8, net: NetConfig) -> Result<(), Error> {
        if let Err(error) = self.machine.order(Order::Plug { interface: number, net }) {
            self.parts.places.settle(number, Now::Empty);
            let reason = vmm::error::chain(&error);
            self.clients.tell(client, &FromSupervisor::Refused(reason));
        }
        Ok(())
    }

    /// The machine of a container that has taken another one's place may have devices of which that one's
    /// networks were, and which lead nowhere now. The agent has let go of them.
    pub(super) fn unplug_leftovers(&mut self) {
        let taken = self.parts.interfaces.len().max(1);
        for number in taken..self.machine.devices().len() {
            if let Ok(interface) = u8::try_from(number) {
                // Those that are empty are refused, and a machine that is gone has none.
                let _ = self.machine.order(Order::Unplug { interface });
            }
        }
    }

    /// The machine has done what it was told to.
    pub(super) fn interface_changed(
        &mut self,
        number: u8,
        outcome: InterfaceOutcome,
    ) -> Result<(), Error> {
        let now = match outcome {
            InterfaceOutcome::Plugged { .. } => Now::Filled,
            InterfaceOutcome::Unplugged | InterfaceOutcome::Refused { .. } => Now::Empty,
        };
        let awaited = self.parts.places.settle(number, now);
        match (outcome, awaited) {
            (InterfaceOutcome::Plugged { device }, Some(wanted)) => {
                let Wanted { client, interface, carrier } = wanted;
                self.state.carrier = Some(carrier);
                let device = MmioDevice { index: device };
                self.ask(client, Question::Connect { device, interface })
            }
            (InterfaceOutcome::Refused { reason }, Some(Wanted { client, .. })) => {
                self.clients.tell(client, &FromSupervisor::Refused(reason));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The agent has let go of an interface, or has not taken one over: nothing is to be behind it any more.
    pub(super) fn interface_answered(
        &mut self,
        question: &Question,
        answer: &Answer,
    ) -> Result<(), Error> {
        let device = match (question, answer) {
            (Question::Connect { interface, .. }, Answer::Done) => {
                self.parts.interfaces.push(*interface);
                self.lead_elsewhere();
                self.enter(self.state.status);
                return self.ask_elsewhere();
            }
            (Question::Connect { device, .. }, Answer::Failed { .. })
            | (Question::Disconnect { device }, Answer::Done) => *device,
            _ => return Ok(()),
        };
        let place = self.machine.devices().iter().position(|one| *one == device);
        if let Some(mac) = place.and_then(|place| self.parts.places.at(place)) {
            self.parts.interfaces.retain(|interface| interface.mac != mac);
            if self.parts.interfaces.is_empty() {
                self.state.carrier = None;
            }
            self.lead_elsewhere();
            self.enter(self.state.status);
        }
        if let Some(interface) = place.and_then(|place| u8::try_from(place).ok()) {
            // A machine that is gone has no interfaces either.
            let _ = self.machine.order(Order::Unplug { interface });
        }
        self.ask_elsewhere()
    }

    /// The container asks for names where it is now. What it begins after this finds it so.
    fn ask_elsewhere(&mut self) -> Result<(), Error> {
        let known = &self.parts.places.resolvers;
        let interfaces = self.parts.interfaces.iter();
        let here: Vec<_> = interfaces.filter_map(|it| known.get(&it.mac).copied()).collect();
        let before = self.record.container.etc.resolv_conf.clone();
        let after = Dns::default().resolv_conf(&before, &here);
        if before == after {
            return Ok(());
        }
        self.record.container.etc.resolv_conf.clone_from(&after);
        self.ask_for(None, Question::Resolve { before, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(last: u8) -> Interface {
        Interface {
            mac: [2, 0x42, 172, 16, 0, last],
            address: [172, 16, 0, last].into(),
            prefix_bits: 20,
            gateway: None,
            six: None,
            mtu: 1500,
            offloads: true,
        }
    }

    fn wanted(client: ClientId, last: u8) -> Wanted {
        Wanted { client, interface: interface(last), carrier: Carrier::Machine }
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let mut places = Places::new(&[interface(2)], Resolvers::new(), 3);
        assert_eq!((places.of(interface(2).mac), places.of(interface(3).mac)), (Some(0), None));
        assert_eq!(places.take(wanted(7, 3)), Some(1));
        assert_eq!(places.take(wanted(8, 4)), Some(2));
        assert_eq!(places.take(wanted(9, 5)), None);
        // It is there only when the machine says so.
        assert_eq!(places.of(interface(3).mac), None);
        assert_eq!(places.settle(1, Now::Filled), Some(wanted(7, 3)));
        assert_eq!(places.of(interface(3).mac), Some(1));
        assert_eq!(places.settle(2, Now::Empty), Some(wanted(8, 4)));
        assert_eq!(places.settle(1, Now::Empty), None);
        assert_eq!(places.take(wanted(9, 5)), Some(1));
        assert_eq!(places.settle(9, Now::Empty), None);
    }

    #[test]
    fn a_container_without_a_network_keeps_what_it_does_not_see() {
        let mut places = Places::new(&[], Resolvers::new(), 2);
        assert_eq!(places.take(wanted(1, 2)), Some(1));
        assert_eq!(places.take(wanted(1, 3)), None);
    }
}
