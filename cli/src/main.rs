//! `hyperrun`: words in, words out. Parses the command line, does what it says, and says how it went.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod completion;
mod failure;
mod filter;
mod help;
mod listing;
mod output;
mod table;
mod template;
mod words;

use std::process::ExitCode;

use runtime::Stopwatch;

use arguments::Arguments;

fn main() -> ExitCode {
    let stopwatch = Stopwatch::start();
    let arguments = match Arguments::of_process() {
        Ok(arguments) => arguments,
        Err(error) => return failure::misread(&error),
    };
    match commands::run(arguments, stopwatch) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
