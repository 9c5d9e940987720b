//! What a container that runs is asked: to stand still, to go on, what it does and what it uses.

use std::fs::File;
use std::io::Seek;
use std::os::fd::OwnedFd;

use protocol::{Answer, Limits, Question, Stats, TopRow};

use crate::containers::Found;
use crate::control::connect;
use crate::error::Error;
use crate::link::{FromSupervisor, ToSupervisor};
use crate::network::Connection;

/// Stops all processes of a container where they are.
///
/// # Errors
/// When it does not run, or stands still already.
pub fn pause(found: &Found) -> Result<(), Error> {
    done(found, Question::Pause)
}

/// Lets the processes of a container go on.
///
/// # Errors
/// When it does not stand still.
pub fn unpause(found: &Found) -> Result<(), Error> {
    done(found, Question::Unpause)
}

/// The processes of a container.
///
/// # Errors
/// When it does not run.
pub fn top(found: &Found) -> Result<Vec<TopRow>, Error> {
    match ask(found, Question::Top)? {
        Answer::Top(rows) => Ok(rows),
        other => Err(unexpected(found, &other)),
    }
}

/// What a container uses.
///
/// # Errors
/// When it does not run.
pub fn stats(found: &Found) -> Result<Stats, Error> {
    match ask(found, Question::Stats)? {
        Answer::Stats(stats) => Ok(stats),
        other => Err(unexpected(found, &other)),
    }
}

/// What the kernel of a container's machine has said, as lines of `dmesg`: any bytes.
///
/// # Errors
/// When it does not run.
pub fn kernel_log(found: &Found) -> Result<Vec<u8>, Error> {
    match ask(found, Question::KernelLog)? {
        Answer::KernelLog(text) => Ok(text),
        other => Err(unexpected(found, &other)),
    }
}

/// Gives a container that runs these limits in the place of its own.
///
/// # Errors
/// When it does not run, or its kernel refuses.
pub(crate) fn limit(found: &Found, limits: Limits) -> Result<(), Error> {
    done(found, Question::Update(limits))
}

fn done(found: &Found, question: Question) -> Result<(), Error> {
    expect_done(found, &ToSupervisor::Ask(question), &[])
}

fn expect_done(found: &Found, message: &ToSupervisor, files: &[OwnedFd]) -> Result<(), Error> {
    match request(found, message, files)? {
        Answer::Done => Ok(()),
        other => Err(unexpected(found, &other)),
    }
}

/// An answer that is none to the question, or says that there is none.
fn unexpected(found: &Found, answer: &Answer) -> Error {
    let reason = match answer {
        Answer::Failed { message } => message.clone(),
        _ => "the agent in the guest cannot be understood".to_owned(),
    };
    Error::Refused { name: found.record.name.clone(), reason }
}

/// Gives a container that runs one more interface.
///
/// # Errors
/// When it does not run, or has no place for it.
pub(crate) fn plug(found: &Found, connection: Connection) -> Result<(), Error> {
    let Connection { tap, vhost, interface, resolver } = connection;
    let mut files = vec![OwnedFd::from(tap)];
    files.extend(vhost.map(OwnedFd::from));
    let interface = Box::new(interface);
    expect_done(found, &ToSupervisor::Connect { interface, resolver }, &files)
}

/// Takes the interface with this hardware address from a container that runs.
///
/// # Errors
/// When it does not run, or has none such.
pub(crate) fn unplug(found: &Found, mac: [u8; 6]) -> Result<(), Error> {
    expect_done(found, &ToSupervisor::Disconnect { mac }, &[])
}

fn ask(found: &Found, question: Question) -> Result<Answer, Error> {
    request(found, &ToSupervisor::Ask(question), &[])
}

/// Says something that the agent answers.
fn request(found: &Found, message: &ToSupervisor, files: &[OwnedFd]) -> Result<Answer, Error> {
    let name = || found.record.name.clone();
    let failed = |source| Error::Supervisor { name: name(), source };
    let link = connect(found)?;
    link.send_with(message, files).map_err(failed)?;
    loop {
        let (message, mut files) = match link.receive::<FromSupervisor>().map_err(failed)? {
            Some(received) => received,
            None => return Err(Error::NotRunning { name: name() }),
        };
        match message {
            FromSupervisor::Answer => {
                let invalid = || failed(std::io::ErrorKind::InvalidData.into());
                let mut file = File::from(files.pop().ok_or_else(invalid)?);
                file.rewind().map_err(failed)?;
                return protocol::read(&mut file).map_err(|_| invalid());
            }
            FromSupervisor::Refused(reason) => return Err(Error::Refused { name: name(), reason }),
            _ => {}
        }
    }
}
