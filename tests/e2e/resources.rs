//! What a container is given, and that nothing of it is left behind.

use hyperrun_tests::Sandbox;

#[test]
fn processors_and_memory_are_as_asked() {
    let script = "grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo";
    let out = Sandbox::with_images()
        .hyperrun(["run", "--rm", "--cpus", "4", "-m", "4G", "busybox", "sh", "-c", script]);
    out.code_is(0).stdout_has("4\nMemTotal:");
    let kib: u64 = out.stdout.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((3_800 * 1024..=4_096 * 1024).contains(&kib), "{kib} KiB");
}

#[test]
fn a_small_machine_runs_bash() {
    Sandbox::with_images()
        .hyperrun([
            "run",
            "--rm",
            "-m",
            "128M",
            "debian:bookworm",
            "bash",
            "-c",
            "echo ${BASH_VERSION%%.*}",
        ])
        .code_is(0)
        .stdout_is("5\n");
}

#[test]
fn limits_are_dockers() {
    Sandbox::with_images()
        .hyperrun([
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'",
        ])
        .code_is(0)
        .stdout_is("1048576\n65536\n");
}

#[test]
fn a_part_of_a_processor_is_a_quota() {
    let script = "grep -c ^processor /proc/cpuinfo; cat /sys/fs/cgroup/cpu.max";
    for (cpus, seen) in [("0.5", "1\n50000 100000\n"), ("1.5", "2\n150000 100000\n")] {
        Sandbox::with_images()
            .hyperrun(["run", "--rm", "--cpus", cpus, "busybox", "sh", "-c", script])
            .code_is(0)
            .stdout_is(seen);
    }
}

#[test]
fn a_debugged_run_shows_the_guests_kernel() {
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "--debug", "busybox", "true"])
        .code_is(0)
        .stdout_is("")
        .stderr_has("Linux version 6.12")
        .stderr_has("-hyperrun");
}

#[test]
fn timings_name_three_clocks() {
    let out = Sandbox::with_images().hyperrun(["run", "--rm", "--timings", "busybox", "echo", "x"]);
    out.code_is(0).stdout_is("x\n");
    for clock in ["machine running", "agent ready", "first byte"] {
        out.stderr_has(clock);
    }
}

#[test]
fn a_disk_is_as_large_as_asked() {
    let script = "df -m / | awk 'END { print $2 }'; dd if=/dev/zero of=/x bs=1M count=200 2>&1";
    let sandbox = Sandbox::with_images();
    for rm in [&["--rm"][..], &["--name", "small-disk"]] {
        let run = [&["run", "--storage-opt", "size=100m"], rm, &["busybox", "sh", "-c", script]];
        let out = sandbox.hyperrun(run.concat());
        out.code_is(1).stdout_has("No space left on device");
        let mib: u64 = out.stdout.lines().next().unwrap().parse().unwrap();
        assert!((70..=100).contains(&mib), "{mib} MiB");
    }
    // The next start finds the same disk.
    sandbox
        .hyperrun(["start", "-a", "small-disk"])
        .code_is(1)
        .stdout_has("No space left on device");
    sandbox.hyperrun(["rm", "small-disk"]).code_is(0);
}

#[test]
fn a_privileged_program_finds_nothing_behind_its_disk() {
    let script = "for at in 60 100 20000 9000000; do \
        dd if=/dev/vdb of=/dev/null bs=1M count=1 skip=$at iflag=direct 2>/dev/null \
        && echo $at yes || echo $at no; done";
    Sandbox::with_images()
        .hyperrun([
            "run",
            "--rm",
            "--privileged",
            "--storage-opt",
            "size=64m",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .code_is(0)
        .stdout_is("60 yes\n100 no\n20000 no\n9000000 no\n");
}
