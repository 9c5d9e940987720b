//! Filters for events, as Docker's `events` has them.

use images::Event;

use super::{Filter, Label};
use crate::failure::Failure;

/// What all filters say together: of several with one key, one must fit, but for labels.
#[derive(Debug, Default)]
pub(crate) struct WantedEvents {
    kinds: Vec<String>,
    actions: Vec<String>,
    containers: Vec<String>,
    images: Vec<String>,
    networks: Vec<String>,
    labels: Vec<Label>,
}

const KEYS: [&str; 6] = ["type", "event", "container", "image", "network", "label"];
/// Actions that have something behind a colon, without which they can be asked for.
const OPEN_ACTIONS: [&str; 3] = ["health_status", "exec_create", "exec_start"];

impl WantedEvents {
    /// Reads filters.
    pub(crate) fn read(filters: &[Filter]) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for Filter { key, value } in filters {
            match key.as_str() {
                "type" => wanted.kinds.push(value.clone()),
                "event" => wanted.actions.push(value.clone()),
                "container" => wanted.containers.push(value.clone()),
                "image" => wanted.images.push(value.clone()),
                "network" => wanted.networks.push(value.clone()),
                "label" => wanted.labels.push(Label::read(value)),
                _ => {
                    let hint = format!("known here are {}", KEYS.join(", "));
                    return Err(Failure::new(&format!("invalid filter '{key}'"), &hint));
                }
            }
        }
        Ok(wanted)
    }

    /// Whether an event is meant.
    pub(crate) fn event(&self, event: &Event) -> bool {
        let (id, attributes) = (&event.actor.id, &event.actor.attributes);
        let name = attributes.get("name").map(String::as_str).unwrap_or_default();
        let image = if event.kind == "image" { Some(name) } else { None };
        let image = image.or(attributes.get("image").map(String::as_str)).unwrap_or_default();
        let is_image = |wanted: &String| {
            [id.as_str(), image, without_tag(id), without_tag(image)].contains(&wanted.as_str())
        };
        let is_one = |kind: &str, wanted: &String| {
            event.kind == kind
                && (id.starts_with(wanted.as_str()) || name.starts_with(wanted.as_str()))
        };
        any(&self.kinds, |kind| event.kind == *kind)
            && any(&self.actions, |action| is_action(action, &event.action))
            && any(&self.containers, |wanted| is_one("container", wanted))
            && any(&self.networks, |wanted| is_one("network", wanted))
            && any(&self.images, is_image)
            && self.labels.iter().all(|label| label.fits(attributes))
    }
}

use super::containers::any;

fn is_action(wanted: &str, action: &str) -> bool {
    let open = OPEN_ACTIONS.contains(&wanted);
    action == wanted || open && action.split_once(':').is_some_and(|(action, _)| action == wanted)
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn fits(filters: &[&str], event: &Event) -> bool {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        WantedEvents::read(&filters).unwrap().event(event)
    }

    #[test]
    fn filters_are_dockers() {
        let attributes = [("image", "a.example:5000/web:1"), ("name", "site"), ("kind", "x")];
        let attributes: BTreeMap<_, _> =
            attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let event = Event::now("container", "exec_start: ls -l", "abcdef", attributes);
        for (filters, wanted) in [
            (&[][..], true),
            (&["type=container"], true),
            (&["type=image"], false),
            (&["type=image", "type=container"], true),
            (&["event=exec_start"], true),
            (&["event=exec_start: ls -l"], true),
            (&["event=exec"], false),
            (&["container=abc"], true),
            (&["container=site"], true),
            (&["container=other"], false),
            (&["image=a.example:5000/web"], true),
            (&["image=a.example:5000/web:1"], true),
            (&["image=web"], false),
            (&["label=kind"], true),
            (&["label=kind=x", "label=kind=y"], false),
        ] {
            assert_eq!(fits(filters, &event), wanted, "{filters:?}");
        }
        let event = Event::of_image("tag", "sha256:abc", "busybox:1");
        assert!(fits(&["image=busybox"], &event) && fits(&["image=sha256:abc"], &event));
        assert!(!fits(&["container=sha256"], &event));
        let name = [("name".to_owned(), "web".to_owned())].into();
        let event = Event::now("network", "create", "3fa2", name);
        assert!(fits(&["network=web"], &event) && fits(&["network=3f", "type=network"], &event));
        assert!(!fits(&["network=db"], &event) && !fits(&["container=web"], &event));
        assert!(WantedEvents::read(&["colour=red".parse().unwrap()]).is_err());
    }
}
