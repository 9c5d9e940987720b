//! `hyperrun events` of what needs no machine: containers that are created and removed, and images.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs::OpenOptions;
use std::io::Write;

use common::{empty_store, labelled, load};
use tests::{Running, Sandbox};

/// What has happened so far.
fn happened(sandbox: &Sandbox, filters: &[&str]) -> String {
    let words = ["events", "--since", "1h", "--until", "0s", "--format"];
    let format = "{{.Type}} {{.Action}} {{index .Actor.Attributes \"name\"}}";
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let words: Vec<_> = words.into_iter().chain([format]).chain(filters).collect();
    let out = sandbox.hyperrun(words);
    out.code_is(0).stderr_is("");
    out.stdout
}

#[test]
fn images_and_containers_come_and_go() {
    let (sandbox, _root) = empty_store();
    load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "a", "1"));
    sandbox.does("tag base:1 other:2");
    sandbox.does("create --name web -l tier=front base:1 true");
    sandbox.does("rename web site");
    sandbox.does("update --pids-limit 7 site");
    sandbox.does("container prune -f");
    sandbox.does("save -o /dev/null other:2");
    sandbox.does("rmi other:2");
    sandbox.does("image prune -a -f");
    let id = |action: &str| {
        let words = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.ID}}"];
        let filter = format!("event={action}");
        sandbox.hyperrun([&words[..], &["--filter", &filter]].concat()).stdout
    };
    let image = id("load");
    assert!(image.starts_with("sha256:"), "{image}");
    assert_eq!(id("delete"), image);
    assert_eq!(id("create"), id("destroy"));
    assert_eq!(
        happened(&sandbox, &[]),
        format!(
            "image load base:1\nimage tag other:2\ncontainer create web\ncontainer rename site\n\
             container update site\ncontainer destroy site\ncontainer prune \nimage save other:2\n\
             image untag other:2\nimage untag base:1\nimage delete {image}image prune \n"
        )
    );
    assert_eq!(happened(&sandbox, &["label=tier=front", "event=create"]), "container create web\n");
    assert_eq!(
        happened(&sandbox, &["type=image", "image=other"]),
        "image tag other:2\nimage save other:2\nimage untag other:2\n"
    );
    sandbox.hyperrun(["events", "--filter", "colour=red"]).fails_with(1, "invalid filter 'colour'");
    sandbox.hyperrun(["events", "--since", "soon"]).fails_with(1, "--since");
}

#[test]
fn a_damaged_log_is_read_as_far_as_it_goes() {
    let (sandbox, root) = empty_store();
    load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "a", "1"));
    let path = root.path().join("events/events.log");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\n{\"Type\":\"container\",\"Act").unwrap();
    sandbox.does("tag base:1 other:2");
    file.write_all(b"{}\n\0\0\0\n[[[[\n").unwrap();
    let out = sandbox.hyperrun(["events", "--since", "1h", "--until", "0s"]);
    out.code_is(0).stderr_is("warning: skipped 4 broken lines of the event log\n");
    assert_eq!(out.stdout.lines().count(), 2);
    out.stdout_has(" image load ").stdout_has(" image tag ");
}

#[test]
fn whoever_follows_sees_what_comes() {
    let (sandbox, _root) = empty_store();
    load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "a", "1"));
    let mut follower = Running::start(sandbox.command(["events", "--since", "1h"]));
    follower.wait_for(" image load ");
    sandbox.does("create --name web base:1 true");
    follower.wait_for("name=web)\n");
    sandbox.does("rm web");
    follower.wait_for(" container destroy ");
    follower.kill();
}
