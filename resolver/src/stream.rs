//! Questions by TCP, which come from those whose answer does not fit into a datagram: a thread for each
//! connection, and few of them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::forward::{ATTEMPTS, PATIENCE, random};
use crate::judge::{self, Verdict, failure, id, is_answer, is_no_help, set_id};
use crate::serve::Shared;

/// The most connections at a time, and the most from one address.
const MAX_CONNECTIONS: usize = 32;
const MAX_OF_CLIENT: usize = 8;
/// How long a client may take for one question, and for one answer (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 128 << 10;

/// How many connections there are, by where they come from; between the main thread, which counts up,
/// and those of the connections, which count down.
pub(crate) type Count = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection that counts as long as it is there.
struct Counted {
    count: Count,
    address: IpAddr,
}

impl Counted {
    fn new(count: &Count, address: IpAddr) -> Option<Self> {
        let mut counts = count.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = counts.get(&address).copied().unwrap_or(0);
        if of_client >= MAX_OF_CLIENT || counts.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        counts.insert(address, of_client + 1);
        Some(Self { count: Arc::clone(count), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_client) = counts.get_mut(&self.address) {
            *of_client -= 1;
            if *of_client == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Serves a connection, unless there are too many.
pub(crate) fn serve_aside(
    stream: TcpStream,
    peer: SocketAddr,
    network: String,
    shared: &Arc<RwLock<Shared>>,
    count: &Count,
) {
    let Some(counted) = Counted::new(count, judge::plain(peer.ip())) else { return };
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name("stream".to_owned()).stack_size(STACK_BYTES);
    // Where there is no thread, the connection is closed.
    let _ = thread.spawn(move || {
        // The client has gone, or is too slow.
        let _ = serve(&stream, peer.ip(), &network, &shared);
        drop(counted);
    });
}

fn serve(
    stream: &TcpStream,
    peer: IpAddr,
    network: &str,
    shared: &RwLock<Shared>,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(IDLE))?;
    while let Some(query) = read_message(stream, Instant::now() + IDLE)? {
        let (verdict, servers) = {
            let shared = shared.read().unwrap_or_else(PoisonError::into_inner);
            let verdict = shared.judge(network, peer, &query, usize::from(u16::MAX));
            let servers = shared.servers(network, peer);
            (verdict, servers)
        };
        let answer = match verdict {
            Verdict::Answer(answer) => Some(answer),
            Verdict::Forward => ask(&query, &servers).or_else(|| failure(&query)),
            Verdict::Silence => None,
        };
        let Some(answer) = answer else { return Ok(()) };
        write_message(stream, &answer)?;
    }
    Ok(())
}

/// The first useful answer of some servers.
fn ask(query: &[u8], servers: &[SocketAddr]) -> Option<Vec<u8>> {
    let mut last = None;
    for server in servers.iter().take(ATTEMPTS) {
        match ask_one(query, *server) {
            Ok(answer) if is_no_help(&answer) => last = Some(answer),
            Ok(answer) => return Some(answer),
            Err(_) => {}
        }
    }
    last
}

fn ask_one(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let number = random()?;
    let mut asked = query.to_vec();
    set_id(&mut asked, number);
    write_message(&stream, &asked)?;
    let answer = read_message(&stream, Instant::now() + PATIENCE)?;
    let mut answer = answer.filter(|answer| is_answer(answer, query, number)).ok_or_else(cut)?;
    set_id(&mut answer, id(query));
    Ok(answer)
}

/// A message behind its length (RFC 1035, section 4.2.2); none at an ordinary end.
fn read_message(stream: &TcpStream, until: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if !fill(stream, &mut length, until)? {
        return Ok(None);
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    if fill(stream, &mut message, until)? { Ok(Some(message)) } else { Err(cut()) }
}

/// Fills a buffer in time; `false` when the end comes first.
fn fill(mut stream: &TcpStream, buffer: &mut [u8], until: Instant) -> io::Result<bool> {
    let mut done = 0;
    while done < buffer.len() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer[done..]) {
            Ok(0) if done == 0 => return Ok(false),
            Ok(0) => return Err(cut()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// In one piece, so that no packet holds a length alone.
fn write_message(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| cut())?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
