//! Knocks at doors behind which a test answers, wrongly, late or never.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::*;

/// A machine's folder, and who listens in it.
fn machine() -> (tempfile::TempDir, File, UnixListener) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(MACHINE_SOCKET)).unwrap();
    let open = File::open(folder.path()).unwrap();
    (folder, open, listener)
}

/// Takes the next knock.
fn accept(listener: &UnixListener) -> UnixStream {
    let (mut guest, _) = listener.accept().unwrap();
    let mut knock = vec![0; format!("CONNECT {STREAM_PORT}\n").len()];
    guest.read_exact(&mut knock).unwrap();
    guest
}

#[test]
fn streams_are_open_once_all_have_been_answered() {
    let (_folder, open, listener) = machine();
    let kinds = [StreamKind::Stdout, StreamKind::Stderr];
    let mut opening = Door::new(&open).streams(ProcessId(4), &kinds).unwrap();
    let mut guests = [accept(&listener), accept(&listener)];
    assert!(!opening.hear().unwrap());
    guests[1].write_all(b"OK 2\n").unwrap();
    assert!(!opening.hear().unwrap());
    assert_eq!(opening.sources().count(), 1);
    for byte in b"OK 10" {
        guests[0].write_all(&[*byte]).unwrap();
        assert!(!opening.hear().unwrap());
    }
    guests[0].write_all(b"\nrest").unwrap();
    assert!(opening.hear().unwrap());
    assert_eq!(opening.sources().count(), 0);
    for (guest, kind) in guests.iter_mut().zip(kinds) {
        let hello: StreamHello = protocol::read(guest).unwrap();
        assert_eq!(hello, StreamHello { id: ProcessId(4), kind });
    }
    let mut streams = opening.finish();
    assert_eq!(streams.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), kinds);
    // What came behind the answer is the stream's, and whoever has it now may wait for more.
    let mut rest = [0; 4];
    streams[0].1.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"rest");
    drop(guests);
    assert_eq!(streams[1].1.read(&mut rest).unwrap(), 0);
}

#[test]
fn what_is_no_answer_is_an_error() {
    let (_folder, open, listener) = machine();
    for wrong in [&b"NO 1\n"[..], b"OK 99999999999999999999\n", b"\n", b""] {
        let mut knock = Door::new(&open).knock(STREAM_PORT).unwrap();
        let mut guest = accept(&listener);
        guest.write_all(wrong).unwrap();
        drop(guest);
        assert!(matches!(knock.hear(), Err(Error::Connect(_))), "{}", wrong.escape_ascii());
    }
}

/// A machine that stands still accepts nobody: sooner or later nobody else can even knock.
#[test]
fn nobody_waits_for_a_machine_that_stands_still() {
    let (_folder, open, _listener) = machine();
    rustix::net::listen(&_listener, 2).unwrap();
    let door = Door::new(&open);
    let mut knocks = Vec::new();
    let error = loop {
        match door.knock(STREAM_PORT) {
            Ok(knock) => knocks.push(knock),
            Err(error) => break error,
        }
    };
    assert!(knocks.iter_mut().all(|knock| !knock.hear().unwrap()));
    assert_eq!(error.to_string(), "the agent in the guest did not answer within 10 s");
}

#[test]
fn a_machine_that_is_gone_cannot_be_reached() {
    let (_folder, open, listener) = machine();
    drop(listener);
    let error = Door::new(&open).knock(STREAM_PORT).unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
}
