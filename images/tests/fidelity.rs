//! The tree on an image's disk is the one that `umoci unpack` makes of the same image; what umoci
//! cannot do is compared with the tar itself. Needs root, umoci, skopeo and buildah.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use common::{Layer, Mounted, Sandbox, gzip, header, oci_layout, run};
use hyperrun_images::{ImportOptions, Limits, LoadSource, Output};
use tests::fidelity::{base, top, upper};
use tests::sample_size;
use tests::tree::{difference, listing, unfurnished};

/// What the disk of an image says.
fn disk(sandbox: &Sandbox, id: &str) -> String {
    let mounted = Mounted::new(&sandbox.store.find(id).unwrap().disk().unwrap());
    listing(&mounted.path("")).unwrap()
}

/// What the disk says after the image's tree was exported and imported again.
fn reimported(sandbox: &Sandbox, id: &str) -> String {
    let mut tar = Vec::new();
    sandbox.store.export(id, Output { writer: &mut tar, name: "memory" }).unwrap();
    let options = ImportOptions {
        reference: None,
        message: String::new(),
        changes: Vec::new(),
        created: SystemTime::now(),
    };
    let id = sandbox.store.import(&tar[..], &options, &Limits::default()).unwrap();
    disk(sandbox, &id.to_string())
}

/// What GNU tar makes of an exported tree.
fn by_gnu_tar(sandbox: &Sandbox, id: &str) -> String {
    let (tar, to) = (sandbox.folder.path().join("a.tar"), sandbox.folder.path().join("by-tar"));
    let mut file = fs::File::create(&tar).unwrap();
    sandbox.store.export(id, Output { writer: &mut file, name: "file" }).unwrap();
    fs::create_dir(&to).unwrap();
    let mut unpack = Command::new("tar");
    unpack.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]);
    run(unpack.arg(&tar).arg("-C").arg(&to), "install tar");
    listing(&to).unwrap()
}

/// What the disk of the image in this OCI folder says, and what umoci makes of it.
fn both(layout: &Path, tag: &str) -> (String, String) {
    let sandbox = Sandbox::new();
    let loaded = sandbox.store.load(LoadSource::Path(layout.to_owned()), &Limits::default());
    let id = loaded.unwrap()[0].id.to_string();
    let by_tar = by_gnu_tar(&sandbox, &id);
    let ours = unfurnished(&disk(&sandbox, &id), &by_tar);
    let again = unfurnished(&reimported(&sandbox, &id), &by_tar);
    assert!(ours == again, "loaded - imported +\n{}", difference(&ours, &again));
    assert!(ours == by_tar, "loaded - exported +\n{}", difference(&ours, &by_tar));
    let bundle = sandbox.folder.path().join("bundle");
    let image = format!("{}:{tag}", layout.display());
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle), "install umoci");
    (ours, listing(&bundle.join("rootfs")).unwrap())
}

#[track_caller]
fn same(layout: &Path, tag: &str) -> String {
    let (ours, umocis) = both(layout, tag);
    assert!(ours == umocis, "ours - umoci's +\n{}", difference(&ours, &umocis));
    ours
}

/// Writes an OCI folder of these layers, compressed by gzip.
fn write_layout(folder: &Path, layers: &[Vec<u8>]) {
    let stored: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    for (name, data) in oci_layout("fidelity", layers, &stored) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
}

#[test]
fn every_case_is_as_umoci_has_it() {
    let work = tempfile::tempdir().unwrap();
    write_layout(work.path(), &[base(), upper(), top()]);
    let ours = same(work.path(), "fidelity");
    assert!(ours.lines().count() > 35, "{ours}");
    assert!(ours.contains("/ping file mode=0755 size=4 "), "{ours}");
    assert!(ours.contains(" security.capability=0100000200200000"), "{ours}");
    assert!(ours.contains("/upper file mode=0644 size=17 "), "{ours}");
    assert!(ours.contains(" links=2 first=lower"), "{ours}");
}

/// Paths that no system call takes together with a folder in front, a socket, which no layer can
/// hold, and a tree without a root entry and without parents: the tar says what must come of them.
#[test]
fn what_umoci_cannot_do_is_as_the_tar_says() {
    let deep = vec!["d".repeat(255); 16].join("/");
    let mut large = b"1\n4294967296\n3\n".to_vec();
    large.resize(512, 0);
    large.extend(b"end");
    let layer = Layer::new()
        .pax(&[("path", deep.as_bytes())])
        .file("cut", b"deep")
        .entry("socket", header(tar::EntryType::new(b's'), 0), b"")
        .file("no/parent", b"x")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"large"),
            ("GNU.sparse.realsize", b"4294967299"),
        ])
        .file("GNUSparseFile.0/large", &large)
        .finish();
    let sandbox = Sandbox::new();
    let image = sandbox.image("x", &[layer]);
    let ours = unfurnished(&disk(&sandbox, "x"), "");
    let mtime = "owner=0:0 mtime=1700000000.000000000";
    let file = |size: u64, content: &[u8]| {
        let content = &tests::archive::digest(content)["sha256:".len()..];
        format!("file mode=0644 size={size} content={content} {mtime}\n")
    };
    let mut wanted = "/ dir mode=0755 owner=0:0 mtime=0.000000000\n".to_owned();
    for end in 1..16 {
        wanted += &format!("/{} dir mode=0755 {mtime}\n", &deep[..end * 256 - 1]);
    }
    wanted += &format!("/{deep} {}", file(4, b"deep"));
    let (found, rest) = ours.split_at(wanted.len());
    assert_eq!(found, wanted);
    let (large, rest) = rest.split_once('\n').unwrap();
    assert!(large.starts_with("/large file mode=0644 size=4294967299 content="), "{large}");
    assert_eq!(rest, format!("/no dir mode=0755 {mtime}\n/no/parent {}", file(1, b"x")));
    let unpacked = fs::metadata(&image.disk().unwrap().extents[1].path).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&unpacked) < 2048, "{unpacked:?}");
    // Reading 4 GiB of nothing once more takes ten seconds.
    if std::env::var_os("HYPERRUN_TEST_FULL").is_some() {
        assert_eq!(unfurnished(&reimported(&sandbox, "x"), ""), ours);
    }
}

#[test]
fn many_files_are_as_umoci_has_them() {
    let work = tempfile::tempdir().unwrap();
    let count = sample_size(100_000);
    let folders = (0..97).fold(Layer::new().dir("d"), |layer, at| layer.dir(&format!("d/{at}")));
    let files = (0..count).fold(folders, |layer, at| {
        layer.file(&format!("d/{}/{at}", at % 97), at.to_string().as_bytes())
    });
    let gone = (0..count)
        .step_by(10)
        .fold(Layer::new(), |layer, at| layer.file(&format!("d/{}/.wh.{at}", at % 97), b""));
    write_layout(work.path(), &[files.finish(), gone.finish()]);
    let ours = same(work.path(), "fidelity");
    assert_eq!(ours.lines().count(), 2 + 97 + count - count.div_ceil(10));
}

#[test]
fn umocis_own_image_is_as_umoci_has_it() {
    let work = tempfile::tempdir().unwrap();
    let script = r#"
        umoci init --layout oci && umoci new --image oci:x
        umoci unpack --image oci:x one
        cd one/rootfs
        mkdir -p a/b/c && echo hello >a/b/c/file && ln a/b/c/file a/link && ln -s c a/b/symlink
        setfattr -n user.any -v 0x00ff0a0d a/link && mknod a/null c 1 3 && mkfifo a/pipe
        chmod 6711 a/link && chown 70000:80000 a/pipe && touch -d @1700000000.123456789 a/b/c
        echo gone >a/gone && mkdir opaque && echo x >opaque/lower
        cd ../.. && umoci repack --image oci:x one
        umoci unpack --image oci:x two
        cd two/rootfs
        rm a/gone && rm -r opaque && mkdir opaque && echo y >opaque/upper
        ln a/link a/third && rm a/b/symlink && mkdir a/b/symlink && echo z >a/b/symlink/z
        cd ../.. && umoci repack --image oci:x two"#;
    shell(work.path(), script);
    let ours = same(&work.path().join("oci"), "x");
    assert!(ours.contains("/a/third file mode=6711 size=6 "), "{ours}");
}

#[test]
fn buildahs_image_is_as_umoci_has_it() {
    let work = tempfile::tempdir().unwrap();
    let script = r#"
        mkdir -p tree/etc tree/bin && echo root:x:0:0::/:/bin/sh >tree/etc/passwd
        cp /bin/busybox tree/bin/ 2>/dev/null || cp /bin/true tree/bin/busybox
        ln tree/bin/busybox tree/bin/sh && ln -s sh tree/bin/ash && mkdir -m 1777 tree/tmp
        setfattr -n user.x -v y tree/bin/busybox
        export STORAGE_DRIVER=vfs
        buildah() { command buildah --root "$PWD/root" --runroot "$PWD/run" "$@"; }
        id=$(buildah from scratch)
        buildah copy --quiet "$id" tree /
        buildah commit --quiet "$id" oci:oci:one
        echo more >tree/etc/more && mkdir upper && echo new >upper/passwd
        buildah copy --quiet --chown 70000:80000 --chmod 0640 "$id" upper/passwd /etc/passwd
        buildah commit --quiet "$id" oci:oci:x"#;
    shell(work.path(), script);
    // The folder has two images, and one of each tag.
    let only = work.path().join("only");
    let from = format!("oci:{}:x", work.path().join("oci").display());
    let to = format!("oci:{}:x", only.display());
    let mut skopeo = Command::new("skopeo");
    run(skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &to]), "install skopeo");
    let ours = same(&only, "x");
    assert!(ours.contains("/etc/passwd file mode=0640 size=4 "), "{ours}");
    assert!(ours.contains(" links=2 first=bin/busybox"), "{ours}");
}

#[test]
fn mmdebstraps_image_is_as_umoci_has_it() {
    let work = tempfile::tempdir().unwrap();
    let from = format!("docker-archive:{}", debian().display());
    let to = format!("oci:{}:x", work.path().join("oci").display());
    let mut skopeo = Command::new("skopeo");
    run(skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &to]), "install skopeo");
    let ours = same(&work.path().join("oci"), "x");
    assert!(ours.lines().count() > 5000, "{}", ours.lines().count());
}

/// The image that `scripts/images` makes by mmdebstrap.
fn debian() -> PathBuf {
    let folder = std::env::var_os("HYPERRUN_TEST_IMAGES").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("a home");
            PathBuf::from(home).join(".cache/hyperrun/images")
        },
        PathBuf::from,
    );
    let path = folder.join("debian.tar");
    assert!(path.exists(), "{} is not there: run scripts/images", path.display());
    path
}

fn shell(folder: &Path, script: &str) {
    let mut bash = Command::new("bash");
    bash.args(["-euc", script]).current_dir(folder);
    run(&mut bash, "install umoci, buildah and attr");
}
