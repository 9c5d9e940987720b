//! What a shell is told that may follow, and bash itself with the script that it is given.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::process::Command;

use common::{at, empty_store, labelled, load};
use tests::{Sandbox, Snapshot, environment_of};

/// Two images and three containers, of which one seems to run.
fn home() -> (Sandbox, tempfile::TempDir) {
    let (sandbox, root) = empty_store();
    load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "image", "1"));
    load(&sandbox, &labelled("bare:1", "2020-01-01T00:00:00Z", "image", "2"));
    for name in ["alpha", "beta", "better"] {
        sandbox.does(&format!("create --name {name} base:1"));
    }
    (sandbox, root)
}

/// What may stand in place of the line's last word.
fn next(sandbox: &Sandbox, line: &str) -> Vec<String> {
    let words = ["completion", "fish", "--", "hyperrun"].into_iter().chain(line.split(' '));
    let out = sandbox.hyperrun(words);
    out.code_is(0).stderr_is("");
    let value = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
    out.stdout.lines().map(value).collect()
}

#[test]
fn names_of_what_there_is_follow() {
    let (sandbox, _root) = home();
    for (line, wanted) in [
        ("rm ", &["alpha", "beta", "better"][..]),
        ("rm -f be", &["beta", "better"]),
        ("rm beta ", &["alpha", "better"]),
        ("container inspect a", &["alpha"]),
        ("start b", &["beta", "better"]),
        ("exec ", &[]),
        ("stop ", &[]),
        ("run --rm b", &["bare:1", "base:1"]),
        ("run --network ", &["bridge", "none", "user"]),
        ("run --network=n", &["--network=none"]),
        ("run base:1 a", &[]),
        ("rmi base:1 ", &["bare:1"]),
        ("inspect be", &["beta", "better"]),
        ("cp be", &["beta:", "better:"]),
        ("rename alpha ", &[]),
        ("snapshot rm ", &[]),
        ("unp", &["unpause"]),
        ("container ls --no-t", &["--no-trunc"]),
        ("run --pull ", &["always", "missing", "never"]),
        ("no-such-command ", &[]),
    ] {
        assert_eq!(next(&sandbox, line), wanted, "{line:?}");
    }
    let out = sandbox.hyperrun(["completion", "zsh", "--", "hyperrun", "run", "bas"]);
    out.code_is(0).stdout_is("base\\:1:image\n");
}

#[test]
fn another_root_is_looked_into() {
    let (_, root) = home();
    let elsewhere = at(&root.path().join("empty"));
    assert_eq!(next(&elsewhere, "rm "), [""; 0]);
    let line = format!("--root {} rm al", root.path().display());
    assert_eq!(next(&elsewhere, &line), ["alpha"]);
    // Nothing was made where there was nothing.
    assert!(!root.path().join("empty").exists());
}

#[test]
fn nothing_is_changed_and_nothing_said_about_what_is_broken() {
    let (sandbox, root) = home();
    let beta = sandbox.does("inspect -f {{.Id}} beta").stdout.trim().to_owned();
    std::fs::write(root.path().join("containers").join(&beta).join("container.json"), "{").unwrap();
    let alpha = sandbox.does("inspect -f {{.Id}} alpha");
    // The last command has put the broken one aside; so break another one.
    let alpha = root.path().join("containers").join(alpha.stdout.trim());
    std::fs::write(alpha.join("container.json"), "{").unwrap();
    let before = Snapshot::of(root.path());
    assert_eq!(next(&sandbox, "rm "), ["better"]);
    assert_eq!(Snapshot::of(root.path()), before);
}

/// What bash offers at the end of a line, whose last word, by its reckoning, is `replaced`.
fn offered_by_bash(sandbox: &Sandbox, line: &str, replaced: &str) -> String {
    const SCRIPT: &str = "hyperrun() { \"$BINARY\" \"$@\"; }
        compopt() { echo \"compopt $*\"; }
        . <(hyperrun completion bash)
        complete -p hyperrun
        COMP_LINE=$1 COMP_POINT=${#1}
        _hyperrun hyperrun \"$2\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let ours = sandbox.command(["--version"]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", SCRIPT, "bash", line, replaced]).env("BINARY", ours.get_program());
    bash.envs(environment_of(&ours));
    let out = bash.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    let shown = String::from_utf8(out.stdout).unwrap();
    let registered = "complete -o bashdefault -o default -F _hyperrun hyperrun\n";
    shown.strip_prefix(registered).unwrap_or_else(|| panic!("{shown}")).to_owned()
}

#[test]
fn bash_completes_names_and_what_stands_behind_a_colon() {
    let (sandbox, _root) = home();
    for (line, replaced, wanted) in [
        ("hyperrun rm be", "be", "beta\nbetter\n"),
        ("hyperrun run --rm ", "", "bare:1\nbase:1\n"),
        // bash takes a colon and an equals sign for the end of a word.
        ("hyperrun run base:", "", "1\n"),
        ("hyperrun run base:1", "1", "1\n"),
        ("hyperrun run --network=no", "no", "none\n"),
        ("hyperrun cp al", "al", "compopt -o nospace\nalpha:\n"),
        ("hyperrun rm 'al", "al", "alpha\n"),
        ("hyperrun run base:1 ", "", "\n"),
    ] {
        assert_eq!(offered_by_bash(&sandbox, line, replaced), wanted, "{line}");
    }
}
