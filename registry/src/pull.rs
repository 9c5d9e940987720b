//! `pull`: an image out of a registry into the store, unpacked while it arrives.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use images::{
    Blobs, Descriptor, Digest, Incoming, Intake, Loaded, Manifest, Missing, Pull, Reference, Store,
    Tags,
};

use crate::blob::{BlobReader, Course};
use crate::error::Error;
use crate::events;
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
        let done = match pull.tags {
            Tags::One => task.one(),
            Tags::All => task.all(),
        };
        match done {
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

/// One image on its way, or all of a repository.
struct Task<'a> {
    client: &'a Client,
    store: &'a Store,
    pull: &'a Pull,
    reference: Reference,
    voice: &'a Voice,
}

/// Whether a pull has changed what the name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Newer,
    None,
}

impl Task<'_> {
    fn one(&self) -> Result<(), Error> {
        if self.is_tag_implied() {
            self.voice.say("Using default tag: latest")?;
        }
        let news = self.pull(&self.reference)?;
        self.tell(news, &self.reference.familiar())?;
        self.voice.result(&self.reference.to_string())
    }

    /// As Docker does: one after the other, and what was pulled before one fails stays.
    fn all(&self) -> Result<(), Error> {
        let reference = &self.reference;
        if !self.is_tag_implied() {
            return Err(Error::Request {
                problem: format!("tag can't be used with --all-tags/-a: {}", self.pull.name),
                hint: "give the name of a repository without a tag or digest, or leave out `-a`",
            });
        }
        let mut news = News::None;
        let tags = self
            .with_any(|repository| crate::tags::list(repository, reference, &self.pull.limits))?;
        if tags.is_empty() {
            return Err(Error::Request {
                problem: format!("{} has no tags", reference.familiar_name()),
                hint: "look for a mistake in the name",
            });
        }
        for tagged in &tags {
            if self.pull(tagged)? == News::Newer {
                news = News::Newer;
            }
        }
        self.tell(news, &reference.familiar_name())?;
        self.voice.result(&reference.whole_name())
    }

    /// Whether the name has neither a tag nor a digest.
    fn is_tag_implied(&self) -> bool {
        let implied = self.reference.digest().is_none() && self.reference.tag() == Some("latest");
        implied && !self.pull.name.ends_with(":latest")
    }

    fn tell(&self, news: News, name: &str) -> Result<(), Error> {
        let status = match news {
            News::Newer => "Downloaded newer image for",
            News::None => "Image is up to date for",
        };
        self.voice.say(&format!("Status: {status} {name}"))
    }

    fn pull(&self, reference: &Reference) -> Result<News, Error> {
        let shown = match (reference.tag(), reference.digest()) {
            (_, Some(_)) => reference.to_string(),
            (tag, None) => tag.unwrap_or("latest").to_owned(),
        };
        self.voice.say(&format!("{shown}: Pulling from {}", reference.repository()))?;
        let before = self.store.find(&reference.to_string()).ok().map(|image| image.id);
        let (digest, loaded) = self.with_any(|repository| self.pull_from(repository, reference))?;
        self.voice.say(&format!("Digest: {digest}"))?;
        events::note(&self.pull.store, "pull", reference);
        Ok(if before == Some(loaded.id) { News::None } else { News::Newer })
    }

    /// Tries the mirrors, then the registry itself, whose failure is the one that counts.
    fn with_any<T>(&self, work: impl Fn(&Repository<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut endpoints = self.client.config.endpoints(self.reference.registry()).into_iter();
        let mut endpoint = endpoints.next().expect("a registry is its own endpoint");
        loop {
            let path = self.reference.repository();
            let done = work(&Repository::new(self.client, endpoint.clone(), path, "pull"));
            let Some(next) = endpoints.next() else { return done };
            match done {
                Err(error) if error.may_be_elsewhere() => {
                    let text = crate::chain(&error);
                    self.voice.warn(&format!("mirror {} is passed over: {text}", endpoint.name));
                    endpoint = next;
                }
                done => return done,
            }
        }
    }

    fn pull_from(
        &self,
        repository: &Repository<'_>,
        reference: &Reference,
    ) -> Result<(Digest, Loaded), Error> {
        let (pull, limits) = (self.pull, &self.pull.limits);
        let tag = reference.tag().unwrap_or("latest");
        let Resolved { digest, manifest, bytes } =
            repository.resolve(tag, reference.digest(), &pull.platform, limits)?;
        let what = format!("configuration {}", manifest.config.digest);
        let config = repository.small_blob(&manifest.config, &what, limits)?;
        let keep = self.client.config.keep_blobs.unwrap_or(true);
        let blobs = if keep { Blobs::Keep } else { Blobs::Drop };
        let loaded = self.store.take_in(limits, blobs, |intake| {
            let arriving = Arriving { repository, reference, manifest: &manifest };
            self.take(intake, &arriving, (config, bytes))
        })?;
        Ok((digest, loaded))
    }

    fn take(
        &self,
        intake: &Intake<'_>,
        arriving: &Arriving<'_>,
        (config, bytes): (Vec<u8>, Vec<u8>),
    ) -> Result<Loaded, Error> {
        let Arriving { repository, reference, manifest } = *arriving;
        let name = manifest.config.digest.to_string();
        let layers = manifest.layers.iter().cloned().map(Some).collect();
        let incoming = intake.image(&name, config, Some(bytes), layers)?;
        Layers { repository, incoming: &incoming, manifest, voice: self.voice }.take()?;
        let complete = incoming.complete(vec![name_to_keep(reference)])?;
        let mut loaded = intake.publish(vec![complete])?;
        Ok(loaded.pop().expect("one image was published"))
    }
}

/// An image of which it is known where it comes from and what it is made of.
struct Arriving<'a> {
    repository: &'a Repository<'a>,
    reference: &'a Reference,
    manifest: &'a Manifest,
}

/// As with Docker, a digest counts more than the tag beside it.
fn name_to_keep(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) if reference.tag().is_some() => {
            let bare = format!("{}@{digest}", reference.whole_name());
            bare.parse().unwrap_or_else(|_| reference.clone())
        }
        _ => reference.clone(),
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
