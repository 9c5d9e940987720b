//! A network namespace that is a test's world outside: one cable leads there.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The host's end of the cable, and the other's, with addresses for documentation (RFC 5737, RFC 3849).
const HERE: [&str; 2] = ["198.51.100.1/24", "2001:db8:100::1/64"];
const THERE: [&str; 2] = ["198.51.100.2/24", "2001:db8:100::2/64"];

/// How long an answer is waited for until the question is sent again, and how often it is.
const RETRY: Duration = Duration::from_millis(500);
const ATTEMPTS: usize = 120;

/// The world outside, gone with this value.
pub struct Outside {
    name: String,
}

impl Outside {
    /// Its address.
    pub const ADDRESS: &str = "198.51.100.2";
    /// And the one of IPv6.
    pub const ADDRESS6: &str = "2001:db8:100::2";
    /// The host as it is seen from there.
    pub const HOST: &str = "198.51.100.1";
    /// By IPv6.
    pub const HOST6: &str = "2001:db8:100::1";

    /// Makes a namespace and a cable, both of this name, which is short.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let outside = Self { name: name.to_owned() };
        let (near, far) = (format!("{name}-n"), format!("{name}-f"));
        ip(&format!("netns add {name}"));
        ip(&format!("link add {near} type veth peer name {far} netns {name}"));
        for (address, there) in HERE.iter().zip(THERE) {
            let now = if there.contains(':') { " nodad" } else { "" };
            ip(&format!("address add {address} dev {near}{now}"));
            ip(&format!("-n {name} address add {there} dev {far}{now}"));
        }
        ip(&format!("link set {near} up"));
        ip(&format!("-n {name} link set {far} up"));
        ip(&format!("-n {name} link set lo up"));
        outside
    }

    /// Runs a program there; its exit code.
    pub fn run(&self, words: &str) -> Option<i32> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words.split(' '));
        command.output().expect("ip starts").status.code()
    }

    /// Gives a way from there to a network behind the host.
    pub fn route(&self, subnet: &str) {
        ip(&format!("-n {} route add {subnet} via {}", self.name, Self::HOST));
    }

    /// Hears one connection to this address there, answers with who it was, and is over.
    pub fn answer_once(&self, address: &str) -> JoinHandle<String> {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        let address = address.to_owned();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let listening = thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("it is a namespace");
            let listener = TcpListener::bind(address).expect("it is free");
            ready.send(()).expect("somebody waits");
            let (mut stream, peer) = listener.accept().expect("somebody comes");
            let peer = peer.ip().to_string();
            stream.write_all(peer.as_bytes()).expect("it listens");
            stream.shutdown(std::net::Shutdown::Write).expect("it is open");
            let _ = stream.read_to_end(&mut Vec::new());
            peer
        });
        is_ready.recv().expect("it listens");
        listening
    }

    /// What comes back from this address when something is sent to it from there.
    pub fn echo(&self, address: &str) -> JoinHandle<Vec<u8>> {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        let address = address.to_owned();
        thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("it is a namespace");
            echoed(&address)
        })
    }

    /// Answers each question for a name there with this address, from now on.
    pub fn answers_names(&self, address: [u8; 4]) {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("it is a namespace");
            let socket = UdpSocket::bind((Self::ADDRESS, 53)).expect("it is free");
            ready.send(()).expect("somebody waits");
            answer_names(&socket, address);
        });
        is_ready.recv().expect("it listens");
    }
}

/// What comes back from this address of UDP, once whoever is there listens.
#[must_use]
pub fn echoed(address: &str) -> Vec<u8> {
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).expect("there are ports");
    socket.connect(address).expect("there is a way");
    socket.set_read_timeout(Some(RETRY)).expect("it is not zero");
    let mut buffer = [0; 512];
    for _ in 0..ATTEMPTS {
        // Nobody listens yet where it is refused.
        if socket.send(b"echo").is_ok()
            && let Ok(count) = socket.recv(&mut buffer)
        {
            return buffer[..count].to_vec();
        }
    }
    Vec::new()
}

/// Answers each question for a name that comes to a socket with this address, for ever.
pub fn answer_names(socket: &UdpSocket, address: [u8; 4]) {
    let mut buffer = [0; 512];
    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
        socket.send_to(&named(&buffer[..count], address), from).expect("it can be sent");
    }
}

/// An answer of the DNS: this address for the name that is asked for (RFC 1035, section 4.1).
fn named(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let (id, question) = (&query[..2], &query[12..]);
    let end = question.iter().position(|byte| *byte == 0).expect("a name ends") + 5;
    let counts = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4];
    [id, &counts, &question[..end], &record, &address].concat()
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The cable goes with one of its ends.
        ip(&format!("link delete {}-n", self.name));
        ip(&format!("netns delete {}", self.name));
    }
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("ip starts");
    assert!(status.success(), "ip {words}");
}
