//! An honest image as a registry shows it, and a client with a store of its own to pull it into.

use std::path::PathBuf;
use std::time::Duration;

use images::{Limits, Platform, Pull, Store, Tags, Talk};
use tests::Snapshot;
use tests::archive::{self, Layer, gzip};

use super::faulty::{Faulty, Reply, Request};
use crate::auth::DockerConfig;
use crate::config::Config;
use crate::error::Error;
use crate::http::{Client, Patience};

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An image of layers with some content.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// A layer of one file that does not compress.
pub(crate) fn layer(name: &str, size: usize) -> Vec<u8> {
    let mut noise = 1_u32;
    let data: Vec<u8> = (0..size)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        })
        .collect();
    Layer::new().file(name, &data).finish()
}

impl Shown {
    pub(crate) fn new() -> Shown {
        let plain = [layer("one", 300_000), layer("two", 1000)];
        Shown::of(&plain, plain.iter().map(|layer| gzip(layer)).collect())
    }

    /// Of layers that are stored as `layers`.
    pub(crate) fn of(plain: &[Vec<u8>], layers: Vec<Vec<u8>>) -> Shown {
        let config = archive::config(plain);
        let descriptor = |bytes: &[u8], kind: &str| {
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": archive::digest(bytes), "size": bytes.len(),
            })
        };
        let described: Vec<_> =
            layers.iter().map(|layer| descriptor(layer, "layer.v1.tar+gzip")).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": descriptor(&config, "config.v1+json"), "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        Shown { layers, config, manifest }
    }

    pub(crate) fn digest(&self) -> String {
        archive::digest(&self.manifest)
    }

    pub(crate) fn blob_path(bytes: &[u8]) -> String {
        format!("/v2/x/blobs/{}", archive::digest(bytes))
    }

    /// What an honest registry answers.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        if request.path == "/v2/x/manifests/1"
            || request.path == format!("/v2/x/manifests/{}", self.digest())
        {
            return Reply::new(200, &self.manifest[..]).header("content-type", MANIFEST_TYPE);
        }
        let blobs = self.layers.iter().chain([&self.config]);
        match blobs.into_iter().find(|blob| Shown::blob_path(blob) == request.path) {
            Some(blob) if request.from() > 0 => {
                let from = request.from();
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Reply::new(206, &blob[from..]).header("content-range", range)
            }
            Some(blob) => Reply::new(200, &blob[..]),
            None => Reply::new(404, ""),
        }
    }

    /// A registry that is honest but for what `fault` does.
    pub(crate) fn with_fault(
        &self,
        fault: impl Fn(&Request, &Shown) -> Option<Reply> + Send + Sync + 'static,
    ) -> Faulty {
        let shown = self.clone();
        Faulty::start(move |request| {
            fault(request, &shown).unwrap_or_else(|| shown.answer(request))
        })
    }
}

/// A store, and Docker's configuration beside it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        Home { folder, store }
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.images())
    }

    pub(crate) fn docker_config(&self, text: &str) {
        std::fs::write(self.folder.path().join("config.json"), text).unwrap();
    }

    /// A client that does not wait long, with this configuration of registries.
    pub(crate) fn client(&self, config: &str) -> Client {
        let docker = DockerConfig::read(self.folder.path().join("config.json")).unwrap();
        let mut client = Client::new(Config::parse(config).unwrap(), docker);
        client.patience.first = Duration::from_millis(5);
        client.patience = Patience { longest: Duration::from_secs(2), ..client.patience };
        client
    }

    pub(crate) fn pull(&self, name: &str) -> Result<(), Error> {
        self.pull_with("", name)
    }

    pub(crate) fn pull_with(&self, config: &str, name: &str) -> Result<(), Error> {
        crate::pull::run(&self.client(config), &self.order(name))
    }

    /// A pull of this name with nothing special about it.
    pub(crate) fn order(&self, name: &str) -> Pull {
        Pull {
            store: self.images(),
            name: name.to_owned(),
            tags: Tags::One,
            platform: Platform::host(),
            limits: Limits::DEFAULT,
            talk: Talk::Quiet,
        }
    }
}
