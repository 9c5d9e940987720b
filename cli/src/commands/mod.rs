//! One file for each command; this one calls it.

pub(crate) mod attach;
pub(crate) mod boot;
pub(crate) mod clone;
pub(crate) mod commit;
pub(crate) mod completion;
pub(crate) mod container;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod keeping;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod publishing;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod template;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod wait;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use ::images::Event;
use runtime::places::Places;
use runtime::{Containers, Stopwatch};

use crate::arguments::{Arguments, Command, Common};
use crate::failure::Failure;

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments, stopwatch: Stopwatch) -> Result<ExitCode, Failure> {
    let common = arguments.common;
    match arguments.command {
        Command::OfContainers(command) => container::run_same(command, &common, stopwatch),
        Command::Ps(args) => ps::run(&args, &common),
        Command::Container(args) => container::run(args, &common, stopwatch),
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
        Command::Network(args) => network::run(args, &common),
        Command::Snapshot(args) => snapshot::run(&args, &common),
        Command::Template(args) => template::run(&args, &common),
        Command::System(args) => system::run(&args, &common),
        Command::Events(args) => events::run(&args, &common),
        Command::Boot(args) => boot::run(&args, &common),
        Command::Info(args) => info::run(&args, &common),
        Command::Doctor(args) => doctor::run(&args, &common),
        Command::Version(args) => version::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Lets the client of registries do the rest; returns only if it cannot be started.
fn hand_over(transfer: ::images::Transfer) -> Failure {
    runtime::become_client(transfer).into()
}

fn places(common: &Common) -> Result<Places, Failure> {
    Ok(Places::find(common.root.as_deref())?)
}

fn containers(common: &Common) -> Result<Containers, Failure> {
    Ok(Containers::of(&places(common)?))
}

/// Does something to each container and prints its name as it was typed; a failure does not keep the
/// rest from being done.
fn each(
    words: &[String],
    mut action: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for word in words {
        match action(word) {
            Ok(()) => print(&format!("{word}\n"))?,
            Err(failure) => {
                failure.report();
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Writes down what has happened to images: to which one, and under which name.
fn note_images(
    common: &Common,
    action: &str,
    images: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Failure> {
    let of = |(id, name): (String, String)| Event::of_image(action, &id, &name);
    let events: Vec<_> = images.into_iter().map(of).collect();
    runtime::event_log(&places(common)?).add(&events);
    Ok(())
}

/// Writes down that what is not needed was removed, and how much of the disk that has freed.
fn note_prune(common: &Common, kind: &str, bytes: u64) -> Result<(), Failure> {
    let attributes = [("reclaimed".to_owned(), bytes.to_string())].into();
    runtime::event_log(&places(common)?).add(&[Event::now(kind, "prune", "", attributes)]);
    Ok(())
}

fn open_store(common: &Common) -> Result<::images::Store, Failure> {
    let places = places(common)?;
    Ok(::images::Store::open(&places.images()).map_err(::images::Error::from)?)
}

/// The name of an image that is made; it has no digest, which would be a promise.
fn new_name(name: Option<&str>) -> Result<Option<::images::Reference>, Failure> {
    let reference: Option<::images::Reference> =
        name.map(str::parse).transpose().map_err(::images::Error::from)?;
    if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
        return Err(::images::Error::DigestTag.into());
    }
    Ok(reference)
}

/// A number of things: `1 layer`, `2 layers`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes to stdout. A reader that has gone away, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Asks whether `what` is to go on after this warning.
///
/// # Errors
/// When the answer is no, or none can be had.
fn confirm(what: &str, warning: &str) -> Result<(), Failure> {
    let question = format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    io::stderr().lock().write_all(question.as_bytes())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    let hint = "answer with y, or ask for no question with `-f`";
    Err(Failure::new(&format!("{what} has been cancelled"), hint))
}
