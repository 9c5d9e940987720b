//! Containers that go on where a snapshot was taken: restored from one that is kept, or cloned from a
//! container that runs.

use super::take::{Afterwards, save};
use super::{Snapshot, SnapshotName, Snapshots};
use crate::attach::Attendance;
use crate::containers::{Containers, CopyOf, Record};
use crate::control::connect;
use crate::error::Error;
use crate::events::of_container;
use crate::host;
use crate::keeping::Keeping;
use crate::launch::{Created, create_copy};
use crate::moment::Moment;
use crate::network::Endpoint;
use crate::options::{NetworkOption, NetworkOptions, Ports};
use crate::places::Places;
use crate::plan::{Host, usual_name};
use crate::preparation::Scene;
use crate::spec::{ContainerName, Hostname};
use crate::timings::Stopwatch;

/// What a copy is to have of its own.
#[derive(Clone, Debug, Default)]
pub struct Copying {
    /// `--name`.
    pub name: Option<ContainerName>,
    /// `--hostname`; without it, that follows from the name.
    pub hostname: Option<Hostname>,
    /// `--network`; without it, the networks of the original.
    pub network: Option<NetworkOptions>,
    /// `-p`, `-P` and `--expose`: nothing is published unasked.
    pub ports: Ports,
    /// `--rm`.
    pub auto_remove: bool,
    /// Whether the program's input ends with that of the first who is attached.
    pub input_once: bool,
}

/// Creates a container that goes on where a snapshot was taken. To be called while this process has one
/// thread.
///
/// # Errors
/// When there is no such snapshot, it is of no use here, or the container's name is in use.
pub fn restore(
    name: &str,
    copying: &Copying,
    places: &Places,
    debug: bool,
) -> Result<Created, Error> {
    let snapshot = Snapshots::of(places).find(name)?;
    let origin = Some(snapshot.name.clone());
    let scene = Scene { places: places.clone(), debug };
    let created = create(snapshot.clone(), origin, copying, scene)?;
    snapshot.note("restore", places, &[("copy", created.id())]);
    Ok(created)
}

/// Clones a container that runs, as often as there are names, and starts the clones; tells each one's id. To
/// be called while this process has one thread.
///
/// # Errors
/// When it does not run, or a clone cannot be started; those before it stay.
pub fn clone(
    words: &str,
    copies: &[Copying],
    places: &Places,
    take: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let containers = Containers::of(places);
    let found = containers.find(words)?;
    drop(connect(&found)?);
    // Nobody ever finds it by this name.
    let number: [u8; 8] = host::random()?;
    let name: SnapshotName =
        format!("clone-{:016x}", u64::from_le_bytes(number)).parse().expect("a name");
    let unfinished = Snapshots::of(places).begin(&name)?;
    let description = save(&unfinished, &containers, &found, Afterwards::GoOn, places)?;
    let snapshot = unfinished.described(description);
    for copying in copies {
        let scene = Scene { places: places.clone(), debug: false };
        let created = create(snapshot.clone(), None, copying, scene)?;
        let id = created.id().to_owned();
        created.start(&Attendance::Away, Stopwatch::start())?;
        containers.events().add(&[of_container(&found.record, "clone", &[("clone", &id)])]);
        take(&id);
    }
    Ok(())
}

fn create(
    snapshot: Snapshot,
    name: Option<String>,
    copying: &Copying,
    scene: Scene,
) -> Result<Created, Error> {
    let original = &snapshot.description.container;
    let origin = CopyOf { snapshot: name, container: original.id.clone() };
    let record = record(original, origin, copying, &host::look()?);
    let network = copying.network.clone().unwrap_or_else(|| networks_of(original));
    create_copy(snapshot, record, &network, scene)
}

/// The record of a copy that has no id yet.
fn record(original: &Record, origin: CopyOf, copying: &Copying, host: &Host) -> Record {
    let name = copying.name.as_ref().map(ToString::to_string);
    let name = name.unwrap_or_else(|| usual_name(&original.image, host));
    let hostname =
        copying.hostname.clone().unwrap_or_else(|| Hostname::from_label(&name, "")).to_string();
    let mut ports = copying.ports.clone();
    ports.exposed.extend(original.ports.known());
    let mut container = original.container.clone();
    // What its next start is told; the program that goes on has the environment that it has.
    let (before, now) = (
        format!("HOSTNAME={}", container.hostname).into_bytes(),
        format!("HOSTNAME={hostname}").into_bytes(),
    );
    let variables = container.process.env.iter_mut();
    variables.filter(|line| **line == before).for_each(|line| line.clone_from(&now));
    container.hostname = hostname;
    container.networks.clear();
    let mode = copying.network.as_ref().map(|network| network.mode().to_owned());
    Record {
        id: String::new(),
        name,
        created: Moment::now(),
        keeping: Keeping {
            auto_remove: copying.auto_remove,
            input_once: copying.input_once,
            ..original.keeping.clone()
        },
        ports,
        network_mode: mode.unwrap_or_else(|| original.network_mode.clone()),
        networks: Vec::new(),
        copy_of: Some(origin),
        container,
        ..original.clone()
    }
}

/// The networks of the original, on which a copy has places of its own.
fn networks_of(original: &Record) -> NetworkOptions {
    let option = |endpoint: &Endpoint| NetworkOption {
        name: endpoint.network.clone(),
        aliases: endpoint.aliases.clone(),
        ..NetworkOption::default()
    };
    NetworkOptions { networks: original.networks.iter().map(option).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::sample;
    use crate::network::Mac;
    use crate::options::Publish;

    #[test]
    fn a_copy_has_what_is_its_own_and_the_rest_of_the_original() {
        let mut original = sample(&"a".repeat(64), "web");
        original.keeping.auto_remove = true;
        original.keeping.stop_timeout = Some(3);
        original.container.process.env = vec![b"HOSTNAME=web".to_vec(), b"A=web".to_vec()];
        original.ports.published = "8080:80".parse::<Publish>().unwrap().0;
        original.networks = vec![Endpoint {
            network: "net".to_owned(),
            network_id: "1".to_owned(),
            aliases: vec!["db".to_owned()],
            mac: Mac::of([192, 0, 2, 7].into()),
            address: [192, 0, 2, 7].into(),
            address6: None,
        }];
        let host = host::look().unwrap();
        let origin = CopyOf { snapshot: Some("s".to_owned()), container: original.id.clone() };
        let copy = record(&original, origin.clone(), &Copying::default(), &host);
        assert!(copy.id.is_empty() && copy.networks.is_empty() && copy.copy_of == Some(origin));
        assert!(copy.name.starts_with("busybox-latest-"));
        assert_eq!(copy.container.hostname, copy.name);
        assert!(!copy.keeping.auto_remove && copy.keeping.stop_timeout == Some(3));
        assert!(copy.ports.publications().is_empty() && !copy.ports.exposed.is_empty());
        let hostname = format!("HOSTNAME={}", copy.name).into_bytes();
        assert_eq!(copy.container.process.env, [hostname, b"A=web".to_vec()]);
        let networks = networks_of(&original).networks;
        assert_eq!((networks[0].name.as_str(), networks[0].address), ("net", None));
        assert_eq!(networks[0].aliases, ["db"]);

        let copying = Copying {
            name: Some("two".parse().unwrap()),
            hostname: Some("other".parse().unwrap()),
            network: Some(NetworkOptions::default()),
            ports: Ports { all: true, ..Ports::default() },
            ..Copying::default()
        };
        let origin = CopyOf { snapshot: None, container: original.id.clone() };
        let copy = record(&original, origin, &copying, &host);
        assert_eq!((copy.name.as_str(), copy.container.hostname.as_str()), ("two", "other"));
        assert_eq!((copy.ports.publications().len(), copy.network_mode.as_str()), (1, "none"));
    }
}
