//! What the user's configuration says holds for new containers, and mistakes in it are told.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;

use common::{empty_store, labelled, load};
use tests::Sandbox;

/// The fields of `inspect` that a configuration sets.
const SHAPE: &str = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} \
    {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig}}";

/// A store with one image, and a user with this configuration.
fn home(text: &str) -> (Sandbox, tempfile::TempDir) {
    let (sandbox, root) = empty_store();
    load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "image", "1"));
    let folder = root.path().join("config/hyperrun");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), text).unwrap();
    let folder = root.path().join("config").to_str().unwrap().to_owned();
    (sandbox.env("XDG_CONFIG_HOME", &folder), root)
}

#[test]
fn a_configuration_holds_where_no_flag_says_otherwise() {
    let (sandbox, _root) = home(
        "memory = \"256m\"\ncpus = 1.5\nrestart = \"unless-stopped\"\n\
         [log-opts]\nmax-size = \"1m\"\nmax-file = 7\n",
    );
    let shape = |name: &str| sandbox.hyperrun(["inspect", "-f", SHAPE, name]).stdout;
    sandbox.does("create --name usual base:1");
    assert_eq!(
        shape("usual"),
        "268435456 1500000000 unless-stopped map[Config:map[max-file:7 max-size:1048576] Type:json-file]\n"
    );
    sandbox.does("create --name other -m 1g --cpus 1 --restart no --log-opt max-file=2 base:1");
    assert_eq!(
        shape("other"),
        "1073741824 1000000000 no map[Config:map[max-file:2 max-size:1048576] Type:json-file]\n"
    );
    sandbox.does("create --name silent --log-driver none base:1");
    assert!(shape("silent").ends_with("map[Config:map[] Type:none]\n"), "{}", shape("silent"));
}

#[test]
fn a_container_that_is_removed_at_its_end_has_no_policy() {
    let (sandbox, _root) = home("restart = \"always\"\n");
    sandbox.does("create --name gone --rm base:1");
    sandbox
        .hyperrun(["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "gone"])
        .stdout_is("no\n");
    sandbox
        .hyperrun(["create", "--rm", "--restart", "always", "base:1"])
        .fails_with(125, "conflicting options: cannot specify both --restart and --rm");
}

#[test]
fn a_mistake_is_told_with_its_file_and_line() {
    let (sandbox, root) = home("memory = \"1g\"\nmemroy = 1\n");
    let file = root.path().join("config/hyperrun/config.toml").display().to_string();
    let wanted = format!("error: {file}: line 2: unknown field `memroy`");
    sandbox.hyperrun(["create", "base:1"]).fails_with(125, &wanted);
    sandbox.hyperrun(["run", "base:1"]).fails_with(125, &wanted);
    sandbox.hyperrun(["info"]).fails_with(1, &wanted);
    sandbox.hyperrun(["doctor"]).code_is(1).stdout_has("no  configuration");
    // What needs no defaults works.
    sandbox.does("ps -aq").stdout_is("");
}

#[test]
fn info_tells_what_is_in_force_and_from_where() {
    let (sandbox, root) = home("\ncpus = 2\n");
    sandbox.does("create base:1");
    let file = root.path().join("config/hyperrun/config.toml").display().to_string();
    let out = sandbox.does("info");
    out.stdout_has("Containers: 1\n Running: 0\n Paused: 0\n Stopped: 1\nImages: 1\n");
    out.stdout_has(" memory: 512m (built in)\n").stdout_has(&format!(" cpus: 2 ({file}:2)\n"));
    out.stdout_has(&format!("Root Dir: {}\n", root.path().display()));
    sandbox
        .hyperrun(["info", "--format", "{{.ContainersStopped}} {{.DockerRootDir}} {{.NCPU}}"])
        .code_is(0)
        .stdout_has(&format!("1 {} ", root.path().display()));
    let all = sandbox.does("system info -f json").stdout;
    assert!(all.starts_with('{') && all.ends_with("}\n") && all.lines().count() == 1, "{all}");
}
