//! `hyperrun template` with templates that no machine has made.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::empty_store;

/// Puts a template of this name where the binary looks for them.
fn make(root: &Path, name: &str, description: &str) {
    let folder = root.join("templates").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("state"), "s").unwrap();
    fs::write(folder.join("memory"), vec![1; 100_000]).unwrap();
    fs::write(folder.join("template.json"), description).unwrap();
}

const KNOWN: &str = r#"{"version":1,"memory_mib":512,"vcpus":2,"kernel":"/vmlinux","basis":"b",
                        "created":1700000000}"#;

#[test]
fn templates_are_listed() {
    let (hyperrun, root) = empty_store();
    let header = "TEMPLATE   IMAGE     MEMORY    CPUS      SIZE      LAST USED\n";
    hyperrun.hyperrun(["template", "ls"]).code_is(0).stdout_is(header);
    make(root.path(), "0123456789abcdef", KNOWN);
    fs::create_dir(root.path().join("templates/other.new")).unwrap();
    let out = hyperrun.hyperrun(["template", "ls"]);
    out.code_is(0)
        .stdout_has("0123456789abcdef   <any>     512MiB    2         1")
        .stdout_has(" ago\n");
    assert_eq!(out.stdout.lines().count(), 2);
    hyperrun.hyperrun(["template", "ls", "-q"]).stdout_is("0123456789abcdef\n");
    let format = "{{.Image}} {{.Kernel}} {{.CreatedAt}}";
    hyperrun
        .hyperrun(["template", "list", "--format", format])
        .stdout_is("<any> /vmlinux 2023-11-14T22:13:20Z\n");
    hyperrun.hyperrun(["template", "ls", "--format", "json"]).stdout_has("\"Memory\":\"512MiB\"");
}

#[test]
fn a_template_nothing_is_known_of_is_listed() {
    let (hyperrun, root) = empty_store();
    make(root.path(), "k", "{");
    hyperrun
        .hyperrun([
            "template",
            "ls",
            "--format",
            "{{.Name}} {{.Memory}} {{.CPUs}} {{.CreatedSince}}",
        ])
        .code_is(0)
        .stdout_is("k N/A N/A N/A\n");
}

#[test]
fn each_name_is_tried() {
    let (hyperrun, root) = empty_store();
    ["abc", "abd", "xyz"].iter().for_each(|name| make(root.path(), name, KNOWN));
    hyperrun
        .hyperrun(["template", "rm", "nope", "xyz", "ab", "abc"])
        .code_is(1)
        .stdout_is("Deleted: xyz\nDeleted: abc\n")
        .stderr_has("error: no such template: nope\nhint: ")
        .stderr_has("error: ab is the beginning of 2 templates' names\nhint: ");
    hyperrun.hyperrun(["template", "ls", "-q"]).stdout_is("abd\n");
    hyperrun.hyperrun(["template", "rm"]).code_is(125);
}

#[test]
fn a_prune_leaves_nothing() {
    let (hyperrun, root) = empty_store();
    hyperrun.hyperrun(["template", "prune"]).code_is(0).stdout_is("Total reclaimed space: 0B\n");
    make(root.path(), "abc", KNOWN);
    make(root.path(), "bad.broken", KNOWN);
    make(root.path(), "cut.new", KNOWN);
    fs::write(root.path().join("templates/old.lock"), "").unwrap();
    hyperrun
        .hyperrun(["template", "prune", "-f"])
        .code_is(0)
        .stdout_has("Deleted Templates:\nDeleted: abc\n\nTotal reclaimed space: 3");
    assert_eq!(fs::read_dir(root.path().join("templates")).unwrap().count(), 0);
}

#[test]
fn what_is_not_as_it_was_saved_is_told() {
    let (hyperrun, root) = empty_store();
    hyperrun.hyperrun(["template", "check"]).code_is(0).stdout_is("0 templates: whole\n");
    make(root.path(), "abc", KNOWN);
    make(root.path(), "abd", KNOWN);
    fs::remove_file(root.path().join("templates/abd/memory")).unwrap();
    hyperrun
        .hyperrun(["template", "check"])
        .code_is(1)
        .stdout_has("damaged  abc: the file is no saved machine\n")
        .stdout_has("damaged  abd: cannot open its memory: No such file or directory")
        .stdout_has("\n2 templates: damaged\n");
}

#[test]
fn a_build_without_a_kernel_says_so() {
    let (hyperrun, _root) = empty_store();
    let hyperrun = hyperrun.env("HYPERRUN_KERNEL", "/no/such/vmlinux");
    hyperrun.hyperrun(["template", "build", "-m", "1m"]).code_is(125);
    hyperrun.hyperrun(["template", "build"]).code_is(1).stdout_is("").stderr_has("error: ");
}
