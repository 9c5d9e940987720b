//! Layers whose bytes are those that were promised, and hostile: refused while they are unpacked.

use tests::archive::{Layer, gzip, header, zstd_with_window};

use super::failures::{check, tell};
use super::fixture::{Home, Shown};

fn of(layer: Layer) -> Shown {
    let plain = layer.finish();
    Shown::of(std::slice::from_ref(&plain), vec![gzip(&plain)])
}

#[test]
fn hostile_paths_and_links_are_refused() {
    let distant = Layer::new().file("ok", b"1");
    for (layer, wanted) in [
        (Layer::new().file("../../etc/passwd", b"x"), "has `..` in its path"),
        (Layer::new().file("/a/../../b", b"x"), "has `..` in its path"),
        (Layer::new().hard_link("h", "../../etc/passwd"), "has `..` in its path"),
        (
            Layer::new().symlink("up", "../../..").hard_link("h", "up/etc/passwd"),
            "\"h\" is a hard link to \"up/etc/passwd\", which does not exist",
        ),
        (Layer::new().hard_link("h", "/etc/passwd"), "which does not exist"),
        (
            Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", b""),
            "too many symbolic links",
        ),
        (Layer::new().file("x/.wh...", b""), "has an invalid name"),
        (distant.symlink("s", ""), "has an invalid link target"),
    ] {
        check(wanted, &of(layer), |_, _| None, wanted);
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let claims = |size: u64| {
        let mut header = header(tar::EntryType::Regular, 0);
        header.set_size(size);
        Layer::new().entry("claims", header, b"")
    };
    let negative = {
        let mut header = header(tar::EntryType::Regular, 0);
        header.as_old_mut().size = [0xff; 12];
        Layer::new().entry("claims", header, b"")
    };
    let digits = b"99999999999999999999999999";
    for (layer, wanted) in [
        (claims(1 << 60), "\"claims\""),
        (claims(u64::MAX >> 1), "\"claims\""),
        (negative, "cannot read the layer"),
        (Layer::new().pax(&[("size", digits)]).file("a", b""), "cannot read the layer"),
        (Layer::new().pax(&[("path", &vec![b'a'; 2 << 20])]).file("a", b""), "more than 1048576"),
        (Layer::new().pax(&[("path", &[b'n'; 256])]).file("x", b""), "has an invalid name"),
    ] {
        check(wanted, &of(layer), |_, _| None, wanted);
    }
}

#[test]
fn another_layer_than_was_promised_is_refused() {
    let plain = Layer::new().file("a", b"a").finish();
    let climbs = Layer::new().file("../../etc/passwd", b"x").finish();
    let lies = Shown::of(std::slice::from_ref(&plain), vec![gzip(&climbs)]);
    check("another layer", &lies, |_, _| None, "has `..` in its path");
    let other = Layer::new().file("b", b"b").finish();
    let lies = Shown::of(&[plain], vec![gzip(&other)]);
    check("another content", &lies, |_, _| None, "uncompressed bytes have digest");
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let home = Home::new();
    let before = home.snapshot();
    let shown = of(Layer::new().file("zeros", &vec![0; 8 << 20]));
    let registry = shown.with_fault(|_, _| None);
    let limits = images::Limits { max_unpacked_bytes: 1 << 20, ..images::Limits::DEFAULT };
    let order = home.order(&format!("{}/x:1", registry.address));
    let error = crate::pull::run(&home.client(""), &images::Pull { limits, ..order }).unwrap_err();
    tell("bomb", &error, "the image has more than 1048576 unpacked bytes");
    assert_eq!(home.snapshot(), before);
}

#[test]
fn a_zstd_window_is_taken_up_to_what_zstd_takes() {
    let plain = Layer::new().file("a", &[7; 100_000]).finish();
    let shown = |log| Shown::of(std::slice::from_ref(&plain), vec![zstd_with_window(&plain, log)]);
    let wanted = "the image has more than 134217728 bytes in a zstd window";
    check("256 MiB", &shown(28), |_, _| None, wanted);
    let (home, registry) = (Home::new(), shown(27).with_fault(|_, _| None));
    home.pull(&format!("{}/x:1", registry.address)).unwrap();
}
