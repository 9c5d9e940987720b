//! What `load` does not take: damaged archives, hostile layers, too much of anything.

use hyperrun_tests::archive::{
    self, Layer, config, digest, docker_archive, docker_archive_of, gzip, header, oci_layout, pack,
    tar, zstd,
};
use hyperrun_tests::{Output, Sample, Sandbox, Terminal, busybox_archive};
use tar::EntryType;

use super::{empty_store, layer, load, write_files};

/// It says why, what to do if anything can be done, and the store is as it was.
#[track_caller]
fn is_refused(sandbox: &Sandbox, archive: &[u8], why: &str, hint: &str) {
    let before = sandbox.stored();
    let out = load(sandbox, archive);
    out.fails_with(1, why).stderr_has(hint);
    assert_eq!(out.stderr.contains("\nhint: "), !hint.is_empty(), "{}", out.stderr);
    assert_eq!(sandbox.stored(), before, "{why}");
}

#[test]
fn what_is_no_archive() {
    let (sandbox, _root) = empty_store();
    let cases: [(&[u8], &str); 5] = [
        (b"", "error: standard input is not an image archive"),
        (b"just a few words", "error: standard input is not an image archive"),
        (&[0; 4096], "has no \"manifest.json or index.json\""),
        (&tar(&[("etc/motd", b"hello")]), "has no \"manifest.json or index.json\""),
        (&gzip(b"just a few words"), "error: standard input is not an image archive"),
    ];
    for (archive, why) in cases {
        is_refused(&sandbox, archive, why, "`hyperrun load` takes what `docker save`");
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    sandbox.hyperrun(["load", "-i", folder]).fails_with(1, folder).stderr_has("manifest.json");
    sandbox
        .hyperrun(["load", "-i", "/no/such/archive.tar"])
        .fails_with(1, "error: cannot read /no/such/archive.tar: No such file");
}

#[test]
fn a_terminal_is_no_archive() {
    let (sandbox, _root) = empty_store();
    let mut terminal = Terminal::start(&sandbox.command(["load"]), 24, 80);
    terminal.wait_for("error: standard input is a terminal");
    terminal.wait_for("hint: ");
    assert_eq!(terminal.wait(), 1);
}

#[test]
fn archives_cut_anywhere() {
    let (sandbox, root) = empty_store();
    let file = root.path().join("cut");
    let mut sample = Sample::of_this_run();
    let noise: String = (0..3000)
        .map(|_| char::from_digit(sample.below(36).try_into().unwrap(), 36).unwrap())
        .collect();
    let layers = [layer(&noise), layer("two")];
    let plain = docker_archive("cut:1", &layers);
    let oci = pack(&oci_layout("cut:1", &layers, &layers.each_ref().map(|layer| gzip(layer))));
    for whole in [gzip(&plain), zstd(&plain), plain, oci] {
        // What stands behind the last member is an end mark, which may be missing.
        let is_tar = whole[257..].starts_with(b"ustar");
        let end = if is_tar { whole.len() - 2 * 512 } else { whole.len() };
        let mut cuts = vec![1, 511, 512, 513, end / 2, end - 1];
        cuts.extend((0..4).map(|_| 1 + sample.below(end - 1)));
        for cut in cuts {
            let (part, rest) = whole.split_at(cut);
            std::fs::write(&file, part).unwrap();
            let may_be_whole = rest.iter().all(|byte| *byte == 0);
            fails_or_is_whole(&sandbox, &load(&sandbox, part), may_be_whole);
            let out = sandbox.hyperrun(["load", "-i", file.to_str().unwrap()]);
            fails_or_is_whole(&sandbox, &out, may_be_whole);
        }
    }
}

/// A damaged archive fails and leaves nothing, but where the damage hit what nobody reads.
#[track_caller]
fn fails_or_is_whole(sandbox: &Sandbox, out: &Output, may_be_whole: bool) {
    if out.code == 0 && may_be_whole {
        let id = sandbox.hyperrun(["images", "-q"]).stdout;
        sandbox.hyperrun(["rmi", "-f", id.trim()]).code_is(0);
    } else {
        out.fails_with(1, "error: ");
    }
    let left = sandbox.stored().below(&["records", "layers", "blobs/sha256", "disks", "tmp"]);
    assert_eq!(left.entries().filter(|(_, content)| *content != "folder").count(), 0, "{left:?}");
}

#[test]
fn a_real_archive_with_any_bit_changed() {
    let (sandbox, _root) = empty_store();
    let whole = std::fs::read(busybox_archive()).unwrap();
    let mut sample = Sample::of_this_run();
    for _ in 0..8 {
        let (at, bit) = (sample.below(whole.len()), sample.below(8));
        let mut changed = whole.clone();
        changed[at] ^= 1 << bit;
        // Nobody reads padding, or the owner of an archive's member.
        fails_or_is_whole(&sandbox, &load(&sandbox, &changed), true);
    }
}

#[test]
fn wrong_digests() {
    let (sandbox, _root) = empty_store();
    let (good, other) = ([layer("good")], [layer("other")]);
    let changed = |at: usize| {
        let mut files = oci_layout("x:1", &good, &[gzip(&good[0])]);
        *files[at].1.last_mut().unwrap() ^= 1;
        pack(&files)
    };
    let mut named = docker_archive("x:1", &good);
    let at = named.windows(5).position(|window| window == b"[\"sh\"").unwrap();
    named[at + 2] = b'z';
    let cases = [
        (docker_archive_of("x:1", &config(&other), &good), digest(&other[0])),
        (changed(2), "its manifest says".to_owned()),
        (changed(3), "has the wrong digest".to_owned()),
        (changed(4), "has the wrong digest".to_owned()),
        (named, "has the wrong digest".to_owned()),
    ];
    for (archive, why) in cases {
        is_refused(&sandbox, &archive, &why, "is incomplete or was changed");
    }
}

#[test]
fn hostile_layers() {
    let (sandbox, _root) = empty_store();
    let distrust = "do not trust this image";
    let mut device = header(EntryType::Char, 0);
    device.set_device_major(1 << 12).unwrap();
    let odd = header(EntryType::new(b'Z'), 0);
    let cases = [
        (Layer::new().file("../../escape", b""), "entry \"../../escape\" has `..`", distrust),
        (Layer::new().file("/etc/../../escape", b""), "\"/etc/../../escape\" has `..`", distrust),
        (
            Layer::new().hard_link("h", "../../etc/passwd"),
            "\"../../etc/passwd\" has `..`",
            distrust,
        ),
        (Layer::new().hard_link("h", "/etc/passwd"), "\"h\" is a hard link to", distrust),
        (Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", b""), "\"a/x\"", distrust),
        (Layer::new().entry("device", device, b""), "invalid device number", distrust),
        (Layer::new().file(".wh.", b""), "\".wh.\" has an invalid name", distrust),
        (Layer::new().entry("odd", odd, b""), "\"odd\" is of the unknown kind 'Z'", ""),
    ];
    for (layer, why, hint) in cases {
        is_refused(&sandbox, &docker_archive("x:1", &[layer.finish()]), why, hint);
    }
}

#[test]
fn no_layer_reaches_outside() {
    let (sandbox, _root) = empty_store();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let climb = format!("{}{target}", "../".repeat(20));
    let layers = [
        Layer::new().dir(target).file(&format!("{target}/absolute"), b"x"),
        Layer::new().symlink("link", target).file("link/absolute", b"x"),
        Layer::new().symlink("link", &climb).file("link/climbing", b"x"),
        Layer::new().symlink("root", "/").file(&format!("root{target}/rooted"), b"x"),
        Layer::new().symlink("up", "..").file(&format!("up{target}/up"), b"x"),
    ];
    for layer in layers {
        load(&sandbox, &docker_archive("x:1", &[layer.finish()])).code_is(0);
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn bombs_and_their_limits() {
    let (sandbox, _root) = empty_store();
    let before = sandbox.stored();
    let zeros = [Layer::new().file("zeros", &vec![0; 8 << 20]).finish()];
    let many = [(0..300).fold(Layer::new(), |all, at| all.dir(&format!("d{at}"))).finish()];
    let large = [(0..300)
        .fold(Layer::new(), |all, at| {
            all.pax(&[("SCHILY.xattr.user.x", &[1; 100])]).dir(&format!("d{at}"))
        })
        .finish()];
    let cases = [
        (&zeros, "--max-size=4m", "--max-size=9m", "more than 4194304 unpacked bytes"),
        (&many, "--max-entries=299", "--max-entries=300", "more than 299 entries"),
        (&large, "--max-metadata=20k", "--max-metadata=60k", "more than 20480 bytes of metadata"),
    ];
    for (layers, low, high, why) in cases {
        let flag = low.split('=').next().unwrap();
        let bomb = docker_archive_of("bomb:1", &config(layers), &[gzip(&layers[0])]);
        sandbox
            .hyperrun_with_input(["load", low], &bomb)
            .fails_with(1, why)
            .stderr_has(&format!("raise the limit with `{flag}`"));
        sandbox.hyperrun_with_input(["load", low], &gzip(&bomb)).fails_with(1, why);
        let mut left = sandbox.stored();
        left.forget("names.json");
        assert_eq!(left, before, "{low}");
        sandbox.hyperrun_with_input(["load", high], &bomb).code_is(0);
        sandbox.hyperrun(["rmi", "bomb:1"]).code_is(0);
    }
    for wrong in ["--max-size=lots", "--max-size=-1", "--max-entries=1.5", "--max-metadata="] {
        sandbox.hyperrun(["load", wrong]).fails_with(125, wrong.split('=').next().unwrap());
    }
}

#[test]
fn images_for_another_processor() {
    let (sandbox, _root) = empty_store();
    let layers = [layer("x")];
    let arm = String::from_utf8(config(&layers)).unwrap().replace("amd64", "arm64");
    load(&sandbox, &docker_archive_of("arm:1", arm.as_bytes(), &layers)).code_is(0);
    sandbox.hyperrun(["run", "arm:1", "true"]).fails_with(
        125,
        "error: image arm:1 is for linux/arm64, this machine runs linux/amd64\nhint: ",
    );

    let manifest = format!(
        r#"{{"manifests":[{{"digest":"{}","size":1,"platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#,
        digest(b"")
    );
    let index = format!(
        r#"{{"manifests":[{{"digest":"{}","size":{}}}]}}"#,
        digest(manifest.as_bytes()),
        manifest.len()
    );
    let blob = format!("blobs/sha256/{}", &digest(manifest.as_bytes())["sha256:".len()..]);
    let archive = tar(&[("index.json", index.as_bytes()), (&blob, manifest.as_bytes())]);
    let why = "there is no image for linux/amd64 in it, only for linux/arm64";
    is_refused(&sandbox, &archive, why, "built for linux/amd64");
}

#[test]
fn a_folder_with_odd_files() {
    let (sandbox, _root) = empty_store();
    let work = tempfile::tempdir().unwrap();
    let files = oci_layout("x:1", &[layer("x")], &[layer("x")]);
    write_files(work.path(), &files);
    let blob = work.path().join(&files[2].0);
    let path = work.path().to_str().unwrap();
    for change in [&|| std::fs::remove_file(&blob), &|| std::fs::create_dir(&blob), &|| {
        std::fs::remove_dir(&blob).and_then(|()| mkfifo(&blob))
    }] as [&dyn Fn() -> std::io::Result<()>; 3]
    {
        change().unwrap();
        let before = sandbox.stored();
        sandbox.hyperrun(["load", "-i", path]).fails_with(1, &files[2].0).stderr_has("hint: ");
        assert_eq!(sandbox.stored(), before);
    }
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, archive::gzip(&layer("x"))).unwrap();
    sandbox.hyperrun(["load", "-i", path]).fails_with(1, "its manifest says");
}

fn mkfifo(path: &std::path::Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}
