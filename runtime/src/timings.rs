//! The three clocks of a start: machine running, agent ready, first byte of the program.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Runs from the moment `hyperrun` was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since its start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// When things happened after the command was given; what did not happen has no time.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    /// The machine's vCPUs run.
    pub running: Option<Duration>,
    /// The agent takes connections.
    pub ready: Option<Duration>,
    /// The program has begun.
    pub started: Option<Duration>,
    /// The program has written something. Written by whichever stream thread is first.
    pub first_byte: OnceLock<Duration>,
    /// All is over.
    pub total: Option<Duration>,
}

impl fmt::Display for Clocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("machine running", self.running),
            ("agent ready", self.ready),
            ("program started", self.started),
            ("first byte", self.first_byte.get().copied()),
            ("total", self.total),
        ];
        for (name, time) in lines {
            match time {
                Some(time) => {
                    writeln!(formatter, "{name:<16}{:>10.1} ms", time.as_secs_f64() * 1e3)?;
                }
                None => writeln!(formatter, "{name:<16}{:>10}", "-")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_lines() {
        let clocks = Clocks {
            running: Some(Duration::from_micros(12_340)),
            total: Some(Duration::from_secs(2)),
            ..Clocks::default()
        };
        let text = clocks.to_string();
        assert!(text.starts_with("machine running       12.3 ms\nagent ready              -\n"));
        assert!(text.ends_with("total               2000.0 ms\n"));
    }
}
