//! The resolver at work, over the loopback.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, AllRecordData};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::*;
use crate::judge::{id, set_id};
use std::net::Ipv4Addr;

const PORT: u16 = 10_053;
/// Nothing here takes that long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address of the loopback that no other test has.
fn address(last: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, last)
}

/// A root with a network whose gateway is the first address, and a resolver at work.
struct Root {
    folder: TempDir,
    locks: Vec<File>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl Root {
    fn new(resolv_conf: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut root = Self { folder, locks: Vec::new(), server: None };
        root.network("back", 1, false);
        let conf = root.folder.path().join("resolv.conf");
        fs::write(&conf, resolv_conf).unwrap();
        let (path, setting) =
            (root.folder.path().to_owned(), Setting { port: PORT, resolv_conf: conf });
        root.server = Some(thread::spawn(move || serve(&path, setting)));
        root
    }

    fn network(&self, name: &str, gateway: u8, internal: bool) {
        let folder = self.folder.path().join("networks").join(name);
        fs::create_dir_all(folder.join("leases")).unwrap();
        let text = format!(
            r#"{{"name":"{name}","gateway":"{}","subnet":"10.0.0.0/8","internal":{internal}}}"#,
            address(gateway)
        );
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), folder.join("network.json")).unwrap();
    }

    /// A container that runs.
    fn container(&mut self, network: &str, name: &str, address: &str, more: &str) {
        let home = self.folder.path().join("containers").join(name);
        fs::create_dir_all(&home).unwrap();
        let lock = File::create(home.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        self.locks.push(lock);
        let leases = self.folder.path().join("networks").join(network).join("leases");
        let text =
            format!(r#"{{"container":"{name}","name":"{name}","address":"{address}"{more}}}"#);
        fs::write(leases.join("new"), text).unwrap();
        fs::rename(leases.join("new"), leases.join(format!("{address}.json"))).unwrap();
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(self.folder.path().join("networks")).unwrap();
        let ended = self.server.take().unwrap().join();
        assert!(thread::panicking() || ended.is_ok_and(|ended| ended.is_ok()));
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0xabcd);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name.parse::<Name<Vec<u8>>>().unwrap(), Rtype::A)).unwrap();
    question.finish()
}

/// What a server answers: this address to each question.
fn answer(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let query = Message::from_slice(query).unwrap();
    let code = domain::base::iana::Rcode::NOERROR;
    let mut answer = MessageBuilder::new_vec().start_answer(query, code).unwrap();
    let name = query.sole_question().unwrap().into_qname();
    answer.push((name, 60, A::new(address.into()))).unwrap();
    answer.finish()
}

fn shown(answer: &[u8]) -> String {
    let message = Message::from_slice(answer).unwrap();
    assert_eq!(id(answer), 0xabcd);
    let mut text = message.header().rcode().to_string();
    for record in message.answer().unwrap().limit_to::<AllRecordData<_, _>>() {
        text += &format!(" {}", record.unwrap().data());
    }
    text
}

/// Asks a gateway by UDP, until it is there; again after a second, as every client does.
fn ask(gateway: u8, query: &[u8]) -> String {
    let socket = UdpSocket::bind((address(100), 0)).unwrap();
    socket.connect((address(gateway), PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (mut buffer, since) = ([0; 4096], Instant::now());
    loop {
        match socket.send(query).and_then(|_| socket.recv(&mut buffer)) {
            Ok(count) => return shown(&buffer[..count]),
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
        }
    }
}

fn connect(gateway: u8) -> TcpStream {
    let stream = TcpStream::connect((address(gateway), PORT)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask_stream(stream: &mut TcpStream, query: &[u8]) -> String {
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    shown(&answer)
}

/// A server of the host's at this address, which does with each question what it is told to.
fn upstream(last: u8, serve: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static) {
    let socket = UdpSocket::bind((address(last), PORT)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            serve(&socket, &buffer[..count], from);
        }
    });
}

fn faithful(to: [u8; 4]) -> impl Fn(&UdpSocket, &[u8], SocketAddr) + Send {
    move |socket, query, from| {
        socket.send_to(&answer(query, to), from).unwrap();
    }
}

#[test]
fn names_are_answered_and_all_else_is_asked_for() {
    upstream(2, faithful([192, 0, 2, 1]));
    upstream(3, faithful([192, 0, 2, 2]));
    let mut root = Root::new(&format!("nameserver {}\n", address(2)));
    let dns = format!(r#","dns":["{}"]"#, address(3));
    root.container("back", "web", "10.0.0.2", "");
    assert_eq!(ask(1, &query("web")), "NOERROR 10.0.0.2");
    assert_eq!(ask(1, &query("web.example")), "NOERROR 192.0.2.1");
    assert_eq!(ask_stream(&mut connect(1), &query("web")), "NOERROR 10.0.0.2");
    // Whoever has servers of its own has those asked.
    root.container("back", "own", &address(100).to_string(), &dns);
    assert_eq!(ask(1, &query("web.example")), "NOERROR 192.0.2.2");
    // Who has come since is known, who has gone is not.
    root.container("back", "db", "10.0.0.3", "");
    assert_eq!(ask(1, &query("db")), "NOERROR 10.0.0.3");
    root.locks.pop();
    assert_eq!(ask(1, &query("db")), "NOERROR 192.0.2.2");
    // Networks do not know each other's, and an internal one nobody else's.
    root.network("inside", 4, true);
    assert_eq!(ask(4, &query("web")), "REFUSED");
    root.container("inside", "cache", "10.0.1.2", "");
    assert_eq!(ask(4, &query("cache")), "NOERROR 10.0.1.2");
}

#[test]
fn a_server_that_is_of_no_help_is_not_the_last() {
    // Nobody is at the first address; the second has no idea; then there are four who lie.
    upstream(3, |socket, query, from| {
        let mut answer = answer(query, [192, 0, 2, 66]);
        answer[3] |= 2;
        socket.send_to(&answer, from).unwrap();
    });
    upstream(4, |socket, query, from| {
        let mut answer = answer(query, [192, 0, 2, 66]);
        let right = id(&answer);
        set_id(&mut answer, right.wrapping_add(1));
        socket.send_to(&answer, from).unwrap();
        socket.send_to(query, from).unwrap();
        socket.send_to(b"", from).unwrap();
        set_id(&mut answer, right);
        answer.truncate(20);
        socket.send_to(&answer, from).unwrap();
        faithful([192, 0, 2, 1])(socket, query, from);
    });
    let _root = Root::new(&format!(
        "nameserver {}\nnameserver {}\nnameserver {}\n",
        address(2),
        address(3),
        address(4)
    ));
    assert_eq!(ask(1, &query("example")), "NOERROR 192.0.2.1");
}

#[test]
fn where_nobody_can_be_asked_that_is_said() {
    let _root = Root::new(&format!("nameserver {}\n", address(2)));
    assert_eq!(ask(1, &query("example")), "SERVFAIL");
    assert_eq!(ask_stream(&mut connect(1), &query("example")), "SERVFAIL");
}

#[test]
fn who_has_no_manners_is_in_nobodys_way() {
    // A server that never answers.
    upstream(2, |_, _, _| ());
    let mut root = Root::new(&format!("nameserver {}\n", address(2)));
    root.container("back", "web", "10.0.0.2", "");
    assert_eq!(ask(1, &query("web")), "NOERROR 10.0.0.2");
    let flood = UdpSocket::bind((address(101), 0)).unwrap();
    for number in 0..2000_u16 {
        let mut query = query("example");
        set_id(&mut query, number);
        flood.send_to(&query, (address(1), PORT)).unwrap();
        flood.send_to(&number.to_be_bytes(), (address(1), PORT)).unwrap();
    }
    assert_eq!(ask(1, &query("web")), "NOERROR 10.0.0.2");
    // More connections than there may be: those beyond are closed.
    let mut idle: Vec<_> = (0..20).map(|_| connect(1)).collect();
    assert!(matches!(idle[19].read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(ask(1, &query("web")), "NOERROR 10.0.0.2");
    let words = ask_stream(&mut connect_from(102), &query("web"));
    assert_eq!(words, "NOERROR 10.0.0.2");
}

/// A connection from another client.
fn connect_from(last: u8) -> TcpStream {
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    bind(&socket, &SocketAddr::from((address(last), 0))).unwrap();
    rustix::net::connect(&socket, &SocketAddr::from((address(1), PORT))).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
