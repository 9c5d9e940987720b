//! Runs the self-test and prints what it found: `cargo run --example selftest`.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    match hyperrun_vmm::selftest::capabilities() {
        Ok(findings) => {
            for finding in findings {
                let mark = if finding.present { "ok     " } else { "missing" };
                println!("{mark} {}: {}", finding.capability.name, finding.capability.purpose);
            }
        }
        Err(error) => println!("cannot ask KVM: {error}"),
    }
    let start = Instant::now();
    let result = hyperrun_vmm::selftest::run();
    let taken = start.elapsed();
    match result {
        Ok(()) => {
            println!("this KVM runs guests ({taken:?})");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error} ({taken:?})");
            if let Some(source) = error.source() {
                println!("  {source}");
            }
            ExitCode::FAILURE
        }
    }
}
