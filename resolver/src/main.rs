//! `hyperrun-resolver ROOT`: answers for the names of the containers under a root. `hyperrun` starts it
//! when a container on a network starts, and it ends when none needs it.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hyperrun_resolver::{Presence, Setting, serve};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The port of the DNS.
const PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long it stays when nobody needs it, for the next who does.
const LINGER: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [argument] = &arguments[..] else {
        return fail("hyperrun starts this program, with the folder of its data");
    };
    if argument == "--version" {
        // A reader that has gone away wants no version.
        let _ = writeln!(io::stdout().lock(), "hyperrun-resolver {VERSION}");
        return ExitCode::SUCCESS;
    }
    match run(Path::new(argument)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Answers as long as somebody needs that; nothing where another one does already.
fn run(root: &Path) -> io::Result<()> {
    // Its starter's session and folder are not its own. Who starts it by hand leads a session already.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    let Some(presence) = Presence::take(root)? else { return Ok(()) };
    presence.wait_aside(LINGER, leave)?;
    serve(root, Setting { port: PORT, resolv_conf: RESOLV_CONF.into() })
}

/// Ends the process, whatever its threads are at.
#[expect(clippy::exit, reason = "the main thread waits for questions that nobody asks any more")]
fn leave() {
    std::process::exit(0)
}

fn fail(error: &str) -> ExitCode {
    // Where stderr is closed, the exit code still speaks.
    let _ = writeln!(io::stderr().lock(), "error: {error}");
    ExitCode::FAILURE
}
