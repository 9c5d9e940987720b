//! `push`: an image out of the store into a registry, as it came: with its digests.

use images::{Descriptor, Digest, Document, Image, Parts, Push, Reference, Store};
use ureq::http::Method;

use crate::error::Error;
use crate::events;
use crate::fetch;
use crate::http::{Body, Call, Client};
use crate::progress::Voice;
use crate::repository::Repository;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Of a registry's answer to an upload, which nobody reads.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Pushes an image: what the registry lacks of layers and configuration, then the manifest.
pub(crate) fn run(client: &Client, push: &Push) -> Result<(), Error> {
    let reference = &push.reference;
    let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) else {
        return Err(Error::Request {
            problem: format!("{} names a digest, not a tag", reference.familiar()),
            hint: "push a name with a tag",
        });
    };
    let voice = Voice::new(push.talk);
    let store = Store::open(&push.store).map_err(images::Error::from)?;
    let image = store.find(&reference.to_string())?;
    let _stays = image.lock()?;
    let plan = Plan::of(image.parts()?)?;
    let name = reference.repository();
    voice.say(&format!("The push refers to repository [{}/{name}]", reference.registry()))?;
    let endpoint = client.config.endpoint(reference.registry());
    let repository = Repository::new(client, endpoint, name, "pull,push");
    let task = Task { client, store: &store, image: &image, repository, reference, voice: &voice };
    for layer in &plan.layers {
        task.layer(layer)?;
    }
    task.upload_if_missing(&plan.config, "configuration")?;
    let what = format!("manifest {name}:{tag}");
    let mut call = task.repository.call(Method::PUT, &format!("manifests/{tag}"), &what);
    call.body = Body::Bytes { media_type: plan.media_type, bytes: &plan.manifest };
    task.repository.send(&call)?.success(&what)?.bytes(ANSWER_LIMIT, &what)?;
    let digest = Digest::of(&plan.manifest);
    voice.say(&format!("{tag}: digest: {digest} size: {}", plan.manifest.len()))?;
    events::note(&push.store, "push", reference);
    if push.talk == images::Talk::Quiet { voice.result(&reference.to_string()) } else { Ok(()) }
}

/// What has to be there at the end.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    manifest: Vec<u8>,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Plan {
    /// Takes the manifest that the image came with; an image without one gets one of OCI's.
    fn of(parts: Parts) -> Result<Plan, Error> {
        let Some(manifest) = parts.manifest else {
            let document = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": parts.config,
                "layers": parts.layers,
            });
            let manifest = document.to_string().into_bytes();
            let (config, layers) = (parts.config, parts.layers);
            return Ok(Plan { manifest, media_type: OCI_MANIFEST, config, layers });
        };
        let unusable = |source| images::Error::Document { document: "manifest".into(), source };
        match Document::parse(&manifest).map_err(unusable)? {
            Document::Manifest(parsed) => {
                let media_type = media_type(&manifest, &parsed.config);
                let (config, layers) = (parsed.config, parsed.layers);
                Ok(Plan { manifest, media_type, config, layers })
            }
            Document::Index(_) => Err(unusable(images::DocumentError::Ambiguous).into()),
        }
    }
}

/// What the manifest says it is; where it says nothing, what its configuration's type implies.
fn media_type(manifest: &[u8], config: &Descriptor) -> &'static str {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let own = serde_json::from_slice::<Typed>(manifest).ok().and_then(|typed| typed.media_type);
    match own.as_deref() {
        Some(DOCKER_MANIFEST) => DOCKER_MANIFEST,
        None if config.media_type.starts_with("application/vnd.docker.") => DOCKER_MANIFEST,
        _ => OCI_MANIFEST,
    }
}

/// One image on its way.
struct Task<'a> {
    client: &'a Client,
    store: &'a Store,
    image: &'a Image,
    repository: Repository<'a>,
    reference: &'a Reference,
    voice: &'a Voice,
}

impl Task<'_> {
    fn layer(&self, layer: &Descriptor) -> Result<(), Error> {
        let bar = self.voice.layer(layer, "Preparing");
        let words = self.upload_if_missing(layer, "layer")?;
        self.voice.done(layer, &bar, words);
        Ok(())
    }

    /// Uploads a blob unless the registry has it; says what was done in Docker's words.
    fn upload_if_missing(&self, blob: &Descriptor, kind: &str) -> Result<&'static str, Error> {
        let what = format!("{kind} {}", blob.digest);
        let path = format!("blobs/{}", blob.digest);
        let answer = self.repository.send(&self.repository.call(Method::HEAD, &path, &what))?;
        if answer.status != 404 {
            answer.success(&what)?;
            return Ok("Layer already exists");
        }
        let mut path = "blobs/uploads/".to_owned();
        if let Some(other) = self.sibling() {
            let from = crate::url::encode(other.repository());
            path.push_str(&format!("?mount={}&from={from}", blob.digest));
        }
        let begun = self.repository.send(&self.repository.call(Method::POST, &path, &what))?;
        let begun = begun.success(&what)?;
        if begun.status == 201 {
            return Ok("Mounted");
        }
        let session = begun.header("location").and_then(|location| begun.url.join(location));
        let session = session.ok_or_else(|| begun.bad(&what, "no address to upload to"))?;
        if self.repository.endpoint.base.is_secure() && !session.is_secure() {
            return Err(begun.bad(&what, "an address without TLS to upload to"));
        }
        let digest = blob.digest.to_string();
        let file = self.file(blob)?;
        let mut call = self.repository.call(Method::PUT, "", &what);
        call.url = session.with_query(&[("digest", &digest)]);
        call.body = Body::File { path: &file, size: blob.size };
        self.send_upload(&call, &what)?;
        Ok("Pushed")
    }

    fn send_upload(&self, call: &Call<'_>, what: &str) -> Result<(), Error> {
        self.repository.send(call)?.success(what)?.bytes(ANSWER_LIMIT, what).map(drop)
    }

    /// Another name of the image in the same registry, from which blobs may be mounted.
    fn sibling(&self) -> Option<&Reference> {
        self.image.references.iter().find(|other| {
            other.registry() == self.reference.registry()
                && other.repository() != self.reference.repository()
        })
    }

    /// The file with a blob, fetched again from the image's other names if it was not kept.
    fn file(&self, blob: &Descriptor) -> Result<std::path::PathBuf, Error> {
        let others = self.image.references.iter().filter(|name| *name != self.reference);
        fetch::blob(self.client, self.store, self.image, blob, &others.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest: Digest::of(media_type.as_bytes()),
            size: 3,
            platform: None,
            annotations: None,
        }
    }

    #[test]
    fn an_image_without_a_manifest_gets_one() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let layers = vec![descriptor("application/vnd.oci.image.layer.v1.tar")];
        let parts = Parts { manifest: None, config: config.clone(), layers: layers.clone() };
        let plan = Plan::of(parts).unwrap();
        assert_eq!((&plan.config, &plan.layers), (&config, &layers));
        let parts = Parts { manifest: Some(plan.manifest.clone()), config, layers: Vec::new() };
        assert_eq!(Plan::of(parts).unwrap(), plan);
    }

    #[test]
    fn the_media_type_is_the_manifests_own() {
        let docker = descriptor("application/vnd.docker.container.image.v1+json");
        let oci = descriptor("application/vnd.oci.image.config.v1+json");
        let typed = |media_type: &str| format!(r#"{{"mediaType":"{media_type}"}}"#);
        assert_eq!(media_type(b"{}", &docker), DOCKER_MANIFEST);
        assert_eq!(media_type(b"{}", &oci), OCI_MANIFEST);
        assert_eq!(media_type(typed(OCI_MANIFEST).as_bytes(), &docker), OCI_MANIFEST);
        assert_eq!(media_type(typed(DOCKER_MANIFEST).as_bytes(), &oci), DOCKER_MANIFEST);
    }
}
