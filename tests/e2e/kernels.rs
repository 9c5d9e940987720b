//! The machine under a kernel that is not ours: loader and boot protocol are tied to no kernel.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::Command;

use hyperrun_tests::{Output, initramfs};

/// The exit status of the example `boot` when the guest asked for a restart.
const REBOOT: i32 = 10;

#[test]
fn debians_cloud_kernel_boots_untouched() {
    let [example, kernel] = ["HYPERRUN_TEST_BOOT", "HYPERRUN_TEST_CLOUD_KERNEL"]
        .map(|name| std::env::var(name).expect("scripts/test sets it"));
    let file = initramfs("/bin/busybox echo the init of this test\n/bin/busybox reboot -f");
    let mut command = Command::new(example);
    command.args(["--kernel", &kernel, "--initramfs"]).arg(file.path());
    // It reads no MP table, and KVM may forget a tick of its timer while it sets up its APIC (docs/lab.md).
    command.args(["--memory", "256", "--append", "quiet nolapic"]);
    let told = format!("{command:?}");
    Output::new(told, command.output().unwrap())
        .code_is(REBOOT)
        .stdout_has("the init of this test\r\n");
}
