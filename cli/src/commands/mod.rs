//! One file for each command; this one calls it.

pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod options;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod template;
pub(crate) mod version;

use std::io::{self, Write};
use std::process::ExitCode;

use runtime::Stopwatch;
use runtime::places::Places;

use crate::arguments::{Arguments, Command, Common};
use crate::failure::Failure;

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments, stopwatch: Stopwatch) -> Result<ExitCode, Failure> {
    let common = arguments.common;
    match arguments.command {
        Command::Run(args) => run::run(args, &common, stopwatch),
        Command::Pull(args) => pull::run(args, &common),
        Command::Push(args) => push::run(args, &common),
        Command::Login(args) => login::run(args),
        Command::Logout(args) => logout::run(args),
        Command::Load(args) => load::run(&args, &common),
        Command::Images(args) => images::run(&args, &common),
        Command::Rmi(args) => rmi::run(&args, &common),
        Command::Tag(args) => tag::run(&args, &common),
        Command::Save(args) => save::run(&args, &common),
        Command::Import(args) => import::run(&args, &common),
        Command::History(args) => history::run(&args, &common),
        Command::Inspect(args) => inspect::run(&args, &common),
        Command::Image(args) => image::run(&args, &common),
        Command::Template(args) => template::run(&args, &common),
        Command::System(args) => system::run(&args, &common),
        Command::Doctor(args) => doctor::run(&args, &common),
        Command::Version(args) => version::run(&args),
        Command::Completion(args) => completion::run(&args),
    }
}

/// Lets the client of registries do the rest; returns only if it cannot be started.
fn hand_over(transfer: ::images::Transfer) -> Failure {
    runtime::become_client(transfer).into()
}

fn open_store(common: &Common) -> Result<::images::Store, Failure> {
    let places = Places::find(common.root.as_deref())?;
    Ok(::images::Store::open(&places.images()).map_err(::images::Error::from)?)
}

/// Writes to stdout. A reader that has gone away, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
