//! The names that there are. Whoever completes a word changes nothing and is told of nothing: what cannot
//! be read is left out.

use ::images::Store;
use runtime::network::{DEFAULT_NETWORK, NO_NETWORK, Networks, USER_NETWORK};
use runtime::places::Places;
use runtime::snapshots::Snapshots;
use runtime::{Containers, Status};

/// Which names are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Containers(States),
    Images,
    /// Those that were made.
    Networks,
    /// Whatever a container can be connected to.
    Connections,
    Snapshots,
    /// Of whatever `inspect` finds.
    Objects,
    /// Of containers, each with a colon behind it, for a path in it.
    Roots,
}

/// How far containers have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum States {
    Any,
    Running,
    Paused,
    /// They run, stand still, or are about to run again.
    Alive,
    /// They can be started.
    Startable,
}

impl States {
    fn have(self, status: Status) -> bool {
        match self {
            Self::Any => true,
            Self::Running => status == Status::Running,
            Self::Paused => status == Status::Paused,
            Self::Alive => {
                matches!(status, Status::Running | Status::Paused | Status::Restarting)
            }
            Self::Startable => matches!(status, Status::Created | Status::Exited),
        }
    }
}

/// A name, and what a person is told of it.
pub(super) type Named = (String, String);

/// All names of a kind.
pub(super) fn names(kind: Kind, places: &Places) -> Vec<Named> {
    let mut all = match kind {
        Kind::Containers(states) => containers(states, places),
        Kind::Images => images(places),
        Kind::Networks => networks(places),
        Kind::Connections => {
            let built_in = [DEFAULT_NETWORK, NO_NETWORK, USER_NETWORK];
            let built_in = built_in.map(|name| (name.to_owned(), "network".to_owned()));
            [networks(places), built_in.to_vec()].concat()
        }
        Kind::Snapshots => told("snapshot", Snapshots::of(places).peek()),
        Kind::Objects => {
            [containers(States::Any, places), images(places), networks(places)].concat()
        }
        Kind::Roots => {
            let all = containers(States::Any, places);
            all.into_iter().map(|(name, about)| (name + ":", about)).collect()
        }
    };
    all.sort();
    all.dedup_by(|one, other| one.0 == other.0);
    all
}

fn told(about: &str, names: impl IntoIterator<Item = String>) -> Vec<Named> {
    names.into_iter().map(|name| (name, about.to_owned())).collect()
}

fn containers(states: States, places: &Places) -> Vec<Named> {
    let mut all = Containers::of(places).peek();
    all.retain(|found| states.have(found.state.status));
    all.into_iter().map(|found| (found.record.name, found.record.image)).collect()
}

fn images(places: &Places) -> Vec<Named> {
    let names = Store::names_under(&places.images()).unwrap_or_default();
    told("image", names.iter().map(::images::Reference::familiar))
}

fn networks(places: &Places) -> Vec<Named> {
    let made = Networks::open(places).list().unwrap_or_default();
    told("network", made.into_iter().map(|network| network.name))
}
