//! A container that goes on in a copy of its machine, spoken to as a supervisor does.

use std::io::{BufRead, BufReader, Write};

use hyperrun_tests::guest::{Guest, adoption, ask, exec, exec_to_end, process};
use protocol::{Answer, ExitStatus, FromAgent, ProcessSpec, Question, StreamKind, ToAgent};

/// What the container runs: it never stops to speak.
const SPEAK: &str = "n=0; while sleep 0.1; do n=$((n+1)); echo $n; done";

/// The next number that the container says, at once or after a while.
#[track_caller]
fn number(output: &mut impl BufRead) -> u32 {
    let mut line = String::new();
    output.read_line(&mut line).expect("it speaks");
    line.trim().parse().expect("a number")
}

#[test]
fn a_container_goes_on_in_copies_as_another_one() {
    let (mut guest, output) = Guest::with_container(SPEAK);
    let mut output = BufReader::new(output);
    let prepare = "mkdir -p /etc/hyperrun/restore.d; cd /etc/hyperrun/restore.d; \
         printf '#!/bin/sh\\necho $NAME > /hooked\\nexit 3\\n' > 10-note; chmod +x 10-note; \
         printf '#!/bin/sh\\necho second >> /hooked\\n' > 20-note; chmod +x 20-note";
    assert_eq!(exec_to_end(&mut guest, 1, process(prepare)).1, ExitStatus::Code(0));
    // Somebody is with it when it is saved.
    let id = exec(&mut guest, 2, ProcessSpec { stdin: true, ..process("cat; echo > /ended") });
    let mut input = guest.stream(id, StreamKind::Stdin);
    let _output = guest.stream(id, StreamKind::Stdout);
    let _errors = guest.stream(id, StreamKind::Stderr);
    assert_eq!(guest.hear(), FromAgent::Started { id });
    let before = number(&mut output);

    let saved = guest.save();

    // The original, its streams and its exec are as they were.
    let after = (0..3).map(|_| number(&mut output)).last().expect("three");
    assert!(after >= before + 3, "{before}, then {after}");
    input.write_all(b"still here\n").expect("it reads");
    let seen = "test ! -e /ended -a ! -e /hooked; echo $?; hostname";
    assert_eq!(exec_to_end(&mut guest, 3, process(seen)).0, "0\nfinch\n");

    for hostname in ["one", "two"] {
        let (mut copy, output) = Guest::adopting(&saved, Vec::new(), adoption(hostname));
        let mut output = BufReader::new(output);
        let went_on = (0..3).map(|_| number(&mut output)).last().expect("three");
        assert!(went_on > before, "{before}, then {went_on}");
        // The first of its programs for this fails, and says so.
        let trouble = copy.hear();
        assert!(matches!(trouble, FromAgent::Trouble { .. }), "{trouble:?}");
        // The numbers of processes are its host's to give again.
        let seen = "until test -e /ended && grep -q second /hooked; do sleep 0.1; done; \
             cat /hooked; hostname; cat /etc/hostname /etc/hosts; expr $(date +%s) / 100000000";
        let (text, _) = exec_to_end(&mut copy, 1, process(seen));
        let wanted = format!("{hostname}\nsecond\n{hostname}\n{hostname}\n127.0.0.1 here\n18\n");
        assert_eq!(text, wanted);
        assert!(matches!(ask(&mut copy, Question::Resume), Answer::Failed { .. }));
    }
}

#[test]
fn what_was_not_suspended_is_not_adopted() {
    let (mut guest, _output) = Guest::with_container("exec sleep 1000");
    guest.tell(&ToAgent::Adopt(Box::new(adoption("other"))));
    assert!(matches!(guest.hear(), FromAgent::Trouble { .. }));
    assert!(matches!(ask(&mut guest, Question::Resume), Answer::Failed { .. }));
    // A container that stands still is left so, and is saved all the same.
    assert_eq!(ask(&mut guest, Question::Pause), Answer::Done);
    assert_eq!(ask(&mut guest, Question::Suspend), Answer::Done);
    assert!(matches!(ask(&mut guest, Question::Suspend), Answer::Failed { .. }));
    assert_eq!(ask(&mut guest, Question::Resume), Answer::Done);
    assert_eq!(ask(&mut guest, Question::Unpause), Answer::Done);
    assert_eq!(exec_to_end(&mut guest, 1, process("hostname")).0, "finch\n");
}
