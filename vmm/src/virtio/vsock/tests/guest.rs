//! A driver made of plain memory, and the vsock device in its thread on the other side.

use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use virtio_queue::Queue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::super::credit::BUF_ALLOC;
use super::super::packet::{HEADER_BYTES, HOST_CID, Header, Operation, VIRTIO_VSOCK_TYPE_STREAM};
use super::super::*;
use crate::virtio::device::{ActiveQueue, Interrupt};

pub(super) const CID: u64 = 3;
pub(super) const PORT: u32 = 1024;
pub(super) const SIZE: u16 = 16;
/// What Linux gives: a page beside the header.
const BUFFER_BYTES: u32 = 4096 + 44;
const PATIENCE: Duration = Duration::from_secs(20);

/// A driver and the device it drives.
pub(super) struct Guest {
    pub(super) memory: GuestMemoryMmap,
    address: SocketAddr,
    pub(super) rx: Ring,
    pub(super) tx: Ring,
    events: Ring,
    kicks: [EventFd; 3],
    irq: Arc<EventFd>,
    stop: EventFd,
    device: Option<JoinHandle<(Vsock, Activated)>>,
    /// The buffer that the device may fill on each connection.
    pub(super) buf_alloc: u32,
}

/// A virtqueue as the driver sees it.
pub(super) struct Ring {
    pub(super) base: u64,
    pub(super) avail: u16,
    pub(super) used: u16,
}

impl Ring {
    const AVAIL: u64 = 0x1000;
    const USED: u64 = 0x2000;

    pub(super) fn queue(&self) -> Queue {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.try_set_desc_table_address(GuestAddress(self.base)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(self.base + Self::AVAIL)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(self.base + Self::USED)).unwrap();
        queue.set_event_idx(true);
        queue.set_ready(true);
        queue
    }

    pub(super) fn write<T: vm_memory::ByteValued>(
        &self,
        memory: &GuestMemoryMmap,
        offset: u64,
        value: T,
    ) {
        memory.write_obj(value, GuestAddress(self.base + offset)).unwrap();
    }

    /// Offers a chain that begins with descriptor `head`.
    pub(super) fn offer(&mut self, memory: &GuestMemoryMmap, head: u16) {
        self.write(memory, Self::AVAIL + 4 + 2 * u64::from(self.avail % SIZE), head);
        self.avail = self.avail.wrapping_add(1);
        // The ring's flags, then its index: the device may look once this is written.
        memory
            .store(self.avail, GuestAddress(self.base + Self::AVAIL + 2), Ordering::Release)
            .unwrap();
    }

    pub(super) fn describe(
        &self,
        memory: &GuestMemoryMmap,
        index: u16,
        part: (u64, u32),
        flags: u16,
    ) {
        let offset = 16 * u64::from(index);
        self.write(memory, offset, part.0);
        self.write(memory, offset + 8, part.1);
        self.write(memory, offset + 12, flags);
        self.write(memory, offset + 14, index + 1);
    }

    /// Notifies the device of the chain that was offered last, if it wants to be: as Linux does, so that
    /// what it forgets to wish for is found out (virtio 1.2, 2.7.10).
    fn notify(&self, memory: &GuestMemoryMmap, kick: &EventFd) {
        fence(Ordering::SeqCst);
        let wished = GuestAddress(self.base + Self::USED + 4 + 8 * u64::from(SIZE));
        let wished: u16 = memory.load(wished, Ordering::SeqCst).unwrap();
        if self.avail == wished.wrapping_add(1) {
            kick.write(1).unwrap();
        }
    }

    /// The next used element, and a wish to be interrupted after it.
    pub(super) fn take(&mut self, memory: &GuestMemoryMmap) -> Option<(u16, u32)> {
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
    pub(super) fn new() -> Self {
        let (address, listener) = doorway();
        let event = || EventFd::new(0).unwrap();
        let mut guest = Self {
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap(),
            address,
            rx: Ring { base: 0x1_0000, avail: 0, used: 0 },
            tx: Ring { base: 0x2_0000, avail: 0, used: 0 },
            events: Ring { base: 0x3_0000, avail: 0, used: 0 },
            kicks: [event(), event(), event()],
            irq: Arc::new(event()),
            stop: event(),
            device: None,
            buf_alloc: 1 << 20,
        };
        let queues = [guest.rx.queue(), guest.tx.queue(), guest.events.queue()];
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
    pub(super) fn ready() -> Self {
        let mut guest = Self::new();
        (0..SIZE).for_each(|index| guest.offer_rx(index));
        guest
    }

    pub(super) fn run(&mut self, mut device: Vsock, mut activated: Activated) {
        self.device = Some(thread::spawn(move || {
            device.run(&mut activated).unwrap();
            (device, activated)
        }));
    }

    pub(super) fn stop(&mut self) -> (Vsock, Activated) {
        self.stop.write(1).unwrap();
        let device = self.device.take().unwrap().join().unwrap();
        self.stop.read().unwrap();
        device
    }

    /// Another device takes the place of the one that runs, as in a copy of the machine.
    pub(super) fn copy(&mut self) {
        let (device, activated) = self.stop();
        let (address, listener) = doorway();
        self.address = address;
        let mut copy = Vsock::new(VsockConfig { cid: CID, listener });
        copy.follow(device.past());
        assert_eq!(copy.past(), device.past());
        self.run(copy, activated);
    }

    /// Offers a buffer for an event.
    pub(super) fn offer_event(&mut self) {
        self.events.describe(&self.memory, 0, (0x30_0000, 4), 2);
        self.events.offer(&self.memory, 0);
        self.events.notify(&self.memory, &self.kicks[EVENT]);
    }

    /// The next event from the device.
    pub(super) fn take_event(&mut self) -> u32 {
        let bytes = loop {
            match self.events.take(&self.memory) {
                Some((_, bytes)) => break bytes,
                None => self.await_irq(),
            }
        };
        assert_eq!(bytes, 4);
        self.memory.read_obj(GuestAddress(0x30_0000)).unwrap()
    }

    /// A program of the host that has asked for [`PORT`]; the guest has not heard of it yet.
    pub(super) fn knock(&self) -> UnixStream {
        let mut client = UnixStream::connect_addr(&self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"CONNECT 1024\n").unwrap();
        client
    }

    pub(super) fn offer_rx(&mut self, index: u16) {
        let address = 0x10_0000 + 0x2000 * u64::from(index);
        self.rx.describe(&self.memory, index, (address, BUFFER_BYTES), 2);
        self.rx.offer(&self.memory, index);
        self.rx.notify(&self.memory, &self.kicks[RX]);
    }

    fn await_irq(&self) {
        let mut wakes = Vec::new();
        let mut waiting = Poll::new().unwrap();
        waiting.watch(&*self.irq, Token::Kick, Interest::Level).unwrap();
        waiting.wait(&mut wakes, Patience::Idle).unwrap();
        self.irq.read().unwrap();
    }

    /// The next packet from the device; its buffer is offered again.
    pub(super) fn receive(&mut self) -> (Header, Vec<u8>) {
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

    pub(super) fn expect(&mut self, operation: Operation) -> Header {
        let (header, _) = self.receive();
        assert_eq!(header.operation(), Some(operation), "{header:?}");
        header
    }

    /// Sends bytes as they are, in descriptors of `part` bytes.
    pub(super) fn send_raw(&mut self, bytes: &[u8], part: usize) {
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

    pub(super) fn offer_tx(&mut self, head: u16) {
        self.tx.offer(&self.memory, head);
        self.tx.notify(&self.memory, &self.kicks[TX]);
        while self.tx.take(&self.memory).is_none() {
            self.await_irq();
        }
    }

    pub(super) fn send(
        &mut self,
        to: u32,
        operation: Operation,
        flags: u32,
        fwd_cnt: u32,
        data: &[u8],
    ) {
        let header = Header {
            len: u32::try_from(data.len()).unwrap(),
            flags,
            fwd_cnt,
            ..self.header(to, operation)
        };
        self.send_raw(&[&header.encode()[..], data].concat(), 8192);
    }

    pub(super) fn header(&self, to: u32, operation: Operation) -> Header {
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
    pub(super) fn request(&mut self) -> (UnixStream, u32) {
        let client = self.knock();
        let request = self.expect(Operation::Request);
        assert_eq!((request.src_cid, request.dst_cid, request.dst_port), (HOST_CID, CID, PORT));
        assert_eq!((request.buf_alloc, request.fwd_cnt), (BUF_ALLOC, 0));
        (client, request.src_port)
    }

    pub(super) fn connect(&mut self) -> (UnixStream, u32) {
        let (client, port) = self.request();
        self.send(port, Operation::Response, 0, 0, &[]);
        let mut line = String::new();
        // Nothing follows the line yet, so the buffer holds no more than it.
        BufReader::new(&client).read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK {port}\n"));
        (client, port)
    }

    /// The device still serves.
    pub(super) fn is_alive(&mut self) {
        let (_client, port) = self.connect();
        self.send(port, Operation::CreditRequest, 0, 0, &[]);
        self.expect(Operation::CreditUpdate);
        self.send(port, Operation::Reset, 0, 0, &[]);
    }
}

/// Where programs of the host come in.
fn doorway() -> (SocketAddr, UnixListener) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("hyperrun-vsock-test-{}-{count}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    (address, listener)
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.device.is_some() {
            self.stop();
        }
    }
}
