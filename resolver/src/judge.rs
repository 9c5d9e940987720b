//! Decides about one question: answered from the network's names, refused, or passed on. Reads bytes of
//! strangers, and touches nothing.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{
    Message, MessageBuilder, Name, ParsedName, Question, Rtype, StaticCompressor, ToName,
};
use domain::rdata::{A, Aaaa, Ptr};

use crate::arpa;
use crate::names::{Lease, Network};

/// How long an answer may be believed, in seconds: a name may be another container's soon.
const TTL: u32 = 5;
/// The longest message by UDP of one who has not said that longer ones are welcome, in bytes
/// (RFC 1035, section 2.3.4).
pub(crate) const DATAGRAM_BYTES: usize = 512;

/// What is to be done about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Others are to be asked.
    Forward,
    /// It is no question, and gets no answer.
    Silence,
}

/// A network that whoever asks is on, and its leases.
pub(crate) struct Scope<'a> {
    pub(crate) network: &'a Network,
    pub(crate) leases: Vec<&'a Lease>,
}

/// Decides about a question of somebody who is on these networks, of which the first is the one that it has
/// come by. Of the leases only those count that `is_live` agrees to, which is asked about few. An answer
/// has at most `room` bytes.
pub(crate) fn judge(
    query: &[u8],
    scopes: &[Scope<'_>],
    is_live: impl Fn(&Lease) -> bool,
    room: usize,
) -> Verdict {
    let Ok(message) = Message::from_slice(query) else { return Verdict::Silence };
    let header = message.header();
    if header.qr() {
        return Verdict::Silence;
    }
    if header.opcode() != Opcode::QUERY {
        return answer(message, Rcode::NOTIMP);
    }
    let Ok(question) = message.sole_question() else { return answer(message, Rcode::FORMERR) };
    if question.qclass() != Class::IN {
        return beyond(message, scopes);
    }
    let name = question.qname().to_string().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let answer = Answer { message, question, room };
    let address = arpa::address(name);
    for Scope { network, leases } in scopes {
        let leases = leases.iter().copied();
        if let Some(address) = address.filter(|address| network.contains(*address)) {
            let found = leases.filter(|lease| lease.has(address) && is_live(lease));
            return answer.with_names(&found.collect::<Vec<_>>(), network);
        }
        let found: Vec<_> =
            leases.filter(|lease| network.fits(lease, name) && is_live(lease)).collect();
        if !found.is_empty() {
            return answer.with_addresses(&found);
        }
    }
    beyond(message, scopes)
}

/// What nobody on the networks answers for.
fn beyond(message: &Message<[u8]>, scopes: &[Scope<'_>]) -> Verdict {
    if scopes.iter().all(|scope| scope.network.internal) {
        answer(message, Rcode::REFUSED)
    } else {
        Verdict::Forward
    }
}

/// An answer that says no more than this.
fn answer(message: &Message<[u8]>, code: Rcode) -> Verdict {
    Verdict::Answer(finish(begin(message, code)))
}

/// The answer when nobody who was asked has given one; none to what is no question.
pub(crate) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_slice(query).ok()?;
    Some(finish(begin(message, Rcode::SERVFAIL)))
}

/// Whether `answer` is one to `query`, whose number is `id`.
pub(crate) fn is_answer(answer: &[u8], query: &[u8], id: u16) -> bool {
    let (Ok(answer), Ok(query)) = (Message::from_slice(answer), Message::from_slice(query)) else {
        return false;
    };
    let header = answer.header();
    if header.id() != id || !header.qr() {
        return false;
    }
    match (answer.sole_question(), query.sole_question()) {
        (Ok(answered), Ok(asked)) => {
            answered.qtype() == asked.qtype()
                && answered.qclass() == asked.qclass()
                && answered.qname().name_eq(asked.qname())
        }
        // A server that cannot read the question need not repeat it.
        _ => header.rcode() == Rcode::FORMERR,
    }
}

/// Whether another server may know better.
pub(crate) fn is_no_help(answer: &[u8]) -> bool {
    let code = Message::from_slice(answer).map(|message| message.header().rcode());
    matches!(code, Ok(Rcode::SERVFAIL | Rcode::REFUSED | Rcode::NOTIMP))
}

/// The number of a message; 0 of what is too short to have one.
pub(crate) fn id(message: &[u8]) -> u16 {
    message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

/// Gives a message another number.
pub(crate) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

type Builder = AnswerBuilder<StaticCompressor<Vec<u8>>>;

/// An answer that repeats the question, if there is one that can be read. More than one would make answers that
/// are longer than what was asked, by far.
fn begin(message: &Message<[u8]>, code: Rcode) -> Builder {
    let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new()));
    let mut builder = builder.expect("a vector has room for a header");
    let (asked, header) = (message.header(), builder.header_mut());
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_ra(true);
    header.set_rcode(code);
    let mut builder = builder.question();
    if let Ok(question) = message.sole_question() {
        builder.push(question).expect("a vector has room for a question");
    }
    builder.answer()
}

fn finish(answer: Builder) -> Vec<u8> {
    answer.finish().into_target()
}

/// An answer in the making.
struct Answer<'a> {
    message: &'a Message<[u8]>,
    question: Question<ParsedName<&'a [u8]>>,
    room: usize,
}

impl Answer<'_> {
    fn begin(&self, code: Rcode) -> Builder {
        let mut answer = begin(self.message, code);
        answer.header_mut().set_aa(true);
        answer.set_push_limit(self.room);
        answer
    }

    /// All addresses of the kind that was asked for, as many as there is room for. Who asks again gets
    /// them in another order.
    fn with_addresses(&self, found: &[&Lease]) -> Verdict {
        let mut answer = self.begin(Rcode::NOERROR);
        let first = usize::from(self.message.header().id()) % found.len();
        let (later, sooner) = found.split_at(first);
        for lease in sooner.iter().chain(later) {
            if self.push_addresses(&mut answer, lease).is_err() {
                break;
            }
        }
        Verdict::Answer(finish(answer))
    }

    fn push_addresses(&self, answer: &mut Builder, lease: &Lease) -> Result<(), PushError> {
        let (name, kind) = (self.question.qname(), self.question.qtype());
        if let Some(address) = lease.address.filter(|_| matches!(kind, Rtype::A | Rtype::ANY)) {
            answer.push((name, TTL, A::new(address)))?;
        }
        if let Some(address) = lease.address6.filter(|_| matches!(kind, Rtype::AAAA | Rtype::ANY)) {
            answer.push((name, TTL, Aaaa::new(address)))?;
        }
        Ok(())
    }

    /// Whose address it is; nobody outside need know that somebody has asked.
    fn with_names(&self, found: &[&Lease], network: &Network) -> Verdict {
        let kind = self.question.qtype();
        let mut answer =
            self.begin(if found.is_empty() { Rcode::NXDOMAIN } else { Rcode::NOERROR });
        for lease in found.iter().filter(|_| matches!(kind, Rtype::PTR | Rtype::ANY)) {
            let name = format!("{}.{}", lease.name, network.name);
            if let Ok(name) = name.parse::<Name<Vec<u8>>>() {
                // Where there is no room the question itself has filled it.
                let _ = answer.push((self.question.qname(), TTL, Ptr::new(name)));
            }
        }
        Verdict::Answer(finish(answer))
    }
}

/// The address of who has asked, as those that are kept know it.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
