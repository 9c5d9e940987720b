//! Containers of a person without privilege, whose network is passt's.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hyperrun_tests::{Output, Outside, answer_names, busybox_archive, echoed};

use crate::home::Home;

/// Who has nothing.
const NOBODY: u32 = 65534;
/// Makes a `/dev/kvm` that everybody may use and name servers of its own, in a namespace of its own, and becomes
/// nobody.
const BECOME: &str = "mknod $0/kvm c 10 232 && chmod 666 $0/kvm && mount --bind $0/kvm /dev/kvm && \
                      mount --bind $0/resolv.conf /etc/resolv.conf && \
                      if [ -n \"$WITHOUT\" ]; then mount --bind /dev/null $WITHOUT; fi && \
                      rm $0/kvm && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
/// Where a name server of the host is that containers do not reach.
const OWN_SERVER: &str = "127.0.0.57";
/// Nothing here takes that long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than fits into any socket.
const NUMBERS: u32 = 300_000;

/// Somebody with the program and a folder of their own.
struct Person {
    folder: tempfile::TempDir,
}

impl Person {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let binary = std::env::var("HYPERRUN_BIN").expect("scripts/test sets it");
        for name in ["hyperrun", "vmlinux", "initramfs.cpio"] {
            fs::copy(Path::new(&binary).with_file_name(name), path.join(name)).unwrap();
        }
        fs::write(path.join("resolv.conf"), format!("nameserver {OWN_SERVER}\n")).unwrap();
        fs::create_dir(path.join("root")).unwrap();
        chown(path.join("root"), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::copy(busybox_archive(), path.join("busybox.tar")).unwrap();
        let person = Self { folder };
        let archive = person.folder.path().join("busybox.tar");
        person.does(&["load", "-q", "-i", archive.to_str().unwrap()]);
        person
    }

    /// Runs the program, where the file `without` is not to be seen.
    fn hyperrun(&self, words: &[&str], without: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", BECOME]).arg(self.folder.path());
        command.arg(self.folder.path().join("hyperrun")).args(words);
        command.env("HYPERRUN_ROOT", self.folder.path().join("root")).env("WITHOUT", without);
        command.env("HYPERRUN_IMAGE_TEMPLATES", "never").env("HOME", self.folder.path());
        let told = format!("{command:?}");
        Output::new(told, command.output().unwrap())
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> Output {
        let out = self.hyperrun(words, "");
        out.code_is(0);
        out
    }
}

/// Whether a passt that was told this word is not over.
fn passt_is_there(word: &str) -> bool {
    let has_it = |entry: fs::DirEntry| {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let program = words.split('\0').next().unwrap_or_default();
        program.ends_with("/passt") && words.contains(word)
    };
    fs::read_dir("/proc").unwrap().any(|entry| has_it(entry.unwrap()))
}

#[track_caller]
fn passt_ends(word: &str) {
    let since = Instant::now();
    while passt_is_there(word) {
        assert!(since.elapsed() < PATIENCE, "passt lives on");
        thread::yield_now();
    }
}

/// The page of a server that does not listen until some time after its container runs.
fn hear(at: &str) -> String {
    let since = Instant::now();
    loop {
        let mut heard = String::new();
        let read = TcpStream::connect(at).and_then(|mut stream| {
            stream.write_all(b"GET /numbers HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut heard)
        });
        if read.is_ok()
            && let Some((_, page)) = heard.split_once("\r\n\r\n")
        {
            return page.to_owned();
        }
        assert!(since.elapsed() < PATIENCE, "{at} does not answer");
    }
}

#[test]
fn a_container_of_a_person_without_privilege_reaches_out() {
    let outside = Outside::new("hrt-out");
    outside.answers_names([203, 0, 113, 7]);
    // As distributions have it.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    let server = UdpSocket::bind((OWN_SERVER, 53)).unwrap();
    thread::spawn(move || answer_names(&server, [203, 0, 113, 8]));
    let person = Person::new();
    let (four, six) =
        (outside.answer_once("198.51.100.2:7"), outside.answer_once("[2001:db8:100::2]:7"));
    let here = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = here.local_addr().unwrap().port();
    let greeting = thread::spawn(move || here.accept().unwrap().0.write_all(b"welcome\n").unwrap());
    // Standard input stays open: an early end of one way is too much for passt of March 2023.
    let script = format!(
        "mkfifo /open\n\
         for a in {v4} {v6}; do nc $a 7 <>/open; echo; done\n\
         for a in {v4} {v6}; do ping -c 1 $a | grep -c 'bytes from'; done\n\
         nslookup -type=a outside.example {v4} | grep 203.0.113\n\
         nslookup -type=a own.example | grep 203.0.113\n\
         nc host.example {port} <>/open",
        v4 = Outside::ADDRESS,
        v6 = Outside::ADDRESS6,
    );
    person
        .does(&[
            "run",
            "--rm",
            "--add-host",
            "host.example:host-gateway",
            "busybox",
            "sh",
            "-c",
            &script,
        ])
        .stdout_is(&format!(
            "{}\n{}\n1\n1\nAddress: 203.0.113.7\nAddress: 203.0.113.8\nwelcome\n",
            Outside::HOST,
            Outside::HOST6
        ));
    greeting.join().unwrap();
    assert_eq!(
        (four.join().unwrap(), six.join().unwrap()),
        (Outside::HOST.into(), Outside::HOST6.into())
    );
    says_what_is_missing(&person);
}

/// Without passt.
fn says_what_is_missing(person: &Person) {
    let passt = fs::canonicalize("/usr/bin/passt").unwrap();
    person
        .hyperrun(&["run", "--rm", "busybox", "true"], passt.to_str().unwrap())
        .code_is(125)
        .stderr_has("passt is not installed")
        .stderr_has("hint: install the package passt, or run with --network none");
    let words = ["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"];
    person.hyperrun(&words, passt.to_str().unwrap()).code_is(0).stdout_is("lo\n");
}

#[test]
fn the_ports_of_a_person_without_privilege_are_reached() {
    let outside = Outside::new("hrt-in");
    let person = Person::new();
    let serve = format!("mkdir /www; seq {NUMBERS} >/www/numbers; exec httpd -f -p 80 -h /www");
    let web =
        ["run", "-d", "--name", "web", "-p", "8071-8075:80", "-p", "8076:9/udp", "--expose", "81"];
    person.does(&[&web[..], &["busybox", "sh", "-c", &serve]].concat());
    let numbers: String = (1..=NUMBERS).map(|number| format!("{number}\n")).collect();
    for at in ["127.0.0.1:8071", "198.51.100.1:8071", "[::1]:8071"] {
        let heard = hear(at);
        assert!(heard == numbers, "{at}: {} bytes", heard.len());
    }
    let echo = std::env::var("HYPERRUN_TEST_LOAD").expect("scripts/test sets it");
    let place = person.folder.path().join("echo");
    fs::copy(echo, &place).unwrap();
    person.does(&["cp", place.to_str().unwrap(), "web:/echo"]);
    person.does(&["exec", "-d", "web", "/echo", "0.0.0.0:9"]);
    assert_eq!(echoed("198.51.100.1:8076"), b"echo");
    assert_eq!(outside.echo("198.51.100.1:8076").join().unwrap(), b"echo");
    person.does(&["port", "web"]).stdout_is(
        "9/udp -> 0.0.0.0:8076\n9/udp -> [::]:8076\n80/tcp -> 0.0.0.0:8071\n80/tcp -> [::]:8071\n",
    );
    person
        .does(&["ps", "--format", "{{.Networks}} {{.Ports}}"])
        .stdout_has("user ")
        .stdout_has("0.0.0.0:8071->80/tcp");
    let shown = "{{.HostConfig.NetworkMode}} {{.NetworkSettings.Networks.user.IPAddress}}";
    person.does(&["inspect", "-f", shown, "web"]).stdout_is("user 10.0.2.100\n");
    person
        .hyperrun(&["run", "--rm", "-p", "8076:80/udp", "busybox", "true"], "")
        .code_is(125)
        .stderr_has("Bind for 0.0.0.0:8076 failed: port is already allocated");
    // Another life, another passt, the same ports.
    let supervisor = person.does(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    Command::new("kill").args(["-9", supervisor.stdout.trim()]).status().unwrap();
    passt_ends("8071:80");
    // Its words are gone before its sockets.
    let since = Instant::now();
    while TcpListener::bind("0.0.0.0:8071").is_err() {
        assert!(since.elapsed() < PATIENCE, "the port is not free");
    }
    person.does(&["start", "web"]);
    assert!(passt_is_there("8071:80"));
    assert!(hear("127.0.0.1:8071") == numbers);
    person.does(&["rm", "-f", "web"]);
    passt_ends("8071:80");
    makes_no_bridges(&person);
}

fn makes_no_bridges(person: &Person) {
    person
        .hyperrun(&["network", "create", "web"], "")
        .code_is(1)
        .stderr_has("cannot set up network web")
        .stderr_has("hint: bridges need root");
    person.does(&["network", "ls", "-q", "--filter", "name=web"]).stdout_is("");
}

#[test]
fn each_life_of_a_container_has_a_passt_and_root_may_have_one_too() {
    let home = Home::new();
    let serve = format!(
        "test -e /again || {{ touch /again; exit 3; }}; \
         mkdir /www; seq {NUMBERS} >/www/numbers; exec httpd -f -p 80 -h /www"
    );
    let words = "run -d --name web --network user --restart on-failure -p 8079:80 busybox sh -c";
    let words: Vec<_> = words.split(' ').chain([serve.as_str()]).collect();
    home.sandbox.hyperrun(words).code_is(0);
    let numbers: String = (1..=NUMBERS).map(|number| format!("{number}\n")).collect();
    assert!(hear("127.0.0.1:8079") == numbers);
    home.shows("web", "{{.RestartCount}}", "1");
    home.shows("web", "{{.NetworkSettings.Carrier}}", "passt");
    let members = "{{range .Containers}}{{.Name}}{{end}}";
    let out = home.sandbox.hyperrun(["network", "inspect", "-f", members, "user", "none"]);
    out.code_is(0).stdout_is("web\n\n");
    home.fails("network connect bridge web", 1, "container cannot be");
    home.sandbox.does("rm -f web");
    passt_ends("8079:80");
}
