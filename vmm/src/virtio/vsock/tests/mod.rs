//! What guest and host see of the whole vsock device.

mod guest;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use vm_memory::{Bytes, GuestAddress};

use self::guest::{CID, Guest, PORT, SIZE};
use super::credit::BUF_ALLOC;
use super::packet::{HOST_CID, Header, Operation};
use super::*;

fn pattern(bytes: usize) -> Vec<u8> {
    (0..251u8).map(|index| index.wrapping_mul(7)).cycle().take(bytes).collect()
}

#[test]
fn bytes_flow_both_ways_and_each_way_closes_on_its_own() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();

    client.write_all(b"to the guest").unwrap();
    let (header, data) = guest.receive();
    assert_eq!(header.operation(), Some(Operation::Data));
    assert_eq!(data, b"to the guest");

    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(Operation::Shutdown).flags, 2);

    guest.send(port, Operation::Data, 0, 12, b"to the host");
    guest.send(port, Operation::Shutdown, 2, 12, &[]);
    let mut read = String::new();
    client.read_to_string(&mut read).unwrap();
    assert_eq!(read, "to the host");

    guest.send(port, Operation::Shutdown, 3, 12, &[]);
    loop {
        let (header, _) = guest.receive();
        if header.operation() == Some(Operation::Reset) {
            break;
        }
        assert_eq!(header.operation(), Some(Operation::Shutdown));
    }
    guest.is_alive();
}

#[test]
fn a_refused_connection_is_closed_without_a_word() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.request();
    guest.send(port, Operation::Reset, 0, 0, &[]);
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn a_lost_client_resets_what_it_asked_for() {
    let mut guest = Guest::ready();
    let (client, port) = guest.request();
    drop(client);
    assert_eq!(guest.expect(Operation::Reset).src_port, port);
}

#[test]
fn a_closed_client_is_shut_down_after_its_last_byte() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();
    client.write_all(b"bye").unwrap();
    drop(client);
    let mut read = Vec::new();
    let flags = loop {
        let (header, data) = guest.receive();
        read.extend(data);
        if header.operation() == Some(Operation::Shutdown) && header.flags == 3 {
            break header.flags;
        }
    };
    assert_eq!((flags, &read[..]), (3, &b"bye"[..]));
    guest.send(port, Operation::Reset, 0, 3, &[]);
    guest.is_alive();
}

#[test]
fn the_guest_can_open_nothing() {
    let mut guest = Guest::ready();
    guest.send(77, Operation::Request, 0, 0, &[]);
    let reset = guest.expect(Operation::Reset);
    assert_eq!((reset.src_port, reset.dst_port), (77, PORT));
    assert_eq!((reset.src_cid, reset.dst_cid), (HOST_CID, CID));
}

#[test]
fn hostile_packets_end_a_connection_or_go_nowhere() {
    type Change = fn(&mut Header);
    let ends: [(&str, Change); 8] = [
        ("unknown operation", |header| header.op = 99),
        ("unknown type", |header| header.kind = 9),
        ("second response", |header| header.op = 2),
        ("request on a connection", |header| header.op = 1),
        ("longer than its chain", |header| header.len = 1),
        ("longer than any packet", |header| header.len = u32::MAX),
        ("took what was never sent", |header| header.fwd_cnt = 1),
        ("wrong port", |header| header.src_port = 1),
    ];
    for (name, change) in ends {
        let mut guest = Guest::ready();
        let (_client, port) = guest.connect();
        let mut header = guest.header(port, Operation::Data);
        change(&mut header);
        guest.send_raw(&header.encode(), 44);
        assert_eq!(guest.expect(Operation::Reset).src_port, port, "{name}");
        guest.is_alive();
    }
    let dropped: [(&str, Change); 3] = [
        ("another guest's", |header| header.src_cid = 4),
        ("for another guest", |header| header.dst_cid = 4),
        ("a reset of nothing", |header| (header.op, header.dst_port) = (3, 5)),
    ];
    for (name, change) in dropped {
        let mut guest = Guest::ready();
        let mut header = guest.header(5, Operation::Data);
        change(&mut header);
        guest.send_raw(&header.encode(), 44);
        println!("{name}");
        guest.is_alive();
    }
}

#[test]
fn hostile_chains_are_given_back() {
    let mut guest = Guest::ready();
    guest.send_raw(&[0xff; 43], 43);
    guest.send_raw(&[0xff; 15], 1);
    // Outside of the memory, at the end of the address space, in a circle, not there, for writing.
    for (part, flags) in [
        ((1 << 40, 44), 0),
        ((u64::MAX - 10, 44), 0),
        ((0x20_0000, 44), 2),
        ((0x3f_ffff, 44), 0),
        ((0x20_0000, u32::MAX), 0),
    ] {
        guest.tx.describe(&guest.memory.clone(), 0, part, flags);
        guest.offer_tx(0);
    }
    let memory = guest.memory.clone();
    guest.tx.describe(&memory, 0, (0x20_0000, 1), 1);
    guest.tx.write(&memory, 14, 0u16);
    guest.offer_tx(0);
    guest.is_alive();
}

#[test]
fn a_header_may_come_in_many_descriptors() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();
    let header = Header { len: 5, ..guest.header(port, Operation::Data) };
    guest.send_raw(&[&header.encode()[..], b"hello"].concat(), 7);
    let mut read = [0; 5];
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
}

#[test]
fn the_device_sends_no_more_than_the_guest_has_room_for() {
    let mut guest = Guest::ready();
    guest.buf_alloc = 10_000;
    let (mut client, port) = guest.connect();
    let sent = pattern(100_000);
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client
    });
    let mut read = Vec::new();
    let mut told = 0;
    while read.len() < expected.len() {
        if read.len() - told == 10_000 {
            // Nothing comes before the guest has made room.
            assert_eq!(guest.rx.take(&guest.memory), None);
            told = read.len();
            let fwd_cnt = u32::try_from(told).unwrap();
            guest.send(port, Operation::CreditUpdate, 0, fwd_cnt, &[]);
        }
        let (header, data) = guest.receive();
        assert_eq!(header.operation(), Some(Operation::Data));
        read.extend(data);
        assert!(read.len() - told <= 10_000);
    }
    assert_eq!(read, expected);
    writer.join().unwrap();
}

#[test]
fn a_program_that_does_not_read_stops_the_guest_and_loses_nothing() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();
    let sent = pattern(4 << 20);
    let expected = sent.clone();
    let (mut position, mut fwd_cnt) = (0, 0);
    let mut reader = None;
    while position < sent.len() {
        let room = BUF_ALLOC - (u32::try_from(position).unwrap().wrapping_sub(fwd_cnt));
        let take = (room as usize).min(60_000).min(sent.len() - position);
        if take == 0 {
            // Only now somebody reads.
            let mut client = client.try_clone().unwrap();
            reader.get_or_insert_with(|| {
                thread::spawn(move || {
                    let mut read = vec![0; 4 << 20];
                    client.read_exact(&mut read).unwrap();
                    read
                })
            });
            fwd_cnt = guest.expect(Operation::CreditUpdate).fwd_cnt;
            continue;
        }
        guest.send(port, Operation::Data, 0, 0, &sent[position..position + take]);
        position += take;
        while let Some((index, _)) = guest.rx.take(&guest.memory) {
            let address = GuestAddress(0x10_0000 + 0x2000 * u64::from(index) + 40);
            fwd_cnt = guest.memory.read_obj(address).unwrap();
            guest.offer_rx(index);
        }
    }
    assert!(reader.unwrap().join().unwrap() == expected);
    guest.send(port, Operation::Shutdown, 3, 0, &[]);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn more_than_the_credit_ends_the_connection_but_loses_nothing_before() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();
    let block = pattern(64 << 10);
    let blocks = BUF_ALLOC as usize / block.len();
    for _ in 0..blocks {
        guest.send(port, Operation::Data, 0, 0, &block);
    }
    while let Some((index, _)) = guest.rx.take(&guest.memory) {
        guest.offer_rx(index);
    }
    // A reset without a shutdown: what was sent is still delivered.
    guest.send(port, Operation::Reset, 0, 0, &[]);
    let mut read = Vec::new();
    client.read_to_end(&mut read).unwrap();
    assert!(read == block.repeat(blocks));

    let (_client, port) = guest.connect();
    for _ in 0..blocks {
        guest.send(port, Operation::Data, 0, 0, &block);
    }
    // By the guest's own account there is no room: it has not been told of any.
    let told = std::iter::from_fn(|| guest.rx.take(&guest.memory)).count();
    if told == 0 {
        guest.send(port, Operation::Data, 0, 0, b"x");
        assert_eq!(guest.expect(Operation::Reset).src_port, port);
    }
}

#[test]
fn connections_take_turns() {
    let mut guest = Guest::new();
    (0..4).for_each(|index| guest.offer_rx(index));
    let (mut first, first_port) = guest.connect();
    let (mut second, second_port) = guest.connect();
    first.write_all(&pattern(60_000)).unwrap();
    second.write_all(&pattern(60_000)).unwrap();
    let ports: Vec<u32> = (0..20).map(|_| guest.receive().0.src_port).collect();
    // The first few may all be the first connection's: the second one wrote later.
    for port in [first_port, second_port] {
        assert!(ports.iter().filter(|other| **other == port).count() >= 5, "{ports:?}");
    }
}

#[test]
fn nothing_is_lost_without_receive_buffers() {
    let mut guest = Guest::new();
    // More than may wait: the rest stays in the transmit queue.
    for _ in 0..200 {
        guest.send(77, Operation::Request, 0, 0, &[]);
    }
    (0..SIZE).for_each(|index| guest.offer_rx(index));
    for _ in 0..200 {
        guest.expect(Operation::Reset);
    }
    guest.is_alive();
}

#[test]
fn connections_survive_a_pause_and_not_a_new_driver() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();
    let (device, activated) = guest.stop();
    client.write_all(b"while paused").unwrap();
    guest.run(device, activated);
    assert_eq!(guest.receive().1, b"while paused");
    guest.send(port, Operation::Data, 0, 12, b"after");
    let mut read = [0; 5];
    client.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"after");

    let (device, mut activated) = guest.stop();
    for ring in [&mut guest.rx, &mut guest.tx] {
        (ring.avail, ring.used) = (0, 0);
        guest.memory.write_slice(&[0; 0x3000], GuestAddress(ring.base)).unwrap();
    }
    activated.queues[RX].queue = guest.rx.queue();
    activated.queues[TX].queue = guest.tx.queue();
    (0..SIZE).for_each(|index| guest.offer_rx(index));
    guest.run(device, activated);
    assert_eq!(client.read(&mut read).unwrap(), 0);
    guest.is_alive();
}

#[test]
fn a_copy_lets_nobody_in_before_its_guest_knows_that_all_connections_are_gone() {
    let mut guest = Guest::ready();
    let (_client, port) = guest.connect();
    // It has no buffer for the event, then one; and then it is done with it.
    guest.copy();
    let _next = guest.knock();
    guest.send(port, Operation::CreditRequest, 0, 0, &[]);
    guest.expect(Operation::Reset);
    guest.offer_event();
    assert_eq!(guest.take_event(), 0);
    guest.send(port, Operation::CreditRequest, 0, 0, &[]);
    guest.expect(Operation::Reset);
    guest.offer_event();
    let request = guest.expect(Operation::Request);
    assert!(request.src_port > port, "the guest may still know the old one");
    // Paused and resumed, it does not begin again.
    let (device, activated) = guest.stop();
    guest.run(device, activated);
    guest.send(request.src_port, Operation::Response, 0, 0, &[]);
    guest.is_alive();
}

#[test]
fn a_guest_hears_of_what_it_has_ended_before_it_is_saved() {
    let mut guest = Guest::ready();
    let (client, port) = guest.connect();
    drop(client);
    while guest.expect(Operation::Shutdown).flags != 3 {}
    guest.send(port, Operation::Shutdown, 3, 0, &[]);
    // So its copy has nothing to learn.
    guest.copy();
    guest.expect(Operation::Reset);
    guest.is_alive();
}

#[test]
fn a_copy_of_a_guest_without_connections_has_nothing_to_learn() {
    let mut guest = Guest::ready();
    guest.copy();
    guest.is_alive();
    // One that broke off half way through begins where it was.
    let (_client, _) = guest.connect();
    guest.copy();
    guest.offer_event();
    assert_eq!(guest.take_event(), 0);
    guest.copy();
    guest.offer_event();
    assert_eq!(guest.take_event(), 0);
    guest.offer_event();
    guest.is_alive();
}

#[test]
fn every_byte_survives_pauses_under_traffic() {
    let mut guest = Guest::ready();
    let (mut client, port) = guest.connect();
    let (down, up) = (pattern(1 << 20), pattern(300_000));
    let (sent, expected) = (down.clone(), up.clone());
    let program = thread::spawn(move || {
        let mut reading = client.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut read = vec![0; expected.len()];
            reading.read_exact(&mut read).unwrap();
            read == expected
        });
        client.write_all(&sent).unwrap();
        (reader.join().unwrap(), client)
    });
    let (mut read, mut pauses, mut position) = (Vec::new(), 0, 0);
    for turn in 0.. {
        if read.len() == down.len() && position == up.len() {
            break;
        }
        if turn % 3 == 0 {
            let (device, activated) = guest.stop();
            guest.run(device, activated);
            pauses += 1;
        }
        let taken = u32::try_from(read.len()).unwrap();
        if position < up.len() {
            let end = up.len().min(position + 3001);
            guest.send(port, Operation::Data, 0, taken, &up[position..end]);
            position = end;
        } else {
            guest.send(port, Operation::CreditUpdate, 0, taken, &[]);
        }
        while read.len() < down.len() {
            let (header, data) = guest.receive();
            if header.operation() == Some(Operation::Data) {
                read.extend(data);
                break;
            }
        }
    }
    assert!(read == down, "what the program sent");
    let (arrived, _client) = program.join().unwrap();
    assert!(arrived, "what the guest sent");
    assert!(pauses > 50, "{pauses} pauses");
}
