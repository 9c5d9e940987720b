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
