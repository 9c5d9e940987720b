//! `commit`: images that run, are saved, and are taken by others.

use std::process::{Command, Stdio};

use hyperrun_tests::{Changes, Running, Sandbox};

use super::{Doing, Home};

#[test]
fn a_commit_runs_whatever_the_container_does() {
    let home = Home::new();
    let script = "echo new > /new; ln /new /home/twin; ln -s new /link; rm /etc/group; \
        rm -r /home; mkdir -m 750 /home; ln /new /home/twin; chown 7:8 /home; mkfifo /pipe";
    let check = "cat /new; [ ! -e /etc/group ]; stat -c '%a %u:%g' /home; readlink /link; \
        [ /new -ef /home/twin ]; [ -p /pipe ]; echo $COLOUR";
    for doing in Doing::RAN {
        home.container(script, doing);
        let commit = ["commit", "-m", "why", "-a", "me", "-c", "ENV COLOUR=green", "box", "made:1"];
        let out = home.sandbox.hyperrun(commit);
        let id = out.code_is(0).stderr_is("").stdout.trim().to_owned();
        assert!(id.starts_with("sha256:"), "{id}");
        home.run("made:1", check).stdout_is("new\n750 7:8\nnew\ngreen\n");
        let history = home.sandbox.does("history --format {{.Comment}} made:1");
        assert!(history.stdout.starts_with("why\n"), "{}", history.stdout);
        home.sandbox.does("inspect -f {{.Id}} made:1").stdout_is(&format!("{id}\n"));
        home.sandbox.does("inspect -f {{.State.Paused}} box").stdout_is(match doing {
            Doing::Paused => "true\n",
            _ => "false\n",
        });
        if doing == Doing::Running {
            // It goes on.
            home.exec("echo on").stdout_is("on\n");
            home.sandbox.does("commit --pause=false box").stdout_has("sha256:");
        }
    }
    home.container("true", Doing::Created);
    home.sandbox.does("commit box same");
    home.sandbox.does("run --rm same").stdout_is("");
    home.sandbox.does("system check");
}

#[test]
fn a_commit_is_saved_and_taken_by_skopeo() {
    let home = Home::new();
    home.container("echo one > /one", Doing::Exited);
    home.sandbox.does("commit box chain:1");
    home.container_of("chain:1", "echo two > /two; rm /one", Doing::Exited);
    home.sandbox.does("commit box chain:2");
    let archive = home.word("chain.tar");
    home.sandbox.hyperrun(["save", "-o", &archive, "chain:2"]).code_is(0);
    let skopeo = |words: &[&str]| {
        let mut command = Command::new("skopeo");
        let out = command.arg("--insecure-policy").args(words).stdin(Stdio::null()).output();
        let out = out.expect("skopeo is there");
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let told = skopeo(&["inspect", &format!("docker-archive:{archive}")]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["Layers"].as_array().unwrap().len(), 3);
    let copy = format!("oci-archive:{}", home.word("copy.tar"));
    skopeo(&["copy", "--quiet", &format!("docker-archive:{archive}"), &format!("{copy}:chain:3")]);
    home.sandbox.hyperrun(["load", "-i", &home.word("copy.tar")]).code_is(0);
    home.run("chain:2", "cat /two; [ ! -e /one ]").stdout_is("two\n");
}

#[test]
fn attributes_and_capabilities_are_kept() {
    let sandbox = Sandbox::with_images();
    let _ = sandbox.hyperrun(["rm", "-f", "attributes"]);
    // setxattr(2) and getxattr(2) by their numbers; a capability as linux/capability.h lays it out.
    let set = "cp /bin/true /tool; perl -e '($f, $n, $m) = qw(/tool security.capability user.note); \
        $v = pack(\"V5\", 0x2000001, 0x400, 0, 0, 0); $w = \"hello\"; \
        syscall(188, $f, $n, $v, 20, 0) == 0 or die $!; \
        syscall(188, $f, $m, $w, 5, 0) == 0 or die $!; \
        open F, \">/sparse\"; truncate F, 1 << 32; seek F, 1 << 31, 0; print F \"x\"'";
    let get = "perl -e '($f, $n, $m) = qw(/tool security.capability user.note); \
        $v = \"\\0\" x 20; $w = \"\\0\" x 5; \
        syscall(191, $f, $n, $v, 20) == 20 or die $!; print unpack(\"H*\", $v), \"\\n\"; \
        syscall(191, $f, $m, $w, 5) == 5 or die $!; print \"$w\\n\"'; \
        stat -c %s /sparse; tail -c +2147483649 /sparse | head -c 1";
    let words = ["run", "--name", "attributes", "debian:bookworm", "sh", "-ec", set];
    sandbox.hyperrun(words).code_is(0);
    sandbox.does("commit attributes with:attributes");
    let out = sandbox.hyperrun(["run", "--rm", "with:attributes", "sh", "-ec", get]);
    sandbox.does("rm attributes");
    sandbox.does("rmi with:attributes");
    out.code_is(0).stdout_is("0100000200040000000000000000000000000000\nhello\n4294967296\nx");
}

#[test]
#[ignore = "takes long: the soak runs it"]
fn a_killed_commit_leaves_no_image_and_no_halted_container() {
    let home = Home::new();
    let script = "n=0; trap 'n=$((n+1)); echo alive $n' USR1; dd if=/dev/urandom of=/big bs=1M count=8 2>/dev/null; \
        echo ready; while :; do sleep 1000 & wait; done";
    home.sandbox.hyperrun(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).code_is(0);
    let mut follower = Running::start(home.sandbox.command(["logs", "-f", "box"]));
    follower.wait_for("ready\n");
    let images = home.sandbox.does("images -q --no-trunc").stdout;
    let store = home.folder.path().join("state/images");
    for (times, changes) in (1..).zip([1, 4, 8, 12]) {
        let watch = Changes::of(&store);
        let mut command = home.sandbox.command(["commit", "box", "half"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        watch.wait(changes, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        home.sandbox.does("kill -s USR1 box");
        follower.wait_for(&format!("alive {times}\n"));
        let left = home.sandbox.does("images -q --no-trunc").stdout;
        if left != images {
            // It was whole already when it was killed.
            home.sandbox.does("run --rm half test -s /big");
            home.sandbox.does("rmi half");
        }
        home.sandbox.does("system check");
    }
    follower.kill();
    home.sandbox.does("kill box");
    for changes in [1, 6] {
        let watch = Changes::of(&store);
        let mut child =
            home.sandbox.command(["commit", "box", "half"]).stdin(Stdio::null()).spawn().unwrap();
        watch.wait(changes, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        home.sandbox.does("diff box").stdout_has("A /big\n");
        let _ = home.sandbox.hyperrun(["rmi", "half"]);
    }
    home.sandbox.does("rm box");
}
