//! The body of the fuzz target for vsock: whatever packets a guest sends, a program of the host
//! hears nothing before its own connection was accepted.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::OnceLock;

use super::packet::{HEADER_BYTES, Header};
use super::*;
use crate::fuzz::Image;

/// The guest's context id.
const CID: u64 = 3;
/// The host's port of the first connection.
const FIRST_PORT: u32 = 1 << 30;
/// How often device and programs have their turns.
const ROUNDS: usize = 6;

/// Serves the queues in a guest's memory; see `fuzz::Image`. The choice says what the programs of the
/// host do.
///
/// # Panics
/// When a program of the host reads something before the guest has accepted it, or a header
/// changes when it is read and written.
pub fn vsock(bytes: &[u8]) {
    bytes.as_chunks().0.iter().for_each(check_header);
    let mut image = Image::new(bytes, 3);
    let mut device = Vsock::new(VsockConfig { cid: CID, listener: listener() });
    let poll = device.watch(&image.activated).expect("the host has room");
    // Two programs that name a port, and one that has yet to do so.
    let words = [&b"CONNECT 1024\nhello"[..], b"CONNECT 1\n", b"CONN"];
    let mut programs = words.map(|words| Program::connect(&mut device, &poll, words));
    let _ended = drive(&mut image, &mut device, poll, &mut programs);
    for (port, program) in (FIRST_PORT..).zip(&mut programs) {
        program.read();
        let accepted = format!("OK {port}\n");
        assert!(program.heard.is_empty() || program.heard.starts_with(accepted.as_bytes()));
    }
}

/// Gives device and programs their turns, until the guest breaks the device.
fn drive(
    image: &mut Image,
    device: &mut Vsock,
    mut poll: Poll,
    programs: &mut [Program; 3],
) -> Result<(), DeviceError> {
    let Image { activated, choice } = image;
    let mut buffers = Buffers::default();
    let mut wakes = Vec::new();
    for round in 0..ROUNDS {
        poll.wait(&mut wakes, Patience::Busy).expect("the host has room");
        for wake in &wakes {
            if let Token::Connection(port) = wake.token {
                device.muxer.socket_ready(port, *wake, &poll).expect("the host has room");
            }
        }
        device.serve_rx(activated, &mut buffers)?;
        device.serve_tx(activated, &poll, &mut buffers)?;
        let program = &mut programs[round % 3];
        match *choice >> (round % 3) & 9 {
            0 => {}
            1 => program.read(),
            8 => program.say(b"more"),
            _ => program.close(),
        }
    }
    device.serve_last(activated, &poll, &mut buffers)
}

/// Any 44 bytes are a header, and the same one again.
fn check_header(bytes: &[u8; HEADER_BYTES]) {
    let header = Header::decode(bytes);
    assert_eq!(&header.encode(), bytes, "a header changes when it is read and written");
    assert_eq!(header.refusal().refusal().src_port, header.src_port, "a refusal goes astray");
    if let Some(operation) = header.operation() {
        assert_eq!(operation.bits(), header.op, "an operation changes its number");
    }
}

/// A program of the host, at its end of a connection.
struct Program {
    socket: UnixStream,
    heard: Vec<u8>,
}

impl Program {
    fn connect(device: &mut Vsock, poll: &Poll, words: &[u8]) -> Self {
        let (socket, theirs) = UnixStream::pair().expect("the host has room");
        for socket in [&socket, &theirs] {
            socket.set_nonblocking(true).expect("it is a socket");
        }
        (&socket).write_all(words).expect("an unused socket has room");
        device.muxer.add(theirs, poll).expect("the host has room");
        Self { socket, heard: Vec::new() }
    }

    fn read(&mut self) {
        // It ends with the connection, or when there is nothing more for now.
        if let Err(error) = self.socket.read_to_end(&mut self.heard) {
            let harmless = [ErrorKind::WouldBlock, ErrorKind::ConnectionReset];
            assert!(harmless.contains(&error.kind()), "{error}");
        }
    }

    fn say(&self, words: &[u8]) {
        // Nobody may be listening any more.
        let _refused = (&self.socket).write(words);
    }

    fn close(&self) {
        let _closed_before = self.socket.shutdown(Shutdown::Write);
    }
}

/// One that nobody connects to.
pub(crate) fn listener() -> UnixListener {
    static LISTENER: OnceLock<UnixListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| {
        let name = format!("hyperrun-vsock-fuzz-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).expect("the name is short");
        UnixListener::bind_addr(&address).expect("the name is free")
    });
    listener.try_clone().expect("the host has room")
}
