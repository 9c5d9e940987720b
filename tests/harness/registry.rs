//! Debian's registry on a free port of this machine, tied to the test's life.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How a registry is to be spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Without TLS and open to all.
    Plain,
    /// With a certificate for `localhost` of an authority of its own.
    Tls,
    /// With a user `me` whose password is `pass word`.
    Locked,
}

/// A registry that ends with the test.
pub struct Registry {
    /// `localhost:PORT`.
    pub address: String,
    /// What it keeps, and its certificates.
    pub folder: tempfile::TempDir,
    process: Child,
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn start(kind: Kind) -> Registry {
        let folder = tempfile::tempdir().expect("a registry can be set up");
        let home = folder.path().display();
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a registry can be set up")
            .local_addr()
            .expect("a registry can be set up")
            .port();
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
            fs::write(folder.path().join("htpasswd"), htpasswd.stdout)
                .expect("a registry can be set up");
            config += &format!("auth: {{htpasswd: {{realm: here, path: {home}/htpasswd}}}}\n");
        }
        let path = folder.path().join("registry.yml");
        fs::write(&path, config).expect("a registry can be set up");
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
    pub fn authority(&self) -> PathBuf {
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
    fs::write(folder.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        .expect("a registry can be set up");
    openssl(
        "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -extfile ext",
    );
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}
