//! Against Debian's registry on loopback: plain, with TLS, and with a lock.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{Kind, Registry, User};
use images::{Fetch, Output, Pull, SaveTarget, Tags, Talk, Transfer};
use tests::archive::Layer;
use tests::registry::run;
use tests::{SmallDisk, Snapshot};

#[test]
fn what_is_pushed_is_pulled_with_its_digest() {
    let registry = Registry::start(Kind::Plain);
    let (here, there) = (User::new(), User::new());
    let name = format!("{}/some/web:1", registry.address);
    here.load(&name);
    let digest = here.manifest(&name);
    let pushed = here.push(&name).succeeds();
    let wanted = format!(
        "The push refers to repository [{}/some/web]\n1: digest: {digest} size: ",
        registry.address
    );
    assert!(pushed.stdout.starts_with(&wanted), "{}", pushed.stdout);
    assert_eq!(pushed.stderr.matches(": Pushed\n").count(), 2, "{}", pushed.stderr);
    let again = here.push(&name).succeeds();
    assert_eq!(again.stderr.matches(": Layer already exists\n").count(), 2, "{}", again.stderr);

    let pulled = there.pull(&name).succeeds();
    let wanted = format!(
        "1: Pulling from some/web\nDigest: {digest}\nStatus: Downloaded newer image for {name}\n{name}\n"
    );
    assert_eq!(pulled.stdout, wanted);
    assert_eq!(pulled.stderr.matches(": Pull complete\n").count(), 2, "{}", pulled.stderr);
    assert_eq!(there.manifest(&name), digest);
    // A guest sees the same bytes.
    let disk = |user: &User| Snapshot::of(&user.images()).below(&["disks", "layers", "blobs"]);
    assert_eq!(disk(&there), disk(&here));
    let again = there.pull(&name).succeeds();
    assert!(again.stdout.contains(&format!("Status: Image is up to date for {name}\n")));
    there.pull(&format!("{}/some/web@{digest}", registry.address)).succeeds();
}

#[test]
fn an_image_without_a_manifest_is_pushed_too() {
    let registry = Registry::start(Kind::Plain);
    let (here, there) = (User::new(), User::new());
    let name = format!("{}/archive:1", registry.address);
    here.load_docker_archive(&name);
    here.push(&name).succeeds();
    there.pull(&name).succeeds();
    assert_eq!(there.store().find(&name).unwrap().id, here.store().find(&name).unwrap().id);
}

#[test]
fn skopeo_takes_what_is_pushed_and_gives_what_is_pulled() {
    let registry = Registry::start(Kind::Plain);
    let user = User::new();
    let name = format!("{}/web:1", registry.address);
    user.load(&name);
    user.push(&name).succeeds();
    let inspect = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
    let digest = run(Command::new("skopeo").args(inspect).arg(format!("docker://{name}"))).stdout;
    assert_eq!(String::from_utf8(digest).unwrap().trim(), user.manifest(&name));
    // With its digests, and as a layout that the judge of layouts calls one.
    let folder = user.folder.path().join("copied");
    run(Command::new("skopeo")
        .args(["copy", "-q", "--preserve-digests", "--src-tls-verify=false"])
        .args([format!("docker://{name}"), format!("oci:{}:1", folder.display())]));
    let index = fs::read_to_string(folder.join("index.json")).unwrap();
    assert!(index.contains(&user.manifest(&name)), "{index}");
    let validate = ["validate", "--type", "image", "--ref", "name=1"];
    run(Command::new("oci-image-tool").args(validate).arg(&folder));
    // As Docker's own media types.
    let copy = format!("{}/docker:1", registry.address);
    run(Command::new("skopeo")
        .args(["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "-f", "v2s2"])
        .args([format!("docker://{name}"), format!("docker://{copy}")]));
    user.pull(&copy).succeeds();
    assert_eq!(user.store().find(&copy).unwrap().id, user.store().find(&name).unwrap().id);
}

#[test]
fn all_tags_are_pulled_with_dockers_words() {
    let registry = Registry::start(Kind::Plain);
    let (user, other) = (User::new(), User::new());
    let name = format!("{}/some/web", registry.address);
    for tag in ["1", "2"] {
        user.load(&format!("{name}:{tag}"));
        user.push(&format!("{name}:{tag}")).succeeds();
    }
    let all = |talk| {
        let order = Pull { tags: Tags::All, talk, ..other.pull_order(&name) };
        other.client(Transfer::Pull(order), "").succeeds().stdout
    };
    let digest = |tag: &str| user.manifest(&format!("{name}:{tag}"));
    // This registry lists tags in no order.
    let is_told = |said: &str, status: &str| {
        let of = |tag: &str| format!("{tag}: Pulling from some/web\nDigest: {}\n", digest(tag));
        let end = format!("Status: {status} {name}\n{name}\n");
        let wanted = [of("1") + &of("2") + &end, of("2") + &of("1") + &end];
        assert!(wanted.iter().any(|wanted| wanted == said), "{said}");
    };
    is_told(&all(Talk::Normal), "Downloaded newer image for");
    is_told(&all(Talk::Normal), "Image is up to date for");
    assert_eq!(all(Talk::Quiet), format!("{name}\n"));
    for tag in ["1", "2"] {
        assert_eq!(other.manifest(&format!("{name}:{tag}")), digest(tag));
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let registry = Registry::start(Kind::Tls);
    let user = User::new();
    let name = format!("{}/web:1", registry.address);
    user.load(&name);
    user.configure(&format!("[registry.\"{}\"]\nplain-http = false\n", registry.address));
    let before = Snapshot::of(&user.images());
    user.pull(&name).fails_with(&format!("error: cannot trust {}: ", registry.address));
    assert_eq!(Snapshot::of(&user.images()), before);
    let authority = registry.authority();
    user.configure(&format!(
        "[registry.\"{}\"]\nca = \"{}\"\n",
        registry.address,
        authority.display()
    ));
    user.push(&name).succeeds();
    let other = User::new();
    other.configure(
        &fs::read_to_string(user.folder.path().join("config/hyperrun/registries.toml")).unwrap(),
    );
    other.pull(&name).succeeds();
    other.configure("[registry.\"localhost\"]\nca = \"/no/such.pem\"\n");
    other.pull("localhost/x").fails_with("cannot use /no/such.pem: No such file");
}

#[test]
fn a_lock_opens_for_who_has_logged_in() {
    let registry = Registry::start(Kind::Locked);
    let user = User::new();
    let name = format!("{}/web:1", registry.address);
    user.load(&name);
    user.push(&name).fails_with("asks for credentials for");
    user.login(&registry.address, "me", "wrong").fails_with("asks for credentials for a login");
    assert!(!user.docker_config().exists());

    let said = user.login(&registry.address, "me", "pass word\n").succeeds();
    assert_eq!(said.stdout, "Login Succeeded\n");
    assert!(said.stderr.contains("unencrypted"));
    let kept = fs::read_to_string(user.docker_config()).unwrap();
    assert!(kept.contains("bWU6cGFzcyB3b3Jk"), "{kept}");
    user.push(&name).succeeds();
    let image = user.manifest(&name);
    user.store().remove(&name, false, &images::no_users).unwrap();
    user.pull(&name).succeeds();
    assert_eq!(user.manifest(&name), image);

    let logout = || user.client(Transfer::Logout { registry: registry.address.clone() }, "");
    let said = logout().succeeds();
    assert_eq!(said.stdout, format!("Removing login credentials for {}\n", registry.address));
    assert_eq!(logout().succeeds().stdout, format!("Not logged in to {}\n", registry.address));
    user.pull(&name).fails_with("asks for credentials for");
}

#[test]
fn a_helper_keeps_what_it_is_given() {
    let registry = Registry::start(Kind::Locked);
    let user = User::new();
    let folder = user.folder.path().join("helpers");
    fs::create_dir_all(&folder).unwrap();
    let helper = folder.join("docker-credential-test");
    let text = "#!/bin/sh\nkept=$(dirname \"$0\")/kept\ncase $1 in\n\
        store) cat >\"$kept\" ;;\n\
        get) cat >/dev/null; cat \"$kept\" 2>/dev/null || \
             { echo credentials not found in native keychain; exit 1; } ;;\n\
        erase) cat >/dev/null; rm \"$kept\" ;;\nesac\n";
    fs::write(&helper, text).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(user.docker_config().parent().unwrap()).unwrap();
    let config = format!("{{\"credHelpers\":{{\"{}\":\"test\"}}}}", registry.address);
    fs::write(user.docker_config(), &config).unwrap();

    let said = user.login(&registry.address, "me", "pass word").succeeds();
    assert_eq!(said.stderr, "");
    assert!(fs::read_to_string(folder.join("kept")).unwrap().contains("pass word"));
    assert_eq!(fs::read_to_string(user.docker_config()).unwrap(), config);
    let name = format!("{}/web:1", registry.address);
    user.load(&name);
    user.push(&name).succeeds();
    user.client(Transfer::Logout { registry: registry.address.clone() }, "").succeeds();
    assert!(!folder.join("kept").exists());
    user.pull(&name).fails_with("asks for credentials for");

    fs::write(user.docker_config(), "{\"credsStore\":\"no-such-helper\"}").unwrap();
    user.pull(&name).fails_with("credential helper docker-credential-no-such-helper failed");
}

#[test]
fn a_mirror_stands_for_dockers_own_registry() {
    let registry = Registry::start(Kind::Plain);
    let user = User::new();
    let name = format!("{}/library/ubuntu:latest", registry.address);
    user.load(&name);
    user.push(&name).succeeds();
    let other = User::new();
    other.configure(&format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]\n", registry.address));
    let said = other.pull("ubuntu").succeeds();
    assert!(
        said.stdout.starts_with("Using default tag: latest\nlatest: Pulling from library/ubuntu\n")
    );
    assert!(said.stdout.ends_with("docker.io/library/ubuntu:latest\n"));
    assert!(other.store().find("ubuntu:latest").is_ok());
}

#[test]
fn blobs_that_were_not_kept_are_fetched_again_to_be_pushed() {
    let registry = Registry::start(Kind::Plain);
    let user = User::new();
    let first = format!("{}/first:1", registry.address);
    user.load(&first);
    user.push(&first).succeeds();
    let other = User::new();
    other.configure("keep-blobs = false\n");
    other.pull(&first).succeeds();
    let image = other.store().find(&first).unwrap();
    assert!(image.blob(image.parts().unwrap().layers[0].digest).is_none());
    let target = Registry::start(Kind::Plain);
    let second = format!("{}/second:1", target.address);
    let names = other.images().join("names.json");
    let text = fs::read_to_string(&names).unwrap();
    // As `tag` will do.
    let entry = format!("\"{second}\": \"{}\",\n    \"{first}\"", image.id);
    fs::write(&names, text.replace(&format!("\"{first}\""), &entry)).unwrap();
    other.push(&second).succeeds();
    assert_eq!(user.manifest(&first), other.manifest(&second));
}

#[test]
fn blobs_that_were_not_kept_are_fetched_again_to_be_saved() {
    let registry = Registry::start(Kind::Plain);
    let (user, other) = (User::new(), User::new());
    let name = format!("{}/web:1", registry.address);
    user.load(&name);
    user.push(&name).succeeds();
    other.configure("keep-blobs = false\n");
    other.pull(&name).succeeds();
    assert!(other.store().find(&name).unwrap().lacks_blobs());
    let fetch = || {
        let fetch = Fetch { store: other.images(), name: name.clone() };
        other.client(Transfer::Fetch(fetch), "")
    };
    fetch().succeeds();
    assert!(!other.store().find(&name).unwrap().lacks_blobs());
    let saved = |user: &User| {
        let mut archive = Vec::new();
        let output = Output { writer: &mut archive, name: "memory" };
        let names = std::slice::from_ref(&name);
        user.store().save(names, SaveTarget::OciArchive(output)).unwrap();
        archive
    };
    assert!(saved(&other) == saved(&user));
    // With all of them there, nobody is asked; without the registry, the reason is told.
    other.store().remove(&name, false, &images::no_users).unwrap();
    other.pull(&name).succeeds();
    drop(registry);
    fetch().fails_with("error: cannot reach ");
}

#[test]
fn a_disk_that_is_full_loses_nothing() {
    let registry = Registry::start(Kind::Plain);
    let user = User::new();
    let (small, large) =
        (format!("{}/small:1", registry.address), format!("{}/large:1", registry.address));
    user.load(&small);
    // Of bytes that gzip cannot make less of.
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    let noise: Vec<u8> = noise.take(4 << 20).collect();
    user.load_layers(&large, &[Layer::new().file("noise", &noise).finish()]);
    user.push(&small).succeeds();
    user.push(&large).succeeds();
    let disk = SmallDisk::new(3);
    let store = disk.path().join("images");
    let pull = |name: &str| {
        let order = Pull { store: store.clone(), ..user.pull_order(name) };
        user.client(Transfer::Pull(order), "")
    };
    pull(&small).succeeds();
    let before = Snapshot::of(&store);
    pull(&large).fails_with("No space left on device");
    assert_eq!(Snapshot::of(&store), before);
    pull(&small).succeeds();
}

#[test]
fn an_order_of_another_version_is_refused() {
    for argument in
        ["", "{}", "--help", r#"{"version":"0.0.0","transfer":{"logout":{"registry":"x"}}}"#]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_hyperrun-registry")).arg(argument).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{argument}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: "), "{argument}");
    }
}
