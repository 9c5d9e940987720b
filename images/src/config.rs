//! An image's configuration: what to run, as whom, where. Docker's and OCI's JSON alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::digest::Digest;
use crate::document::{self, DocumentError};
use crate::platform::Platform;
use crate::timestamp::parse_rfc3339;

/// What an image says about the process to run. Absent fields are empty; nothing is defaulted here.
///
/// OCI image-spec, config.md; `healthcheck` and `shell` are Docker's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Go's name of the processor, such as `amd64`.
    pub architecture: String,
    /// Go's name of the operating system, such as `linux`.
    pub os: String,
    /// Such as `v7`; mostly empty.
    pub variant: String,
    /// When the image was built.
    pub created: Option<SystemTime>,
    /// Arguments in front of every command.
    pub entrypoint: Option<Vec<String>>,
    /// The command if the user gives none.
    pub cmd: Option<Vec<String>>,
    /// `KEY=value` in the image's order.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, …; empty means root.
    pub user: String,
    /// Empty means `/`.
    pub working_dir: String,
    /// Labels by key.
    pub labels: BTreeMap<String, String>,
    /// Paths that want a volume.
    pub volumes: BTreeSet<String>,
    /// `port/protocol`.
    pub exposed_ports: BTreeSet<String>,
    /// `SIGTERM`, `15`, …
    pub stop_signal: Option<String>,
    /// Seconds from the stop signal to SIGKILL.
    pub stop_timeout: Option<u64>,
    /// Docker's health check.
    pub healthcheck: Option<HealthCheck>,
    /// Docker's shell for commands in shell form.
    pub shell: Option<Vec<String>>,
    /// How it was built, from the base upwards; perhaps nothing is known.
    pub history: Vec<History>,
    /// The digests of the uncompressed layers, from the base upwards.
    pub(crate) diff_ids: Vec<Digest>,
}

/// A step of the image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When.
    pub created: Option<SystemTime>,
    /// The command that made it.
    pub created_by: String,
    /// What its maker says.
    pub comment: String,
    /// Whether it made no layer.
    pub empty_layer: bool,
}

/// Docker's `HEALTHCHECK`. Zero durations and counts mean Docker's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthCheck {
    /// `["NONE"]`, `["CMD", args…]` or `["CMD-SHELL", command]`.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// Until a check counts as failed.
    pub timeout: Duration,
    /// During which failures do not count.
    pub start_period: Duration,
    /// Between two checks in that time.
    pub start_interval: Duration,
    /// Failures in a row until the container is unhealthy.
    pub retries: u32,
}

impl ImageConfig {
    /// Reads a configuration document.
    ///
    /// # Errors
    /// If it is not JSON of the right shape, or a text in it has a NUL byte.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, DocumentError> {
        let raw: RawImage = document::parse(bytes)?;
        let config = from_raw(raw);
        check_nul(&config)?;
        Ok(config)
    }

    /// The platform the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }
}

#[derive(Deserialize)]
struct RawImage {
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    config: Option<RawConfig>,
    #[serde(default)]
    rootfs: Option<RawRootfs>,
    #[serde(default)]
    history: Option<Vec<RawHistory>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawHistory {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawConfig {
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    stop_signal: Option<String>,
    stop_timeout: Option<u64>,
    healthcheck: Option<RawHealthCheck>,
    shell: Option<Words>,
}

/// Old builders wrote a single word as a plain string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

/// Durations are nanoseconds.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawHealthCheck {
    test: Option<Vec<String>>,
    interval: Option<u64>,
    timeout: Option<u64>,
    start_period: Option<u64>,
    start_interval: Option<u64>,
    retries: Option<u32>,
}

fn from_raw(raw: RawImage) -> ImageConfig {
    let config = raw.config.unwrap_or_default();
    ImageConfig {
        architecture: raw.architecture.unwrap_or_default(),
        os: raw.os.unwrap_or_default(),
        variant: raw.variant.unwrap_or_default(),
        created: raw.created.as_deref().and_then(parse_rfc3339),
        entrypoint: config.entrypoint.and_then(words),
        cmd: config.cmd.and_then(words),
        env: config.env.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        stop_timeout: config.stop_timeout,
        healthcheck: config.healthcheck.map(health_check),
        shell: config.shell.and_then(words),
        history: raw.history.unwrap_or_default().into_iter().map(history).collect(),
        diff_ids: raw.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default(),
    }
}

fn history(raw: RawHistory) -> History {
    History {
        created: raw.created.as_deref().and_then(parse_rfc3339),
        created_by: raw.created_by.unwrap_or_default(),
        comment: raw.comment.unwrap_or_default(),
        empty_layer: raw.empty_layer.unwrap_or_default(),
    }
}

/// An empty list is as good as none: Docker treats both alike.
fn words(words: Words) -> Option<Vec<String>> {
    let words = match words {
        Words::Many(words) => words,
        Words::One(word) => vec![word],
    };
    (!words.is_empty()).then_some(words)
}

fn health_check(raw: RawHealthCheck) -> HealthCheck {
    let duration = |nanos: Option<u64>| Duration::from_nanos(nanos.unwrap_or_default());
    HealthCheck {
        test: raw.test.unwrap_or_default(),
        interval: duration(raw.interval),
        timeout: duration(raw.timeout),
        start_period: duration(raw.start_period),
        start_interval: duration(raw.start_interval),
        retries: raw.retries.unwrap_or_default(),
    }
}

fn check_nul(config: &ImageConfig) -> Result<(), DocumentError> {
    let words = |words: &[String]| words.iter().any(|word| word.contains('\0'));
    let list = |list: &Option<Vec<String>>| list.as_deref().is_some_and(words);
    let fields = [
        ("Entrypoint", list(&config.entrypoint)),
        ("Cmd", list(&config.cmd)),
        ("Shell", list(&config.shell)),
        ("Healthcheck", config.healthcheck.as_ref().is_some_and(|check| words(&check.test))),
        ("Env", config.env.iter().any(|entry| entry.contains('\0'))),
        ("User", config.user.contains('\0')),
        ("WorkingDir", config.working_dir.contains('\0')),
        ("Volumes", config.volumes.iter().any(|path| path.contains('\0'))),
    ];
    match fields.into_iter().find(|(_, has_nul)| *has_nul) {
        Some((field, _)) => Err(DocumentError::Nul { field }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let json = r#"{
            "architecture": "amd64", "os": "linux", "created": "2024-05-14T01:28:06Z",
            "config": {
                "Entrypoint": ["/entry"], "Cmd": ["a", "b c"], "Env": ["PATH=/bin", "X="],
                "User": "app:staff", "WorkingDir": "/srv", "Labels": {"k": "v"},
                "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT",
                "StopTimeout": 3, "Shell": ["/bin/bash", "-c"], "OnBuild": null, "Unknown": [1],
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000, "Retries": 2}
            },
            "rootfs": {"type": "layers", "diff_ids": [
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history": [{"created_by": "x"}]
        }"#;
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.platform().to_string(), "linux/amd64");
        assert_eq!(config.entrypoint.unwrap(), ["/entry"]);
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.env, ["PATH=/bin", "X="]);
        assert_eq!((&config.user[..], &config.working_dir[..]), ("app:staff", "/srv"));
        assert!(config.volumes.contains("/data") && config.exposed_ports.contains("80/tcp"));
        assert_eq!((config.stop_signal.as_deref(), config.stop_timeout), (Some("SIGINT"), Some(3)));
        assert_eq!(config.healthcheck.unwrap().interval, Duration::from_secs(1));
        assert_eq!(config.diff_ids, [Digest::of(b"")]);
        assert!(config.created.is_some());
        assert_eq!(config.history[0].created_by, "x");
    }

    #[test]
    fn nulls_and_old_forms_are_tolerated() {
        let json = r#"{"config": {"Entrypoint": null, "Cmd": "sh", "Env": null, "Labels": null,
            "Volumes": null, "ExposedPorts": null, "Healthcheck": null, "StopSignal": ""}}"#;
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.cmd.unwrap(), ["sh"]);
        assert_eq!((config.entrypoint, config.stop_signal), (None, None));
        assert_eq!(ImageConfig::parse(b"{}").unwrap(), ImageConfig::default());
        let empty = ImageConfig::parse(br#"{"config":{"Cmd":[],"Entrypoint":[]}}"#).unwrap();
        assert_eq!((empty.cmd, empty.entrypoint), (None, None));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let cases = [
            ("", "not valid"),
            ("1", "not valid"),
            (r#"{"config":{"Env":"x"}}"#, "not valid"),
            (r#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#, "not valid"),
            ("{\"config\":{\"Env\":[\"A=\\u0000\"]}}", "Env has a NUL"),
            ("{\"config\":{\"Cmd\":[\"\\u0000\"]}}", "Cmd has a NUL"),
            (
                "{\"config\":{\"Healthcheck\":{\"Test\":[\"CMD\",\"\\u0000\"]}}}",
                "Healthcheck has a NUL",
            ),
        ];
        for (json, expected) in cases {
            let error = ImageConfig::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(ImageConfig::parse(deep.as_bytes()).is_err());
    }
}
