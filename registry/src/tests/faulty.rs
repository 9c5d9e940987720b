//! A registry in this process that does what a test tells it, however wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What came in, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: HashMap<String, String>,
    /// How often this path was asked for before.
    pub(crate) before: usize,
}

impl Request {
    /// A header by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first byte of the range that is wanted.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range").strip_prefix("bytes=").unwrap_or("0-");
        range.trim_end_matches('-').parse().unwrap()
    }
}

/// What goes out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The length that is told, where it is not the body's.
    length: Option<usize>,
    /// Whether none is told: the body goes on until the connection ends.
    unannounced: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Promises another length, and hangs up after the body.
    pub(crate) fn promising(mut self, length: usize) -> Reply {
        self.length = Some(length);
        self
    }

    /// Does not say how long the body is.
    pub(crate) fn unannounced(mut self) -> Reply {
        self.unannounced = true;
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Listens on a free port of this machine until it is dropped.
pub(crate) struct Faulty {
    pub(crate) address: String,
    /// Written by the threads that answer, read by the test.
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Faulty {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let stopped = Arc::<AtomicBool>::default();
        let (log, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                // A client that hangs up first is no failure of the test.
                thread::spawn(move || drop(answer(&stream.unwrap(), &log, &*handler)));
            }
        });
        Faulty { address, requests, stopped, thread: Some(thread) }
    }

    /// Everything that was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(&self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn answer(stream: &TcpStream, log: &Mutex<Vec<Request>>, handler: &Handler) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    if input.read_line(&mut line).is_err() {
        // A handshake is no text.
        let mut out = stream;
        return out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        input.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut request =
        Request { method: method.to_owned(), path: path.to_owned(), headers, before: 0 };
    {
        let mut log = log.lock().unwrap();
        request.before = log.iter().filter(|earlier| earlier.path == request.path).count();
        log.push(request.clone());
    }
    let reply = handler(&request);
    let length = reply.length.unwrap_or(reply.body.len());
    let mut head = format!("HTTP/1.1 {} Reply\r\nconnection: close\r\n", reply.status);
    if !reply.unannounced {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut out = stream;
    out.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        out.write_all(&reply.body)?;
    }
    out.flush()
}
