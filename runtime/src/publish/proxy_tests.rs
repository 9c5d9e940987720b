//! The proxy at work, over the loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::options::{Publication, Publish};
use crate::publish::open_doors;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nothing here takes that long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn published(words: &str) -> Vec<Publication> {
    words.parse::<Publish>().unwrap().0
}

/// A proxy in front of a port of this host, and where it is reached.
fn proxy(port: u16, protocol: &str) -> (Proxy, SocketAddr) {
    let doors = open_doors(&published(&format!("127.0.0.1::{port}/{protocol}"))).unwrap();
    let at = doors[0].published.host;
    (Proxy::start(doors, HOME).unwrap(), at)
}

/// A program that does this with each connection, in a thread for each.
fn program(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((HOME, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

/// Says what it hears, and ends when it has heard the end.
fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut copy, &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|number| u8::try_from(number * 31 % 251).unwrap()).collect()
}

#[test]
fn an_end_of_one_way_is_no_end_of_the_other() {
    // Answers only once it has heard all.
    let port = program(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard.reverse();
        stream.write_all(&heard).unwrap();
    });
    let (proxy, at) = proxy(port, "tcp");
    let mut client = connect(at);
    let sent = numbers(3 << 20);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    heard.reverse();
    assert!(heard == sent, "{} bytes came back", heard.len());
    proxy.stop();
}

#[test]
fn a_program_may_end_first() {
    let port = program(|mut stream| stream.write_all(b"bye").unwrap());
    let (proxy, at) = proxy(port, "tcp");
    let mut heard = String::new();
    connect(at).read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "bye");
    proxy.stop();
}

#[test]
fn who_reads_slowly_holds_up_its_own_connection_only() {
    let port = program(echo);
    let (proxy, at) = proxy(port, "tcp");
    let mut slow = connect(at);
    slow.set_nonblocking(true).unwrap();
    // Until nothing more fits between the two: it is bounded.
    let piece = numbers(64 << 10);
    let (mut sent, mut waits) = (0, 0);
    while waits < 50 {
        match slow.write(&piece[sent % piece.len()..]) {
            Ok(count) => (sent, waits) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                waits += 1;
                let mut other = connect(at);
                other.write_all(b"ping").unwrap();
                let mut heard = [0; 4];
                other.read_exact(&mut heard).unwrap();
                assert_eq!(&heard, b"ping");
            }
            Err(error) => panic!("{error}"),
        }
    }
    slow.set_nonblocking(false).unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    slow.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), sent);
    let good = heard.iter().enumerate().all(|(at, byte)| *byte == piece[at % piece.len()]);
    assert!(good, "other bytes came back than were sent");
    proxy.stop();
}

#[test]
fn where_nobody_listens_the_client_is_told_at_once() {
    let port = TcpListener::bind((HOME, 0)).unwrap().local_addr().unwrap().port();
    let (proxy, at) = proxy(port, "tcp");
    for _ in 0..100 {
        let mut client = connect(at);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    proxy.stop();
}

#[test]
fn a_client_that_breaks_off_is_told_to_the_program() {
    let (tell, told) = mpsc::channel();
    let port = program(move |mut stream| {
        stream.write_all(b"x").unwrap();
        tell.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
    });
    let (proxy, at) = proxy(port, "tcp");
    let mut client = connect(at);
    client.read_exact(&mut [0]).unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    let heard = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(heard, Err(ErrorKind::ConnectionReset));
    proxy.stop();
}

#[test]
fn many_connections_are_served_at_once_and_one_after_the_other() {
    let port = program(echo);
    let (proxy, at) = proxy(port, "tcp");
    let mut clients: Vec<_> = (0..200).map(|_| connect(at)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&numbers(number + 1)).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut heard = vec![0; number + 1];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, numbers(number + 1));
    }
    drop(clients);
    for _ in 0..1000 {
        let mut client = connect(at);
        client.write_all(b"again").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "again");
    }
    proxy.stop();
}

#[test]
fn what_stops_ends_its_connections_and_gives_the_doors_back() {
    let port = program(echo);
    let (proxy, at) = proxy(port, "tcp");
    let mut client = connect(at);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let doors = proxy.stop();
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    // Whoever knocks meanwhile is let in by the next.
    let mut early = connect(at);
    early.write_all(b"early").unwrap();
    let proxy = Proxy::start(doors, HOME).unwrap();
    let mut heard = [0; 5];
    early.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"early");
    drop(proxy.stop());
    assert_eq!(TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Answers each datagram with its bytes turned round.
fn datagram_program() -> u16 {
    let socket = UdpSocket::bind((HOME, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            buffer[..count].reverse();
            socket.send_to(&buffer[..count], from).unwrap();
        }
    });
    port
}

/// Loopback loses a datagram only where a receiver's buffer is full.
fn ask(socket: &UdpSocket, at: SocketAddr, question: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(question, at).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, at, "the answer comes from somewhere else");
    buffer[..count].reverse();
    buffer[..count].to_vec()
}

#[test]
fn each_peer_gets_its_own_answers() {
    let (proxy, at) = proxy(datagram_program(), "udp");
    let peers: Vec<_> = (0..50).map(|_| UdpSocket::bind((HOME, 0)).unwrap()).collect();
    for round in 0..4 {
        for (number, peer) in peers.iter().enumerate() {
            let question = format!("{round} {number}");
            assert_eq!(ask(peer, at, question.as_bytes()), question.as_bytes());
        }
    }
    for length in [0, 1, 1472, 60_000] {
        assert_eq!(ask(&peers[0], at, &numbers(length)), numbers(length));
    }
    proxy.stop();
}

#[test]
fn more_peers_than_there_is_room_for_are_served_all_the_same() {
    let (proxy, at) = proxy(datagram_program(), "udp");
    for number in 0..MAX_PEERS + 100 {
        let peer = UdpSocket::bind((HOME, 0)).unwrap();
        let question = number.to_string();
        assert_eq!(ask(&peer, at, question.as_bytes()), question.as_bytes());
    }
    proxy.stop();
}

#[test]
fn silent_peers_are_forgotten() {
    let target = SocketAddr::new(HOME, datagram_program());
    let door = UdpSocket::bind((HOME, 0)).unwrap();
    let (mut peers, start) = (Peers::new(), Instant::now());
    let client = UdpSocket::bind((HOME, 0)).unwrap();
    client.send_to(b"x", door.local_addr().unwrap()).unwrap();
    door.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    peers.hear_door((0, &door), target, start, |_, _| Ok(()));
    let later = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(peers.forget_silent(later(89)), Some(later(90)));
    assert_eq!(peers.forget_silent(later(90)), None);
}

#[test]
fn where_nobody_takes_datagrams_they_are_lost_until_somebody_does() {
    let gone = UdpSocket::bind((HOME, 0)).unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let (proxy, at) = proxy(port, "udp");
    let peer = UdpSocket::bind((HOME, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for _ in 0..3 {
        peer.send_to(b"lost", at).unwrap();
        assert!(peer.recv(&mut [0; 8]).is_err());
    }
    let program = UdpSocket::bind((HOME, port)).unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send_to(b"found", at).unwrap();
    let mut heard = [0; 8];
    let (count, _) = program.recv_from(&mut heard).unwrap();
    assert_eq!(&heard[..count], b"found");
    proxy.stop();
}
