//! Pulls from a registry in this process that misbehaves in every way there is.

mod auth;
mod failures;
mod faulty;
mod fixture;
mod layers;
mod resume;
mod tags;

use std::sync::atomic::{AtomicUsize, Ordering};

use faulty::{Faulty, Reply};
use fixture::{Home, Shown, layer};
use images::Missing;
use tests::archive::{gzip, zstd};

#[test]
fn an_image_is_pulled_once() {
    let (home, shown) = (Home::new(), Shown::new());
    let registry = shown.with_fault(|_, _| None);
    let name = format!("{}/x:1", registry.address);
    home.pull(&name).unwrap();
    let image = home.store.find(&name).unwrap();
    assert_eq!(image.manifest.unwrap().to_string(), shown.digest());
    image.disk().unwrap();
    let blobs = |registry: &Faulty| {
        registry.requests().iter().filter(|request| request.path.contains("/blobs/")).count()
    };
    assert_eq!(blobs(&registry), 3);
    let once = home.snapshot();
    home.pull(&name).unwrap();
    // The configuration tells which layers there are, so it alone is read again.
    assert_eq!(blobs(&registry), 4);
    assert_eq!(home.snapshot(), once);
}

#[test]
fn a_digest_is_as_good_as_a_tag() {
    let (home, shown) = (Home::new(), Shown::new());
    let registry = shown.with_fault(|_, _| None);
    let name = format!("{}/x@{}", registry.address, shown.digest());
    home.pull(&name).unwrap();
    assert!(home.store.find(&name).is_ok());
}

#[test]
fn every_compression_is_the_same_image() {
    let plain = vec![layer("a", 5000), layer("b", 10)];
    let home = Home::new();
    let by = |kind: fn(&[u8]) -> Vec<u8>| plain.iter().map(|layer| kind(layer)).collect::<Vec<_>>();
    for stored in [by(gzip), by(zstd), plain.clone()] {
        let registry = Shown::of(&plain, stored).with_fault(|_, _| None);
        home.pull(&format!("{}/x:1", registry.address)).unwrap();
    }
    assert_eq!(home.store.list().unwrap().len(), 1);
}

#[test]
fn a_layer_that_comes_twice_is_read_once() {
    let plain = vec![layer("a", 5000), layer("b", 10), layer("a", 5000)];
    let stored = plain.iter().map(|layer| gzip(layer)).collect();
    let (home, shown) = (Home::new(), Shown::of(&plain, stored));
    let registry = shown.with_fault(|_, _| None);
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    let path = Shown::blob_path(&shown.layers[0]);
    assert_eq!(registry.requests().iter().filter(|request| request.path == path).count(), 1);
}

#[test]
fn blobs_are_kept_unless_the_configuration_says_no() {
    let (home, shown) = (Home::new(), Shown::new());
    let registry = shown.with_fault(|_, _| None);
    let name = format!("{}/x:1", registry.address);
    let kept = |home: &Home| {
        let image = home.store.find(&name).unwrap();
        let layers = image.parts().unwrap().layers;
        layers.iter().filter(|layer| image.blob(layer.digest).is_some()).count()
    };
    home.pull_with("keep-blobs = false", &name).unwrap();
    assert_eq!(kept(&home), 0);
    let other = Home::new();
    other.pull(&name).unwrap();
    assert_eq!(kept(&other), 2);
}

#[test]
fn mirrors_are_asked_first_and_passed_over() {
    let shown = Shown::new();
    let empty = Faulty::start(|_| Reply::new(404, ""));
    let broken = Faulty::start(|_| Reply::new(500, ""));
    let hub = |request: &faulty::Request, shown: &Shown| {
        let mut request = request.clone();
        request.path = request.path.replace("/v2/library/x/", "/v2/x/");
        Some(shown.answer(&request))
    };
    let good = shown.with_fault(hub);
    let config = format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{}\", \"{}\", \"{}\"]",
        empty.address, broken.address, good.address
    );
    let home = Home::new();
    home.pull_with(&config, "x:1").unwrap();
    assert!(home.store.find("x:1").is_ok());
    assert!(!empty.requests().is_empty() && !broken.requests().is_empty());
}

#[test]
fn names_are_searched_for_only_where_that_is_asked_for() {
    let shown = Shown::new();
    let registry = shown.with_fault(|_, _| None);
    let config = format!("unqualified-search = [\"{}\"]", registry.address);
    let home = Home::new();
    home.pull_with(&config, "x:1").unwrap();
    assert!(home.store.find(&format!("{}/x:1", registry.address)).is_ok());
}

#[test]
fn two_pulls_of_one_image_do_not_disturb_each_other() {
    let (home, shown) = (Home::new(), Shown::new());
    let registry = shown.with_fault(|_, _| None);
    let name = format!("{}/x:1", registry.address);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                home.pull(&name).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(done.into_inner(), 4);
    assert_eq!(home.store.list().unwrap().len(), 1);
    let once = Home::new();
    once.pull(&name).unwrap();
    let (mut all, mut one) = (home.snapshot(), once.snapshot());
    for name in ["names.json", "origin.json"] {
        all.forget(name);
        one.forget(name);
    }
    assert_eq!(all, one);
}

#[test]
fn a_known_layer_is_not_missing() {
    let (home, shown) = (Home::new(), Shown::new());
    let registry = shown.with_fault(|_, _| None);
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    let missing = home.store.take_in(&images::Limits::DEFAULT, images::Blobs::Keep, |intake| {
        let incoming = intake.image("c", shown.config.clone(), None, vec![None, None])?;
        incoming.missing(0)
    });
    let missing: Result<Missing, images::Error> = missing;
    assert_eq!(missing.unwrap(), Missing::Nothing);
}
