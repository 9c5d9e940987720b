//! The network device under our kernel and a real tap, and what the agent makes of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use hyperrun_tests::guest::{Guest, read_all};
use hyperrun_tests::{Output, initramfs};
use protocol::Interface;

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

#[test]
fn the_agent_gives_a_container_the_address_it_is_told() {
    let _tap = HostTap::new("198.51.100.129/25");
    let listener = TcpListener::bind("198.51.100.129:7").unwrap();
    let host = thread::spawn(move || {
        let (mut guest, peer) = listener.accept().unwrap();
        guest.write_all(b"the host greets you\n").unwrap();
        peer.ip().to_string()
    });
    let interface = Interface {
        mac: [2, 0x68, 0x72, 0, 0, 7],
        address: "198.51.100.200".parse().unwrap(),
        prefix_bits: 25,
        gateway: Some("198.51.100.129".parse().unwrap()),
        mtu: 1400,
    };
    let script = "cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu\n\
                  ip -4 -o address show dev eth0 | sed 's/.*inet //; s/ .*//'\n\
                  ip route | grep default\n\
                  ip -6 -o address show dev eth0 | wc -l\n\
                  nc 198.51.100.129 7 </dev/null";
    let tap = vmm::open_tap(TAP).unwrap();
    let (_guest, output) = Guest::with_network(script, Some(tap), Some(interface));
    assert_eq!(
        read_all(output),
        "02:68:72:00:00:07\n1400\n198.51.100.200/25\n\
         default via 198.51.100.129 dev eth0 \n0\nthe host greets you\n"
    );
    assert_eq!(host.join().unwrap(), "198.51.100.200");
}

#[test]
fn a_container_without_a_network_sees_the_loopback_alone() {
    let script = "ls /sys/class/net; ping -c 1 127.0.0.1 | grep -c 'bytes from'";
    let (_guest, output) = Guest::with_network(script, None, None);
    assert_eq!(read_all(output), "lo\n1\n");
}
