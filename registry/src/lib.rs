//! Everything that talks to registries: pull, push, login and logout. Knows no VMs and no command
//! lines; the store and the names of images are those of the crate images.
//!
//! `hyperrun` starts this as a program of its own, `hyperrun-registry`, so that TLS and the C library's
//! name resolution stay out of the program that runs containers. Read `pull` first, then
//! `repository` and `blob`, then `http`.
#![forbid(unsafe_code)]

mod auth;
mod blob;
mod config;
mod error;
mod events;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod http;
mod login;
mod progress;
mod pull;
mod push;
mod repository;
mod tags;
mod url;
mod words;

#[cfg(test)]
mod tests;

use images::Transfer;

pub use error::Error;

/// Does what is asked for; words go to stdout and stderr as it goes on.
///
/// # Errors
/// If it cannot be done. The store is then as it was before.
pub fn run(transfer: &Transfer) -> Result<(), Error> {
    let mut client = http::Client::new(config::Config::load()?, auth::DockerConfig::load()?);
    match transfer {
        Transfer::Pull(pull) => pull::run(&client, pull),
        Transfer::Push(push) => push::run(&client, push),
        Transfer::Fetch(fetch) => fetch::run(&client, fetch),
        Transfer::Login(login) => login::login(&mut client, login),
        Transfer::Logout { registry } => login::logout(&mut client, registry),
    }
}

/// An error and its causes in one line, joined by colons.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
