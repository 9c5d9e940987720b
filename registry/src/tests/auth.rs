//! Who gets to see credentials, and who does not.

use std::sync::{Arc, Mutex};

use super::faulty::{Faulty, Reply, Request};
use super::fixture::{Home, Shown};
use crate::http::Client;

const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn logged_in(registry: &str) -> Home {
    let home = Home::new();
    home.docker_config(&format!(r#"{{"auths":{{"{registry}":{{"auth":"bWU6aHVudGVyMg=="}}}}}}"#));
    home
}

/// Lets in who brings this.
fn wants(request: &Request, header: &str, challenge: &str) -> Option<Reply> {
    (request.header("authorization") != header)
        .then(|| Reply::new(401, "").header("www-authenticate", challenge))
}

#[test]
fn basic_credentials_are_sent_when_they_are_asked_for() {
    let shown = Shown::new();
    let registry = shown.with_fault(|request, _| wants(request, BASIC, "Basic realm=\"x\""));
    let home = logged_in(&registry.address);
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    let requests = registry.requests();
    assert_eq!(requests[0].header("authorization"), "");
    // Once it is known what is wanted, nobody asks in vain.
    assert_eq!(requests.iter().filter(|r| r.header("authorization").is_empty()).count(), 1);
    let stranger = Home::new();
    let error = stranger.pull(&format!("{}/x:1", registry.address)).unwrap_err();
    assert!(error.to_string().contains("asks for credentials"), "{error}");
    assert!(error.hint().unwrap().contains("hyperrun login"), "{error}");
}

#[test]
fn a_token_is_fetched_once_for_a_repository() {
    let shown = Shown::new();
    let tokens = Faulty::start(|request| {
        let known = request.header("authorization") == BASIC;
        Reply::new(if known { 200 } else { 401 }, r#"{"token":"good"}"#)
    });
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address);
    let registry = shown.with_fault(move |request, _| wants(request, "Bearer good", &challenge));
    let home = logged_in(&registry.address);
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].path,
        "/token?service=s&scope=repository:x:pull&account=me&client_id=hyperrun"
    );
    assert!(registry.requests().iter().all(|r| !r.header("authorization").starts_with("Basic")));
}

#[test]
fn a_token_that_has_expired_is_renewed() {
    let shown = Shown::new();
    let tokens =
        Faulty::start(|request| Reply::new(200, format!(r#"{{"token":"t{}"}}"#, request.before)));
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
    let registry = shown.with_fault(move |request, _| {
        let wanted = if request.path.contains("/manifests/") { "Bearer t0" } else { "Bearer t1" };
        // A second token may come of two layers at once.
        let later = request.path.contains("/blobs/") && request.header("authorization") > wanted;
        if later { None } else { wants(request, wanted, &challenge) }
    });
    Home::new().pull(&format!("{}/x:1", registry.address)).unwrap();
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let shown = Shown::new();
    let seen = Arc::<Mutex<Vec<Request>>>::default();
    let (log, blobs) = (Arc::clone(&seen), shown.clone());
    let network = Faulty::start(move |request| {
        log.lock().unwrap().push(request.clone());
        let mut request = request.clone();
        request.path = request.path.replace("/cdn/", "/v2/x/blobs/");
        blobs.answer(&request)
    });
    let address = network.address.clone();
    let registry = shown.with_fault(move |request, _| {
        if let Some(refused) = wants(request, BASIC, "Basic") {
            return Some(refused);
        }
        let digest = request.path.strip_prefix("/v2/x/blobs/")?;
        Some(Reply::new(307, "").header("location", format!("http://{address}/cdn/{digest}")))
    });
    let home = logged_in(&registry.address);
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.header("authorization").is_empty()));
}

#[test]
fn a_redirect_within_the_host_keeps_them() {
    let shown = Shown::new();
    let registry = shown.with_fault(|request, shown| {
        wants(request, BASIC, "Basic").or_else(|| {
            let rest = request.path.strip_prefix("/v2/x/")?;
            if let Some(rest) = rest.strip_prefix("moved/") {
                let mut request = request.clone();
                request.path = format!("/v2/x/{rest}");
                return Some(shown.answer(&request));
            }
            Some(Reply::new(302, "").header("location", format!("/v2/x/moved/{rest}")))
        })
    });
    logged_in(&registry.address).pull(&format!("{}/x:1", registry.address)).unwrap();
}

#[test]
fn secrets_are_in_no_error() {
    let registry = Faulty::start(|_| {
        let message = r#"{"errors":[{"message":"go away"}]}"#;
        Reply::new(401, message).header("www-authenticate", "Basic")
    });
    let home = logged_in(&registry.address);
    let error = home.pull(&format!("{}/x:1", registry.address)).unwrap_err();
    let client: Client = home.client("");
    let text = format!("{error:?} {error} {:?} {client:?}", error.hint());
    assert!(text.contains("go away"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("bWU6aHVudGVyMg"), "{text}");
}

#[test]
fn a_mirror_does_not_get_the_credentials_of_the_registry() {
    let mirror = Faulty::start(|_| Reply::new(401, "").header("www-authenticate", "Basic"));
    let origin = Faulty::start(|_| Reply::new(404, ""));
    let home = logged_in(&origin.address);
    let config = format!("[registry.\"{}\"]\nmirrors = [\"{}\"]", origin.address, mirror.address);
    home.pull_with(&config, &format!("{}/x:1", origin.address)).unwrap_err();
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_empty()));
}
