//! Limits that are changed, and those of the host: what a guest and its machine are held to.

use std::fs;

use hyperrun_tests::Sandbox;

/// A container's own view of its limits.
const LIMITS: &str = "cd /sys/fs/cgroup && cat memory.max cpu.max cpu.weight pids.max";

/// Containers of a test, gone with it.
struct Home {
    sandbox: Sandbox,
    _root: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        Self { sandbox: Sandbox::beside_others(root.path()), _root: root }
    }

    #[track_caller]
    fn run(&self, flags: &[&str]) {
        let line = [&["run", "-d", "--name", "moved"], flags, &["busybox", "sleep", "1000"]];
        self.sandbox.hyperrun(line.concat()).code_is(0);
    }

    #[track_caller]
    fn sees(&self, script: &str, wanted: &str) {
        let out = self.sandbox.hyperrun(["exec", "moved", "sh", "-c", script]);
        out.code_is(0).stdout_is(wanted);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.sandbox.hyperrun(["rm", "-f", "moved"]);
    }
}

#[test]
fn limits_of_what_runs_move_within_its_machine() {
    let home = Home::new();
    home.run(&["-m", "256m", "--cpus", "1"]);
    home.sees(LIMITS, "max\nmax 100000\n100\nmax\n");
    let line = "update -m 100m --cpus 0.5 -c 512 --pids-limit 50 --restart on-failure:2 moved";
    home.sandbox.does(line).stdout_is("moved\n");
    home.sees(LIMITS, "104857600\n50000 100000\n20\n50\n");
    let format = "{{.HostConfig.Memory}} {{.HostConfig.MachineMemory}} {{.HostConfig.PidsLimit}} \
        {{.HostConfig.RestartPolicy.Name}}";
    home.sandbox
        .hyperrun(["inspect", "-f", format, "moved"])
        .stdout_is("104857600 268435456 50 on-failure\n");
    for (line, words) in [
        ("update -m 1g moved", "its machine has 256m, and more cannot be given"),
        ("update --cpus 2 moved", "its machine has 1 CPUs, and more cannot be given"),
        ("update --cpuset-cpus 0 moved", "cannot move to other CPUs while it runs"),
        ("update --memory-reservation 1g moved", "can not be less than memory reservation"),
        ("update moved", "you must provide one or more flags"),
        ("update -m 64m nobody", "no such container: nobody"),
    ] {
        home.sandbox.hyperrun(line.split(' ')).fails_with(1, words);
    }
    // What was refused has changed nothing; what is taken away is gone.
    home.sees(LIMITS, "104857600\n50000 100000\n20\n50\n");
    home.sandbox.does("update -m 256m --cpus 1 -c 0 --pids-limit -1 --restart no moved");
    home.sees(LIMITS, "max\nmax 100000\n100\nmax\n");
}

#[test]
fn what_does_not_run_gets_another_machine() {
    let home = Home::new();
    home.run(&["-m", "128m"]);
    home.sandbox.does("stop -t 0 moved");
    home.sandbox.does("update -m 256m --cpus 0.25 --pids-limit 7 moved").stdout_is("moved\n");
    home.sandbox.does("start moved");
    home.sees(LIMITS, "max\n25000 100000\n100\n7\n");
    let script = "awk '/MemTotal/ { print ($2 > 200000 && $2 < 262144) }' /proc/meminfo";
    home.sees(script, "1\n");
}

#[test]
fn a_machine_keeps_to_the_cpus_it_was_given() {
    let home = Home::new();
    home.run(&["--cpuset-cpus", "1"]);
    let pid = home.sandbox.does("inspect -f {{.State.Pid}} moved").stdout.trim().to_owned();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let machine = children.trim();
    let tasks = fs::read_dir(format!("/proc/{machine}/task")).unwrap();
    let mut threads = 0;
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t1\n"), "{status}");
        threads += 1;
    }
    assert!(threads > 2, "{threads} threads");
    home.sandbox
        .hyperrun(["run", "--cpuset-cpus", "0,77", "busybox", "true"])
        .fails_with(125, "requested CPUs are not available - requested 0,77, available: 0");
}

#[test]
fn a_share_of_a_cpu_counts_for_the_whole_machine() {
    let home = Home::new();
    home.run(&["--cpus", "0.5"]);
    let id = home.sandbox.does("inspect -f {{.Id}} moved").stdout.trim().to_owned();
    let folder = std::path::Path::new("/sys/fs/cgroup/hyperrun").join(id);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("cpu.max"), "50000 100000\n");
    home.sandbox.does("update --cpus 0.25 -c 512 moved");
    assert_eq!((read("cpu.max"), read("cpu.weight")), ("25000 100000\n".into(), "20\n".into()));
    // The machine is the first; what KVM's own threads do for it counts as well.
    let machine = read("cgroup.procs").lines().next().unwrap_or_default().to_owned();
    let comm = fs::read_to_string(format!("/proc/{machine}/cgroup")).unwrap();
    assert!(comm.contains("hyperrun"), "{comm}");
}

#[test]
fn a_disk_is_no_faster_than_it_may() {
    let script = "time -f %e dd if=/dev/zero of=/x bs=64k count=32 oflag=direct 2>&1 | tail -1";
    let out = Sandbox::with_images().hyperrun([
        "run",
        "--rm",
        "--device-write-bps",
        "/dev/sda:1mb",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let seconds: f64 = out.code_is(0).stdout.trim().parse().unwrap();
    assert!(seconds >= 1.8, "2 MiB at 1 MiB/s took {seconds} s");
}

#[test]
fn a_machines_kernel_can_be_heard() {
    let home = Home::new();
    home.run(&[]);
    let log = home.sandbox.does("logs --kernel moved");
    log.stdout_has("Linux version 6.12").stdout_has("-hyperrun");
    assert!(log.stdout.starts_with("[    0.000000] "), "{}", log.stdout);
    home.sandbox.hyperrun(["logs", "--kernel", "-f", "moved"]).code_is(125);
    home.sandbox.does("stop -t 0 moved");
    home.sandbox
        .hyperrun(["logs", "--kernel", "moved"])
        .fails_with(1, "container moved is not running");
}

#[test]
fn processes_are_shown_as_ps_would() {
    let home = Home::new();
    home.run(&[]);
    let out = home.sandbox.does("top moved");
    let words: Vec<_> = out.stdout.split_whitespace().collect();
    assert_eq!(words[..8], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(words[8..11], ["root", "1", "0"]);
    home.sandbox.does("top moved aux").stdout_has("%CPU").stdout_has("sleep 1000");
    home.sandbox.does("top moved -eo pid,user=WHO").stdout_is("PID       WHO\n1         root\n");
    home.sandbox.hyperrun(["top", "moved", "-Z"]).fails_with(1, "unknown ps option: -Z");
}
