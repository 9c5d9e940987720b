//! The network device under our kernel and a real tap, and what the agent makes of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use hyperrun_tests::guest::{Beginning, Guest, adoption, ask, exec_to_end, process, read_all};
use hyperrun_tests::{Output, initramfs};
use protocol::{Adoption, Answer, Interface, MmioDevice, Question};
use vmm::config::{NetBackend, NetConfig, SnapshotFiles};
use vmm::event::InterfaceOutcome;
use vmm::order::Order;

/// The exit status of the example `boot` when the guest asked for a restart.
const REBOOT: i32 = 10;
const TAP: &str = "hyperruntest0";
/// That of a copy.
const OTHER_TAP: &str = "hyperruntest1";
/// What the guest sends: the numbers up to this one, a line each; some 4 MB.
const NUMBERS: u32 = 600_000;
/// The same, for what need not be much.
const FEW: u32 = 50_000;

/// An interface of the host that is gone with this value.
struct HostTap(&'static str);

impl HostTap {
    fn new(address: &str) -> Self {
        Self::named(TAP, address)
    }

    fn named(name: &'static str, address: &str) -> Self {
        ip(&["tuntap", "add", "dev", name, "mode", "tap"]);
        let tap = Self(name);
        ip(&["address", "add", address, "dev", name]);
        ip(&["link", "set", name, "up"]);
        tap
    }
}

impl Drop for HostTap {
    fn drop(&mut self) {
        ip(&["link", "delete", self.0]);
    }
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().unwrap();
    assert!(status.success(), "ip {words:?}");
}

fn numbers(last: u32) -> Vec<u8> {
    let mut text = Vec::new();
    for number in 1..=last {
        writeln!(text, "{number}").unwrap();
    }
    text
}

#[test]
fn a_guest_and_its_host_exchange_megabytes_through_a_tap() {
    exchange_megabytes("--tap");
}

#[test]
fn a_guest_and_its_host_exchange_megabytes_by_the_hosts_kernel() {
    exchange_megabytes("--vhost");
}

/// Boots a guest with this option of the example `boot` for the tap.
fn exchange_megabytes(option: &str) {
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
    command.args([option, TAP, "--append", "quiet"]);
    let told = format!("{command:?}");
    let sent = numbers(NUMBERS);
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
        six: None,
        mtu: 1400,
        offloads: true,
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

/// What a program of the host says to whoever connects, once.
fn greet(address: &'static str) -> thread::JoinHandle<()> {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello\n").unwrap())
}

fn second_interface() -> Interface {
    Interface {
        mac: [2, 0x42, 203, 0, 113, 2],
        address: "203.0.113.2".parse().unwrap(),
        prefix_bits: 24,
        gateway: None,
        six: None,
        mtu: 1500,
        offloads: true,
    }
}

fn plug(guest: &Guest, interface: u8) -> InterfaceOutcome {
    let backend = NetBackend::Tap(vmm::open_tap(TAP).unwrap());
    guest.order(Order::Plug { interface, net: NetConfig { backend, ..NetConfig::default() } })
}

#[test]
fn interfaces_come_and_go_while_a_container_runs() {
    let _tap = HostTap::new("203.0.113.1/24");
    let script = "ls /sys/class/net; exec sleep 1000";
    let (mut guest, mut output) = Guest::with_network(script, None, None);
    let mut begun = [0; 3];
    output.read_exact(&mut begun).unwrap();
    assert_eq!(begun, *b"lo\n");
    let asked = second_interface();
    let look = "cat /sys/class/net/eth*/address; nc 203.0.113.1 7 </dev/null 2>&1";
    for round in 0..2 {
        let place = 2 - round;
        let plugged = plug(&guest, place);
        let InterfaceOutcome::Plugged { device: index } = plugged else { panic!("{plugged:?}") };
        let device = MmioDevice { index };
        let connected = ask(&mut guest, Question::Connect { device, interface: asked });
        assert_eq!(connected, Answer::Done);
        let again = guest.order(Order::Plug { interface: place, net: NetConfig::default() });
        assert!(matches!(again, InterfaceOutcome::Refused { .. }), "{again:?}");
        let host = greet("203.0.113.1:7");
        let (text, _) = exec_to_end(&mut guest, 1 + 2 * u32::from(round), process(look));
        assert_eq!(text, "02:42:cb:00:71:02\nhello\n");
        host.join().unwrap();
        assert_eq!(ask(&mut guest, Question::Disconnect { device }), Answer::Done);
        let unplugged = guest.order(Order::Unplug { interface: place });
        assert_eq!(unplugged, InterfaceOutcome::Unplugged);
        let seen = exec_to_end(&mut guest, 2 + 2 * u32::from(round), process("ls /sys/class/net"));
        assert_eq!(seen.0, "lo\n");
        // The agent finds nothing where nothing is plugged.
        let nothing = ask(&mut guest, Question::Connect { device, interface: asked });
        assert!(matches!(nothing, Answer::Failed { .. }), "{nothing:?}");
    }
    for interface in [1, 3] {
        let refused = guest.order(Order::Unplug { interface });
        assert!(matches!(refused, InterfaceOutcome::Refused { .. }), "{refused:?}");
    }
}

#[test]
fn a_driver_that_holds_on_to_its_device_loses_it() {
    let _tap = HostTap::new("203.0.113.1/24");
    let (mut guest, mut output) = Guest::with_network("echo; exec sleep 1000", None, None);
    output.read_exact(&mut [0]).unwrap();
    let InterfaceOutcome::Plugged { device: index } = plug(&guest, 1) else { panic!("no") };
    let asked = second_interface();
    let device = MmioDevice { index };
    let connected = ask(&mut guest, Question::Connect { device, interface: asked });
    assert_eq!(connected, Answer::Done);
    assert_eq!(guest.order(Order::Unplug { interface: 1 }), InterfaceOutcome::Unplugged);
    // Its tap is anybody's, and the guest lives.
    drop(vmm::open_tap(TAP).unwrap());
    let (text, _) = exec_to_end(&mut guest, 1, process("echo alive"));
    assert_eq!(text, "alive\n");
}

/// A saved machine's files, in a folder.
fn files(folder: &Path) -> SnapshotFiles {
    let open = |name| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(folder.join(name)).unwrap()
    };
    SnapshotFiles::new(open("state"), open("memory"))
}

#[test]
fn the_hosts_kernel_gives_the_queues_back_before_a_machine_is_saved() {
    let _tap = HostTap::new("203.0.113.1/24");
    let folder = tempfile::tempdir().unwrap();
    let beginnings = [Beginning::BootAndSave, Beginning::Copy];
    for beginning in beginnings {
        let backend = NetBackend::Tap(vmm::open_tap(TAP).unwrap());
        let vhost = Some(vmm::open_vhost().unwrap());
        let net = NetConfig { backend, vhost, ..NetConfig::default() };
        let script = format!("seq {FEW} | nc 203.0.113.1 7; exec sleep 1000");
        let listener = TcpListener::bind("203.0.113.1:7").unwrap();
        let host = thread::spawn(move || {
            let mut heard = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut heard).unwrap();
            heard
        });
        let beginning = beginning(files(folder.path()));
        let (guest, _output) =
            Guest::with_devices(beginning, vec![net], &script, Some(second_interface()));
        assert!(host.join().unwrap() == numbers(FEW), "the host has heard something else");
        // The next one needs the tap.
        assert_eq!(guest.order(Order::Unplug { interface: 0 }), InterfaceOutcome::Unplugged);
    }
}

#[test]
fn what_a_machine_begins_with_is_there_after_it_was_saved_too() {
    let _tap = HostTap::new("203.0.113.1/24");
    let folder = tempfile::tempdir().unwrap();
    let beginnings =
        [|_| Beginning::Boot, Beginning::BootAndSave as fn(_) -> _, Beginning::Copy as fn(_) -> _];
    for beginning in beginnings {
        let backend = NetBackend::Tap(vmm::open_tap(TAP).unwrap());
        let nets = vec![NetConfig::default(), NetConfig { backend, ..NetConfig::default() }];
        let beginning = beginning(files(folder.path()));
        let (mut guest, mut output) =
            Guest::with_devices(beginning, nets, "echo; exec sleep 1000", None);
        output.read_exact(&mut [0]).unwrap();
        let device = MmioDevice { index: guest.devices[1].try_into().unwrap() };
        let interface = second_interface();
        assert_eq!(ask(&mut guest, Question::Connect { device, interface }), Answer::Done);
        let host = greet("203.0.113.1:7");
        let (text, _) = exec_to_end(&mut guest, 1, process("nc 203.0.113.1 7 </dev/null"));
        assert_eq!(text, "hello\n");
        host.join().unwrap();
        assert_eq!(guest.order(Order::Unplug { interface: 1 }), InterfaceOutcome::Unplugged);
    }
}

/// A network device over this tap, whose frames the host's kernel moves.
fn fast(tap: &str) -> NetConfig {
    let backend = NetBackend::Tap(vmm::open_tap(tap).unwrap());
    NetConfig { backend, vhost: Some(vmm::open_vhost().unwrap()), ..NetConfig::default() }
}

#[test]
fn a_copy_has_a_network_of_its_own_and_the_originals_connections_stay() {
    let (_tap, _other) =
        (HostTap::new("203.0.113.1/24"), HostTap::named(OTHER_TAP, "198.51.100.1/24"));
    let listener = TcpListener::bind("203.0.113.1:7").unwrap();
    let script = "nc 203.0.113.1 7 </dev/null; echo over; exec sleep 1000";
    let (mut guest, mut output) =
        Guest::with_devices(Beginning::Boot, vec![fast(TAP)], script, Some(second_interface()));
    let (mut connection, _) = listener.accept().unwrap();
    // It has one more interface, which its copy is not to have.
    let plugged = guest.order(Order::Plug { interface: 1, net: NetConfig::default() });
    let InterfaceOutcome::Plugged { device: index } = plugged else { panic!("{plugged:?}") };
    let more = Interface { address: "192.0.2.2".parse().unwrap(), ..second_interface() };
    let question = Question::Connect { device: MmioDevice { index }, interface: more };
    assert_eq!(ask(&mut guest, question), Answer::Done);

    let saved = guest.save();

    let device = MmioDevice { index: guest.devices[0].try_into().unwrap() };
    let own = Interface {
        mac: [2, 0x42, 198, 51, 100, 2],
        address: "198.51.100.2".parse().unwrap(),
        ..second_interface()
    };
    let adoption = Adoption { networks: vec![(device, own)], ..adoption("copy") };
    let (mut copy, mut over) = Guest::adopting(&saved, vec![fast(OTHER_TAP)], adoption);
    let mut word = [0; 5];
    over.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"over\n", "the connection was the original's");
    let host = greet("198.51.100.1:7");
    let look = "ls /sys/class/net; cat /sys/class/net/eth0/address; \
                ip -4 -o address show dev eth0 | sed 's/.*inet //; s/ .*//'; \
                nc 198.51.100.1 7 </dev/null";
    let (text, _) = exec_to_end(&mut copy, 1, process(look));
    assert_eq!(text, "eth0\nlo\n02:42:c6:33:64:02\n198.51.100.2/24\nhello\n");
    host.join().unwrap();
    assert_eq!(copy.order(Order::Unplug { interface: 1 }), InterfaceOutcome::Unplugged);

    // All that while the original waited for a word.
    connection.write_all(b"still connected\n").unwrap();
    drop(connection);
    let mut words = [0; b"still connected\nover\n".len()];
    output.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"still connected\nover\n");
}
