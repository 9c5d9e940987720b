//! What a guest runs whose network is measured: iperf3's server, and one that says each byte back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

fn main() -> std::io::Result<()> {
    let mut server = Command::new("/usr/bin/iperf3");
    server.args(["--server", "--forceflush"]).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut server = server.spawn()?;
    let mut said = BufReader::new(server.stdout.take().expect("it was piped")).lines();
    // It says that it listens in one of its first lines; the others are read so that it can go on.
    while let Some(line) = said.next().transpose()? {
        if line.contains("listening") {
            break;
        }
    }
    thread::spawn(move || said.for_each(drop));
    let listener = TcpListener::bind("0.0.0.0:7")?;
    std::io::stdout().write_all(b"running\n")?;
    for stream in listener.incoming() {
        // Who hangs up has measured enough.
        drop(echo(stream?));
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
}
