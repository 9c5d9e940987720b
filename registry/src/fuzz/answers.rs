//! Headers and small documents of registries and token servers.

use std::time::SystemTime;

use crate::auth::{Challenge, Credentials, Secret, token};
use crate::blob::starts_at;
use crate::http::retry_after;
use crate::tags::{follow, next_page};
use crate::url::Url;
use crate::words::{clean, registry_message};

/// Reads `bytes` as the value of every header that is looked at, line by line, and as every small
/// document.
///
/// # Panics
/// When an address is not read back as itself or holds a name and a password, a next page is at another
/// host, two ranges begin at once, what goes into a header cannot, or words from a registry could steer
/// a terminal.
pub fn answers(bytes: &[u8]) {
    if let Some(secret) = token::read(bytes) {
        assert!(ureq::http::HeaderValue::from_str(secret.reveal()).is_ok());
    }
    is_shown(&registry_message(bytes));
    let Ok(text) = str::from_utf8(bytes) else { return };
    is_shown(&clean(text));
    challenge(text);
    let here = Url::parse("https://registry.example/v2/a/b/tags/list?n=9").expect("it is one");
    for line in text.lines() {
        if let Some(url) = here.join(line) {
            is_address(&url);
        }
        if let Some(url) = next_page(line).and_then(|target| follow(&here, target)) {
            is_address(&url);
            assert_eq!(url.origin(), here.origin());
        }
        let starts = [0, 1, 7, u64::MAX].into_iter().filter(|start| starts_at(line, *start));
        assert!(starts.count() <= 1, "{line}");
        let _wait = retry_after(line, SystemTime::UNIX_EPOCH);
    }
}

fn challenge(text: &str) {
    let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(text.lines()) else {
        return;
    };
    let Some(realm) = Url::parse(&realm) else { return };
    let me = Credentials::new("me".to_owned(), Secret::new("hunter2"));
    let scope = scope.unwrap_or_default();
    let asked = token::request(&realm, service.as_deref(), &scope, Some(&me));
    is_address(&asked.url);
    assert_eq!(asked.url.origin(), realm.origin());
    // A registry that happens to say the secret itself learns nothing.
    let said = [&realm.text(), service.as_deref().unwrap_or_default(), &scope].concat();
    assert!(said.contains("hunter2") || !asked.url.text().contains("hunter2"));
}

fn is_address(url: &Url) {
    let text = url.text();
    assert_eq!(Url::parse(&text).as_ref(), Some(url), "{text}");
    assert!(!url.authority().contains('@'), "{text}");
}

/// A line that a terminal can be given, and not a long one.
fn is_shown(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() <= 301, "{text:?}");
}
