//! One repository of one registry: addresses of what is in it, and its manifests.

use images::{Descriptor, Digest, Document, Limits, Manifest, Platform, choose};
use ureq::http::Method;

use crate::config::Endpoint;
use crate::error::Error;
use crate::http::{Answer, Call, Client};
use crate::url::Url;

/// What is asked for, best first.
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Indexes that lead to indexes.
const NESTING_LIMIT: usize = 4;
/// The longest blob of a layer, unless the limits say less.
const BLOB_LIMIT: u64 = 1 << 40;

/// A repository, and the client that speaks to its registry.
#[derive(Debug, Clone)]
pub(crate) struct Repository<'a> {
    pub(crate) client: &'a Client,
    pub(crate) endpoint: Endpoint,
    name: String,
    scope: String,
}

/// What a tag or a digest led to.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Of the first document: what the tag means.
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    /// The manifest's own bytes.
    pub(crate) bytes: Vec<u8>,
}

impl<'a> Repository<'a> {
    /// `actions` is what a token must be good for: `pull`, or `pull,push`.
    pub(crate) fn new(
        client: &'a Client,
        endpoint: Endpoint,
        name: &str,
        actions: &str,
    ) -> Repository<'a> {
        let scope = format!("repository:{name}:{actions}");
        Repository { client, endpoint, name: name.to_owned(), scope }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.endpoint.base.with_path(&format!("/v2/{}/{path}", self.name))
    }

    pub(crate) fn call<'c>(&'c self, method: Method, path: &str, what: &'c str) -> Call<'c> {
        Call::new(method, self.url(path), what, &self.scope)
    }

    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        self.client.send(&self.endpoint, call)
    }

    /// An error that names the registry.
    pub(crate) fn bad(&self, what: &str, problem: impl Into<String>) -> Error {
        Error::Answer {
            host: self.endpoint.base.authority().to_owned(),
            what: what.to_owned(),
            problem: problem.into(),
        }
    }

    /// Follows a tag or a digest to the manifest for a platform.
    pub(crate) fn resolve(
        &self,
        name: &str,
        expected: Option<Digest>,
        platform: &Platform,
        limits: &Limits,
    ) -> Result<Resolved, Error> {
        let mut expected = expected;
        let mut asked = expected.map_or_else(|| name.to_owned(), |digest| digest.to_string());
        let mut first = None;
        for _ in 0..NESTING_LIMIT {
            let what = format!("manifest {}:{asked}", self.name).replace(":sha256:", "@sha256:");
            let (digest, bytes) = self.document(&asked, expected, &what, limits)?;
            let digest = *first.get_or_insert(digest);
            let parsed = Document::parse(&bytes);
            match parsed.map_err(|source| self.bad_document(&what, source))? {
                Document::Manifest(manifest) => {
                    self.check(&manifest, &what, limits)?;
                    return Ok(Resolved { digest, manifest, bytes });
                }
                Document::Index(images) => {
                    let chosen = choose(&images, platform)?;
                    expected = Some(chosen.digest);
                    asked = chosen.digest.to_string();
                }
            }
        }
        Err(self.bad(&format!("manifest {}:{name}", self.name), "too many indexes in each other"))
    }

    /// A manifest or an index, whose bytes have the digest they should have.
    fn document(
        &self,
        asked: &str,
        expected: Option<Digest>,
        what: &str,
        limits: &Limits,
    ) -> Result<(Digest, Vec<u8>), Error> {
        let accept = MANIFEST_TYPES.join(", ");
        let mut call = self.call(Method::GET, &format!("manifests/{asked}"), what);
        call.accept = &accept;
        let answer = self.send(&call)?.success(what)?;
        check_media_type(&answer, what)?;
        let told = answer.header("docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = answer.bytes(limits.max_document_bytes, what)?;
        let actual = Digest::of(&bytes);
        self.check_digest(what, expected.or(told).unwrap_or(actual), actual)?;
        Ok((actual, bytes))
    }

    /// A small blob in memory.
    pub(crate) fn small_blob(
        &self,
        descriptor: &Descriptor,
        what: &str,
        limits: &Limits,
    ) -> Result<Vec<u8>, Error> {
        let call = self.call(Method::GET, &format!("blobs/{}", descriptor.digest), what);
        let bytes = self.send(&call)?.success(what)?.bytes(limits.max_document_bytes, what)?;
        self.check_digest(what, descriptor.digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn check_digest(&self, what: &str, expected: Digest, actual: Digest) -> Result<(), Error> {
        if expected == actual {
            return Ok(());
        }
        let host = self.endpoint.base.authority().to_owned();
        Err(Error::WrongDigest { host, what: what.to_owned(), expected, actual })
    }

    /// Refuses what cannot be taken before any of it is fetched.
    fn check(&self, manifest: &Manifest, what: &str, limits: &Limits) -> Result<(), Error> {
        let limit = limits.max_document_bytes;
        if manifest.config.size > limit {
            let size = manifest.config.size;
            return Err(
                self.bad(what, format!("a configuration of {size} bytes, more than {limit}"))
            );
        }
        let (count, most) = (manifest.layers.len(), limits.max_layers);
        if count > most {
            return Err(self.bad(what, format!("{count} layers, more than {most}")));
        }
        let limit = limits.max_unpacked_bytes.min(BLOB_LIMIT);
        let mut total = 0_u64;
        for layer in &manifest.layers {
            if !is_layer(&layer.media_type) {
                let kind = crate::words::clean(&layer.media_type);
                return Err(self.bad(what, format!("a layer of the unknown kind {kind:?}")));
            }
            if layer.size == 0 {
                return Err(self.bad(what, "a layer without a size"));
            }
            total = total.saturating_add(layer.size);
        }
        if total > limit {
            return Err(self.bad(what, format!("layers of {total} bytes, more than {limit}")));
        }
        Ok(())
    }

    fn bad_document(&self, what: &str, source: images::DocumentError) -> Error {
        Error::Image(images::Error::Document { document: what.to_owned(), source })
    }
}

/// Docker's and OCI's layers, however compressed; what is encrypted is no layer yet.
fn is_layer(media_type: &str) -> bool {
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    media_type.is_empty()
        || known.iter().any(|prefix| media_type.starts_with(prefix))
            && !media_type.ends_with("+encrypted")
}

fn check_media_type(answer: &Answer, what: &str) -> Result<(), Error> {
    let Some(found) = answer.header("content-type") else { return Ok(()) };
    let found = found.split(';').next().unwrap_or(found).trim().to_ascii_lowercase();
    if MANIFEST_TYPES.contains(&&found[..]) || found == "application/json" {
        return Ok(());
    }
    let problem = if found.starts_with("application/vnd.docker.distribution.manifest.v1") {
        "a manifest of Docker's first schema, which nobody can verify".to_owned()
    } else {
        format!("a document of the media type {:?}", crate::words::clean(&found))
    };
    Err(answer.bad(what, &problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_by_their_media_type() {
        for (media_type, wanted) in [
            ("", true),
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false),
            ("text/html", false),
        ] {
            assert_eq!(is_layer(media_type), wanted, "{media_type}");
        }
    }
}
