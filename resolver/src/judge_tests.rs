//! Decisions about questions, good ones and others.

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::AllRecordData;

use super::*;

fn network(internal: bool) -> Network {
    let text = format!(
        r#"{{"name":"back","gateway":"10.0.0.1","subnet":"10.0.0.0/24","subnet6":"fd00::/64",
            "internal":{internal}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn lease(name: &str, alias: &str, address: u8, address6: Option<&str>) -> Lease {
    Lease {
        container: format!("{address:02x}").repeat(32),
        name: name.into(),
        aliases: vec![alias.into()],
        address: Some([10, 0, 0, address].into()),
        address6: address6.map(|address| address.parse().unwrap()),
        ..Lease::default()
    }
}

fn query(id: u16, name: &str, kind: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name.parse::<Name<Vec<u8>>>().unwrap(), kind)).unwrap();
    question.finish()
}

/// What comes of a question: the code and the answers, or how else it goes on.
fn decided(query: &[u8], internal: bool) -> String {
    let leases = [
        lease("web", "www", 2, None),
        lease("Db", "www", 3, Some("fd00::3")),
        lease("off", "www", 4, None),
    ];
    let live = |lease: &Lease| lease.name != "off";
    let (network, leases) = (&network(internal), leases.iter().collect());
    match judge(query, &[Scope { network, leases }], live, DATAGRAM_BYTES) {
        Verdict::Answer(answer) => shown(query, &answer),
        Verdict::Forward => "forward".into(),
        Verdict::Silence => "silence".into(),
    }
}

fn shown(query: &[u8], answer: &[u8]) -> String {
    let message = Message::from_octets(answer).unwrap();
    let header = message.header();
    assert!(header.qr() && header.ra() && !header.tc());
    assert_eq!(header.id(), id(query));
    let mut text = header.rcode().to_string();
    for record in message.answer().unwrap().limit_to::<AllRecordData<_, _>>() {
        text += &format!(" {}", record.unwrap().data());
    }
    text
}

#[test]
fn names_of_those_that_run_are_answered() {
    for (name, kind, wanted) in [
        ("web", Rtype::A, "NOERROR 10.0.0.2"),
        ("WEB", Rtype::A, "NOERROR 10.0.0.2"),
        ("web.back", Rtype::A, "NOERROR 10.0.0.2"),
        ("020202020202", Rtype::A, "NOERROR 10.0.0.2"),
        ("db", Rtype::AAAA, "NOERROR fd00::3"),
        ("db", Rtype::ANY, "NOERROR 10.0.0.3 fd00::3"),
        ("www", Rtype::A, "NOERROR 10.0.0.3 10.0.0.2"),
        // There is such a name, but nothing of this kind: nobody else is asked.
        ("web", Rtype::AAAA, "NOERROR"),
        ("web", Rtype::MX, "NOERROR"),
        ("off", Rtype::A, "forward"),
        ("web.example", Rtype::A, "forward"),
        ("example", Rtype::MX, "forward"),
    ] {
        assert_eq!(decided(&query(7, name, kind), false), wanted, "{name} {kind}");
    }
    assert_eq!(decided(&query(8, "www", Rtype::A), false), "NOERROR 10.0.0.2 10.0.0.3");
}

#[test]
fn addresses_of_the_network_stay_there() {
    let six = format!("3.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    for (name, wanted) in [
        ("2.0.0.10.in-addr.arpa", "NOERROR web.back."),
        (six.as_str(), "NOERROR Db.back."),
        ("9.0.0.10.in-addr.arpa", "NXDOMAIN"),
        ("4.0.0.10.in-addr.arpa", "NXDOMAIN"),
        ("2.1.0.10.in-addr.arpa", "forward"),
    ] {
        assert_eq!(decided(&query(1, name, Rtype::PTR), false), wanted, "{name}");
    }
}

#[test]
fn nothing_leaves_an_internal_network() {
    assert_eq!(decided(&query(1, "web", Rtype::A), true), "NOERROR 10.0.0.2");
    assert_eq!(decided(&query(1, "example", Rtype::A), true), "REFUSED");
    assert_eq!(decided(&query(1, "8.8.8.8.in-addr.arpa", Rtype::PTR), true), "REFUSED");
}

#[test]
fn what_is_no_question_is_not_answered_as_one() {
    let good = query(0x1234, "web", Rtype::A);
    assert_eq!(decided(&good[..11], false), "silence");
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(decided(&answer, false), "silence");
    let mut update = good.clone();
    update[2] |= 5 << 3;
    assert_eq!(decided(&update, false), "NOTIMP");
    assert_eq!(decided(&good[..good.len() - 3], false), "FORMERR");
    let mut none = good[..12].to_vec();
    none[5] = 0;
    assert_eq!(decided(&none, false), "FORMERR");
    // Many of one long name, in few bytes: the answer is as short as another.
    let mut many = query(1, &format!("{0}.{0}.{0}", "a".repeat(60)), Rtype::A);
    many.extend([0xc0, 12, 0, 1, 0, 1].repeat(500));
    many[4..6].copy_from_slice(&501_u16.to_be_bytes());
    assert_eq!(decided(&many, false), "FORMERR");
    assert_eq!(failure(&many).unwrap().len(), 12);
    // A name that points at itself.
    let mut circle = good[..12].to_vec();
    circle.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(decided(&circle, false), "FORMERR");
    let mut chaos = good;
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(decided(&chaos, false), "forward");
}

#[test]
fn more_addresses_than_fit_are_left_out() {
    let leases: Vec<_> = (2..100).map(|number| lease("one", "many", number, None)).collect();
    let query = query(0, "many", Rtype::A);
    let answered = |room| {
        let (network, leases) = (&network(false), leases.iter().collect());
        match judge(&query, &[Scope { network, leases }], |_| true, room) {
            Verdict::Answer(answer) => {
                assert!(answer.len() <= room, "{}", answer.len());
                shown(&query, &answer).split(' ').count() - 1
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answered(usize::from(u16::MAX)), 98);
    assert!((20..40).contains(&answered(DATAGRAM_BYTES)), "{}", answered(DATAGRAM_BYTES));
}

#[test]
fn only_the_answer_that_was_asked_for_is_one() {
    let asked = query(1, "example.com", Rtype::A);
    let answer = |id, name: &str, kind| {
        let mut answer = query(id, name, kind);
        answer[2] |= 0x80;
        answer
    };
    assert!(is_answer(&answer(9, "EXAMPLE.com", Rtype::A), &asked, 9));
    assert!(!is_answer(&answer(8, "example.com", Rtype::A), &asked, 9));
    assert!(!is_answer(&answer(9, "example.org", Rtype::A), &asked, 9));
    assert!(!is_answer(&answer(9, "example.com", Rtype::AAAA), &asked, 9));
    assert!(!is_answer(&query(9, "example.com", Rtype::A), &asked, 9));
    assert!(!is_answer(&[], &asked, 0));
    let mut unread = answer(9, "x", Rtype::A)[..12].to_vec();
    unread[5] = 0;
    assert!(!is_answer(&unread, &asked, 9));
    unread[3] |= Rcode::FORMERR.to_int();
    assert!(is_answer(&unread, &asked, 9));
    assert_eq!(shown(&asked, &failure(&asked).unwrap()), "SERVFAIL");
    assert_eq!(failure(&asked[..11]), None);
}

#[test]
fn who_is_on_two_networks_finds_the_names_of_both() {
    let text = r#"{"name":"front","gateway":"10.1.0.1","subnet":"10.1.0.0/24"}"#;
    let (back, front) = (network(true), serde_json::from_str::<Network>(text).unwrap());
    let (db, web) = (lease("db", "www", 2, None), lease("web", "www", 3, None));
    let scopes = [
        Scope { network: &back, leases: vec![&db] },
        Scope { network: &front, leases: vec![&web] },
    ];
    let decided = |name| match judge(&query(0, name, Rtype::A), &scopes, |_| true, 512) {
        Verdict::Answer(answer) => shown(&query(0, name, Rtype::A), &answer),
        other => format!("{other:?}"),
    };
    assert_eq!(decided("db"), "NOERROR 10.0.0.2");
    assert_eq!(decided("web.front"), "NOERROR 10.0.0.3");
    assert_eq!(decided("www"), "NOERROR 10.0.0.2");
    // One of the two leads out.
    assert_eq!(decided("example"), "Forward");
}
