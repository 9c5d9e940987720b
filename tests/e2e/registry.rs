//! Images that come from a registry when they are first run, and what a guest sees of one.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use hyperrun_tests::registry::{Kind, Registry};
use hyperrun_tests::tree::{difference, unfurnished};
use hyperrun_tests::{Running, Sandbox, Terminal};
use rustix::process::Signal;

/// A registry that has busybox under this name.
fn registry_with(name: &str) -> Registry {
    let registry = Registry::start(Kind::Plain);
    let root = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_busybox(root.path());
    let target = format!("{}/{name}", registry.address);
    sandbox.hyperrun(["tag", "busybox", &target]).code_is(0);
    sandbox.hyperrun(["push", "-q", &target]).code_is(0);
    let told = "events --since 1h --until 0s --filter event=push --format {{.Actor.ID}}";
    sandbox.does(told).stdout_is(&format!("{target}\n"));
    registry
}

/// A new store, whose user has the registry for a mirror of docker.io.
fn user_of(registry: &Registry) -> (Sandbox, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("config/hyperrun");
    fs::create_dir_all(&folder).unwrap();
    let mirror = format!("[registry.\"docker.io\"]\nmirrors = [\"http://{}\"]\n", registry.address);
    fs::write(folder.join("registries.toml"), mirror).unwrap();
    let config = root.path().join("config");
    let sandbox = Sandbox::at(root.path().join("root"))
        .env("XDG_CONFIG_HOME", config.to_str().unwrap())
        .env("DOCKER_CONFIG", config.to_str().unwrap());
    (sandbox, root)
}

const SAY: [&str; 5] = ["run", "--rm", "ubuntu:latest", "echo", "hi"];

#[test]
fn an_image_that_was_never_seen_is_pulled_and_run() {
    let registry = registry_with("library/ubuntu:latest");
    let (sandbox, _root) = user_of(&registry);
    let first = sandbox.hyperrun(SAY);
    first.code_is(0).stdout_is("hi\n").stderr_has("latest: Pulling from library/ubuntu\n");
    sandbox.hyperrun(["images"]).code_is(0).stdout_has("ubuntu");
    // From now on nobody is asked.
    drop(registry);
    sandbox.hyperrun(SAY).code_is(0).stdout_is("hi\n").stderr_is("");
}

#[test]
fn a_shell_on_a_terminal_comes_from_the_mirror() {
    let registry = registry_with("library/ubuntu:latest");
    let (sandbox, _root) = user_of(&registry);
    let arguments = ["run", "--rm", "-t", "ubuntu:latest", "sh"];
    let mut terminal = Terminal::start(&sandbox.command(arguments), 30, 101);
    // All of the prompt: a bar of progress has such a sign too.
    terminal.wait_for("/ # ");
    terminal.send("echo come from a mi''rror\n");
    terminal.wait_for("come from a mirror\r\n");
    // The shell reads keys when it has shown its prompt; an end of input before that would be lost.
    terminal.wait_for("/ # ");
    terminal.send("stty size; exit 7\n");
    terminal.wait_for("30 101\r\n");
    assert_eq!(terminal.wait(), 7);
    assert!(terminal.is_restored());
}

/// Needs no KVM: nothing has been pulled when it ends.
#[test]
fn a_run_that_is_killed_ends_its_pull() {
    for (signal, code) in [(Signal::KILL, 137), (Signal::TERM, 143)] {
        // A registry that takes what it is asked, and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let image = format!("{}/x:1", listener.local_addr().unwrap());
        let root = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::at(root.path());
        let running = Running::start(sandbox.command(["run", "--rm", &image]));
        let (connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = BufReader::new(connection);
        let mut asked = String::new();
        client.read_line(&mut asked).unwrap();
        assert!(asked.starts_with("GET /v2/x/manifests/1 "), "{asked}");
        running.signal(signal);
        // It hangs up; were it to wait for the answer, this would be an error after a while.
        client.read_to_end(&mut Vec::new()).unwrap();
        running.finish().code_is(code);
        sandbox.hyperrun(["system", "check"]).code_is(0).stdout_has(": whole\n");
    }
}

#[test]
fn a_run_pulls_when_it_is_told_to() {
    let registry = registry_with("library/ubuntu:latest");
    let (sandbox, _root) = user_of(&registry);
    let run = |when: &str| {
        sandbox.hyperrun(["run", "--rm", "--pull", when, "ubuntu:latest", "echo", "hi"])
    };
    // The store is made by whoever looks first.
    sandbox.hyperrun(["images"]).code_is(0);
    let empty = sandbox.stored();
    run("never").fails_with(125, "no such image: ubuntu:latest");
    assert_eq!(sandbox.stored(), empty);
    run("missing").code_is(0).stdout_is("hi\n").stderr_has("Status: Downloaded newer image");
    run("always").code_is(0).stdout_is("hi\n").stderr_has("Status: Image is up to date");
    run("never").code_is(0).stdout_is("hi\n").stderr_is("");
    let before = sandbox.stored();
    let unknown = sandbox.hyperrun(["run", "--rm", &format!("{}/no/such", registry.address)]);
    unknown.code_is(125).stderr_has("error: ").stderr_has("hint: ");
    assert_eq!(sandbox.stored(), before);
}

/// `scripts/test` makes the image, unpacks it with umoci and lists what came of it, outside of the
/// machine that this runs on.
#[test]
fn a_guest_sees_what_umoci_unpacks() {
    let folder = std::env::var("HYPERRUN_TEST_FIDELITY").expect("scripts/test sets it");
    let layout = format!("{folder}/oci");
    let umocis = fs::read_to_string(Path::new(&folder).join("umoci")).unwrap();
    let root = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(root.path());
    let loaded = sandbox.hyperrun(["load", "-i", &layout]);
    let id = loaded.code_is(0).stdout.trim().strip_prefix("Loaded image ID: ").unwrap();
    let out = sandbox.hyperrun(["run", "--rm", id, "/list-tree", "/"]);
    out.code_is(0);
    // The root of a container is the folder that takes its changes, and its `trusted` attributes are
    // for those who may mount: Docker shows them as little.
    let seen = |listing: &str| -> String {
        let lines = listing.lines().filter(|line| !line.starts_with("/ "));
        lines.map(|line| line.replace(" trusted.x=00", "") + "\n").collect()
    };
    let umocis = seen(&umocis);
    let guests = unfurnished(&seen(&out.stdout), &umocis);
    assert!(umocis.lines().count() > 35, "{umocis}");
    assert!(guests == umocis, "guest - umoci +\n{}", difference(&guests, &umocis));
}
