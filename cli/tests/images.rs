//! The commands about images, through the binary. Needs skopeo and oci-image-tool.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;

use common::{empty_store, layer, layout, load, members, three_images, tool};
use tests::archive::{Layer, docker_archive, gzip, pack, zstd};
use tests::{Output, Sandbox, Snapshot, Terminal};

/// The manifest digest of an OCI layout made in memory: its last file.
fn manifest_of(layout: &[(String, Vec<u8>)]) -> String {
    format!("sha256:{}", &layout.last().unwrap().0["blobs/sha256/".len()..])
}

fn blobs(files: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut blobs: Vec<_> = files.iter().filter(|(name, _)| name.len() > 64).cloned().collect();
    blobs.sort();
    blobs
}

#[test]
fn a_tag_is_a_further_name() {
    let (sandbox, _root) = empty_store();
    load(&sandbox, &docker_archive("one:1", &[layer("1")]));
    load(&sandbox, &docker_archive("two:2", &[layer("2")]));
    sandbox.hyperrun(["tag", "one:1", "quay.io/a/b"]).code_is(0).stdout_is("").stderr_is("");
    sandbox.hyperrun(["image", "tag", "one:1", "two:2"]).code_is(0);
    let list = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    sandbox.hyperrun(list).stdout_is("one:1\ntwo:2\nquay.io/a/b:latest\n<none>:<none>\n");
    let before = sandbox.stored();
    for (arguments, wanted) in [
        (["tag", "none", "a"], "no such image: none"),
        (["tag", "one:1", "Upper"], "must be lower-case"),
        (
            ["tag", "one:1", &format!("a@sha256:{}", "0".repeat(64))],
            "refusing to create a tag with a digest reference",
        ),
    ] {
        sandbox.hyperrun(arguments).fails_with(1, wanted);
    }
    assert_eq!(sandbox.stored(), before);
}

#[test]
fn what_is_saved_keeps_its_digests() {
    let (sandbox, root) = empty_store();
    let made = layout("a.io/b/c:1", &[layer("x"), layer("y")]);
    load(&sandbox, &pack(&made));
    let path = root.path().join("saved.tar");
    let file = path.to_str().unwrap();
    let folder = root.path().join("saved");
    let save = |format: &str, to: &str| {
        sandbox.hyperrun(["save", "--format", format, "-o", to, "a.io/b/c:1"]).code_is(0);
    };
    save("docker-archive", file);
    let docker = members(&fs::read(file).unwrap());
    assert_eq!(blobs(&docker), blobs(&made));
    let names: Vec<&str> = docker.iter().map(|(name, _)| name.as_str()).collect();
    let first = ["blobs/", "blobs/sha256/", "oci-layout", "index.json", "manifest.json"];
    assert_eq!(&names[..5], first);
    let digest =
        tool("skopeo", &["inspect", "--format", "{{.Digest}}", &format!("oci-archive:{file}")]);
    assert_eq!(digest.trim(), manifest_of(&made));
    tool("skopeo", &["inspect", &format!("docker-archive:{file}:a.io/b/c:1")]);
    let copied = format!("dir:{}", root.path().join("copied").display());
    let from = format!("oci-archive:{file}:1");
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", "--preserve-digests", &from, &copied]);

    save("oci-archive", file);
    assert_eq!(blobs(&members(&fs::read(file).unwrap())), blobs(&made));
    save("oci-dir", folder.to_str().unwrap());
    // The tool cannot look into a tar, not even into one of skopeo's.
    let unpacked = root.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    tool("tar", &["-xf", file, "-C", unpacked.to_str().unwrap()]);
    for image in [&unpacked, &folder] {
        let image = image.to_str().unwrap();
        tool("oci-image-tool", &["validate", "--type", "image", "--ref", "name=1", image]);
    }
    sandbox
        .hyperrun(["save", "--format", "oci-dir", "-o", folder.to_str().unwrap(), "a.io/b/c:1"])
        .fails_with(1, "directory not empty");

    // The round trip ends where it began, whatever it went through.
    save("docker-archive", file);
    for source in [file, folder.to_str().unwrap()] {
        let (other, _root) = empty_store();
        other.hyperrun(["load", "-i", source]).stdout_is("Loaded image: a.io/b/c:1\n");
        assert_eq!(other.stored().below(&["blobs", "records", "layers"]), stored(&sandbox));
        let format = "{{range .RepoDigests}}{{.}}{{end}}";
        let wanted = format!("a.io/b/c@{}\n", manifest_of(&made));
        other.hyperrun(["inspect", "-f", format, "a.io/b/c:1"]).stdout_is(&wanted);
    }
}

#[test]
fn a_manifest_that_comes_later_is_shown_and_saved() {
    let (sandbox, root) = empty_store();
    let layers = [layer("x"), layer("y")];
    let made = layout("a.io/b/c:1", &layers);
    load(&sandbox, &docker_archive("a.io/b/c:1", &layers));
    let digests = ["images", "--digests", "--format", "{{.Digest}}"];
    sandbox.hyperrun(digests).stdout_is("<none>\n");
    load(&sandbox, &pack(&made));
    sandbox.hyperrun(digests).stdout_is(&format!("{}\n", manifest_of(&made)));
    let file = root.path().join("saved.tar");
    sandbox.hyperrun(["save", "-o", file.to_str().unwrap(), "a.io/b/c:1"]).code_is(0);
    assert_eq!(blobs(&members(&fs::read(&file).unwrap())), blobs(&made));
    sandbox.hyperrun(["system", "check", "--full"]).code_is(0).stdout_has("1 image, 2 layers");
    sandbox.hyperrun(["rmi", "a.io/b/c:1"]).code_is(0);
    let check = sandbox.hyperrun(["system", "check"]);
    check.code_is(0).stdout_is("0 images, 0 layers, 0 blobs: whole\n");
}

fn stored(sandbox: &Sandbox) -> Snapshot {
    sandbox.stored().below(&["blobs", "records", "layers"])
}

#[test]
fn several_images_go_into_one_archive() {
    let (sandbox, root) = empty_store();
    load(&sandbox, &docker_archive("one:1", &[layer("1"), layer("2")]));
    load(&sandbox, &docker_archive("two:2", &[layer("1"), layer("3")]));
    sandbox.hyperrun(["tag", "one:1", "uno:1"]).code_is(0);
    let id = sandbox.hyperrun(["images", "-q", "two:2"]).stdout;
    let mut command = sandbox.command(["save", "one:1", "uno:1", "two:2", id.trim()]);
    let archive = command.output().unwrap().stdout;
    let saved = members(&archive);
    let manifest = saved.iter().find(|(name, _)| name == "manifest.json").unwrap();
    let manifest = String::from_utf8(manifest.1.clone()).unwrap();
    assert!(manifest.contains(r#""RepoTags":["one:1","uno:1"]"#), "{manifest}");
    let layers = blobs(&saved).iter().filter(|(_, data)| data.len() > 1024).count();
    assert_eq!(layers, 3, "a layer of two images is there once");
    let (other, _root) = empty_store();
    load(&other, &archive).stdout_has("one:1").stdout_has("uno:1").stdout_has("two:2");
    let path = root.path().join("a.tar");
    fs::write(&path, &archive).unwrap();
    tool("skopeo", &["inspect", &format!("docker-archive:{}:two:2", path.display())]);
    sandbox.hyperrun(["save", "one:1", "none"]).fails_with(1, "no such image: none");
}

#[test]
fn an_archive_does_not_go_to_a_terminal() {
    let (sandbox, _root) = empty_store();
    load(&sandbox, &docker_archive("one:1", &[layer("1")]));
    for (arguments, wanted) in [
        (&["save", "one:1"][..], "error: cowardly refusing to save to a terminal"),
        (&["image", "export", "one:1"], "error: cowardly refusing to export to a terminal"),
        (&["import", "-"], "error: standard input is a terminal, not a tar"),
    ] {
        let mut terminal = Terminal::start(&sandbox.command(arguments), 25, 80);
        terminal.wait_for(wanted);
        assert_eq!(terminal.wait(), 1);
    }
}

#[test]
fn a_tree_is_imported_and_exported() {
    let (sandbox, root) = empty_store();
    let tree = Layer::new().dir("a").file("a/f", b"hello").hard_link("g", "a/f").finish();
    let path = root.path().join("tree.tar");
    fs::write(&path, gzip(&tree)).unwrap();
    let changes = ["-c", "CMD [\"sh\"]", "-c", "ENV A=b C=d", "--change", "USER app", "-m", "mine"];
    let file = [path.to_str().unwrap(), "tree:1"];
    let arguments = ["import"].iter().chain(&changes).chain(&file);
    let id = sandbox.hyperrun(arguments).code_is(0).stdout.clone();
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    let format = "{{.Id}} {{.Config.Cmd}} {{.Config.Env}} {{.Config.User}} {{.Comment}}";
    let wanted = format!("{} [sh] [A=b C=d] app mine\n", id.trim());
    sandbox.hyperrun(["inspect", "--format", format, "tree:1"]).stdout_is(&wanted);
    for archive in [tree.clone(), zstd(&tree)] {
        let out = sandbox.hyperrun_with_input(["import", "-"], &archive);
        out.code_is(0).stdout_has("sha256:");
    }
    let layers = fs::read_dir(root.path().join("images/layers")).unwrap().count();
    assert_eq!(layers, 1, "the same tree is the same layer");

    let to = root.path().join("exported.tar");
    let out = ["image", "export", "-o", to.to_str().unwrap(), "tree:1"];
    sandbox.hyperrun(out).code_is(0).stdout_is("");
    let list = tool("tar", &["-tvf", to.to_str().unwrap()]);
    assert!(list.contains("./\n") && list.contains("a/\n") && list.contains(" a/f\n"), "{list}");
    assert!(list.contains("g link to a/f"), "{list}");

    let before = sandbox.stored();
    for (arguments, input, wanted) in [
        (&["import", "-"][..], &b"no tar"[..], "cannot import the file tree: "),
        (&["import", "-", "X"], &tree, "must be lower-case"),
        (&["import", "-"], &gzip(&tree)[..90], "cannot import the file tree"),
        (&["import", "-"], &docker_archive("x", &[])[..600], "unexpected end of file"),
        (&["import", "--max-entries", "1", "-"], &tree, "more than 1 entries"),
        (&["import", "/no/where"], b"", "cannot read /no/where"),
    ] {
        sandbox.hyperrun_with_input(arguments, input).fails_with(1, wanted);
    }
    sandbox.hyperrun(["import", "-c", "RUN x", "-"]).code_is(125).stderr_has("RUN is not a valid");
    assert_eq!(sandbox.stored(), before);
}

#[test]
fn lists_are_filtered() {
    let (sandbox, _root) = three_images();
    let list = |arguments: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let out = sandbox.hyperrun(format.iter().chain(arguments));
        out.code_is(0).stdout.replace('\n', " ").trim_end().to_owned()
    };
    for (arguments, wanted) in [
        (&[][..], "gone:1 mid:1 old:1 q.io/old:2 <none>:<none>"),
        (&["-a"], "gone:1 mid:1 old:1 q.io/old:2 <none>:<none>"),
        (&["old"], "old:1"),
        (&["old:2"], ""),
        (&["*/*"], "q.io/old:2"),
        (&["-f", "reference=old", "-f", "reference=mid:*"], "mid:1 old:1"),
        (&["-f", "dangling=true"], "<none>:<none>"),
        (&["-f", "dangling=false", "-f", "label=kind=b"], "gone:1"),
        (&["-f", "label=kind"], "gone:1 mid:1 old:1 q.io/old:2 <none>:<none>"),
        (&["-f", "label=kind=a"], "mid:1 old:1 q.io/old:2"),
        (&["-f", "label=none"], ""),
        (&["-f", "before=mid:1"], "old:1 q.io/old:2"),
        (&["-f", "since=mid:1"], "gone:1 <none>:<none>"),
        (&["-f", "until=2020-06-01"], "old:1 q.io/old:2"),
        (&["-f", "until=24h"], "gone:1 mid:1 old:1 q.io/old:2 <none>:<none>"),
    ] {
        assert_eq!(list(arguments), wanted, "{arguments:?}");
    }
    assert_eq!(sandbox.hyperrun(["images", "-q"]).stdout.lines().count(), 4);
    let whole = sandbox.hyperrun(["images", "-q", "--no-trunc", "mid"]).stdout;
    assert!(whole.starts_with("sha256:") && whole.len() == 72, "{whole}");
    let digests = sandbox.hyperrun(["image", "ls", "--digests", "mid"]);
    digests.stdout_has("REPOSITORY   TAG       DIGEST    IMAGE ID").stdout_has("<none>");
    for (filter, wanted) in [
        ("x=y", "error: invalid filter 'x'\nhint: known here are dangling, "),
        ("dangling=perhaps", "error: invalid filter 'dangling=perhaps'"),
        ("until=later", "error: invalid time in filter 'until=later'"),
        ("before=none", "error: no such image: none"),
    ] {
        sandbox.hyperrun(["images", "-f", filter]).fails_with(1, wanted);
    }
    sandbox.hyperrun(["images", "-f", "x"]).code_is(125).stderr_has("a filter is KEY=VALUE");
    let bad = sandbox.hyperrun(["images", "--format", "{{.Nope}}"]);
    bad.fails_with(1, "error: template parsing error: map has no entry for key \"Nope\"");
}

#[test]
fn history_and_inspection_are_dockers() {
    let (sandbox, _root) = three_images();
    let id = sandbox.hyperrun(["images", "-q", "old:1"]).stdout;
    let format = "{{.ID}}|{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}";
    let arguments = ["history", "--format", format, "old:1"];
    sandbox.hyperrun(arguments).stdout_is(&format!(
        "{}|2020-01-01T00:00:00Z|CMD [\"sh\"]|0B|nothing\n\
         <missing>|2020-01-01T00:00:00Z|ADD a file of a long name to / in it|1B|\n",
        id.trim()
    ));
    sandbox.hyperrun(["history", "-q", "old:1"]).stdout_is(&format!("{id}<missing>\n"));
    let table = sandbox.hyperrun(["image", "history", "--human=false", "old:1"]);
    table.stdout_has("IMAGE          CREATED AT").stdout_has("  0         nothing");
    load(&sandbox, &docker_archive("plain:1", &[layer("1"), layer("2")]));
    let unknown = sandbox.hyperrun(["history", "--format", "{{.Size}}", "plain:1"]);
    unknown.stdout_is("1B\n1B\n");

    let out = sandbox.hyperrun(["image", "inspect", "old:1", "none"]);
    out.code_is(1).stderr_has("no such image: none");
    out.stdout_has("[\n    {\n        \"Id\": \"sha256:").stdout_has("\"q.io/old:2\"");
    sandbox.hyperrun(["inspect", "none"]).code_is(1).stdout_is("[]\n");
    for (format, wanted) in [
        ("{{.Os}}/{{.Architecture}}", "linux/amd64\n"),
        ("{{json .Config.Labels}}", "{\"kind\":\"a\"}\n"),
        ("{{index .Config.Labels \"kind\"}}", "a\n"),
        ("{{json .Config.Entrypoint}}{{len .Config.Env}}", "null0\n"),
        ("{{.Size}} {{len .RootFS.Layers}}", "1 1\n"),
        ("{{join .RepoTags \", \"}}", "old:1, q.io/old:2\n"),
    ] {
        sandbox.hyperrun(["inspect", "-f", format, "old:1"]).code_is(0).stdout_is(wanted);
    }
    assert_eq!(sandbox.hyperrun(["inspect", "-f", "json", "old:1"]).stdout.lines().count(), 1);
}

#[test]
fn a_prune_takes_what_nobody_needs() {
    let (sandbox, root) = three_images();
    let prune = |arguments: &[&str], answer: &str| -> Output {
        let arguments = ["image", "prune"].iter().chain(arguments);
        sandbox.hyperrun_with_input(arguments, answer.as_bytes())
    };
    let count = || sandbox.hyperrun(["images", "-q"]).stdout.lines().count();
    let refused = prune(&[], "n\n");
    refused.stderr_has("WARNING! This will remove all dangling images.\n");
    refused.fails_with(1, "error: image prune has been cancelled");
    assert_eq!(count(), 4);
    prune(&["-f", "--filter", "label=kind=a"], "").stdout_is("Total reclaimed space: 0B\n");
    let out = prune(&[], "y\n");
    out.code_is(0).stdout_has("Deleted Images:\nDeleted: sha256:").stdout_has("Total reclaimed");
    assert!(!out.stdout.ends_with(" 0B\n"), "{}", out.stdout);
    assert_eq!(count(), 3);
    prune(&["-a", "-f", "--filter", "label!=kind=b", "--filter", "until=2020-06-01"], "")
        .code_is(0)
        .stdout_has("Untagged: old:1\nUntagged: q.io/old:2\nDeleted: sha256:");
    prune(&["--all"], "y").stderr_has("without at least one container").code_is(0);
    assert_eq!(count(), 0);
    for folder in ["records", "layers", "disks", "blobs/sha256", "tmp"] {
        let left = fs::read_dir(root.path().join("images").join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}
