//! `hyperrun snapshot` with snapshots that no machine has made.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{empty_store, labelled, load};
use tests::Sandbox;

/// Puts a snapshot of this container where the binary looks for them.
fn make(root: &Path, id: &str, name: &str) {
    let container = root.join("containers").join(id).join("container.json");
    let container = fs::read_to_string(container).unwrap();
    let folder = root.join("snapshots").join(name);
    fs::create_dir_all(&folder).unwrap();
    let needs = r#"{"protocol":1,"processor":"none","kernel":"1.2.3"}"#;
    let text = format!(
        r#"{{"version":1,"id":"{}","name":"{name}","created":"2023-11-14T22:13:20Z",
            "container":{container},"hyperrun":"0.0.1","needs":{needs},"disk":[],
            "pause_us":12345,"written":67}}"#,
        "5".repeat(64)
    );
    fs::write(folder.join("snapshot.json"), text).unwrap();
    fs::write(folder.join("memory"), vec![1; 100_000]).unwrap();
}

/// With a container and a snapshot of it.
fn with_snapshot() -> (Sandbox, tempfile::TempDir) {
    let (sandbox, root) = empty_store();
    load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "a", "1"));
    let words = "create --name web -l tier=front -m 256m --network none --expose 80 base:1 true";
    let id = sandbox.does(words).stdout.trim().to_owned();
    make(root.path(), &id, "warm");
    (sandbox, root)
}

#[test]
fn snapshots_are_listed() {
    let (sandbox, root) = with_snapshot();
    fs::create_dir(root.path().join("snapshots/.gone-old")).unwrap();
    let out = sandbox.does("snapshot ls");
    out.stdout_has("NAME      CONTAINER   IMAGE     MEMORY    SIZE      CREATED\n");
    out.stdout_has("warm      web         base:1    256MiB    ").stdout_has(" ago\n");
    assert_eq!(out.stdout.lines().count(), 2, "{}", out.stdout);
    sandbox.does("snapshot list -q").stdout_is("warm\n");
    let format = "{{.ID}} {{.Labels}} {{.CreatedAt}} {{.CPUs}}";
    let out = sandbox.hyperrun(["snapshot", "ls", "--format", format]);
    out.stdout_has("555555555555 ").stdout_has("tier=front 2023-11-14T22:13:20Z 1\n");
    let whole = sandbox.does("snapshot ls --no-trunc --format {{.ID}}");
    whole.stdout_is(&format!("{}\n", "5".repeat(64)));
    for (filter, wanted) in [
        ("name=war", "warm\n"),
        ("container=web", "warm\n"),
        ("image=base:1", "warm\n"),
        ("label=tier=front", "warm\n"),
        ("label=tier=back", ""),
        ("name=cold", ""),
    ] {
        sandbox.does(&format!("snapshot ls -q -f {filter}")).stdout_is(wanted);
    }
    let out = sandbox.hyperrun(["snapshot", "ls", "-f", "size=1"]);
    out.fails_with(1, "invalid filter 'size'");
    sandbox.does("system df --format {{.Type}}:{{.TotalCount}}").stdout_has("Snapshots:1\n");
    sandbox.does("info -f {{.Snapshots}}").stdout_is("1\n");
    sandbox.does("info").stdout_has("\nSnapshots: 1\n");
}

#[test]
fn snapshots_are_inspected() {
    let (sandbox, _root) = with_snapshot();
    let format = "{{.Name}} {{.Container.Name}} {{.PauseMicroseconds}} {{.Written}} {{.Memory}}";
    let out = sandbox.hyperrun(["snapshot", "inspect", "-f", format, "warm", "cold"]);
    out.code_is(1).stdout_is("warm web 12345 67 268435456\n");
    out.stderr_has("error: no such snapshot: cold\nhint: ");
    sandbox.does("snapshot inspect warm").stdout_has("\"Ports\": [\n            \"80/tcp\"");
    sandbox.does("snapshot inspect -f json warm").stdout_has("\"Hyperrun\":\"0.0.1\"");
}

#[test]
fn a_snapshot_keeps_its_image_until_it_is_removed() {
    let (sandbox, root) = with_snapshot();
    sandbox.does("rm web");
    sandbox.hyperrun(["rmi", "base:1"]).fails_with(1, "snapshot warm");
    sandbox.does("image prune -a -f").stdout_is("Total reclaimed space: 0B\n");
    sandbox.does("system prune -a -f").stdout_has("Total reclaimed space: 0B\n");
    let out = sandbox.hyperrun(["snapshot", "rm", "cold", "warm"]);
    out.code_is(1).stdout_is("warm\n").stderr_has("error: no such snapshot: cold\n");
    assert_eq!(fs::read_dir(root.path().join("snapshots")).unwrap().count(), 0);
    sandbox.does("rmi base:1");
    let words =
        ["events", "--since", "1h", "--until", "0s", "--filter", "type=snapshot", "--format"];
    let format = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.container}}";
    sandbox.hyperrun([&words[..], &[format]].concat()).stdout_is("remove warm web\n");
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let (sandbox, root) = with_snapshot();
    let import = |bytes: &[u8]| sandbox.hyperrun_with_input(["snapshot", "import"], bytes);
    import(b"").fails_with(1, "cannot read the exported snapshot: this is not a tar archive");
    import(&[7; 2000]).fails_with(1, "cannot read the exported snapshot");
    let other = labelled("base:1", "2020-01-01T00:00:00Z", "a", "1");
    import(&other).fails_with(1, "snapshot.json is not where it must be");
    let out = sandbox.hyperrun(["snapshot", "import", "-i", "/no/where"]);
    out.fails_with(1, "cannot open /no/where");
    sandbox.hyperrun(["snapshot", "export", "cold"]).fails_with(1, "no such snapshot: cold");
    sandbox.does("snapshot ls -q").stdout_is("warm\n");
    // One that is damaged is told, and can be removed.
    fs::write(root.path().join("snapshots/warm/snapshot.json"), "{").unwrap();
    let out = sandbox.does("snapshot ls -q");
    out.stdout_is("").stderr_has("warning: snapshot warm is damaged");
    sandbox.does("snapshot rm warm");
}
