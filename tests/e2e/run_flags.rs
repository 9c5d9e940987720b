//! What the flags of `run` do inside of a container.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::Write;

use hyperrun_tests::archive::{self, Layer, docker_archive_of, header};
use hyperrun_tests::{Output, Running, Sandbox};

/// A script in busybox, with flags separated by spaces.
fn sh(flags: &str, script: &str) -> Output {
    run(flags, "busybox", script)
}

fn run(flags: &str, image: &str, script: &str) -> Output {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    Sandbox::with_images()
        .hyperrun([&["run", "--rm"], &flags[..], &[image, "sh", "-c", script]].concat())
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn an_init_is_process_one_and_ends_as_its_program() {
    sh("--init", "read name < /proc/1/comm; echo $name $$; exit 7")
        .code_is(7)
        .stdout_is("init 2\n");
    sh("--init", "kill -KILL $$").code_is(137);
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "--init", "busybox", "no-such-program"])
        .fails_with(127, "no-such-program");
}

#[test]
fn an_init_passes_signals_on_and_collects_the_dead() {
    let mut command =
        Sandbox::with_images().command(["run", "--rm", "--init", "busybox", "sh", "-c"]);
    // The orphan ends while the shell sleeps; a zombie would still be in /proc.
    command.arg(
        "(sh -c 'echo $$ > /orphan; exit' &); while ! [ -s /orphan ]; do :; done; \
        read pid < /orphan; while [ -e /proc/$pid ]; do :; done; echo ready; exec sleep 1000",
    );
    let mut running = Running::start(command);
    running.wait_for("ready\n");
    running.signal(rustix::process::Signal::TERM);
    running.finish().code_is(143);
}

#[test]
fn an_env_file_comes_before_single_variables() {
    let variables = file("# a comment\nA=from file\nB=b\nFROM_HOST\n");
    let path = variables.path().to_str().unwrap();
    Sandbox::with_images()
        .env("FROM_HOST", "it came")
        .hyperrun([
            "run",
            "--rm",
            "--env-file",
            path,
            "-e",
            "B=flag",
            "busybox",
            "sh",
            "-c",
            "echo $A,$B,$FROM_HOST",
        ])
        .code_is(0)
        .stdout_is("from file,flag,it came\n");
    let bad = file("A=1\nB C=2\n");
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "--env-file", bad.path().to_str().unwrap(), "busybox", "true"])
        .fails_with(125, "line 2")
        .stderr_has("hint: ");
}

#[test]
fn memory_file_systems_are_mounted_as_asked() {
    sh(
        "--tmpfs /run --tmpfs /made/here:size=64k,mode=700,uid=7,gid=8,exec --tmpfs /dev/shm:ro",
        "grep -E ' /(run|made/here|dev/shm) ' /proc/mounts | cut -d' ' -f2-4 | sort; stat -c '%a %u %g' /made/here /run",
    )
    .code_is(0)
    .stdout_has("/made/here tmpfs rw,nosuid,nodev,relatime,size=64k,mode=700,uid=7,gid=8")
    .stdout_has("/run tmpfs rw,nosuid,nodev,noexec,relatime")
    .stdout_has("/dev/shm tmpfs ro,")
    .stdout_has("700 7 8\n1777 0 0\n");
    sh("--read-only --tmpfs /run", "echo x > /run/x && cat /run/x").code_is(0).stdout_is("x\n");
}

#[test]
fn sizes_and_limits_are_as_asked() {
    sh(
        "--shm-size 1m --ulimit nofile=100:200 --ulimit core=0 --pids-limit 50 \
         --memory-reservation 8m --cpu-shares 512 --oom-score-adj 300",
        "df -k /dev/shm | tail -1 | awk '{print $2}'; ulimit -Sn; ulimit -Hn; ulimit -c; \
         cd /sys/fs/cgroup; cat pids.max memory.low cpu.weight /proc/self/oom_score_adj",
    )
    .code_is(0)
    .stdout_is("1024\n100\n200\n0\n50\n8388608\n20\n300\n");
}

#[test]
fn more_processes_than_allowed_are_not_made() {
    sh("--pids-limit 5", "for n in 1 2 3 4 5 6 7 8; do sleep 9 & done; echo made")
        .stderr_has("can't fork");
}

#[test]
fn a_limit_below_the_smallest_machine_is_the_containers() {
    sh("-m 4MB", "cat /sys/fs/cgroup/memory.max").code_is(0).stdout_is("4194304\n");
    run(
        "-m 16m",
        "debian:bookworm",
        "exec perl -e '$n = 30_000_000; $x = \"x\" x $n; print length $x'",
    )
    .code_is(137)
    .stdout_is("");
    sh("-m 3m", "true").fails_with(125, "minimum memory limit allowed is 4MB");
}

#[test]
fn kernel_settings_are_made() {
    sh(
        "--sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=4096 --sysctl vm.max_map_count=262144",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/vm/max_map_count",
    )
    .code_is(0)
    .stdout_is("1\n4096\n262144\n");
    sh("--sysctl no.such.setting=1", "true").fails_with(125, "no.such.setting");
}

const EFFECTIVE: &str = "grep CapEff /proc/self/status | cut -f2";

#[test]
fn capabilities_are_given_and_taken() {
    sh("--cap-drop ALL", EFFECTIVE).stdout_is("0000000000000000\n");
    sh("--cap-drop all --cap-add CAP_CHOWN", EFFECTIVE).stdout_is("0000000000000001\n");
    sh("--cap-add NET_ADMIN", EFFECTIVE).stdout_is("00000000a80435fb\n");
    sh("--cap-add ALL --cap-drop SYS_ADMIN", EFFECTIVE).stdout_is("000001ffffdfffff\n");
    sh("--cap-add NET_ADMIN", "ip link set lo down && echo down").stdout_is("down\n");
}

#[test]
fn a_privileged_container_has_its_machine() {
    sh("--privileged", EFFECTIVE).stdout_is("000001ffffffffff\n");
    sh(
        "--privileged",
        "mkdir /m && mount -t tmpfs none /m && echo mounted; echo x > /proc/sys/kernel/hostname && hostname; \
         head -c 4 /dev/vda | wc -c; mkdir /sys/fs/cgroup/mine && echo made; \
         grep -c ' /proc/[a-z]' /proc/mounts",
    )
    .stdout_is("mounted\nx\n4\nmade\n0\n");
    sh("--cap-add ALL", "mknod /disk b 254 0; head -c 4 /disk").code_is(1).stdout_is("");
}

#[test]
fn privileges_are_not_gained() {
    sh("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status | cut -f2")
        .stdout_is("1\n");
    run("--security-opt no-new-privileges -u daemon", "debian:bookworm", "su -c id </dev/null")
        .stdout_is("");
}

#[test]
fn system_calls_are_filtered() {
    let profile = file(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    let path = profile.path().to_str().unwrap();
    for flags in ["", " --security-opt no-new-privileges", " --init"] {
        let flags = format!("--security-opt seccomp={path}{flags}");
        sh(&flags, "mkdir /x; kill -0 $$ && echo may; kill -USR2 $$ || echo may not")
            .stdout_is("may\nmay not\n")
            .stderr_has("Operation not supported");
    }
    let bad = file("{");
    Sandbox::with_images()
        .hyperrun([
            "run",
            "--rm",
            "--security-opt",
            &format!("seccomp={}", bad.path().display()),
            "busybox",
            "true",
        ])
        .fails_with(125, "decoding seccomp profile failed");
}

#[test]
fn groups_are_added() {
    run("-u daemon --group-add audio --group-add 4242", "debian:bookworm", "id -G")
        .code_is(0)
        .stdout_is("1 29 4242\n");
    sh("--group-add bees", "true").fails_with(125, "unable to find group bees");
}

#[test]
fn names_are_added() {
    sh(
        "--add-host db:192.0.2.7 --add-host six:2001:db8::7 --domainname example.org",
        "tail -3 /etc/hosts | head -2; cat /proc/sys/kernel/domainname",
    )
    .stdout_is("192.0.2.7\tdb\n2001:db8::7\tsix\nexample.org\n");
}

#[test]
fn namespaces_of_others_are_refused() {
    for flag in ["--pid", "--ipc", "--uts"] {
        Sandbox::with_images()
            .hyperrun(["run", "--rm", flag, "host", "busybox", "true"])
            .code_is(125)
            .stderr_has("a container is a machine of its own");
    }
}

/// An image of busybox with an empty volume, one with a file, and one that is not there yet.
fn image_with_volumes() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut program = header(tar::EntryType::Regular, busybox.len() as u64);
    program.set_mode(0o755);
    let mut private = header(tar::EntryType::Directory, 0);
    private.set_mode(0o700);
    private.set_uid(33);
    let layers = [Layer::new()
        .dir("bin")
        .entry("bin/busybox", program, &busybox)
        .symlink("bin/sh", "busybox")
        .entry("empty", private, b"")
        .dir("full")
        .file("full/file", b"image\n")
        .symlink("link", "full")
        .finish()];
    let volumes = r#""Volumes":{"/empty":{},"/full":{},"/missing/one":{}},"Env":["#;
    let config = String::from_utf8(archive::config(&layers)).unwrap();
    docker_archive_of("volumes", config.replace("\"Env\":[", volumes).as_bytes(), &layers)
}

#[test]
fn the_images_volumes_lie_beside_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(folder.path());
    sandbox.hyperrun_with_input(["load"], &image_with_volumes()).code_is(0);
    let script = "busybox stat -c '%a %u' /empty /full; busybox cat /full/file; \
        for one in empty full missing/one; do echo $one > /$one/mine && busybox cat /$one/mine; done; \
        busybox rm /full/file; busybox ls /link; \
        busybox grep -cE ' /(empty|full|missing/one) ' /proc/mounts";
    sandbox
        .hyperrun(["run", "--rm", "--read-only", "volumes", "sh", "-c", script])
        .code_is(0)
        .stdout_is("700 33\n755 0\nimage\nempty\nfull\nmissing/one\nmine\n3\n");
}
