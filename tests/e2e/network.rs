//! The network device under our kernel and a real tap.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use hyperrun_tests::{Output, initramfs};

/// The exit status of the example `boot` when the guest asked for a restart.
const REBOOT: i32 = 10;
const TAP: &str = "hyperruntest0";
/// What the guest sends: the numbers up to this one, a line each; some 4 MB.
const NUMBERS: u32 = 600_000;

/// An interface of the host that is gone with this value.
struct HostTap;

impl HostTap {
    fn new(address: &str) -> Self {
        ip(&["tuntap", "add", "dev", TAP, "mode", "tap"]);
        let tap = Self;
        ip(&["address", "add", address, "dev", TAP]);
        ip(&["link", "set", TAP, "up"]);
        tap
    }
}

impl Drop for HostTap {
    fn drop(&mut self) {
        ip(&["link", "delete", TAP]);
    }
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().unwrap();
    assert!(status.success(), "ip {words:?}");
}

fn numbers() -> Vec<u8> {
    let mut text = Vec::new();
    for number in 1..=NUMBERS {
        writeln!(text, "{number}").unwrap();
    }
    text
}

#[test]
fn a_guest_and_its_host_exchange_megabytes_through_a_tap() {
    let _tap = HostTap::new("192.0.2.1/24");
    let listener = TcpListener::bind("192.0.2.1:7").unwrap();
    // Hears all that the guest has to say, and says it again.
    let host = thread::spawn(move || {
        let (mut guest, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        guest.read_to_end(&mut heard).unwrap();
        guest.write_all(&heard).unwrap();
        guest.shutdown(Shutdown::Write).unwrap();
        heard
    });
    let example = std::env::var("HYPERRUN_TEST_BOOT").expect("scripts/test sets it");
    let hyperrun = std::env::var("HYPERRUN_BIN").expect("scripts/test sets it");
    let script = format!(
        "b=/bin/busybox\n\
         $b ifconfig eth0 192.0.2.2 netmask 255.255.255.0 up\n\
         $b ping -c 3 -i 0.2 192.0.2.1 | $b grep received\n\
         $b seq {NUMBERS} >/numbers\n\
         $b nc 192.0.2.1 7 </numbers >/heard\n\
         $b cmp /numbers /heard && $b echo heard all of it\n\
         $b reboot -f"
    );
    let file = initramfs(&script);
    let mut command = Command::new(example);
    command.arg("--kernel").arg(Path::new(&hyperrun).with_file_name("vmlinux"));
    command.arg("--initramfs").arg(file.path());
    command.args(["--tap", TAP, "--append", "quiet"]);
    let told = format!("{command:?}");
    let sent = numbers();
    Output::new(told, command.output().unwrap())
        .code_is(REBOOT)
        .stdout_has("3 packets received")
        .stdout_has("heard all of it");
    assert!(host.join().unwrap() == sent, "the host has heard something else");
}
