//! `hyperrun-registry`: reads one order from its only argument, carries it out, and says how it went.
//! `hyperrun pull`, `push`, `login`, `logout` and `run` start it.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use images::Order;

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
    match hyperrun_registry::run(&order.transfer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&hyperrun_registry::chain(&error), error.hint().as_deref());
            ExitCode::FAILURE
        }
    }
}

/// Where stderr is closed, the exit code still speaks.
fn report(error: &str, hint: Option<&str>) {
    let hint = hint.map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    let _ = io::stderr().lock().write_all(format!("error: {error}\n{hint}").as_bytes());
}
