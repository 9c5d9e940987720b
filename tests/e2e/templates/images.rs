//! Templates of images: made beside runs or ahead, used by every container that they serve, and holding
//! nothing of any.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hyperrun_tests::{Output, Running, Sandbox};

use super::Home;

/// Whose containers a template is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Removed,
    Kept,
}

impl Home {
    /// One with the templates of all images and of busybox, both made ahead; and where the second is.
    #[track_caller]
    fn with_image_template(whose: Whose) -> (Self, PathBuf) {
        let home = Self::new();
        home.sandbox.does("template build").stderr_is("");
        let flag = if whose == Whose::Removed { " --rm" } else { "" };
        let built = home.sandbox.does(&format!("template build --image busybox{flag}"));
        let template = home.templates().join(built.stderr_is("").stdout.trim());
        assert_eq!(home.names().len(), 2);
        (home, template)
    }

    /// How often templates were gone on from for the first time.
    fn explored(&self) -> usize {
        let folders = self.names().into_iter().map(|name| self.templates().join(name));
        folders.filter(|folder| folder.join("working-set").exists()).count()
    }

    /// A run that may have its image's template made, with all that it has left behind.
    fn run_and_build(&self) -> Output {
        Running::start(self.building().command(["run", "--rm", "busybox", "echo", "hi"])).finish()
    }

    fn building(&self) -> Sandbox {
        let sandbox = Sandbox::at(self.folder.path()).with_templates();
        sandbox.env("HYPERRUN_IMAGE_TEMPLATES", "auto")
    }
}

fn was_used(template: &Path) -> bool {
    template.join("working-set").exists()
}

#[test]
fn a_run_from_a_template_has_its_images_own_made() {
    let home = Home::new();
    home.run_and_build().code_is(0).stdout_is("hi\n").stderr_is("");
    home.template();
    home.run_and_build().code_is(0).stdout_is("hi\n").stderr_is("");
    assert_eq!((home.names().len(), home.explored()), (2, 1));
    home.run_and_build().code_is(0).stdout_is("hi\n").stderr_is("");
    assert_eq!((home.names().len(), home.explored()), (2, 2), "the third goes on from it");
    let format = "{{.Image}} {{.Memory}}";
    let listed = home.sandbox.hyperrun(["template", "ls", "--format", format]);
    listed.code_is(0).stdout_is("busybox:latest 512MiB\n<any> 512MiB\n");
    home.sandbox.hyperrun(["template", "check"]).code_is(0).stdout_is("2 templates: whole\n");
}

#[test]
fn runs_at_once_have_one_made() {
    let home = Home::with_template();
    let words = ["run", "--rm", "busybox", "echo", "hi"];
    let last = Running::start(home.building().command(words));
    let others = [(); 2].map(|()| {
        let mut command = home.building().command(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    for other in others {
        let out = Output::new("run".to_owned(), other.wait_with_output().unwrap());
        out.code_is(0).stdout_is("hi\n").stderr_is("");
    }
    // With all that any of them has left behind.
    last.finish().code_is(0).stdout_is("hi\n").stderr_is("");
    assert_eq!(home.names().len(), 2);
    home.succeeds();
    assert_eq!(home.explored(), 2);
}

#[test]
fn nothing_of_a_container_is_in_another() {
    let (home, template) = Home::with_image_template(Whose::Removed);
    let script = "cat /proc/sys/kernel/random/boot_id /etc/hostname; hostname; \
                  head -c 64 /dev/urandom | md5sum; cat /proc/sys/kernel/random/uuid; \
                  cat /proc/self/auxv | md5sum; ls /mine 2>/dev/null; echo mine > /mine";
    let run =
        || home.sandbox.hyperrun(["run", "--rm", "-e", "SECRET=x", "busybox", "sh", "-c", script]);
    let (one, other) = (run(), run());
    assert!(was_used(&template));
    for out in [&one, &other] {
        out.code_is(0).stderr_is("");
        let lines: Vec<_> = out.stdout.lines().collect();
        assert_eq!(lines.len(), 6, "no file is there: {}", out.stdout);
        assert_eq!(lines[1], lines[2], "the host name is the one in the file");
    }
    for (one, other) in one.stdout.lines().zip(other.stdout.lines()) {
        assert_ne!(one, other);
    }
    assert!(!home.run("env").code_is(0).stdout_has("HOSTNAME=").stdout.contains("SECRET"));
}

#[test]
fn a_container_that_is_kept_has_its_disk_to_itself() {
    let (home, template) = Home::with_image_template(Whose::Kept);
    let script = "cat /count 2>/dev/null; echo x >> /count";
    for name in ["one", "other"] {
        home.sandbox
            .hyperrun(["run", "--name", name, "busybox", "sh", "-c", script])
            .code_is(0)
            .stdout_is("")
            .stderr_is("");
    }
    assert!(was_used(&template));
    home.sandbox.does("start -a one").stdout_is("x\n").stderr_is("");
    home.sandbox.does("start -a one").stdout_is("x\nx\n").stderr_is("");
    home.sandbox.does("start -a other").stdout_is("x\n").stderr_is("");
    home.sandbox.does("diff one").stdout_is("A /count\n");
}

#[test]
fn what_is_asked_for_is_had_whatever_the_template_brings_along() {
    let (home, template) = Home::with_image_template(Whose::Removed);
    for (flags, script, expected) in [
        ("-u 7:8", "id -u; id -g", "7\n8\n"),
        ("-w /a/b", "pwd", "/a/b\n"),
        ("--read-only", "(echo x > /x) 2>/dev/null || echo refused", "refused\n"),
        ("--hostname box", "hostname; cat /etc/hostname", "box\nbox\n"),
        ("--add-host there:10.0.0.1", "grep -c there /etc/hosts", "1\n"),
        ("--shm-size 1m", "df -k /dev/shm | tail -1 | awk '{print $2}'", "1024\n"),
        ("--tmpfs /t", "grep -c ' /t tmpfs' /proc/mounts", "1\n"),
        ("--init", "cat /proc/1/comm", "init\n"),
        ("--privileged", "ls /dev/vda", "/dev/vda\n"),
        ("--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward", "1\n"),
        ("--ulimit nofile=77", "ulimit -n", "77\n"),
        ("--pids-limit 9", "cat /sys/fs/cgroup/pids.max", "9\n"),
        ("--cap-drop ALL", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
        ("--oom-score-adj 5", "cat /proc/self/oom_score_adj", "5\n"),
    ] {
        let words = format!("run --rm {flags} busybox sh -c");
        let words: Vec<&str> = words.split(' ').chain([script]).collect();
        home.sandbox.hyperrun(words).code_is(0).stdout_is(expected).stderr_is("");
    }
    assert!(was_used(&template));
    home.run("echo $$").code_is(0).stdout_is("1\n");
    home.sandbox.does("run --rm --storage-opt size=64m busybox true").stderr_is("");
}

#[test]
fn without_templates_none_is_used() {
    let (home, template) = Home::with_image_template(Whose::Removed);
    home.sandbox.does("run --rm --no-template busybox true").stderr_is("");
    assert!(!was_used(&template));
    assert_eq!(home.explored(), 0);
}

/// Spoils one file of an image's template and sees what the next runs make of that.
#[track_caller]
fn is_set_aside(whose: Whose, file: &str, spoil: impl Fn(&File, u64)) {
    let (home, template) = Home::with_image_template(whose);
    let opened = File::options().read(true).write(true).open(template.join(file)).unwrap();
    spoil(&opened, opened.metadata().unwrap().len());
    let flags: &[&str] = if whose == Whose::Removed { &["--rm"] } else { &["--name", "kept"] };
    let words = [&["run"], flags, &["busybox", "sh", "-c", "echo hi > /x; cat /x; exit 7"]];
    home.sandbox
        .hyperrun(words.concat())
        .code_is(7)
        .stdout_is("hi\n")
        .stderr_has("template is broken: ")
        .stderr_has("; going on from another\n");
    assert!(!template.exists() && home.explored() == 1);
    if whose == Whose::Kept {
        home.sandbox.does("diff kept").stdout_is("A /x\n");
    }
}

#[test]
fn a_broken_one_is_set_aside_and_not_missed() {
    is_set_aside(Whose::Removed, "state", |file, bytes| file.set_len(bytes / 2).unwrap());
    is_set_aside(Whose::Kept, "memory", |file, _| file.write_all_at(&[1], 4096).unwrap());
    is_set_aside(Whose::Kept, "scratch", |file, bytes| file.set_len(bytes / 2).unwrap());
}

#[test]
fn a_writable_disk_that_a_look_does_not_see_through_is_found_by_a_check() {
    let (home, template) = Home::with_image_template(Whose::Removed);
    let scratch = File::options().write(true).open(template.join("scratch")).unwrap();
    let dated = scratch.metadata().unwrap().modified().unwrap();
    scratch.write_all_at(b"no", 0).unwrap();
    scratch.set_modified(dated).unwrap();
    let check = home.sandbox.hyperrun(["template", "check"]);
    check.code_is(1).stdout_has(": its writable disk has a wrong checksum\n2 templates: damaged\n");
    home.run("echo hi").code_is(0).stdout_is("hi\n").stderr_has("; going on from another\n");
    home.succeeds();
}

#[test]
fn an_image_takes_its_templates_along() {
    let (home, template) = Home::with_image_template(Whose::Removed);
    home.sandbox.does("rmi busybox");
    assert!(!template.exists());
    home.template();
    let gone = home.sandbox.hyperrun(["template", "build", "--image", "busybox"]);
    gone.fails_with(1, "busybox");
    assert_eq!(fs::read_dir(home.templates()).unwrap().count(), 3, "a template and two locks");
}
