//! Standard streams: kept apart, streamed with back-pressure, ended properly.

use std::io::{Read, Write};
use std::process::Stdio;

use hyperrun_tests::{Running, Sandbox, environment_of};

/// How much the suite sends through a container, in MiB; `HYPERRUN_TEST_STREAM_MIB` for the whole.
fn stream_mib() -> usize {
    std::env::var("HYPERRUN_TEST_STREAM_MIB").map_or(128, |text| text.parse().expect("a number"))
}

#[test]
fn output_and_errors_stay_apart() {
    Sandbox::with_images()
        .hyperrun(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"])
        .code_is(0)
        .stdout_is("out\n")
        .stderr_is("err\n");
}

#[test]
fn input_reaches_the_program_only_when_asked_for() {
    let sandbox = Sandbox::with_images();
    sandbox
        .hyperrun_with_input(["run", "--rm", "-i", "busybox", "cat"], b"hello\n")
        .code_is(0)
        .stdout_is("hello\n");
    sandbox
        .hyperrun_with_input(["run", "--rm", "busybox", "cat"], b"hello\n")
        .code_is(0)
        .stdout_is("");
}

#[test]
fn a_closed_input_is_an_empty_one() {
    let run = Sandbox::with_images().command(["run", "--rm", "-i", "busybox", "wc", "-c"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" <&-"]).arg(run.get_program()).args(run.get_args());
    shell.envs(environment_of(&run));
    Running::start(shell).finish().code_is(0).stdout_is("0\n").stderr_is("");
}

#[test]
fn input_may_be_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file\n").unwrap();
    let mut command = Sandbox::with_images().command(["run", "--rm", "-i", "busybox", "wc", "-c"]);
    let out = command.stdin(file.reopen().unwrap()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "12\n");
}

#[test]
fn a_program_that_does_not_read_its_input_can_end() {
    Sandbox::with_images()
        .hyperrun_with_input(["run", "--rm", "-i", "busybox", "true"], &vec![0; 4 << 20])
        .code_is(0);
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    let mut command = Sandbox::with_images().command(["run", "--rm", "busybox", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    assert!(!child.wait().unwrap().success());
}

/// Bytes that no part of the way could get right by chance.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

#[test]
fn a_long_stream_comes_back_as_it_went() {
    const CHUNK: usize = 1 << 20;
    let mut command = Sandbox::with_images().command(["run", "--rm", "-i", "busybox", "cat"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut noise = Noise(1);
        let mut chunk = vec![0; CHUNK];
        for _ in 0..stream_mib() {
            noise.fill(&mut chunk);
            stdin.write_all(&chunk).expect("the container reads on");
        }
    });
    let mut stdout = child.stdout.take().unwrap();
    let mut noise = Noise(1);
    let (mut wanted, mut got) = (vec![0; CHUNK], vec![0; CHUNK]);
    for mib in 0..stream_mib() {
        noise.fill(&mut wanted);
        stdout.read_exact(&mut got).expect("the container writes on");
        assert!(wanted == got, "the bytes differ in MiB {mib}");
    }
    assert_eq!(stdout.read(&mut got).unwrap(), 0, "something follows the end");
    feeder.join().unwrap();
    assert!(child.wait().unwrap().success());
}
