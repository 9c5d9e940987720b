//! `pull --all-tags`: the list of a repository's tags, honest or not, and an image for each.

use images::Tags;

use super::faulty::{Faulty, Reply, Request};
use super::fixture::{Home, Shown};

/// A registry in which every tag means the one image, and which lists tags like this.
fn listing(list: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Faulty {
    Shown::new().with_fault(move |request, shown| {
        if request.path.starts_with("/v2/x/tags/list") {
            return list(request);
        }
        let mut request = request.clone();
        if request.path.starts_with("/v2/x/manifests/") {
            request.path = "/v2/x/manifests/1".to_owned();
        }
        Some(shown.answer(&request))
    })
}

fn pull_all(home: &Home, config: &str, name: &str) -> Result<(), crate::Error> {
    crate::pull::run(&home.client(config), &images::Pull { tags: Tags::All, ..home.order(name) })
}

#[test]
fn each_tag_of_each_page_is_pulled() {
    let registry = listing(|request| {
        let (_, query) = request.path.split_once('?').unwrap();
        Some(match query {
            "n=1000" => Reply::new(200, r#"{"name":"x","tags":["b","a.1"]}"#)
                .header("link", "</v2/x/tags/list?last=a.1&n=2>; rel=\"next\""),
            // Registries differ in whether the last one comes again.
            "last=a.1&n=2" => Reply::new(200, r#"{"tags":["a.1","_C-3"]}"#)
                .header("link", "<list?last=_C-3>;rel=next"),
            "last=_C-3" => Reply::new(200, r#"{"name":"x","tags":null}"#),
            other => Reply::new(400, other),
        })
    });
    let home = Home::new();
    let name = format!("{}/x", registry.address);
    pull_all(&home, "", &name).unwrap();
    let images = home.store.list().unwrap();
    let tags: Vec<_> = images[0].references.iter().filter_map(images::Reference::tag).collect();
    assert_eq!((images.len(), tags), (1, vec!["_C-3", "a.1", "b"]));
    let manifests = registry.requests().into_iter().filter(|r| r.path.contains("/manifests/"));
    let asked: Vec<_> = manifests.map(|request| request.path).collect();
    assert_eq!(asked, ["b", "a.1", "_C-3"].map(|tag| format!("/v2/x/manifests/{tag}")));
}

#[test]
fn a_bad_list_is_refused() {
    type List = fn(&Request) -> Option<Reply>;
    let cases: [(List, &str); 8] = [
        (|_| Some(Reply::new(404, "")), "has no tags of x"),
        (|_| Some(Reply::new(200, "<html>")), "no JSON list for tags of x"),
        (|_| Some(Reply::new(200, r#"{"tags":["../../y"]}"#)), "\"../../y\", which is no tag"),
        (|_| Some(Reply::new(200, r#"{"tags":["a@sha256:b"]}"#)), "which is no tag"),
        (|_| Some(Reply::new(200, r#"{"tags":[""]}"#)), "\"\", which is no tag"),
        (|_| Some(Reply::new(200, vec![b' '; 9 << 20])), "more than 8388608 bytes"),
        (
            |_| {
                Some(Reply::new(200, r#"{"tags":[]}"#).header("link", "<//evil.example/>;rel=next"))
            },
            "a next page that is somewhere else",
        ),
        (
            |request| {
                let next = format!("<list?n={}>; rel=\"next\"", request.before);
                Some(Reply::new(200, r#"{"tags":["same"]}"#).header("link", next))
            },
            "more than 1000 pages",
        ),
    ];
    for (list, wanted) in cases {
        let (home, registry) = (Home::new(), listing(list));
        let before = home.snapshot();
        let error = pull_all(&home, "", &format!("{}/x", registry.address)).unwrap_err();
        let text = crate::chain(&error);
        assert!(text.contains(wanted), "{wanted}: {text}");
        assert!(error.hint().is_some(), "{text}");
        assert_eq!(home.snapshot(), before, "{wanted}");
    }
}

#[test]
fn a_tag_or_a_digest_is_not_all_tags() {
    let registry = listing(|_| Some(Reply::new(200, r#"{"tags":["1"]}"#)));
    let home = Home::new();
    for name in ["x:1", "x:latest", &format!("x@{}", Shown::new().digest())] {
        let error = pull_all(&home, "", &format!("{}/{name}", registry.address)).unwrap_err();
        assert!(error.to_string().starts_with("tag can't be used with --all-tags/-a"), "{error}");
    }
    assert!(registry.requests().is_empty());
}

#[test]
fn what_was_pulled_before_a_failure_stays() {
    let shown = Shown::new();
    let registry = shown.with_fault(|request, _| {
        request.path.contains("/tags/").then(|| Reply::new(200, r#"{"tags":["1","gone"]}"#))
    });
    let home = Home::new();
    let name = format!("{}/x", registry.address);
    let error = pull_all(&home, "", &name).unwrap_err();
    assert!(error.to_string().contains("has no manifest x:gone"), "{error}");
    assert!(home.store.find(&format!("{name}:1")).is_ok());
}

#[test]
fn a_mirror_lists_tags_as_well() {
    let mirror = Shown::new().with_fault(|request, shown| {
        if request.path.starts_with("/v2/library/x/tags/list") {
            return Some(Reply::new(200, r#"{"tags":["1"]}"#));
        }
        let mut request = request.clone();
        request.path = request.path.replace("/library/", "/");
        Some(shown.answer(&request))
    });
    let home = Home::new();
    let config = format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]", mirror.address);
    pull_all(&home, &config, "x").unwrap();
    assert!(home.store.find("x:1").is_ok());
}
