//! A program at the other end of a stream, well behaved and not.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::set_socket_send_buffer_size;

use super::*;
use crate::config::NetBackend;

/// A device over a stream, and the host's end of it.
struct Streamed<'m> {
    memory: &'m GuestMemoryMmap,
    rx: MockSplitQueue<'m, GuestMemoryMmap>,
    tx: MockSplitQueue<'m, GuestMemoryMmap>,
    activated: Activated,
    net: Net,
    host: UnixStream,
}

/// One with these chains in its queues.
fn streamed<'m>(
    memory: &'m GuestMemoryMmap,
    received: &[RawDescriptor],
    sent: &[RawDescriptor],
) -> Streamed<'m> {
    let [rx, tx] = rings(memory);
    for (ring, chains) in [(&rx, received), (&tx, sent)] {
        if !chains.is_empty() {
            ring.add_desc_chains(chains, 0).expect("they fit");
        }
    }
    let queues = (rx.create_queue().expect("valid"), tx.create_queue().expect("valid"));
    let Rig { activated, .. } = rig(memory, queues.0, queues.1, FEATURES);
    let (ours, host) = UnixStream::pair().expect("descriptors");
    let backend = NetBackend::Stream(ours);
    let mut net = Net::new(NetConfig { backend, ..NetConfig::default() });
    net.wire.prepare(0).expect("the host has room");
    Streamed { memory, rx, tx, activated, net, host }
}

impl Streamed<'_> {
    fn transmit(&mut self) -> Served {
        self.net.transmit(&mut self.activated).expect("the ring is sound")
    }

    /// How many of the guest's buffers have been filled since they were offered.
    fn receive(&mut self) -> u16 {
        let mut receiver = Receiver::new(self.memory, FEATURES);
        let served = self.net.receive(&mut self.activated, &mut receiver);
        assert_eq!(served.expect("the ring is sound"), Served::All);
        receiver.give_back(&mut self.activated.queues[RX].queue);
        self.rx.used().idx().load()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.host.write_all(bytes).expect("there is room");
    }

    fn hear(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.host.read_exact(&mut length).expect("a length");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.host.read_exact(&mut frame).expect("a frame");
        frame
    }

    fn is_silent(&mut self) -> bool {
        self.host.set_nonblocking(true).expect("it is open");
        self.host.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

fn with_length(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).expect("it is short");
    [&length.to_be_bytes(), frame].concat()
}

#[test]
fn a_frame_leaves_behind_its_length_and_without_a_header() {
    let memory = memory();
    let sent = frame(12 + 100);
    memory.write_slice(&sent, GuestAddress(DATA)).expect("it is memory");
    let chains = [descriptor(DATA, 20, NEXT, 1), descriptor(DATA + 20, 92, 0, 0)];
    let mut guest = streamed(&memory, &[], &chains);
    assert_eq!(guest.transmit(), Served::All);
    assert_eq!(guest.hear(), sent[12..]);
    assert!(guest.is_silent());
}

#[test]
fn what_asks_for_a_checksum_or_for_pieces_is_dropped() {
    let memory = memory();
    let mut chains = Vec::new();
    // A checksum that is known to be right asks for nothing.
    for (header, bytes) in [([1, 0], 100), ([0, 1], 101), ([3, 4], 102), ([2, 0], 103)] {
        let address = DATA + 0x1000 * chains.len() as u64;
        memory.write_slice(&header, GuestAddress(address)).expect("it is memory");
        chains.push(descriptor(address, 12 + bytes, 0, 0));
    }
    let mut guest = streamed(&memory, &[], &chains);
    guest.transmit();
    assert_eq!(guest.tx.used().idx().load(), 4);
    assert_eq!(guest.hear().len(), 103);
    assert!(guest.is_silent());
}

#[test]
fn frames_that_come_in_pieces_arrive_whole() {
    let memory = memory();
    let mut guest = streamed(&memory, &buffers(&[1000; 4]), &[]);
    let (first, second) = (frame(60), frame(1500));
    let wire = [with_length(&first), with_length(&second)].concat();
    let (last, all_but_one) = wire.split_last().expect("it is long");
    for byte in all_but_one {
        guest.write(&[*byte]);
        assert!(guest.receive() < 2);
    }
    guest.write(&[*last]);
    assert_eq!(guest.receive(), 3);
    let filled = [0, 1, 2].map(|at| used(&guest.rx, at));
    assert_eq!(filled, [(0, 72), (1, 1000), (2, 512)]);
    let mut heard = vec![0; 1512];
    memory.read_slice(&mut heard, GuestAddress(DATA + 1000)).expect("it is memory");
    assert_eq!(heard[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0], "two buffers, nothing to do");
    assert_eq!(heard[12..], second);
}

#[test]
fn several_frames_at_once_arrive_one_by_one() {
    let memory = memory();
    let mut guest = streamed(&memory, &buffers(&[2000; 8]), &[]);
    let wire: Vec<u8> = (0..8).flat_map(|more| with_length(&frame(100 + more))).collect();
    guest.write(&wire);
    assert_eq!(guest.receive(), 8);
    for at in 0..8 {
        assert_eq!(used(&guest.rx, at).1 as usize, 12 + 100 + at);
    }
}

#[test]
fn the_longest_frame_fits_and_a_longer_one_ends_the_stream() {
    let memory = memory();
    let mut guest = streamed(&memory, &buffers(&[70_000; 8]), &[descriptor(DATA, 112, 0, 0)]);
    let wire = with_length(&frame(65_550));
    let (front, back) = wire.split_at(40_000);
    guest.write(front);
    assert_eq!(guest.receive(), 0);
    guest.write(back);
    assert_eq!(guest.receive(), 1);
    assert_eq!(used(&guest.rx, 0).1, 65_562);
    guest.write(&65_551u32.to_be_bytes());
    guest.write(&with_length(&frame(60)));
    assert_eq!(guest.receive(), 1, "nobody knows where the next frame begins");
    guest.transmit();
    assert_eq!(guest.tx.used().idx().load(), 1, "the guest's frame is taken");
    assert!(guest.is_silent());
}

#[test]
fn what_is_too_short_to_be_a_frame_is_left_out() {
    let memory = memory();
    let mut guest = streamed(&memory, &buffers(&[2000; 4]), &[]);
    guest.write(&[with_length(&[]), with_length(&frame(13)), with_length(&frame(14))].concat());
    assert_eq!(guest.receive(), 1);
    assert_eq!(used(&guest.rx, 0), (0, 26));
}

#[test]
fn a_program_that_goes_away_leaves_a_guest_that_nobody_hears() {
    let memory = memory();
    let sent = [descriptor(DATA, 112, 0, 0); 2];
    let mut guest = streamed(&memory, &buffers(&[2000; 4]), &sent);
    // In the midst of a frame.
    guest.write(&with_length(&frame(100))[..50]);
    guest.host = UnixStream::pair().expect("descriptors").0;
    assert_eq!(guest.transmit(), Served::All);
    assert_eq!(guest.tx.used().idx().load(), 2);
    assert_eq!(guest.receive(), 0);
}

#[test]
fn a_program_that_reads_late_gets_all_of_it_in_order() {
    let memory = memory();
    let lengths: Vec<u32> = (0..8).map(|at| 60_000 + at).collect();
    let chains: Vec<_> = lengths.iter().map(|length| descriptor(DATA, 12 + length, 0, 0)).collect();
    let mut guest = streamed(&memory, &[], &chains);
    let socket = guest.net.wire.source().expect("a socket");
    set_socket_send_buffer_size(socket, 4096).expect("it has one");
    assert_eq!(guest.transmit(), Served::All);
    assert!(guest.tx.used().idx().load() < 8, "the rest waits in the queue");
    let Streamed { mut activated, mut net, mut host, tx, .. } = guest;
    let stop = activated.stop.try_clone().expect("a descriptor");
    let device = thread::spawn(move || net.run(&mut activated));
    for length in lengths {
        let mut heard = [0; 4];
        host.read_exact(&mut heard).expect("a length");
        assert_eq!(u32::from_be_bytes(heard), length);
        host.read_exact(&mut vec![0; length as usize]).expect("a frame");
    }
    stop.write(1).expect("there is room");
    device.join().expect("it does not panic").expect("it does not fail");
    assert_eq!(tx.used().idx().load(), 8);
}

#[test]
fn a_frame_that_was_begun_is_sent_whole_though_nobody_is_heard_any_more() {
    let memory = memory();
    let sent = [descriptor(DATA, 12 + 60_000, 0, 0)];
    let mut guest = streamed(&memory, &buffers(&[2000; 4]), &sent);
    let socket = guest.net.wire.source().expect("a socket");
    set_socket_send_buffer_size(socket, 4096).expect("it has one");
    guest.transmit();
    guest.write(&u32::MAX.to_be_bytes());
    assert_eq!(guest.receive(), 0);
    guest.host.set_nonblocking(true).expect("it is open");
    let mut heard = Vec::new();
    while !guest.net.wire.is_clear() {
        let _until_there_is_no_more = guest.host.read_to_end(&mut heard);
    }
    let _until_there_is_no_more = guest.host.read_to_end(&mut heard);
    assert_eq!(heard.len(), 4 + 60_000);
}

#[test]
fn no_program_brings_a_device_at_work_down() {
    let half = &with_length(&frame(100))[..50];
    let (endless, long) = (u32::MAX.to_be_bytes(), 65_551u32.to_be_bytes());
    for said in [&endless[..], &long, half, &[0; 4096], &[0, 0], &[]] {
        let memory = memory();
        let sent = [descriptor(DATA, 112, 0, 0); 2];
        let mut guest = streamed(&memory, &buffers(&[2000; 4]), &sent);
        guest.write(said);
        let Streamed { mut activated, mut net, host, rx, tx, .. } = guest;
        drop(host);
        let stop = activated.stop.try_clone().expect("a descriptor");
        let device = thread::spawn(move || net.run(&mut activated));
        while tx.used().idx().load() < 2 {
            thread::yield_now();
        }
        stop.write(1).expect("there is room");
        device.join().expect("it does not panic").expect("it does not fail");
        assert_eq!(rx.used().idx().load(), 0, "{said:?}");
    }
}
