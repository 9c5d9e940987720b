//! Wrong words and wrong files: a clear error with the thing's name, and a hint.

use hyperrun_tests::Sandbox;

#[test]
fn an_unknown_image_is_named() {
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "no-such-image:tag", "true"])
        .fails_with(125, "no-such-image:tag")
        .stderr_has("hint: ");
}

#[test]
fn sizes_out_of_range_are_refused() {
    for size in ["1m", "0", "2t", "-5m", "lots", "1.2.3g", ""] {
        Sandbox::with_images()
            .hyperrun(["run", "--rm", "-m", size, "busybox", "true"])
            .code_is(125);
    }
    for cpus in ["0", "0.001", "33", "-1", "many", "nan", "inf"] {
        let flag = format!("--cpus={cpus}");
        Sandbox::with_images().hyperrun(["run", "--rm", &flag, "busybox", "true"]).code_is(125);
    }
}

#[test]
fn more_processors_than_the_host_has_is_a_warning() {
    let cpus = std::thread::available_parallelism().unwrap().get() + 1;
    // What comes after the warning is not this test's business, so no machine is started.
    Sandbox::with_images()
        .env("HYPERRUN_KERNEL", "/no/such/vmlinux")
        .hyperrun(["run", "--rm", "--cpus", &cpus.to_string(), "busybox", "nproc"])
        .code_is(125)
        .stderr_has(&format!("warning: --cpus {cpus}"));
}

#[test]
fn a_missing_kernel_is_named() {
    Sandbox::with_images()
        .env("HYPERRUN_KERNEL", "/no/such/vmlinux")
        .hyperrun(["run", "--rm", "busybox", "true"])
        .fails_with(125, "/no/such/vmlinux");
}

#[test]
fn a_kernel_that_is_none_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "not a kernel").unwrap();
    Sandbox::with_images()
        .env("HYPERRUN_KERNEL", file.path().to_str().unwrap())
        .hyperrun(["run", "--rm", "busybox", "true"])
        .code_is(125)
        .stderr_has("error: ");
}

#[test]
fn the_doctor_finds_this_machine_fit() {
    Sandbox::with_images().hyperrun(["doctor", "--json"]).code_is(0).stdout_has("\"kvm\"");
}
