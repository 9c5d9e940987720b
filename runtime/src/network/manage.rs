//! What people do with networks: make, connect, disconnect, remove.

use std::time::SystemTime;

use images::{Event, EventLog};

use super::endpoint::twice;
use super::error::NetworkError;
use super::host::HostLock;
use super::record::NetworkSpec;
use super::{DEFAULT_NETWORK, Endpoint, NO_NETWORK, Network, Networks, USER_NETWORK, host};
use crate::containers::{Containers, Found, Record};
use crate::error::Error;
use crate::options::{NetworkOption, NetworkOptionError};
use crate::questions;

impl Networks {
    /// Makes a network of addresses that nobody else on this host has, and sets it up.
    ///
    /// # Errors
    /// When it makes no sense, its name or addresses are taken, or the host does not let us.
    pub fn create(&self, spec: NetworkSpec) -> Result<Network, Error> {
        if spec.name == DEFAULT_NETWORK {
            // It is there for all, if only once somebody asks for it.
            return Err(NetworkError::NameInUse { name: spec.name }.into());
        }
        let host = HostLock::take()?;
        let network = self.make(spec)?;
        if let Err(error) = host::set_up(self, &network, &host) {
            // What is half there is taken away as well as it can be.
            let _ = host::take_down(&network);
            self.lock()?.remove(&network)?;
            return Err(error);
        }
        self.note("create", &network, &[]);
        Ok(network)
    }

    /// Removes a network that nobody is on.
    ///
    /// # Errors
    /// When there is no such network, somebody is on it, or it is there for all.
    pub fn remove(&self, words: &str) -> Result<Network, Error> {
        if [NO_NETWORK, USER_NETWORK, DEFAULT_NETWORK].contains(&words) {
            return Err(NetworkError::Predefined { name: words.to_owned() }.into());
        }
        let network = self.find(words)?;
        if network.is_default() {
            return Err(NetworkError::Predefined { name: network.name }.into());
        }
        self.forget(&network)?;
        self.note("destroy", &network, &[]);
        Ok(network)
    }

    /// Removes all networks that nobody is on and `is_meant` does not spare; the default one, too, which is
    /// made anew when it is needed, but that is not told.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn prune(&self, is_meant: impl Fn(&Network) -> bool) -> Result<Vec<Network>, Error> {
        let mut removed = Vec::new();
        for network in self.list()?.into_iter().filter(|network| is_meant(network)) {
            match self.forget(&network) {
                Err(Error::Network(NetworkError::InUse { .. })) => {}
                Err(error) => return Err(error),
                Ok(()) if network.is_default() => {}
                Ok(()) => removed.push(network),
            }
        }
        Ok(removed)
    }

    /// Makes the default network, if it is meant and not there yet, with its bridge: its addresses are no other
    /// root's from then on.
    pub(crate) fn found_default(&self, words: &str) -> Result<(), Error> {
        if words != DEFAULT_NETWORK || self.named(words)?.is_some() {
            return Ok(());
        }
        let host = HostLock::take()?;
        let network = self.named_or_default(words)?;
        // Who needs what is missing then hears why.
        let _ = host::set_up(self, &network, &host);
        Ok(())
    }

    /// All networks that there are or would be, by their names.
    ///
    /// # Errors
    /// When one cannot be read, or the default one not be written down.
    pub fn list_all(&self) -> Result<Vec<Network>, Error> {
        self.found_default(DEFAULT_NETWORK)?;
        self.list()
    }

    /// Gives a container a place on one more network, at once where it runs.
    ///
    /// # Errors
    /// When there is no such network or container, it is there already, or it cannot be plugged in.
    pub fn connect_container(
        &self,
        containers: &Containers,
        words: &str,
        option: &NetworkOption,
    ) -> Result<(), Error> {
        self.found_default(&option.name)?;
        let network = self.find(&option.name)?;
        let found = containers.find(words)?;
        let record = &found.record;
        if record.networks.iter().any(|endpoint| endpoint.network_id == network.id) {
            return Err(twice(record, &network));
        }
        let is_alone = [NO_NETWORK, USER_NETWORK].contains(&record.network_mode.as_str());
        if is_alone && record.networks.is_empty() {
            let reason = NetworkOptionError::NoneAndOthers.to_string();
            return Err(NetworkError::Address { reason }.into());
        }
        let endpoint = self.admit(record, &network, option)?;
        if found.state.status.is_supervised()
            && let Err(error) = self.plug_in(&found, &endpoint)
        {
            self.leave(&record.id, &endpoint);
            return Err(error);
        }
        let changed = |mut record: Record| {
            record.networks.push(endpoint);
            record
        };
        containers.register()?.change(&record.id, changed)?;
        self.note("connect", &network, &[("container", &record.id)]);
        Ok(())
    }

    /// Takes a container off a network, at once where it runs.
    ///
    /// # Errors
    /// When there is no such network or container, it is not there, or does not let go.
    pub fn disconnect_container(
        &self,
        containers: &Containers,
        words: &str,
        network: &str,
    ) -> Result<(), Error> {
        let network = self.find(network)?;
        let found = containers.find(words)?;
        let record = &found.record;
        let is_it = |id: &str| id == network.id;
        let Some(endpoint) = record.networks.iter().find(|one| is_it(&one.network_id)) else {
            let (id, name) = (&record.id, &network.name);
            let reason = format!("container {id} is not connected to network {name}");
            return Err(NetworkError::Address { reason }.into());
        };
        let changed = |mut record: Record| {
            record.networks.retain(|one| !is_it(&one.network_id));
            record
        };
        if found.state.status.is_supervised() {
            questions::unplug(&found, endpoint.mac.0)?;
        }
        containers.register()?.change(&record.id, changed)?;
        self.leave(&record.id, endpoint);
        self.note("disconnect", &network, &[("container", &record.id)]);
        Ok(())
    }

    /// Takes a network away that nobody is on.
    fn forget(&self, network: &Network) -> Result<(), Error> {
        let locked = self.lock()?;
        locked.check_unused(network)?;
        host::take_down(network)?;
        locked.remove(network)
    }

    /// Gives a container that runs an interface at its new place.
    fn plug_in(&self, found: &Found, endpoint: &Endpoint) -> Result<(), Error> {
        let index = found.record.networks.len();
        questions::plug(found, self.connect_one(&found.record, index, endpoint)?)
    }

    fn note(&self, action: &str, network: &Network, more: &[(&str, &str)]) {
        let mut attributes: std::collections::BTreeMap<String, String> =
            [("name".to_owned(), network.name.clone()), ("type".to_owned(), "bridge".to_owned())]
                .into();
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let root = self.folder.parent().unwrap_or(&self.folder);
        EventLog::under(root).add(&[Event::now("network", action, &network.id, attributes)]);
    }
}

impl Network {
    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> SystemTime {
        self.created.0
    }
}
