//! Filters for containers, as `ps` and `container prune` have them.

use std::net::SocketAddr;

use images::{Digest, Store};
use runtime::network::Endpoint;
use runtime::options::{ContainerPort, Expose};
use runtime::{Found, Moment, Record, Status};

use super::{Filter, Label, check_known, moment};
use crate::failure::Failure;

/// What all filters of a command say together: of several with one key, one must fit, but for labels.
#[derive(Debug, Default)]
pub(crate) struct WantedContainers {
    ids: Vec<String>,
    names: Vec<String>,
    labels: Vec<Label>,
    exited: Vec<u8>,
    statuses: Vec<String>,
    healths: Vec<String>,
    ancestors: Vec<Ancestor>,
    before: Vec<Moment>,
    since: Vec<Moment>,
    until: Vec<Moment>,
    networks: Vec<String>,
    /// Ports of the host, and of the container: of both together one must fit.
    published: Vec<ContainerPort>,
    exposed: Vec<ContainerPort>,
}

/// An image as it was typed, and its id if there is one.
#[derive(Debug)]
struct Ancestor {
    words: String,
    id: Option<Digest>,
}

/// Docker's words for the states of containers.
const STATUSES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// And for how they do.
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

impl WantedContainers {
    /// Reads filters, of which only those in `allowed` make sense here. `all` are the containers that
    /// `before` and `since` may name.
    pub(crate) fn read<C>(
        filters: &[Filter],
        allowed: &[&str],
        all: &[Found<C>],
        store: &Store,
    ) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for Filter { key, value } in filters {
            check_known(key, allowed)?;
            match key.as_str() {
                "id" => wanted.ids.push(value.clone()),
                "name" => wanted.names.push(value.clone()),
                "label" => wanted.labels.push(Label::read(value)),
                "label!" => wanted.labels.push(Label { wanted: false, ..Label::read(value) }),
                "exited" => wanted.exited.push(exit_code(value)?),
                "status" => wanted.statuses.push(one_of(key, value, &STATUSES)?),
                "health" => wanted.healths.push(one_of(key, value, &HEALTHS)?),
                "ancestor" => {
                    let id = store.find(value).ok().map(|image| image.id);
                    wanted.ancestors.push(Ancestor { words: value.clone(), id });
                }
                "network" => wanted.networks.push(value.clone()),
                "publish" => wanted.published.extend(ports(key, value)?),
                "expose" => wanted.exposed.extend(ports(key, value)?),
                "before" => wanted.before.push(created(value, all)?),
                "since" => wanted.since.push(created(value, all)?),
                _ => wanted.until.push(Moment(moment(value)?)),
            }
        }
        Ok(wanted)
    }

    /// Whether the filters say which states are meant.
    pub(crate) fn has_status(&self) -> bool {
        !self.statuses.is_empty() || !self.exited.is_empty()
    }

    fn has_port<C>(&self, found: &Found<C>) -> bool {
        if self.published.is_empty() && self.exposed.is_empty() {
            return true;
        }
        found.ports().iter().any(|(port, hosts)| {
            let of_host =
                |host: &SocketAddr| ContainerPort { number: host.port(), protocol: port.protocol };
            self.exposed.contains(port)
                || hosts.iter().any(|host| self.published.contains(&of_host(host)))
        })
    }

    /// Whether a container is meant.
    pub(crate) fn container<C>(&self, found: &Found<C>) -> bool {
        let (record, state) = (&found.record, &found.state);
        let has_ended = state.status == Status::Exited;
        any(&self.ids, |id| record.id.starts_with(id.as_str()))
            && any(&self.names, |name| fits_name(name, &record.name))
            && any(&self.exited, |code| has_ended && state.exit_code == *code)
            && any(&self.statuses, |status| state.status.word() == status)
            && any(&self.healths, |health| {
                found.health().map_or("none", |health| health.status.word()) == health
            })
            && any(&self.ancestors, |ancestor| {
                ancestor.id.is_some_and(|id| id.to_string() == record.image_id)
                    || record.image == ancestor.words
            })
            && any(&self.networks, |network| is_on(record, network))
            && self.has_port(found)
            && self.before.iter().all(|moment| record.created < *moment)
            && self.since.iter().all(|moment| record.created > *moment)
            && self.until.iter().all(|moment| record.created < *moment)
            && self.labels.iter().all(|label| label.fits(&record.keeping.labels))
    }
}

/// Whether it is on the network of this name, or whose id begins so, or on none in this way.
fn is_on<C>(record: &Record<C>, words: &str) -> bool {
    let is_it = |place: &Endpoint| place.network == words || place.network_id.starts_with(words);
    match record.networks[..] {
        [] => record.network_mode == words,
        _ => record.networks.iter().any(is_it),
    }
}

fn ports(key: &str, value: &str) -> Result<Vec<ContainerPort>, Failure> {
    let ports: Result<Expose, _> = value.parse();
    let wrong = |_| {
        Failure::new(&format!("invalid filter '{key}={value}'"), "it is PORT[-PORT][/PROTOCOL]")
    };
    ports.map(|Expose(ports)| ports).map_err(wrong)
}

/// Whether one of them fits, or there is none to fit.
pub(super) fn any<T>(wanted: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

/// A part of the name; `^` and `$` hold it to the beginning and the end.
fn fits_name(pattern: &str, name: &str) -> bool {
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (end, part) = match rest.strip_suffix('$') {
        Some(part) => (true, part),
        None => (false, rest),
    };
    let part = part.strip_prefix('/').unwrap_or(part);
    match (start, end) {
        (true, true) => name == part,
        (true, false) => name.starts_with(part),
        (false, true) => name.ends_with(part),
        (false, false) => name.contains(part),
    }
}

fn exit_code(text: &str) -> Result<u8, Failure> {
    let wrong = |_| Failure::new(&format!("invalid filter 'exited={text}'"), "it is 0 to 255");
    text.parse().map_err(wrong)
}

fn one_of(key: &str, text: &str, words: &[&str]) -> Result<String, Failure> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = format!("it is one of {}", words.join(", "));
    Err(Failure::new(&format!("invalid filter '{key}={text}'"), &hint))
}

/// When a container was created.
fn created<C>(words: &str, all: &[Found<C>]) -> Result<Moment, Failure> {
    let found = all.iter().find(|found| {
        found.record.name == words || (!words.is_empty() && found.record.id.starts_with(words))
    });
    found.map(|found| found.record.created).ok_or_else(|| {
        let words = words.to_owned();
        runtime::Error::UnknownContainer { words }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_in_part_or_as_a_whole() {
        for (pattern, name, wanted) in [
            ("we", "web", true),
            ("eb", "web", true),
            ("^web$", "web", true),
            ("^/web$", "web", true),
            ("^web$", "web-1", false),
            ("^web", "web-1", true),
            ("1$", "web-1", true),
            ("db", "web", false),
            ("", "web", true),
        ] {
            assert_eq!(fits_name(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn states_and_codes_are_dockers() {
        let status = |word| one_of("status", word, &STATUSES);
        assert!(status("exited").is_ok() && status("up").is_err());
        assert!(exit_code("0").is_ok() && exit_code("256").is_err());
    }
}
