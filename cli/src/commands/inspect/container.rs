//! A container as `inspect` shows it.

use std::collections::BTreeMap;

use runtime::keeping::LogDriver;
use runtime::network::Networks;
use runtime::{CheckResult, Found, Health, HealthCheck, Moment, Record, Status};
use serde::Serialize;
use serde_json::{Value, json};

use super::host_config::host_config;
use super::network_settings::network_settings;

/// What Docker's API calls `ContainerInspect`, as far as there is something to tell.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspection {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: State,
    image: String,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: &'static str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    mounts: [Value; 0],
    config: Config,
    network_settings: Value,
    /// What it went on from: Docker has no such thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_of: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(rename = "OOMLimit", skip_serializing_if = "String::is_empty")]
    oom_limit: String,
    dead: bool,
    pid: i32,
    exit_code: u8,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "Value::is_null")]
    exposed_ports: Value,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    image: String,
    volumes: Option<BTreeMap<String, Value>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
}

/// Everything that is known about a container, and the bytes it has written if they are wanted.
pub(super) fn inspection(found: &Found, networks: &Networks, size_rw: Option<u64>) -> Inspection {
    let record = &found.record;
    let words = [&record.entrypoint[..], &record.command].concat();
    let log_path = match record.keeping.log.driver {
        LogDriver::JsonFile => found.log_path().display().to_string(),
        LogDriver::None => String::new(),
    };
    Inspection {
        id: record.id.clone(),
        created: record.created.to_text(),
        path: words.first().cloned().unwrap_or_default(),
        args: words.into_iter().skip(1).collect(),
        state: state(found),
        image: record.image_id.clone(),
        log_path,
        name: format!("/{}", record.name),
        restart_count: found.state.restarts,
        driver: "overlay",
        platform: "linux",
        // No such thing is laid on a machine, and its processes are no objects of their own.
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: None,
        host_config: host_config(record),
        size_rw,
        mounts: [],
        config: config(record),
        network_settings: network_settings(found, networks),
        copy_of: record
            .copy_of
            .as_ref()
            .map(|copy| json!({ "Snapshot": copy.snapshot, "Container": copy.container })),
    }
}

fn state(found: &Found) -> State {
    let state = &found.state;
    let at =
        |moment: Option<Moment>| moment.map_or_else(|| Moment::NEVER.to_owned(), Moment::to_text);
    let runs = matches!(state.status, Status::Running | Status::Paused);
    State {
        status: state.status.word(),
        // As with Docker, who calls it running so that it is stopped before it is removed.
        running: runs || state.status == Status::Restarting,
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        oom_limit: state.oom_limit.clone(),
        dead: state.status == Status::Dead,
        pid: state.supervisor.filter(|_| runs).unwrap_or(0),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: at(state.started),
        finished_at: at(state.finished),
        health: found.health().map(|health| state_of_health(&health)),
    }
}

fn state_of_health(health: &Health) -> Value {
    let result = |result: &CheckResult| {
        json!({
            "Start": result.start.to_text(),
            "End": result.end.to_text(),
            "ExitCode": result.exit_code,
            "Output": result.output,
        })
    };
    json!({
        "Status": health.status.word(),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(result).collect::<Vec<_>>(),
    })
}

/// Times in nanoseconds; what was left open is not shown.
fn health_check(check: &HealthCheck) -> Value {
    let mut shown = serde_json::Map::new();
    shown.insert("Test".to_owned(), check.test.clone().into());
    for (name, time) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if !time.is_zero() {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            shown.insert(name.to_owned(), nanos.into());
        }
    }
    if check.retries > 0 {
        shown.insert("Retries".to_owned(), check.retries.into());
    }
    shown.into()
}

/// Each port that is known, by its name.
fn exposed(record: &Record) -> Value {
    let ports = record.ports.known().into_iter().map(|port| (port.to_string(), json!({})));
    let ports: serde_json::Map<_, _> = ports.collect();
    if ports.is_empty() { Value::Null } else { ports.into() }
}

fn config(record: &Record) -> Config {
    let (container, keeping) = (&record.container, &record.keeping);
    let process = &container.process;
    let some = |words: &Vec<String>| Some(words.clone()).filter(|words| !words.is_empty());
    Config {
        hostname: container.hostname.clone(),
        domainname: container.domain_name.clone(),
        user: record.user(),
        attach_stdin: process.stdin && keeping.input_once,
        attach_stdout: keeping.input_once,
        attach_stderr: keeping.input_once,
        exposed_ports: exposed(record),
        tty: process.terminal.is_some(),
        open_stdin: process.stdin,
        stdin_once: process.stdin && keeping.input_once,
        env: process.env.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect(),
        cmd: some(&record.command),
        image: record.image.clone(),
        volumes: volumes(&container.volumes),
        working_dir: process.working_dir.clone(),
        entrypoint: some(&record.entrypoint),
        // What an image says of later builds is no container's.
        on_build: None,
        labels: keeping.labels.clone(),
        healthcheck: keeping.health.as_ref().map(health_check),
        stop_signal: keeping.stop_signal.map(|signal| signal.to_string()),
        stop_timeout: keeping.stop_timeout,
    }
}

/// Docker's shape: folders as keys.
fn volumes(folders: &[String]) -> Option<BTreeMap<String, Value>> {
    let all: BTreeMap<_, _> = folders.iter().map(|folder| (folder.clone(), json!({}))).collect();
    Some(all).filter(|all| !all.is_empty())
}
