//! Failures that stay: each is named, has a hint, and leaves the store as it was.

use std::net::TcpListener;

use tests::archive;

use super::faulty::{Faulty, Reply, Request};
use super::fixture::{Home, INDEX_TYPE, MANIFEST_TYPE, Shown};
use crate::error::Error;

pub(super) type Fault = fn(&Request, &Shown) -> Option<Reply>;

fn is_manifest(request: &Request) -> bool {
    request.path.contains("/manifests/")
}

fn is_layer(request: &Request, shown: &Shown) -> bool {
    request.path == Shown::blob_path(&shown.layers[0])
}

fn manifest(text: impl Into<Vec<u8>>) -> Reply {
    Reply::new(200, text).header("content-type", MANIFEST_TYPE)
}

/// The honest manifest with one text in it replaced.
fn changed(shown: &Shown, from: &str, to: &str) -> Reply {
    let text = String::from_utf8(shown.manifest.clone()).unwrap();
    assert!(text.contains(from), "{text}");
    manifest(text.replace(from, to))
}

pub(super) fn check(name: &str, shown: &Shown, fault: Fault, wanted: &str) {
    let home = Home::new();
    let before = home.snapshot();
    let registry = shown.with_fault(fault);
    let error = home.pull(&format!("{}/x:1", registry.address)).expect_err(name);
    tell(name, &error, wanted);
    assert_eq!(home.snapshot(), before, "{name}: the store has changed");
}

pub(super) fn tell(name: &str, error: &Error, wanted: &str) {
    let text = crate::chain(error);
    assert!(text.contains(wanted), "{name}: {text}");
    assert!(error.hint().is_some(), "{name}: no hint for {text}");
}

#[test]
fn refusals_are_told_with_the_registrys_words() {
    let cases: [(&str, Fault, &str); 6] = [
        ("401", |_, _| Some(Reply::new(401, "")), "asks for credentials for manifest x:1"),
        (
            "403",
            |_, _| Some(Reply::new(403, r#"{"errors":[{"message":"not yours"}]}"#)),
            "denies access to manifest x:1: not yours",
        ),
        ("404", |_, _| Some(Reply::new(404, "<html>")), "has no manifest x:1"),
        (
            "429",
            |_, _| Some(Reply::new(429, "").header("retry-after", "3600")),
            "has had too many requests: its Retry-After is 3600",
        ),
        ("500", |_, _| Some(Reply::new(500, "")), "answers 500 to the request for manifest x:1"),
        (
            "418",
            |_, _| Some(Reply::new(418, r#"{"errors":[{"message":"\u001b[2Jx"}]}"#)),
            "answers 418 to the request for manifest x:1: [2Jx",
        ),
    ];
    for (name, fault, wanted) in cases {
        check(name, &Shown::new(), fault, wanted);
    }
}

#[test]
fn bad_manifests_are_refused() {
    let cases: [(&str, Fault, &str); 8] = [
        ("no JSON", |r, _| is_manifest(r).then(|| manifest("{")), "it is not valid"),
        ("neither", |r, _| is_manifest(r).then(|| manifest("{}")), "neither an image manifest"),
        (
            "100 MiB promised",
            |r, _| is_manifest(r).then(|| manifest("{").promising(100 << 20)),
            "more than 8388608 bytes for manifest x:1",
        ),
        (
            "100 MiB sent of which nothing was said",
            |r, _| is_manifest(r).then(|| manifest(vec![b' '; 100 << 20]).unannounced()),
            "more than 8388608 bytes for manifest x:1",
        ),
        (
            "9 MiB sent",
            |r, _| is_manifest(r).then(|| manifest(vec![b' '; 9 << 20])),
            "more than 8388608 bytes for manifest x:1",
        ),
        (
            "a web page",
            |r, s| {
                let page = || Reply::new(200, &s.manifest[..]).header("content-type", "text/html");
                is_manifest(r).then(page)
            },
            "a document of the media type \"text/html\" for manifest x:1",
        ),
        (
            "schema 1",
            |r, _| {
                let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
                is_manifest(r).then(|| Reply::new(200, "{}").header("content-type", media_type))
            },
            "Docker's first schema",
        ),
        (
            "another digest than told",
            |r, s| {
                let digest = archive::digest(b"other");
                is_manifest(r)
                    .then(|| manifest(&s.manifest[..]).header("docker-content-digest", digest))
            },
            "sends other bytes for manifest x:1",
        ),
    ];
    for (name, fault, wanted) in cases {
        check(name, &Shown::new(), fault, wanted);
    }
}

#[test]
fn manifests_that_describe_no_image_are_refused() {
    let cases: [(&str, Fault, &str); 7] = [
        (
            "a chart",
            |r, s| is_manifest(r).then(|| changed(s, "oci.image.config", "cncf.helm.config")),
            "is not a container image",
        ),
        (
            "an encrypted layer",
            |r, s| is_manifest(r).then(|| changed(s, "tar+gzip", "tar+gzip+encrypted")),
            "a layer of the unknown kind",
        ),
        (
            "an absurd layer",
            |r, s| {
                let size = format!("\"size\":{}", s.layers[0].len());
                is_manifest(r).then(|| changed(s, &size, "\"size\":9007199254740993"))
            },
            "layers of 9007199254",
        ),
        (
            "a negative layer",
            |r, s| {
                let size = format!("\"size\":{}", s.layers[0].len());
                is_manifest(r).then(|| changed(s, &size, "\"size\":-1"))
            },
            "it is not valid",
        ),
        (
            "an absurd configuration",
            |r, s| {
                let size = format!("\"size\":{}", s.config.len());
                is_manifest(r).then(|| changed(s, &size, "\"size\":99999999"))
            },
            "a configuration of 99999999 bytes",
        ),
        (
            "an index without this platform",
            |r, _| {
                let digest = archive::digest(b"x");
                let index = format!(
                    r#"{{"manifests":[{{"digest":"{digest}","size":1,
                        "platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#
                );
                is_manifest(r).then(|| Reply::new(200, index).header("content-type", INDEX_TYPE))
            },
            "there is no image for linux/amd64 in it, only for linux/s390x",
        ),
        (
            "a layer more than the configuration has",
            |r, s| {
                let text = String::from_utf8(s.manifest.clone()).unwrap();
                let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
                value["layers"].as_array_mut().unwrap().pop();
                is_manifest(r).then(|| manifest(value.to_string()))
            },
            "it lists 1 layers, the image's configuration lists 2",
        ),
    ];
    for (name, fault, wanted) in cases {
        check(name, &Shown::new(), fault, wanted);
    }
}

#[test]
fn an_index_that_leads_to_itself_ends() {
    check(
        "a circle",
        &Shown::new(),
        |r, _| {
            let index = format!(
                r#"{{"manifests":[{{"digest":"{}","size":1,
                    "platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
                archive::digest(b"x")
            );
            is_manifest(r).then(|| Reply::new(200, index).header("content-type", INDEX_TYPE))
        },
        "sends other bytes for manifest x@sha256:",
    );
}

#[test]
fn bad_layers_are_refused() {
    let cases: [(&str, Fault, &str); 9] = [
        ("404", |r, s| is_layer(r, s).then(|| Reply::new(404, "")), "has no layer sha256:"),
        (
            "longer than promised",
            |r, s| is_layer(r, s).then(|| Reply::new(200, vec![0; s.layers[0].len() + 1])),
            "bytes where the manifest promises",
        ),
        (
            "shorter than promised",
            |r, s| is_layer(r, s).then(|| Reply::new(200, &s.layers[0][..500])),
            "sends 500 bytes where the manifest promises",
        ),
        (
            "cut off again and again",
            |r, s| {
                let length = s.layers[0].len();
                is_layer(r, s).then(|| Reply::new(200, &s.layers[0][..500]).promising(length))
            },
            "cannot reach 127.0.0.1",
        ),
        (
            "other bytes of the same length",
            |r, s| {
                let mut other = s.layers[0].clone();
                *other.last_mut().unwrap() ^= 1;
                is_layer(r, s).then(|| Reply::new(200, other))
            },
            "the layer's compressed bytes have digest",
        ),
        (
            "noise of the same length",
            |r, s| is_layer(r, s).then(|| Reply::new(200, vec![7; s.layers[0].len()])),
            "the layer's compressed bytes have digest",
        ),
        (
            "another range",
            |r, s| {
                let blob = &s.layers[0];
                is_layer(r, s).then(|| match r.from() {
                    0 => Reply::new(200, &blob[..500]).promising(blob.len()),
                    _ => Reply::new(206, &blob[1..]).header("content-range", "bytes 1-9/10"),
                })
            },
            "another range than was asked for",
        ),
        (
            "a redirect to nowhere",
            |r, s| is_layer(r, s).then(|| Reply::new(307, "").header("location", "ftp://x/")),
            "a redirect to nowhere",
        ),
        (
            "a circle of redirects",
            |r, s| is_layer(r, s).then(|| Reply::new(307, "").header("location", r.path.clone())),
            "more than 5 redirects",
        ),
    ];
    for (name, fault, wanted) in cases {
        check(name, &Shown::new(), fault, wanted);
    }
}

#[test]
fn a_bad_configuration_is_refused() {
    check(
        "other bytes",
        &Shown::new(),
        |r, s| {
            (r.path == Shown::blob_path(&s.config))
                .then(|| Reply::new(200, vec![b' '; s.config.len()]))
        },
        "sends other bytes for configuration sha256:",
    );
}

#[test]
fn a_registry_that_is_down_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let home = Home::new();
    let before = home.snapshot();
    let error = home.pull(&format!("{address}/x:1")).unwrap_err();
    tell("down", &error, &format!("cannot reach {address}: "));
    assert_eq!(home.snapshot(), before);
}

#[test]
fn a_registry_without_tls_is_not_trusted() {
    let registry = Faulty::start(|_| Reply::new(200, ""));
    let config = format!("[registry.\"{}\"]\nplain-http = false", registry.address);
    let home = Home::new();
    let before = home.snapshot();
    let error = home.pull_with(&config, &format!("{}/x:1", registry.address)).unwrap_err();
    tell("no TLS", &error, "cannot trust 127.0.0.1");
    assert_eq!(home.snapshot(), before);
}
