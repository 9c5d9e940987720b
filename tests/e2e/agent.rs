//! The agent, spoken to as a supervisor does: more processes in a container, and questions about it.

use std::io::{Read, Write};
use std::net::Shutdown;

use hyperrun_tests::guest::{Guest, ask, end, exec, exec_to_end, process, read_all};
use protocol::{
    Answer, ExecSpec, ExitStatus, FromAgent, Limits, OutOfMemory, ProcessId, ProcessSpec, Question,
    StartError, Stats, StreamKind, ToAgent, TopRow, User, WindowSize,
};

/// What the container runs in most tests.
const WAIT: &str = "echo ready; exec sleep 1000";

fn waiting() -> Guest {
    let (guest, mut output) = Guest::with_container(WAIT);
    let mut ready = [0; 6];
    output.read_exact(&mut ready).expect("the container speaks");
    guest
}

#[test]
fn an_exec_is_inside_with_a_self_of_its_own() {
    let mut guest = waiting();
    let mut spec = process(
        "hostname; pwd; echo $A; id -u; cat /proc/1/comm; ls -l /proc/self/fd 2>/dev/null | grep -c socket; \
         grep -E 'Cap(Prm|Bnd)|NoNew' /proc/self/status; cat /proc/self/cgroup; exit 3",
    );
    spec.working_dir = "/tmp".to_owned();
    spec.env.push(b"A=b".to_vec());
    spec.user = User { user: "7".to_owned(), group: None };
    spec.no_new_privileges = true;
    let (text, status) = exec_to_end(&mut guest, 1, spec);
    assert_eq!(status, ExitStatus::Code(3));
    assert_eq!(
        text,
        "finch\n/tmp\nb\n7\nsleep\n0\nCapPrm:\t0000000000000000\nCapBnd:\t00000000a80425fb\n\
         NoNewPrivs:\t1\n0::/\n"
    );
    let (text, _) = exec_to_end(&mut guest, 2, process("mount -t tmpfs none /tmp; echo $?"));
    assert!(text.starts_with("1\n"), "{text}");
}

#[test]
fn an_exec_reads_what_it_is_sent() {
    let mut guest = waiting();
    let id = exec(&mut guest, 1, ProcessSpec { stdin: true, ..process("cat; echo >&2 end") });
    let mut input = guest.stream(id, StreamKind::Stdin);
    let output = guest.stream(id, StreamKind::Stdout);
    let errors = guest.stream(id, StreamKind::Stderr);
    assert_eq!(guest.hear(), FromAgent::Started { id });
    input.write_all(b"hello\n").expect("it reads");
    input.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!((read_all(output), read_all(errors)), ("hello\n".to_owned(), "end\n".to_owned()));
    assert_eq!(end(&mut guest, id), ExitStatus::Code(0));
}

#[test]
fn an_exec_has_a_terminal_of_the_container() {
    let mut guest = waiting();
    let terminal = Some(WindowSize { rows: 30, columns: 90 });
    let script =
        "tty; stty size; trap 'stty size; exit 5' WINCH; echo set; while :; do read x; done";
    let id = exec(&mut guest, 1, ProcessSpec { terminal, stdin: true, ..process(script) });
    let mut stream = guest.stream(id, StreamKind::Terminal);
    assert_eq!(guest.hear(), FromAgent::Started { id });
    let mut seen = String::new();
    while !seen.ends_with("set\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it speaks");
        seen.push(char::from(byte[0]));
    }
    assert_eq!(seen, "/dev/pts/0\r\n30 90\r\nset\r\n");
    guest.tell(&ToAgent::Resize { id, size: WindowSize { rows: 31, columns: 91 } });
    // A shell looks at its traps between two commands.
    stream.write_all(b"\n").expect("it reads");
    assert_eq!(end(&mut guest, id), ExitStatus::Code(5));
    assert!(read_all(stream).contains("31 91"));
}

#[test]
fn execs_that_cannot_be_say_why() {
    let mut guest = waiting();
    let mut missing = process("");
    missing.args = vec![b"no-such-program".to_vec()];
    let mut nowhere = process("");
    nowhere.working_dir = "/no/such/folder".to_owned();
    let mut nobody = process("");
    nobody.user.user = "mallory".to_owned();
    let mut wanted = Vec::new();
    for (number, spec) in [missing, nowhere, nobody].into_iter().enumerate() {
        let spec = Box::new(ExecSpec { process: spec, detached: true });
        let id = ProcessId(u32::try_from(number).expect("few") + 1);
        guest.tell(&ToAgent::Exec { id, spec });
        match guest.hear() {
            FromAgent::StartFailed { id: failed, error } if failed == id => wanted.push(error),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(wanted[0], StartError::NotFound { program: "no-such-program".to_owned() });
    assert!(
        matches!(&wanted[1], StartError::WorkingDirectory { path, .. } if path == "/no/such/folder")
    );
    assert_eq!(wanted[2], StartError::UnknownUser { name: "mallory".to_owned() });
}

#[test]
fn a_detached_exec_needs_no_streams() {
    let mut guest = waiting();
    for (number, terminal) in [(1, None), (2, Some(WindowSize { rows: 1, columns: 1 }))] {
        let script = "head -c 1000000 /dev/zero; test -t 0; exit $?";
        let spec = ProcessSpec { terminal, ..process(script) };
        let id = ProcessId(number);
        guest.tell(&ToAgent::Exec {
            id,
            spec: Box::new(ExecSpec { process: spec, detached: true }),
        });
        assert_eq!(guest.hear(), FromAgent::Started { id });
        let wanted = ExitStatus::Code(u8::from(terminal.is_none()));
        assert_eq!(end(&mut guest, id), wanted);
    }
}

#[test]
fn signals_go_to_the_process_that_is_meant() {
    let mut guest = waiting();
    let id = ProcessId(5);
    let spec = Box::new(ExecSpec { process: process("exec sleep 1000"), detached: true });
    guest.tell(&ToAgent::Exec { id, spec });
    // Before it runs: it is kept.
    guest.tell(&ToAgent::Signal { id, number: 15 });
    guest.tell(&ToAgent::Signal { id: ProcessId(6), number: 9 });
    assert_eq!(guest.hear(), FromAgent::Started { id });
    assert_eq!(end(&mut guest, id), ExitStatus::Signal(15));
}

#[test]
fn the_containers_end_ends_its_execs() {
    let mut guest = waiting();
    let detached = |script| Box::new(ExecSpec { process: process(script), detached: true });
    for number in [1, 2] {
        let id = ProcessId(number);
        guest.tell(&ToAgent::Exec { id, spec: detached("exec sleep 1000") });
        assert_eq!(guest.hear(), FromAgent::Started { id });
    }
    // Its streams never come.
    exec(&mut guest, 3, process("true"));
    guest.tell(&ToAgent::Signal { id: ProcessId::OWN, number: 9 });
    let (mut ended, mut failed) = (Vec::new(), Vec::new());
    loop {
        match guest.hear() {
            FromAgent::Exited { id: ProcessId::OWN, status, .. } => {
                assert_eq!(status, ExitStatus::Signal(9));
                break;
            }
            FromAgent::Exited { id, status: ExitStatus::Signal(9), .. } => ended.push(id.0),
            FromAgent::StartFailed { id, .. } => failed.push(id.0),
            other => panic!("{other:?}"),
        }
    }
    ended.sort_unstable();
    assert_eq!((ended, failed), (vec![1, 2], vec![3]));
    // Unasked, it lets go of the disks.
    assert_eq!([guest.hear(), guest.hear()], [FromAgent::Synced, FromAgent::Settled]);
    guest.tell(&ToAgent::Exec { id: ProcessId(9), spec: detached("true") });
    assert!(matches!(guest.hear(), FromAgent::StartFailed { id: ProcessId(9), .. }));
}

#[test]
fn a_paused_container_stands_still() {
    let mut guest = waiting();
    assert!(matches!(ask(&mut guest, Question::Unpause), Answer::Failed { .. }));
    assert_eq!(ask(&mut guest, Question::Pause), Answer::Done);
    assert!(matches!(ask(&mut guest, Question::Pause), Answer::Failed { .. }));
    let id = ProcessId(1);
    let spec = Box::new(ExecSpec { process: process("true"), detached: true });
    guest.tell(&ToAgent::Exec { id, spec });
    match guest.hear() {
        FromAgent::StartFailed { error: StartError::Setup { message }, .. } => {
            assert!(message.contains("paused"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(&mut guest, Question::Unpause), Answer::Done);
    assert_eq!(exec_to_end(&mut guest, 2, process("echo on")).0, "on\n");
    assert_eq!(ask(&mut guest, Question::Pause), Answer::Done);
    guest.tell(&ToAgent::Signal { id: ProcessId::OWN, number: 9 });
    assert!(matches!(guest.hear(), FromAgent::Exited { id: ProcessId::OWN, .. }));
}

#[test]
fn questions_are_answered() {
    let mut guest = waiting();
    let Answer::Top(rows) = ask(&mut guest, Question::Top) else { panic!("rows") };
    let [TopRow { pid: 1, parent: 0, uid: 0, user, command, threads: 1, .. }] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!((user.as_deref(), &command[..]), (Some("root"), &b"sleep 1000"[..]));
    let limits = Limits { pids: Some(9), memory_bytes: Some(32 << 20), ..Limits::default() };
    assert_eq!(ask(&mut guest, Question::Update(limits)), Answer::Done);
    let Answer::Stats(stats) = ask(&mut guest, Question::Stats) else { panic!("stats") };
    let Stats { cpu_us, memory_bytes, pids, pids_limit, memory_limit_bytes, cpus, .. } = stats;
    assert!(cpu_us > 0 && memory_bytes > 0, "{stats:?}");
    assert_eq!((pids, pids_limit, memory_limit_bytes, cpus), (1, Some(9), 32 << 20, 1));
    let script = "exec dd if=/dev/zero of=/dev/null bs=60M count=1";
    let id = ProcessId(1);
    guest.tell(&ToAgent::Exec {
        id,
        spec: Box::new(ExecSpec { process: process(script), detached: true }),
    });
    assert_eq!(guest.hear(), FromAgent::Started { id });
    let (status, out_of_memory) = (ExitStatus::Signal(9), Some(OutOfMemory::Limit));
    assert_eq!(guest.hear(), FromAgent::Exited { id, status, out_of_memory });
}
