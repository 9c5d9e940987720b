//! The program in the container: exit status, environment, user, folder, entrypoint, names.

use hyperrun_tests::Sandbox;

fn busybox(arguments: &[&str]) -> hyperrun_tests::Output {
    Sandbox::with_images().hyperrun([&["run", "--rm"], arguments].concat())
}

#[test]
fn the_exit_status_is_the_programs_own() {
    busybox(&["busybox", "sh", "-c", "exit 7"]).code_is(7).stdout_is("").stderr_is("");
    busybox(&["busybox", "true"]).code_is(0);
}

#[test]
fn a_signal_gives_128_and_its_number() {
    busybox(&["busybox", "sh", "-c", "kill -TERM $$; sleep 60 & kill -KILL $!; wait $!"])
        .code_is(137);
    // A fault ends even the first process of a namespace, which signals from within do not.
    busybox(&["debian:bookworm", "perl", "-e", "unpack 'p', pack 'Q', 8"]).code_is(139);
}

#[test]
fn a_missing_program_gives_127() {
    busybox(&["busybox", "no-such-program"]).fails_with(127, "no-such-program");
    busybox(&["busybox", "/no/such/program"]).fails_with(127, "/no/such/program");
}

#[test]
fn a_program_that_cannot_be_executed_gives_126() {
    busybox(&["busybox", "/etc/passwd"]).fails_with(126, "/etc/passwd");
    busybox(&["busybox", "/etc"]).fails_with(126, "/etc");
}

#[test]
fn a_container_has_its_own_kernel() {
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let out = busybox(&["busybox", "uname", "-r"]);
    out.code_is(0);
    let release = out.stdout.trim();
    assert!(release.ends_with("-hyperrun"), "{release}");
    assert_ne!(release, host.trim());
}

#[test]
fn a_debian_image_runs() {
    busybox(&["debian:bookworm", "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"])
        .code_is(0)
        .stdout_is("bookworm\n");
}

#[test]
fn the_environment_is_the_images_and_then_the_users() {
    busybox(&[
        "-e",
        "COLOUR=green",
        "-e",
        "EMPTY=",
        "busybox",
        "sh",
        "-c",
        "echo $COLOUR,$EMPTY,$HOME,$PATH",
    ])
    .code_is(0)
    .stdout_is("green,,/root,/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    Sandbox::with_images()
        .env("FROM_HOST", "it came")
        .hyperrun(["run", "--rm", "-e", "FROM_HOST", "-e", "NOT_THERE", "busybox", "env"])
        .code_is(0)
        .stdout_has("FROM_HOST=it came\n");
}

#[test]
fn host_names_follow_image_name_and_flag() {
    let out = busybox(&["busybox", "hostname"]);
    let digits = out.code_is(0).stdout.trim().strip_prefix("busybox-latest-").unwrap_or_default();
    assert!(digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit()), "{}", out.stdout);
    busybox(&[
        "--hostname",
        "finch",
        "busybox",
        "sh",
        "-c",
        "hostname; echo $HOSTNAME; grep -c finch /etc/hosts",
    ])
    .stdout_is("finch\nfinch\n1\n");
    busybox(&["--name", "robin", "busybox", "hostname"]).stdout_is("robin\n");
}

#[test]
fn the_working_directory_is_made_when_it_is_missing() {
    busybox(&["-w", "/made/for/this", "busybox", "pwd"]).code_is(0).stdout_is("/made/for/this\n");
    busybox(&["-w", "relative", "busybox", "pwd"]).fails_with(125, "relative");
}

#[test]
fn users_and_groups_come_from_the_image() {
    busybox(&["-u", "daemon", "debian:bookworm", "id"])
        .stdout_is("uid=1(daemon) gid=1(daemon) groups=1(daemon)\n");
    busybox(&[
        "-u",
        "1234:5678",
        "debian:bookworm",
        "sh",
        "-c",
        "id -u; id -g; grep CapEff /proc/self/status",
    ])
    .stdout_is("1234\n5678\nCapEff:\t0000000000000000\n");
    busybox(&["-u", "nobody:daemon", "debian:bookworm", "sh", "-c", "id -un; id -gn"])
        .stdout_is("nobody\ndaemon\n");
    busybox(&["-u", "mallory", "busybox", "true"]).fails_with(125, "unable to find user mallory");
    busybox(&["-u", "daemon:bees", "busybox", "true"]).fails_with(125, "unable to find group bees");
}

#[test]
fn an_entrypoint_replaces_the_images() {
    busybox(&["--entrypoint", "echo", "busybox", "a", "b"]).code_is(0).stdout_is("a b\n");
}

#[test]
fn the_program_is_process_one_of_its_own_namespace() {
    busybox(&["busybox", "sh", "-c", "echo $$ /proc/[0-9]*"]).stdout_is("1 /proc/1\n");
}

#[test]
fn a_read_only_root_refuses_writes() {
    busybox(&[
        "--read-only",
        "busybox",
        "sh",
        "-c",
        "echo x > /file; echo $?; echo y > /dev/shm/file && cat /dev/shm/file",
    ])
    .stdout_is("1\ny\n")
    .stderr_has("Read-only file system");
}

#[test]
fn what_a_container_writes_is_its_own() {
    busybox(&["busybox", "sh", "-c", "echo mine > /etc/motd && cat /etc/motd"]).stdout_is("mine\n");
    busybox(&["busybox", "test", "-e", "/etc/motd"]).code_is(1);
}
