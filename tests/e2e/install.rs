//! What `scripts/install` puts under a prefix is found there.

use std::path::{Path, PathBuf};
use std::process::Command;

use hyperrun_tests::Sandbox;

/// An installation that vanishes with its test.
struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let installed = Self { folder: tempfile::tempdir().expect("a folder") };
        installed.script(&[]);
        installed
    }

    fn prefix(&self) -> PathBuf {
        self.folder.path().join("usr")
    }

    /// Runs the script, as it lies in the tree.
    #[track_caller]
    fn script(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/install");
        let mut command = Command::new(script);
        command.args(arguments).env("PREFIX", self.prefix()).env_remove("DESTDIR");
        let output = command.output().expect("the script starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn sandbox(&self) -> Sandbox {
        let binary = self.prefix().join("bin/hyperrun");
        let root = self.folder.path().join("root");
        Sandbox::with_busybox(root).of(binary.to_str().expect("a path of letters"))
    }
}

#[test]
fn an_installation_is_whole_and_goes_as_a_whole() {
    let installed = Installed::new();
    let version = installed.sandbox().does("version");
    for file in ["vmlinux", "initramfs.cpio", "hyperrun-registry", "hyperrun-resolver"] {
        let place = installed.prefix().join("lib/hyperrun").join(file);
        version.stdout_has(&format!(" {}\n", place.display()));
    }
    for file in [
        "share/man/man1/hyperrun.1",
        "share/man/man1/hyperrun-container-run.1",
        "share/bash-completion/completions/hyperrun",
        "share/zsh/vendor-completions/_hyperrun",
        "share/fish/vendor_completions.d/hyperrun.fish",
        "share/doc/hyperrun/docs/architecture.md",
        "share/doc/hyperrun/config.toml",
    ] {
        assert!(installed.prefix().join(file).is_file(), "{file}");
    }
    installed.script(&["--uninstall"]);
    let left = Command::new("find").arg(installed.prefix()).args(["-type", "f"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}
