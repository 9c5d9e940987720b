//! The packets of virtio-vsock: a header of 44 bytes and what its fields mean.
//!
//! Everything is defined in virtio 1.2, section 5.10.6.

/// The bytes of `struct virtio_vsock_hdr`.
pub(super) const HEADER_BYTES: usize = 44;
/// The context id of the host, `VMADDR_CID_HOST` in vsock(7).
pub(super) const HOST_CID: u64 = 2;
/// `VIRTIO_VSOCK_TYPE_STREAM`, the one type of socket this device speaks.
pub(super) const VIRTIO_VSOCK_TYPE_STREAM: u16 = 1;
/// The most data that a packet carries, as in Linux (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
pub(super) const MAX_PAYLOAD_BYTES: u32 = 64 << 10;

/// `struct virtio_vsock_hdr`, as it came: nothing in it has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// The bytes of data after the header.
    pub(super) len: u32,
    /// The `type` field: the kind of socket.
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    /// The size of the sender's receive buffer, in bytes.
    pub(super) buf_alloc: u32,
    /// The bytes that the sender has taken out of that buffer so far, modulo 2^32.
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// Reads a header. Any 44 bytes are one.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            src_cid: u64::from_le_bytes(field(bytes, 0)),
            dst_cid: u64::from_le_bytes(field(bytes, 8)),
            src_port: u32::from_le_bytes(field(bytes, 16)),
            dst_port: u32::from_le_bytes(field(bytes, 20)),
            len: u32::from_le_bytes(field(bytes, 24)),
            kind: u16::from_le_bytes(field(bytes, 28)),
            op: u16::from_le_bytes(field(bytes, 30)),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buf_alloc: u32::from_le_bytes(field(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    /// Writes the header as the guest reads it.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// What the packet is for, if this device knows it.
    pub(super) fn operation(&self) -> Option<Operation> {
        Operation::from_bits(self.op)
    }

    /// The packet that refuses this one, with its addresses turned round (5.10.6.4).
    pub(super) fn refusal(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: Operation::Reset.bits(),
            ..Self::default()
        }
    }
}

/// What a packet is for: `enum virtio_vsock_op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// `VIRTIO_VSOCK_OP_REQUEST`: connect to me.
    Request,
    /// `VIRTIO_VSOCK_OP_RESPONSE`: connected.
    Response,
    /// `VIRTIO_VSOCK_OP_RST`: there is no such connection, or no longer.
    Reset,
    /// `VIRTIO_VSOCK_OP_SHUTDOWN`: the sender will receive or send no more.
    Shutdown,
    /// `VIRTIO_VSOCK_OP_RW`: data.
    Data,
    /// `VIRTIO_VSOCK_OP_CREDIT_UPDATE`: nothing but fresh credit fields.
    CreditUpdate,
    /// `VIRTIO_VSOCK_OP_CREDIT_REQUEST`: send me a credit update.
    CreditRequest,
}

impl Operation {
    const ALL: [(u16, Self); 7] = [
        (1, Self::Request),
        (2, Self::Response),
        (3, Self::Reset),
        (4, Self::Shutdown),
        (5, Self::Data),
        (6, Self::CreditUpdate),
        (7, Self::CreditRequest),
    ];

    fn from_bits(bits: u16) -> Option<Self> {
        Self::ALL.iter().find(|(number, _)| *number == bits).map(|(_, operation)| *operation)
    }

    /// The value of the `op` field.
    pub(super) fn bits(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

/// Which directions a side has closed: the `flags` of a shutdown packet (5.10.6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Closed {
    /// `VIRTIO_VSOCK_SHUTDOWN_RCV`: it receives no more.
    pub(super) receive: bool,
    /// `VIRTIO_VSOCK_SHUTDOWN_SEND`: it sends no more.
    pub(super) send: bool,
}

impl Closed {
    const VIRTIO_VSOCK_SHUTDOWN_RCV: u32 = 1 << 0;
    const VIRTIO_VSOCK_SHUTDOWN_SEND: u32 = 1 << 1;

    /// What `flags` says; bits that mean nothing are passed over.
    pub(super) fn from_flags(flags: u32) -> Self {
        Self {
            receive: flags & Self::VIRTIO_VSOCK_SHUTDOWN_RCV != 0,
            send: flags & Self::VIRTIO_VSOCK_SHUTDOWN_SEND != 0,
        }
    }

    /// The value of the `flags` field.
    pub(super) fn flags(self) -> u32 {
        let receive = if self.receive { Self::VIRTIO_VSOCK_SHUTDOWN_RCV } else { 0 };
        let send = if self.send { Self::VIRTIO_VSOCK_SHUTDOWN_SEND } else { 0 };
        receive | send
    }

    /// Closed is closed for good: what is said later only adds to it.
    pub(super) fn add(&mut self, other: Self) {
        self.receive |= other.receive;
        self.send |= other.send;
    }

    /// Whether nothing flows either way.
    pub(super) fn both(self) -> bool {
        self.receive && self.send
    }
}

/// `N` bytes at `offset`, which are there: every caller's numbers are constants below the size.
fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_lies_in_memory_as_the_specification_says() {
        let header = Header {
            src_cid: 0x0102_0304_0506_0708,
            dst_cid: HOST_CID,
            src_port: 0x1112_1314,
            dst_port: 0x2122_2324,
            len: 0x3132_3334,
            kind: VIRTIO_VSOCK_TYPE_STREAM,
            op: Operation::Data.bits(),
            flags: 0x4142_4344,
            buf_alloc: 0x5152_5354,
            fwd_cnt: 0x6162_6364,
        };
        let bytes = header.encode();
        let expected: [u8; HEADER_BYTES] = [
            8, 7, 6, 5, 4, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23,
            0x22, 0x21, 0x34, 0x33, 0x32, 0x31, 1, 0, 5, 0, 0x44, 0x43, 0x42, 0x41, 0x54, 0x53,
            0x52, 0x51, 0x64, 0x63, 0x62, 0x61,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Header::decode(&bytes), header);
    }

    #[test]
    fn operations_have_the_numbers_of_the_specification() {
        for bits in 0..=u16::MAX {
            match Operation::from_bits(bits) {
                Some(operation) => assert_eq!(operation.bits(), bits),
                None => assert!(bits == 0 || bits > 7),
            }
        }
    }

    #[test]
    fn shutdown_flags_are_two_bits() {
        for (flags, receive, send) in
            [(0, false, false), (1, true, false), (2, false, true), (3, true, true)]
        {
            let closed = Closed::from_flags(flags | 0xffff_fff0);
            assert_eq!(closed, Closed { receive, send });
            assert_eq!(closed.flags(), flags);
        }
    }

    #[test]
    fn a_refusal_goes_back_where_the_packet_came_from() {
        let packet = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: 10,
            dst_port: 20,
            kind: 7,
            len: 9,
            ..Header::default()
        };
        let refusal = packet.refusal();
        assert_eq!((refusal.src_cid, refusal.dst_cid), (2, 3));
        assert_eq!((refusal.src_port, refusal.dst_port), (20, 10));
        assert_eq!((refusal.kind, refusal.op, refusal.len), (7, 3, 0));
    }
}
