//! Questions and orders to the kernel's netlink: several in one message, each answered.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::io::Errno;

/// Where a message's header ends, and where things in it are (linux/netlink.h).
const HEADER_BYTES: usize = 16;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE` (linux/netfilter/nfnetlink.h, nf_tables.h).
const GET_TABLE: u16 = 10 << 8 | 1;
/// `NFTA_TABLE_NAME`.
const TABLE_NAME: u16 = 1;
/// `NFPROTO_INET`, `NFPROTO_BRIDGE` (linux/netfilter.h).
pub(super) const FAMILIES: [u8; 2] = [1, 7];

/// A socket of rtnetlink(7).
pub(super) struct Netlink(Socket);

/// A socket for questions to nftables.
pub(super) struct Netfilter(Socket);

/// An order, with what makes of it more than an order to change what is there (`NLM_F_…`).
pub(super) struct Order {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        connected(NETLINK_ROUTE).map(Self)
    }

    /// The number of an interface; none when there is no such interface.
    pub(super) fn index(&self, name: &str) -> io::Result<Option<u32>> {
        index(&self.0, name)
    }

    /// The name of an interface.
    pub(super) fn name(&self, index: u32) -> io::Result<String> {
        Ok(rustix::net::netdevice::index_to_name(self.0.as_fd(), index)?)
    }

    /// Has orders carried out, one after the other, up to the first that is refused.
    pub(super) fn carry_out(&self, orders: impl IntoIterator<Item = Order>) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut count = 0;
        for Order { message, flags } in orders {
            count += 1;
            append(&mut buffer, message, NLM_F_REQUEST | NLM_F_ACK | flags, count);
        }
        self.0.send(&buffer, 0)?;
        let mut refused = Ok(());
        while count > 0 {
            let (answer, _) = self.0.recv_from_full()?;
            for message in messages::<RouteNetlinkMessage>(&answer) {
                if let NetlinkPayload::Error(error) = message?.payload {
                    count = count.saturating_sub(1);
                    if error.code.is_some() && refused.is_ok() {
                        refused = Err(error.to_io());
                    }
                }
            }
        }
        refused
    }

    /// All things of a kind.
    pub(super) fn dump(
        &self,
        question: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut buffer = Vec::new();
        append(&mut buffer, question, NLM_F_REQUEST | NLM_F_DUMP, 1);
        self.0.send(&buffer, 0)?;
        let mut found = Vec::new();
        loop {
            let (answer, _) = self.0.recv_from_full()?;
            // What this program does not understand does not concern it.
            for message in messages(&answer).flatten() {
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

impl Netfilter {
    pub(super) fn open() -> io::Result<Self> {
        connected(NETLINK_NETFILTER).map(Self)
    }

    /// As [`Netlink::index`]: any socket will do.
    pub(super) fn index(&self, name: &str) -> io::Result<Option<u32>> {
        index(&self.0, name)
    }

    /// How many tables of this name there are; one of each of [`FAMILIES`] is all.
    pub(super) fn count_tables(&self, name: &str) -> io::Result<usize> {
        let questions: Vec<u8> =
            FAMILIES.iter().flat_map(|family| get_table(*family, name)).collect();
        self.0.send(&questions, 0)?;
        let (mut answers, mut tables) = (0, 0);
        while answers < FAMILIES.len() {
            let (answer, _) = self.0.recv_from_full()?;
            for (kind, body) in raw_messages(&answer) {
                answers += 1;
                let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                match kind {
                    NLMSG_ERROR if code == -Errno::NOENT.raw_os_error() => {}
                    NLMSG_ERROR => return Err(io::Error::from_raw_os_error(-code)),
                    _ => tables += 1,
                }
            }
        }
        Ok(tables)
    }
}

/// The number of an interface; none when there is no such interface.
fn index(socket: &Socket, name: &str) -> io::Result<Option<u32>> {
    match rustix::net::netdevice::name_to_index(socket.as_fd(), name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The question for one table: a header of netlink, one of nfnetlink, and an attribute with the name.
fn get_table(family: u8, name: &str) -> Vec<u8> {
    let attribute_bytes = 4 + name.len() + 1;
    let bytes = HEADER_BYTES + 4 + attribute_bytes.next_multiple_of(4);
    let mut message = Vec::with_capacity(bytes);
    message.extend(u32::try_from(bytes).expect("it is short").to_ne_bytes());
    message.extend(GET_TABLE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, 0, 0, 0]);
    message.extend(u16::try_from(attribute_bytes).expect("it is short").to_ne_bytes());
    message.extend(TABLE_NAME.to_ne_bytes());
    message.extend(name.bytes());
    message.resize(bytes, 0);
    message
}

fn connected(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn append(buffer: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence_number: u32) {
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (flags, sequence_number);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut buffer[start..]);
}

/// The messages that came in one answer.
fn messages<M: netlink_packet_core::NetlinkDeserializable>(
    answer: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<M>>> {
    pieces(answer).map(|piece| {
        NetlinkMessage::deserialize(piece)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    })
}

/// The kinds and bodies of the messages that came in one answer.
fn raw_messages(answer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    pieces(answer).map(|piece| (u16::from_ne_bytes([piece[4], piece[5]]), &piece[HEADER_BYTES..]))
}

/// An answer cut up into its messages: each begins with its length.
fn pieces(mut answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let bytes = u32::from_ne_bytes(*answer.first_chunk()?);
        let bytes = usize::try_from(bytes).ok()?;
        if bytes < HEADER_BYTES || bytes > answer.len() {
            return None;
        }
        let piece = &answer[..bytes];
        answer = answer.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        Some(piece)
    })
}

const _: () = assert!(NLMSG_DONE == 3 && NLMSG_ERROR == 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_up_into_its_messages() {
        let question = get_table(7, "hr-1");
        assert_eq!(question.len(), 16 + 4 + 12);
        let two = [question.clone(), question.clone()].concat();
        let found: Vec<_> = raw_messages(&two).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, GET_TABLE);
        assert_eq!(&found[1].1[8..12], b"hr-1");
        for broken in [&two[..15], &[0; 20], &[255; 20], &[]] {
            assert_eq!(pieces(broken).count(), 0);
        }
        assert_eq!(pieces(&two[..40]).count(), 1);
    }

    #[test]
    fn every_host_has_a_loopback() {
        let netlink = Netlink::open().unwrap();
        let index = netlink.index("lo").unwrap().unwrap();
        assert_eq!(netlink.name(index).unwrap(), "lo");
        assert_eq!(netlink.index("nobody0").unwrap(), None);
        let question = RouteNetlinkMessage::GetLink(Default::default());
        assert!(!netlink.dump(question).unwrap().is_empty());
    }
}
