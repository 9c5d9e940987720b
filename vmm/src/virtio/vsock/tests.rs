//! The whole vsock device in its thread, with a driver made of plain memory on the other side.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use virtio_queue::Queue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::credit::BUF_ALLOC;
use super::packet::{HOST_CID, Operation, VIRTIO_VSOCK_TYPE_STREAM};
use super::*;
use crate::virtio::device::{ActiveQueue, Interrupt};

const CID: u64 = 3;
const PORT: u32 = 1024;
const SIZE: u16 = 16;
/// What Linux gives: a page beside the header.
const BUFFER_BYTES: u32 = 4096 + 44;
const PATIENCE: Duration = Duration::from_secs(20);

/// A driver and the device it drives.
struct Guest {
    memory: GuestMemoryMmap,
    address: SocketAddr,
    rx: Ring,
    tx: Ring,
    kicks: [EventFd; 3],
    irq: Arc<EventFd>,
    stop: EventFd,
    device: Option<JoinHandle<(Vsock, Activated)>>,
    /// The buffer that the device may fill on each connection.
    buf_alloc: u32,
}

/// A virtqueue as the driver sees it.
struct Ring {
    base: u64,
    avail: u16,
    used: u16,
}

impl Ring {
    const AVAIL: u64 = 0x1000;
    const USED: u64 = 0x2000;

    fn queue(&self) -> Queue {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.try_set_desc_table_address(GuestAddress(self.base)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(self.base + Self::AVAIL)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(self.base + Self::USED)).unwrap();
        queue.set_event_idx(true);
        queue.set_ready(true);
        queue
    }

    fn write<T: vm_memory::ByteValued>(&self, memory: &GuestMemoryMmap, offset: u64, value: T) {
        memory.write_obj(value, GuestAddress(self.base + offset)).unwrap();
    }

    /// Offers a chain that begins with descriptor `head`.
    fn offer(&mut self, memory: &GuestMemoryMmap, head: u16) {
        self.write(memory, Self::AVAIL + 4 + 2 * u64::from(self.avail % SIZE), head);
        self.avail = self.avail.wrapping_add(1);
        // The ring's flags, then its index: the device may look once this is written.
        memory
            .store(self.avail, GuestAddress(self.base + Self::AVAIL + 2), Ordering::Release)
            .unwrap();
    }

    fn describe(&self, memory: &GuestMemoryMmap, index: u16, part: (u64, u32), flags: u16) {
        let offset = 16 * u64::from(index);
        self.write(memory, offset, part.0);
        self.write(memory, offset + 8, part.1);
        self.write(memory, offset + 12, flags);
        self.write(memory, offset + 14, index + 1);
    }

    /// The next used element, and a wish to be interrupted after it.
    fn take(&mut self, memory: &GuestMemoryMmap) -> Option<(u16, u32)> {
        let used = GuestAddress(self.base + Self::USED);
        let index: u16 = memory.load(GuestAddress(used.0 + 2), Ordering::SeqCst).unwrap();
        if index == self.used {
            return None;
        }
        let element = used.0 + 4 + 8 * u64::from(self.used % SIZE);
        self.used = self.used.wrapping_add(1);
        let used_event = GuestAddress(self.base + Self::AVAIL + 4 + 2 * u64::from(SIZE));
        memory.store(self.used, used_event, Ordering::SeqCst).unwrap();
        let id: u32 = memory.read_obj(GuestAddress(element)).unwrap();
        let len: u32 = memory.read_obj(GuestAddress(element + 4)).unwrap();
        Some((u16::try_from(id).unwrap(), len))
    }
}

impl Guest {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hyperrun-vsock-test-{}-{count}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let event = || EventFd::new(0).unwrap();
        let mut guest = Self {
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap(),
            address,
            rx: Ring { base: 0x1_0000, avail: 0, used: 0 },
            tx: Ring { base: 0x2_0000, avail: 0, used: 0 },
            kicks: [event(), event(), event()],
            irq: Arc::new(event()),
            stop: event(),
            device: None,
            buf_alloc: 1 << 20,
        };
        let queues = [
            guest.rx.queue(),
            guest.tx.queue(),
            Ring { base: 0x3_0000, avail: 0, used: 0 }.queue(),
        ];
        let queues = queues.into_iter().zip(&guest.kicks);
        let activated = Activated {
            memory: guest.memory.clone(),
            queues: queues
                .map(|(queue, kick)| ActiveQueue { queue, kick: kick.try_clone().unwrap() })
                .collect(),
            interrupt: Interrupt::new(Arc::clone(&guest.irq)),
            stop: guest.stop.try_clone().unwrap(),
            features: 0,
        };
        guest.run(Vsock::new(VsockConfig { cid: CID, listener }), activated);
        guest
    }

    /// A guest that has offered all of its receive buffers.
    fn ready() -> Self {
        let mut guest = Self::new();
        (0..SIZE).for_each(|index| guest.offer_rx(index));
        guest
    }

    fn run(&mut self, mut device: Vsock, mut activated: Activated) {
        self.device = Some(thread::spawn(move || {
            device.run(&mut activated).unwrap();
            (device, activated)
        }));
    }

    fn stop(&mut self) -> (Vsock, Activated) {
        self.stop.write(1).unwrap();
        let device = self.device.take().unwrap().join().unwrap();
        self.stop.read().unwrap();
        device
    }

    fn offer_rx(&mut self, index: u16) {
        let address = 0x10_0000 + 0x2000 * u64::from(index);
        self.rx.describe(&self.memory, index, (address, BUFFER_BYTES), 2);
        self.rx.offer(&self.memory, index);
        self.kicks[RX].write(1).unwrap();
    }

    fn await_irq(&self) {
        let mut wakes = Vec::new();
        let mut waiting = Poll::new().unwrap();
        waiting.watch(&*self.irq, Token::Kick, Interest::Level).unwrap();
        waiting.wait(&mut wakes, Patience::Idle).unwrap();
        self.irq.read().unwrap();
    }

    /// The next packet from the device; its buffer is offered again.
    fn receive(&mut self) -> (Header, Vec<u8>) {
        let (index, len) = loop {
            match self.rx.take(&self.memory) {
                Some(used) => break used,
                None => self.await_irq(),
            }
        };
        let mut bytes = vec![0; len as usize];
        let address = GuestAddress(0x10_0000 + 0x2000 * u64::from(index));
        self.memory.read_slice(&mut bytes, address).unwrap();
        let header = Header::decode(bytes.first_chunk().unwrap());
        assert_eq!(header.len as usize, len as usize - HEADER_BYTES);
        self.offer_rx(index);
        (header, bytes.split_off(HEADER_BYTES))
    }

    fn expect(&mut self, operation: Operation) -> Header {
        let (header, _) = self.receive();
        assert_eq!(header.operation(), Some(operation), "{header:?}");
        header
    }

    /// Sends bytes as they are, in descriptors of `part` bytes.
    fn send_raw(&mut self, bytes: &[u8], part: usize) {
        self.memory.write_slice(bytes, GuestAddress(0x20_0000)).unwrap();
        let parts = bytes.len().div_ceil(part);
        for (index, chunk) in bytes.chunks(part).enumerate() {
            let address = 0x20_0000 + (index * part) as u64;
            let flags = u16::from(index + 1 < parts);
            let part = (address, u32::try_from(chunk.len()).unwrap());
            self.tx.describe(&self.memory, u16::try_from(index).unwrap(), part, flags);
        }
        self.offer_tx(0);
    }

    fn offer_tx(&mut self, head: u16) {
        self.tx.offer(&self.memory, head);
        self.kicks[TX].write(1).unwrap();
        while self.tx.take(&self.memory).is_none() {
            self.await_irq();
        }
    }

    fn send(&mut self, to: u32, operation: Operation, flags: u32, fwd_cnt: u32, data: &[u8]) {
        let header = Header {
            len: u32::try_from(data.len()).unwrap(),
            flags,
            fwd_cnt,
            ..self.header(to, operation)
        };
        self.send_raw(&[&header.encode()[..], data].concat(), 8192);
    }

    fn header(&self, to: u32, operation: Operation) -> Header {
        Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: PORT,
            dst_port: to,
            kind: VIRTIO_VSOCK_TYPE_STREAM,
            op: operation.bits(),
            buf_alloc: self.buf_alloc,
            ..Header::default()
        }
    }

    /// A program of the host that has asked for [`PORT`], and its port.
    fn request(&mut self) -> (UnixStream, u32) {
        let mut client = UnixStream::connect_addr(&self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"CONNECT 1024\n").unwrap();
        let request = self.expect(Operation::Request);
        assert_eq!((request.src_cid, request.dst_cid, request.dst_port), (HOST_CID, CID, PORT));
        assert_eq!((request.buf_alloc, request.fwd_cnt), (BUF_ALLOC, 0));
        (client, request.src_port)
    }

    fn connect(&mut self) -> (UnixStream, u32) {
        let (client, port) = self.request();
        self.send(port, Operation::Response, 0, 0, &[]);
        let mut line = String::new();
        // Nothing follows the line yet, so the buffer holds no more than it.
        BufReader::new(&client).read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK {port}\n"));
        (client, port)
    }

    /// The device still serves.
    fn is_alive(&mut self) {
        let (_client, port) = self.connect();
        self.send(port, Operation::CreditRequest, 0, 0, &[]);
        self.expect(Operation::CreditUpdate);
        self.send(port, Operation::Reset, 0, 0, &[]);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.device.is_some() {
            self.stop();
        }
    }
}

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
    for _ in 0..4 {
        guest.send(port, Operation::Data, 0, 0, &block);
    }
    while let Some((index, _)) = guest.rx.take(&guest.memory) {
        guest.offer_rx(index);
    }
    // A reset without a shutdown: what was sent is still delivered.
    guest.send(port, Operation::Reset, 0, 0, &[]);
    let mut read = Vec::new();
    client.read_to_end(&mut read).unwrap();
    assert!(read == block.repeat(4));

    let (_client, port) = guest.connect();
    for _ in 0..4 {
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
fn any_bytes_are_a_packet_or_none() {
    check_packet(&[]);
    for seed in 0..=255u8 {
        check_packet(&[seed; 43]);
        let bytes: Vec<u8> = (0..64).map(|index: u8| index.wrapping_mul(seed)).collect();
        check_packet(&bytes);
    }
}
