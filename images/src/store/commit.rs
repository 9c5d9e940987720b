//! Makes an image of another one and a layer that was written over it.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::Store;
use super::image::Image;
use super::intake::{Blobs, Missing};
use crate::change::Change;
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::error::Error;
use crate::limits::Limits;
use crate::reference::Reference;
use crate::timestamp::format_rfc3339;

/// What the new image says of itself.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Its name, if it gets one.
    pub reference: Option<Reference>,
    /// Who has made it; perhaps empty.
    pub author: String,
    /// What its history says.
    pub message: String,
    /// The command that has written the layer, for the history.
    pub created_by: String,
    /// What was run, in place of what the base says.
    pub committed: Committed,
    /// Over all of that, in this order.
    pub changes: Vec<Change>,
    /// When it was made.
    pub created: SystemTime,
}

/// What a container ran as, for the image that is made of it.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Empty for none.
    pub entrypoint: Vec<String>,
    /// Empty for none.
    pub cmd: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// An absolute path.
    pub working_dir: String,
    /// By key.
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGTERM`; none leaves it open.
    pub stop_signal: Option<String>,
}

impl Store {
    /// Makes an image of `base`, which is to be locked, and the layer in a tar. Gives its id.
    ///
    /// # Errors
    /// If the layer cannot be unpacked or does not fit over the base. The store is then as it was
    /// before.
    pub fn commit(
        &self,
        base: &Image,
        layer: impl Read + Send,
        options: &CommitOptions,
        limits: &Limits,
    ) -> Result<Digest, Error> {
        self.take_in(limits, Blobs::Keep, |intake| {
            let diff_id = intake.import_layer(layer, limits)?;
            let config = configuration(&base.document()?, diff_id, options)
                .map_err(|source| Error::document("configuration", source))?;
            let id = Digest::of(&config);
            let count = base.layers().len() + 1;
            let image = intake.image("configuration", config, None, vec![None; count])?;
            for (number, layer) in image.diff_ids().into_iter().enumerate() {
                if image.missing(number)? != Missing::Nothing {
                    return Err(Error::UnknownImage { name: layer.to_string() });
                }
            }
            let references = options.reference.iter().cloned().collect();
            intake.publish(vec![image.complete(references)?])?;
            Ok(id)
        })
    }
}

/// The base's configuration document with one more layer and one more step.
fn configuration(
    base: &[u8],
    diff_id: Digest,
    options: &CommitOptions,
) -> Result<Vec<u8>, DocumentError> {
    let mut document: Map<String, Value> = crate::document::parse(base)?;
    let created = format_rfc3339(options.created);
    let step = history(&created, options);
    push(&mut document, "history", step);
    let rootfs = document.entry("rootfs").or_insert_with(|| json!({ "type": "layers" }));
    if let Value::Object(rootfs) = rootfs {
        push(rootfs, "diff_ids", diff_id.to_string().into());
    }
    let config = document.entry("config").or_insert(Value::Null);
    let mut changed = config.as_object().cloned().unwrap_or_default();
    set_committed(&mut changed, &options.committed);
    options.changes.iter().for_each(|change| change.apply(&mut changed));
    *config = changed.into();
    document.insert("created".to_owned(), created.into());
    document.insert("author".to_owned(), options.author.clone().into());
    document.insert("comment".to_owned(), options.message.clone().into());
    // What Docker notes of the container that a step was made in is true of no other.
    for field in ["container", "container_config", "id", "parent"] {
        document.remove(field);
    }
    Ok(Value::Object(document).to_string().into_bytes())
}

fn history(created: &str, options: &CommitOptions) -> Value {
    let mut step = Map::new();
    step.insert("created".to_owned(), created.into());
    for (field, text) in [
        ("author", &options.author),
        ("created_by", &options.created_by),
        ("comment", &options.message),
    ] {
        if !text.is_empty() {
            step.insert(field.to_owned(), text.clone().into());
        }
    }
    step.into()
}

/// Adds to a list of a document, which may be missing or null.
fn push(document: &mut Map<String, Value>, field: &str, value: Value) {
    let list = document.entry(field).or_insert(Value::Null);
    let mut values = list.as_array().cloned().unwrap_or_default();
    values.push(value);
    *list = values.into();
}

fn set_committed(config: &mut Map<String, Value>, committed: &Committed) {
    let words = |words: &[String]| match words {
        [] => Value::Null,
        words => words.into(),
    };
    let fields = [
        ("Entrypoint", words(&committed.entrypoint)),
        ("Cmd", words(&committed.cmd)),
        ("Env", committed.env.clone().into()),
        ("User", committed.user.clone().into()),
        ("WorkingDir", committed.working_dir.clone().into()),
        ("Labels", json!(committed.labels)),
    ];
    for (field, value) in fields {
        config.insert(field.to_owned(), value);
    }
    if let Some(signal) = &committed.stop_signal {
        config.insert("StopSignal".to_owned(), signal.clone().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImageConfig;

    fn options(message: &str, changes: &[&str]) -> CommitOptions {
        CommitOptions {
            reference: None,
            author: "me".into(),
            message: message.into(),
            created_by: "sh -c x".into(),
            committed: Committed {
                cmd: vec!["sh".into()],
                env: vec!["A=b".into()],
                working_dir: "/w".into(),
                ..Committed::default()
            },
            changes: changes.iter().map(|change| change.parse().unwrap()).collect(),
            created: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_configuration_grows_by_a_layer_and_a_step() {
        let old = Digest::of(b"old");
        let base = format!(
            r#"{{"architecture":"amd64","os":"linux","container":"x","custom":[1],
            "config":{{"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{{"/v":{{}}}}}},
            "history":[{{"created_by":"first"}}],
            "rootfs":{{"type":"layers","diff_ids":["{old}"]}}}}"#
        );
        let new = Digest::of(b"new");
        let bytes =
            configuration(base.as_bytes(), new, &options("why", &["ENV C=d", "USER u"])).unwrap();
        let config = ImageConfig::parse(&bytes).unwrap();
        assert_eq!(config.diff_ids, [old, new]);
        assert_eq!((config.entrypoint, config.cmd), (None, Some(vec!["sh".to_owned()])));
        assert_eq!((config.env, &config.user[..]), (vec!["A=b".to_owned(), "C=d".into()], "u"));
        assert!(config.volumes.contains("/v"));
        let last = config.history.last().unwrap();
        assert_eq!((&last.created_by[..], &last.comment[..]), ("sh -c x", "why"));
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(document["custom"], json!([1]));
        assert_eq!(document["author"], "me");
        assert!(document.get("container").is_none());
    }

    #[test]
    fn a_base_that_says_next_to_nothing_will_do() {
        let bytes =
            configuration(b"{\"history\":null}", Digest::of(b""), &options("", &[])).unwrap();
        let config = ImageConfig::parse(&bytes).unwrap();
        assert_eq!((config.diff_ids.len(), config.history.len()), (1, 1));
        assert!(configuration(b"[]", Digest::of(b""), &options("", &[])).is_err());
    }
}
