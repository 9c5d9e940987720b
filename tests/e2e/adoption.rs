//! A container that is to go on as another one, spoken to as a supervisor does.

use hyperrun_tests::guest::{Guest, adoption, ask, exec_to_end, process};
use protocol::{Answer, FromAgent, Question, ToAgent};

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
