//! Somebody who speaks to a redis.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::LONG;

/// How long one attempt to reach it may take. What is sent before there is somebody to take it is lost, and TCP says it again
/// after a second only; a time that is measured is at most so much too long.
const ATTEMPT: Duration = Duration::from_millis(20);

/// Somebody who speaks to a redis.
pub(super) struct Redis(BufReader<TcpStream>);

impl Redis {
    /// The one at this address, once it answers.
    pub(super) fn answering(address: &str) -> Result<Self, Box<dyn Error>> {
        let begin = Instant::now();
        let address = format!("{address}:6379").parse()?;
        while begin.elapsed() < LONG {
            let Ok(stream) = TcpStream::connect_timeout(&address, ATTEMPT) else { continue };
            stream.set_read_timeout(Some(LONG))?;
            let mut redis = Self(BufReader::new(stream));
            if redis.ask("PING").is_ok_and(|answer| answer == "+PONG") {
                return Ok(redis);
            }
        }
        Err(format!("no redis answers at {address}").into())
    }

    pub(super) fn ask(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}
