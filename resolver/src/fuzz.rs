//! The body of the fuzz target: what containers ask, what servers answer, and what the host's file says.
//! It is also a test over its corpus.

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

use domain::base::Message;

use crate::judge::{DATAGRAM_BYTES, Scope, Verdict, failure, id, is_answer, is_no_help, judge};
use crate::names::{Lease, Network};
use crate::upstream::servers;

/// The question that is waiting for an answer: the address of `a.example`.
const ASKED: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";

/// The first byte says whose the rest is.
pub fn resolver(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => ask(bytes, false),
        1 => ask(bytes, true),
        2 => {
            // Only one with its number can be believed.
            assert!(!is_answer(bytes, ASKED, 7) || id(bytes) == 7);
            let _ = is_no_help(bytes);
        }
        _ => {
            let servers = servers(bytes, &[[10, 0, 0, 1].into()], 53);
            assert!(servers.len() <= 3);
            assert!(
                servers.iter().all(|server| server.ip() != std::net::Ipv4Addr::new(10, 0, 0, 1))
            );
        }
    }
}

fn network(internal: bool) -> Network {
    let text = format!(
        r#"{{"name":"net","gateway":"10.0.0.1","subnet":"10.0.0.0/24","subnet6":"fd00::/64",
            "internal":{internal}}}"#
    );
    serde_json::from_str(&text).expect("it is a network")
}

/// More containers of one name than fit into a datagram, and one of its own.
fn leases() -> Vec<Lease> {
    let lease = |number: u8| Lease {
        container: format!("{number:064x}"),
        name: if number == 2 { "web".into() } else { format!("db-{number}") },
        aliases: vec!["all".into()],
        address: Some([10, 0, 0, number].into()),
        address6: Some([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into()),
        ..Lease::default()
    };
    (2..60).map(lease).collect()
}

fn ask(query: &[u8], internal: bool) {
    let leases = leases();
    let scope = Scope { network: &network(internal), leases: leases.iter().collect() };
    let verdict = judge(query, &[scope], |_| true, DATAGRAM_BYTES);
    match verdict {
        Verdict::Answer(answer) => {
            check(query, &answer);
            assert!(answer.len() <= DATAGRAM_BYTES);
        }
        Verdict::Forward => assert!(!internal, "it went out of an internal network"),
        Verdict::Silence => return,
    }
    if let Some(answer) = failure(query) {
        check(query, &answer);
    }
}

/// An answer is a whole message that says that it is one, to this question.
fn check(query: &[u8], answer: &[u8]) {
    let message = Message::from_octets(answer).expect("an answer has a header");
    assert!(message.header().qr());
    assert_eq!(id(answer), id(query));
    for record in message.answer().expect("an answer has its sections") {
        record.expect("a record is whole");
    }
}

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn resolver() {
        corpus::each("resolver", super::resolver);
    }
}
