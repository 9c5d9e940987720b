//! `hyperrun-registry`: reads one order from its only argument, carries it out, and says how it went.
//! `hyperrun pull`, `push`, `login`, `logout` and `run` start it.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use images::Order;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let order = match &arguments[..] {
        [flag] if flag == "--version" => {
            // A reader that has gone away wants no version.
            let _ = writeln!(io::stdout().lock(), "hyperrun-registry {VERSION}");
            return ExitCode::SUCCESS;
        }
        [argument] => Order::from_argument(argument).ok().filter(|order| order.version == VERSION),
        _ => None,
    };
    let Some(order) = order else {
        report(
            "this program takes orders of the same version of hyperrun only",
            Some("use `hyperrun pull`, `push`, `login` and `logout`, and install both together"),
        );
        return ExitCode::from(125);
    };
    if order.parent.is_some_and(|parent| !dies_with(parent)) {
        return ExitCode::from(125);
    }
    match hyperrun_registry::run(&order.transfer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&hyperrun_registry::chain(&error), error.hint().as_deref());
            ExitCode::FAILURE
        }
    }
}

/// Has the kernel end this process when its parent ends. `false` if that is not `parent` any more: it
/// may have ended before the kernel was asked.
fn dies_with(parent: u32) -> bool {
    let is_asked = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let is_there =
        getppid().is_some_and(|id| u32::try_from(id.as_raw_nonzero().get()) == Ok(parent));
    is_asked && is_there
}

/// Where stderr is closed, the exit code still speaks.
fn report(error: &str, hint: Option<&str>) {
    let hint = hint.map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    let _ = io::stderr().lock().write_all(format!("error: {error}\n{hint}").as_bytes());
}
