//! A user with a store of their own, and the client as a program.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use images::{Limits, LoadSource, Login, Order, Platform, Pull, Push, Store, Tags, Talk, Transfer};
use tests::archive::{Layer, docker_archive, gzip, oci_layout, pack};
pub(crate) use tests::registry::{Kind, Registry};

/// A user with a store, a configuration of registries and one of Docker's.
pub(crate) struct User {
    pub(crate) folder: tempfile::TempDir,
}

/// What the client said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn succeeds(self) -> Said {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn fails_with(self, words: &str) -> Said {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(words), "{} lacks {words:?}", self.stderr);
        assert!(self.stderr.contains("\nhint: "), "{} lacks a hint", self.stderr);
        self
    }
}

impl User {
    pub(crate) fn new() -> User {
        User { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.images()).unwrap()
    }

    /// Writes `registries.toml`.
    pub(crate) fn configure(&self, text: &str) {
        let folder = self.folder.path().join("config/hyperrun");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("registries.toml"), text).unwrap();
    }

    pub(crate) fn docker_config(&self) -> PathBuf {
        self.folder.path().join("docker/config.json")
    }

    /// Loads an image of two layers under this name.
    pub(crate) fn load(&self, name: &str) {
        let layers = [
            Layer::new().dir("etc").file("etc/motd", name.as_bytes()).finish(),
            Layer::new().file("noise", &[7; 100_000]).finish(),
        ];
        self.load_layers(name, &layers);
    }

    /// Loads an image of these layers, compressed by gzip.
    pub(crate) fn load_layers(&self, name: &str, layers: &[Vec<u8>]) {
        let stored: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        self.load_stored(name, layers, &stored);
    }

    /// Loads an image of these layers, compressed like this.
    pub(crate) fn load_stored(&self, name: &str, layers: &[Vec<u8>], stored: &[Vec<u8>]) {
        let archive = pack(&oci_layout(name, layers, stored));
        let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive)));
        self.store().load(source, &Limits::DEFAULT).unwrap();
    }

    /// Loads an image that comes without a manifest and with plain layers.
    pub(crate) fn load_docker_archive(&self, name: &str) {
        let archive = docker_archive(name, &[Layer::new().file("a", b"a").finish()]);
        let source = LoadSource::Reader(Box::new(std::io::Cursor::new(archive)));
        self.store().load(source, &Limits::DEFAULT).unwrap();
    }

    pub(crate) fn manifest(&self, name: &str) -> String {
        self.store().find(name).unwrap().manifest.unwrap().to_string()
    }

    pub(crate) fn pull(&self, name: &str) -> Said {
        self.client(Transfer::Pull(self.pull_order(name)), "")
    }

    pub(crate) fn pull_order(&self, name: &str) -> Pull {
        Pull {
            store: self.images(),
            name: name.to_owned(),
            tags: Tags::One,
            platform: Platform::host(),
            limits: Limits::DEFAULT,
            talk: Talk::Normal,
        }
    }

    pub(crate) fn push(&self, name: &str) -> Said {
        let reference = name.parse().unwrap();
        let push = Push { store: self.images(), reference, talk: Talk::Normal };
        self.client(Transfer::Push(push), "")
    }

    pub(crate) fn login(&self, registry: &str, username: &str, password: &str) -> Said {
        let login = Login {
            registry: registry.to_owned(),
            username: Some(username.to_owned()),
            password_stdin: true,
        };
        self.client(Transfer::Login(login), password)
    }

    /// Runs the client to its end with this on its standard input.
    pub(crate) fn client(&self, transfer: Transfer, input: &str) -> Said {
        let mut child = self.spawn(transfer);
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    pub(crate) fn spawn(&self, transfer: Transfer) -> Child {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let order = Order { version, parent: None, transfer };
        let path = std::env::var("PATH").unwrap();
        let helpers = self.folder.path().join("helpers");
        Command::new(env!("CARGO_BIN_EXE_hyperrun-registry"))
            .arg(order.to_argument())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("DOCKER_CONFIG", self.folder.path().join("docker"))
            .env("PATH", format!("{}:{path}", helpers.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}
