//! Filters for snapshots, as `snapshot ls` has them.

use std::collections::BTreeMap;

use runtime::snapshots::Snapshot;

use super::containers::any;
use super::{Filter, Label, check_known};
use crate::failure::Failure;

/// What all filters say together: of several with one key, one must fit, but for labels.
#[derive(Debug, Default)]
pub(crate) struct WantedSnapshots {
    names: Vec<String>,
    containers: Vec<String>,
    images: Vec<String>,
    labels: Vec<Label>,
}

/// What of a snapshot filters look at.
struct Shown<'a> {
    name: &'a str,
    container: [&'a str; 2],
    image: [&'a str; 2],
    labels: &'a BTreeMap<String, String>,
}

const KEYS: [&str; 4] = ["name", "container", "image", "label"];

impl WantedSnapshots {
    /// Reads filters.
    pub(crate) fn read(filters: &[Filter]) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for Filter { key, value } in filters {
            check_known(key, &KEYS)?;
            match key.as_str() {
                "name" => wanted.names.push(value.clone()),
                "container" => wanted.containers.push(value.clone()),
                "image" => wanted.images.push(value.clone()),
                _ => wanted.labels.push(Label::read(value)),
            }
        }
        Ok(wanted)
    }

    /// Whether a snapshot is meant.
    pub(crate) fn snapshot(&self, snapshot: &Snapshot) -> bool {
        let record = &snapshot.description.container;
        self.shown(&Shown {
            name: &snapshot.name,
            container: [&record.name, &record.id],
            image: [&record.image, record.image_id.trim_start_matches("sha256:")],
            labels: &record.keeping.labels,
        })
    }

    fn shown(&self, shown: &Shown<'_>) -> bool {
        // A name, or the beginning of an id.
        let is_one = |wanted: &String, [name, id]: [&str; 2]| {
            name == wanted || (!wanted.is_empty() && id.starts_with(wanted.as_str()))
        };
        any(&self.names, |name| shown.name.contains(name.as_str()))
            && any(&self.containers, |wanted| is_one(wanted, shown.container))
            && any(&self.images, |wanted| is_one(wanted, shown.image))
            && self.labels.iter().all(|label| label.fits(shown.labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_say_which_snapshots_are_meant() {
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let shown = Shown {
            name: "warm",
            container: ["web", "3fa2"],
            image: ["busybox", "77ab"],
            labels: &labels,
        };
        for (filters, wanted) in [
            (&[][..], true),
            (&["name=ar"], true),
            (&["name=cold"], false),
            (&["container=web"], true),
            (&["container=we"], false),
            (&["container=3f"], true),
            (&["image=busybox", "image=x"], true),
            (&["image=77"], true),
            (&["image="], false),
            (&["label=a=b"], true),
            (&["label=a=c"], false),
        ] {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            let read = WantedSnapshots::read(&filters).unwrap();
            assert_eq!(read.shown(&shown), wanted, "{filters:?}");
        }
        assert!(WantedSnapshots::read(&["size=1".parse().unwrap()]).is_err());
    }
}
