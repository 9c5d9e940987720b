//! The guest kernel's options: all that were asked for are built in, and one that is not is told.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the house").to_owned()
}

fn built_options() -> PathBuf {
    let file = house().join("target/guest/config");
    assert!(file.exists(), "there is no {}: run guest-kernel/build", file.display());
    file
}

fn check(options: &Path) -> Output {
    Command::new(house().join("guest-kernel/check-config")).arg(options).output().expect("it runs")
}

#[test]
fn the_built_kernel_has_every_option_of_the_table() {
    let out = check(&built_options());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn an_option_that_vanished_is_named() {
    let options = std::fs::read_to_string(built_options()).expect("readable");
    let missing = "CONFIG_EROFS_FS=y";
    assert!(options.contains(missing));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), options.replace(missing, "")).expect("writable");
    let out = check(file.path());
    assert!(!out.status.success());
    let said = [out.stdout, out.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("CONFIG_EROFS_FS"));
}
