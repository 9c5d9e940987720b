//! Which ports of a container are published, and which only known, as all its flags and its image say.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::port::ContainerPort;
use super::publish::Publication;

/// What was asked for, kept with the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// `-p`.
    pub published: Vec<Publication>,
    /// `-P`: every port that is known is published too.
    pub all: bool,
    /// `--expose`, and what the image says.
    pub exposed: BTreeSet<ContainerPort>,
}

impl Ports {
    /// With the ports that an image exposes.
    pub(crate) fn with_images(mut self, exposed: &BTreeSet<String>) -> Self {
        self.exposed.extend(exposed.iter().flat_map(|text| ContainerPort::of_image(text)));
        self
    }

    /// Every port that is known, whichever way.
    #[must_use]
    pub fn known(&self) -> BTreeSet<ContainerPort> {
        let published = self.published.iter().map(|publication| publication.port);
        self.exposed.iter().copied().chain(published).collect()
    }

    /// All that is to be published: what was asked for, and with `-P` what is known beside that.
    #[must_use]
    pub fn publications(&self) -> Vec<Publication> {
        let mut all = self.published.clone();
        let is_new = |port: &&ContainerPort| !self.published.iter().any(|it| it.port == **port);
        let more = self.exposed.iter().filter(|_| self.all).filter(is_new);
        all.extend(more.map(|port| Publication { port: *port, address: None, host: None }));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Expose, Publish};

    #[test]
    fn what_is_exposed_is_published_when_all_is() {
        let published = "8080:80".parse::<Publish>().unwrap().0;
        let exposed: BTreeSet<_> = "90-91/udp".parse::<Expose>().unwrap().0.into_iter().collect();
        let image = ["80/tcp", "http", "443/tcp"].map(str::to_owned).into();
        let ports = Ports { published, all: false, exposed }.with_images(&image);
        let words = |ports: &Ports| {
            let all = ports.publications().into_iter();
            let words =
                all.map(|one| format!("{:?} {}", one.host.map(|host| host.first), one.port));
            words.collect::<Vec<_>>()
        };
        assert_eq!(words(&ports), ["Some(8080) 80/tcp"]);
        let known: Vec<_> = ports.known().iter().map(ToString::to_string).collect();
        assert_eq!(known, ["80/tcp", "90/udp", "91/udp", "443/tcp"]);
        let all = ["Some(8080) 80/tcp", "None 90/udp", "None 91/udp", "None 443/tcp"];
        assert_eq!(words(&Ports { all: true, ..ports }), all);
    }
}
