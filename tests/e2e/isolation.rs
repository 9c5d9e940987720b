//! Root in a container can neither see, stop nor leave what is around it.

use hyperrun_tests::{Output, Sandbox};

fn sh(script: &str) -> Output {
    Sandbox::with_images().hyperrun(["run", "--rm", "debian:bookworm", "sh", "-c", script])
}

#[test]
fn the_disks_cannot_be_opened() {
    for disk in ["254 0", "254 16", "253 0", "252 0", "251 0"] {
        sh(&format!("mknod /disk b {disk} && head -c 1 /disk")).code_is(1).stdout_is("");
    }
    sh("ls /dev").stdout_is(
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n",
    );
}

#[test]
fn devices_of_the_container_work() {
    sh("head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 4 /dev/urandom | wc -c; echo y > /dev/full || echo full")
        .stdout_is("3\n4\nfull\n");
}

#[test]
fn capabilities_are_dockers() {
    sh("grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status").stdout_is(
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n",
    );
}

#[test]
fn the_machine_cannot_be_touched() {
    sh("mount -t tmpfs none /mnt").code_is(32);
    sh("echo b > /proc/sysrq-trigger").code_is(2);
    sh("echo x > /proc/sys/kernel/hostname").code_is(2);
    sh("cat /proc/kcore | head -c 1 | wc -c").stdout_is("0\n");
    sh("cat /dev/mem").code_is(1);
    sh("hostname elsewhere").code_is(1);
}

#[test]
fn only_the_containers_own_processes_are_seen() {
    sh("for one in /proc/[0-9]*; do read name < $one/comm; echo $one $name; done")
        .stdout_is("/proc/1 sh\n");
    sh("kill -KILL -1; echo alive").stdout_is("alive\n");
}

#[test]
fn power_off_in_the_container_is_not_the_machines() {
    sh("kill -TERM 1; echo alive").stdout_is("alive\n");
}
