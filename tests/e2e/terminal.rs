//! Containers and terminals.

use hyperrun_tests::Sandbox;

#[test]
fn a_terminal_needs_a_terminal() {
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "-it", "busybox", "true"])
        .code_is(1)
        .stderr_has("the input device is not a TTY");
}
