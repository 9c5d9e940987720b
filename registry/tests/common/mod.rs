//! Debian's registry on a free port of this machine, tied to the test's life, and the client as a
//! program.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use images::{Limits, LoadSource, Login, Order, Platform, Pull, Push, Store, Talk, Transfer};
use tests::archive::{Layer, docker_archive, gzip, oci_layout, pack};

/// How a registry is to be spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
    /// With a user `me` whose password is `pass word`.
    Locked,
}

/// A registry that ends with the test.
pub(crate) struct Registry {
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
    process: Child,
}

impl Registry {
    pub(crate) fn start(kind: Kind) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("localhost:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {home}/data}}}}\n\
             http: {{addr: '127.0.0.1:{port}'"
        );
        if kind == Kind::Tls {
            certificate(folder.path());
            config += &format!(", tls: {{certificate: {home}/cert.pem, key: {home}/key.pem}}");
        }
        config += "}\n";
        if kind == Kind::Locked {
            let htpasswd = run(Command::new("htpasswd").args(["-Bbn", "me", "pass word"]));
            fs::write(folder.path().join("htpasswd"), htpasswd.stdout).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: here, path: {home}/htpasswd}}}}\n");
        }
        let path = folder.path().join("registry.yml");
        fs::write(&path, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package docker-registry is installed");
        let registry = Registry { address, folder, process };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// The authority that has signed its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An authority, and a certificate for `localhost` that it has signed.
fn certificate(folder: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out cert.csr -subj /CN=localhost");
    fs::write(folder.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -extfile ext",
    );
}

pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

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
        let stored = layers.each_ref().map(|layer| gzip(layer));
        let archive = pack(&oci_layout(name, &layers, &stored));
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
        let order = Order { version: env!("CARGO_PKG_VERSION").to_owned(), transfer };
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
