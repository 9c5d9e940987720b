//! Connections that break, and registries that are busy: the pull goes on.

use std::time::{Duration, Instant};

use super::faulty::Reply;
use super::fixture::{Home, Shown};

fn asked_for(registry: &super::Faulty, path: &str) -> Vec<usize> {
    let requests = registry.requests();
    requests
        .iter()
        .filter(|request| request.path == path)
        .map(super::faulty::Request::from)
        .collect()
}

#[test]
fn a_broken_layer_goes_on_where_it_broke() {
    let (home, shown) = (Home::new(), Shown::new());
    let path = Shown::blob_path(&shown.layers[0]);
    let broken = path.clone();
    let registry = shown.with_fault(move |request, shown| {
        let blob = &shown.layers[0];
        // Three answers of a quarter each, then the rest.
        (request.path == broken && request.before < 3).then(|| {
            let (from, quarter) = (request.from(), blob.len() / 4);
            let reply = Reply::new(if from == 0 { 200 } else { 206 }, &blob[from..from + quarter]);
            let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
            reply.promising(blob.len() - from).header("content-range", range)
        })
    });
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    let quarter = shown.layers[0].len() / 4;
    assert_eq!(asked_for(&registry, &path), [0, quarter, 2 * quarter, 3 * quarter]);
}

#[test]
fn a_registry_without_ranges_begins_again() {
    let (home, shown) = (Home::new(), Shown::new());
    let path = Shown::blob_path(&shown.layers[0]);
    let registry = shown.with_fault(move |request, shown| {
        let blob = &shown.layers[0];
        (request.path == path).then(|| match request.before {
            0 => Reply::new(200, &blob[..1000]).promising(blob.len()),
            _ => Reply::new(200, &blob[..]),
        })
    });
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
}

#[test]
fn a_busy_registry_is_waited_for() {
    for status in [429, 500, 502, 503, 504] {
        let (home, shown) = (Home::new(), Shown::new());
        let registry = shown
            .with_fault(move |request, _| (request.before < 2).then(|| Reply::new(status, "busy")));
        home.pull(&format!("{}/x:1", registry.address)).unwrap();
    }
}

#[test]
fn a_registry_says_how_long_to_wait() {
    let (home, shown) = (Home::new(), Shown::new());
    let registry = shown.with_fault(|request, _| {
        let first = request.path.contains("/manifests/") && request.before == 0;
        first.then(|| Reply::new(429, "").header("retry-after", "1"))
    });
    let start = Instant::now();
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn what_is_refused_is_not_asked_again() {
    for status in [400, 401, 403, 404, 405] {
        let (home, shown) = (Home::new(), Shown::new());
        let registry = shown.with_fault(move |_, _| Some(Reply::new(status, "")));
        home.pull(&format!("{}/x:1", registry.address)).unwrap_err();
        assert_eq!(registry.requests().len(), 1, "{status}");
    }
}
