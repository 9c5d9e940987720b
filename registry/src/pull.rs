//! `pull`: an image out of a registry into the store, unpacked while it arrives.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use images::{
    Blobs, Descriptor, Digest, Incoming, Intake, Loaded, Manifest, Missing, Pull, Reference, Store,
};

use crate::blob::{BlobReader, Course};
use crate::config::Endpoint;
use crate::error::Error;
use crate::http::Client;
use crate::progress::Voice;
use crate::repository::{Repository, Resolved};

/// Layers that are read at the same time, as with Docker.
const AT_ONCE: usize = 3;

/// Pulls what is asked for, from the first place that has it.
pub(crate) fn run(client: &Client, pull: &Pull) -> Result<(), Error> {
    let voice = Voice::new(pull.talk);
    let store = Store::open(&pull.store).map_err(images::Error::from)?;
    let candidates = candidates(client, &pull.name)?;
    let last = candidates.len() - 1;
    for (number, reference) in candidates.into_iter().enumerate() {
        let task = Task { client, store: &store, pull, reference, voice: &voice };
        match task.run() {
            // The next registry of the search may have it.
            Err(Error::NotFound { .. } | Error::Unauthorized { .. } | Error::Reach { .. })
                if number < last => {}
            done => return done,
        }
    }
    Ok(())
}

/// The names that a name may stand for: with a search list, a name without a registry is one of
/// each of its registries first.
fn candidates(client: &Client, name: &str) -> Result<Vec<Reference>, Error> {
    let parse = |name: &str| name.parse::<Reference>().map_err(images::Error::from);
    let own = parse(name)?;
    let mut candidates = Vec::new();
    if own.registry() == "docker.io" && !name.contains("docker.io/") {
        for registry in client.config.unqualified_search.iter().flatten() {
            candidates.push(parse(&format!("{registry}/{name}"))?);
        }
    }
    candidates.push(own);
    Ok(candidates)
}

/// One image on its way.
struct Task<'a> {
    client: &'a Client,
    store: &'a Store,
    pull: &'a Pull,
    reference: Reference,
    voice: &'a Voice,
}

impl Task<'_> {
    fn run(&self) -> Result<(), Error> {
        let reference = &self.reference;
        let shown = match (reference.tag(), reference.digest()) {
            (_, Some(_)) => reference.to_string(),
            (tag, None) => tag.unwrap_or("latest").to_owned(),
        };
        if shown == "latest" && !self.pull.name.ends_with(":latest") {
            self.voice.say("Using default tag: latest")?;
        }
        self.voice.say(&format!("{shown}: Pulling from {}", reference.repository()))?;
        let before = self.store.find(&reference.to_string()).ok().map(|image| image.id);
        let (digest, loaded) = self.pull_from_any()?;
        self.voice.say(&format!("Digest: {digest}"))?;
        let status = if before == Some(loaded.id) {
            "Image is up to date for"
        } else {
            "Downloaded newer image for"
        };
        self.voice.say(&format!("Status: {status} {}", reference.familiar()))?;
        self.voice.result(&reference.to_string())
    }

    /// Tries the mirrors, then the registry itself, whose failure is the one that counts.
    fn pull_from_any(&self) -> Result<(Digest, Loaded), Error> {
        let mut endpoints = self.client.config.endpoints(self.reference.registry()).into_iter();
        let mut endpoint = endpoints.next().expect("a registry is its own endpoint");
        loop {
            let pulled = self.pull_from(endpoint.clone());
            let Some(next) = endpoints.next() else { return pulled };
            match pulled {
                Err(error) if error.may_be_elsewhere() => {
                    let text = crate::chain(&error);
                    self.voice.warn(&format!("mirror {} is passed over: {text}", endpoint.name));
                    endpoint = next;
                }
                done => return done,
            }
        }
    }

    fn pull_from(&self, endpoint: Endpoint) -> Result<(Digest, Loaded), Error> {
        let (pull, limits) = (self.pull, &self.pull.limits);
        let repository =
            Repository::new(self.client, endpoint, self.reference.repository(), "pull");
        let tag = self.reference.tag().unwrap_or("latest");
        let Resolved { digest, manifest, bytes } =
            repository.resolve(tag, self.reference.digest(), &pull.platform, limits)?;
        let what = format!("configuration {}", manifest.config.digest);
        let config = repository.small_blob(&manifest.config, &what, limits)?;
        let keep = self.client.config.keep_blobs.unwrap_or(true);
        let blobs = if keep { Blobs::Keep } else { Blobs::Drop };
        let loaded = self.store.take_in(limits, blobs, |intake| {
            self.take(intake, &repository, &manifest, (config, bytes))
        })?;
        Ok((digest, loaded))
    }

    fn take(
        &self,
        intake: &Intake<'_>,
        repository: &Repository<'_>,
        manifest: &Manifest,
        (config, bytes): (Vec<u8>, Vec<u8>),
    ) -> Result<Loaded, Error> {
        let name = manifest.config.digest.to_string();
        let layers = manifest.layers.iter().cloned().map(Some).collect();
        let incoming = intake.image(&name, config, Some(bytes), layers)?;
        Layers { repository, incoming: &incoming, manifest, voice: self.voice }.take()?;
        let complete = incoming.complete(vec![self.name_to_keep()])?;
        let mut loaded = intake.publish(vec![complete])?;
        Ok(loaded.pop().expect("one image was published"))
    }

    /// As with Docker, a digest counts more than the tag beside it.
    fn name_to_keep(&self) -> Reference {
        match self.reference.digest() {
            Some(digest) if self.reference.tag().is_some() => {
                let bare = format!(
                    "{}/{}@{digest}",
                    self.reference.registry(),
                    self.reference.repository()
                );
                bare.parse().unwrap_or_else(|_| self.reference.clone())
            }
            _ => self.reference.clone(),
        }
    }
}

/// The layers of an image on their way.
struct Layers<'a> {
    repository: &'a Repository<'a>,
    incoming: &'a Incoming<'a>,
    manifest: &'a Manifest,
    voice: &'a Voice,
}

impl Layers<'_> {
    fn take(&self) -> Result<(), Error> {
        let (mut seen, mut repeated, mut wanted) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (number, diff_id) in self.incoming.diff_ids().into_iter().enumerate() {
            if !seen.insert(diff_id) {
                repeated.push(number);
            } else if self.incoming.missing(number)? == Missing::Blob {
                wanted.push(number);
            } else {
                self.there_already(number);
            }
        }
        // The longest first, so that no processor is left with it at the end.
        wanted.sort_by_key(|number| std::cmp::Reverse(self.descriptor(*number).size));
        self.take_side_by_side(&wanted)?;
        for number in repeated {
            if self.incoming.missing(number)? == Missing::Blob {
                self.take_side_by_side(&[number])?;
            }
        }
        Ok(())
    }

    fn take_side_by_side(&self, wanted: &[usize]) -> Result<(), Error> {
        let (next, course) = (AtomicUsize::new(0), Course::default());
        thread::scope(|scope| {
            for _ in 0..wanted.len().min(AT_ONCE) {
                scope.spawn(|| {
                    while let Some(number) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.take_one(*number, &course) {
                            course.fail(error);
                            return;
                        }
                    }
                });
            }
        });
        course.failure.into_inner().expect("no thread panics with it").map_or(Ok(()), Err)
    }

    fn take_one(&self, number: usize, course: &Course) -> Result<(), Error> {
        let descriptor = self.descriptor(number);
        let bar = self.voice.layer(descriptor, "Pulling fs layer");
        let reader = BlobReader::new(self.repository, descriptor, course, bar.clone());
        self.incoming.take(number, reader)?;
        self.voice.done(descriptor, &bar, "Pull complete");
        Ok(())
    }

    fn there_already(&self, number: usize) {
        let descriptor = self.descriptor(number);
        let bar = self.voice.layer(descriptor, "Already exists");
        if !bar.is_hidden() {
            self.voice.done(descriptor, &bar, "Already exists");
        }
    }

    fn descriptor(&self, number: usize) -> &Descriptor {
        &self.manifest.layers[number]
    }
}
