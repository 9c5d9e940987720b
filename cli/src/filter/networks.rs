//! Filters for networks, as `network ls` and `network prune` have them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use runtime::network::Network;

use super::containers::any;
use super::{Filter, Label, check_known, moment, truth};
use crate::failure::Failure;

/// What all filters of a command say together: of several with one key, one must fit, but for labels.
#[derive(Debug, Default)]
pub(crate) struct WantedNetworks {
    drivers: Vec<String>,
    ids: Vec<String>,
    names: Vec<String>,
    scopes: Vec<String>,
    kinds: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<Label>,
    until: Vec<SystemTime>,
}

/// What of a network filters look at.
pub(crate) struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    driver: &'a str,
    kind: &'a str,
    is_used: bool,
    labels: BTreeMap<String, String>,
    created: Option<SystemTime>,
}

impl<'a> Shown<'a> {
    /// A network, and whether a container is on it.
    pub(crate) fn of(network: &'a Network, is_used: bool) -> Self {
        Self {
            id: &network.id,
            name: &network.name,
            driver: "bridge",
            kind: if network.is_default() { "builtin" } else { "custom" },
            is_used,
            labels: network.labels.clone(),
            created: Some(network.created_at()),
        }
    }

    /// What is there for all and no network: of each container its own, or of none.
    pub(crate) fn builtin(id: &'a str, name: &'a str, driver: &'a str) -> Self {
        let (labels, kind) = (BTreeMap::new(), "builtin");
        Self { id, name, driver, kind, is_used: false, labels, created: None }
    }
}

impl WantedNetworks {
    /// Reads filters, of which only those in `allowed` make sense here.
    pub(crate) fn read(filters: &[Filter], allowed: &[&str]) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for Filter { key, value } in filters {
            check_known(key, allowed)?;
            match key.as_str() {
                "driver" => wanted.drivers.push(value.clone()),
                "id" => wanted.ids.push(value.clone()),
                "name" => wanted.names.push(value.clone()),
                "scope" => wanted.scopes.push(value.clone()),
                "type" => wanted.kinds.push(kind(value)?),
                "dangling" => wanted.dangling = Some(truth(value)?),
                "until" => wanted.until.push(moment(value)?),
                "label" => wanted.labels.push(Label::read(value)),
                _ => wanted.labels.push(Label { wanted: false, ..Label::read(value) }),
            }
        }
        Ok(wanted)
    }

    /// Whether a network is meant.
    pub(crate) fn network(&self, shown: &Shown<'_>) -> bool {
        any(&self.drivers, |driver| driver == shown.driver)
            && any(&self.ids, |id| shown.id.contains(id.as_str()))
            && any(&self.names, |name| shown.name.contains(name.as_str()))
            && any(&self.scopes, |scope| scope == "local")
            && any(&self.kinds, |kind| kind == shown.kind)
            // Those that are there for all are never superfluous.
            && self.dangling.is_none_or(|dangling| {
                dangling == (!shown.is_used && shown.kind == "custom")
            })
            && self.labels.iter().all(|label| label.fits(&shown.labels))
            && self.until.iter().all(|moment| shown.created.is_none_or(|it| it < *moment))
    }
}

fn kind(text: &str) -> Result<String, Failure> {
    match text {
        "custom" | "builtin" => Ok(text.to_owned()),
        _ => Err(Failure::new(&format!("invalid filter 'type={text}'"), "it is custom or builtin")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_say_which_networks_are_meant() {
        let all = ["driver", "id", "label", "name", "scope", "type", "dangling", "label!", "until"];
        let shown = || Shown {
            id: "3fa2",
            name: "web",
            driver: "bridge",
            kind: "custom",
            is_used: false,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            created: Some(SystemTime::UNIX_EPOCH),
        };
        for (filters, wanted) in [
            (&[][..], true),
            (&["driver=bridge"], true),
            (&["driver=null"], false),
            (&["driver=null", "driver=bridge"], true),
            (&["id=3f"], true),
            (&["name=we", "type=custom"], true),
            (&["name=db"], false),
            (&["scope=swarm"], false),
            (&["type=builtin"], false),
            (&["dangling=true"], true),
            (&["dangling=0"], false),
            (&["label=a"], true),
            (&["label=a=c"], false),
            (&["label!=a"], false),
            (&["until=1h"], true),
        ] {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            let read = WantedNetworks::read(&filters, &all).unwrap();
            assert_eq!(read.network(&shown()), wanted, "{filters:?}");
        }
        let builtin = WantedNetworks::read(&["type=builtin".parse().unwrap()], &all).unwrap();
        assert!(builtin.network(&Shown::builtin("0", "none", "null")));
        assert!(WantedNetworks::read(&["type=x".parse().unwrap()], &all).is_err());
        assert!(WantedNetworks::read(&["size=1".parse().unwrap()], &all).is_err());
    }
}
