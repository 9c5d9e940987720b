//! Debian's registry on loopback, for as long as it is measured against.

use std::error::Error;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A running registry; it ends with this value.
pub(crate) struct Registry {
    /// `localhost:PORT`.
    pub(crate) address: String,
    process: Child,
}

impl Registry {
    /// Starts one that keeps its data in `folder`.
    ///
    /// # Errors
    /// When it does not answer within ten seconds.
    pub(crate) fn start(folder: &Path) -> Result<Registry, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            folder.join("data").display()
        );
        fs::create_dir_all(folder)?;
        let path = folder.join("registry.yml");
        fs::write(&path, config)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let registry = Registry { address: format!("localhost:{port}"), process };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("docker-registry does not answer".into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Nothing more can be done about one that cannot be ended.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
