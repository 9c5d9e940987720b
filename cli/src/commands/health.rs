//! The flags of `run` and `create` that say how a container's health is checked.

use std::time::Duration;

use runtime::HealthCheck;

use crate::filter::duration;

/// The shortest time that is not nothing.
const SHORTEST: Duration = Duration::from_millis(1);

/// How a container's health is checked.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct HealthArgs {
    /// Check the container's health by this line for its shell
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// The time from one check to the next, as 1m30s [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_interval: Option<Duration>,
    /// How long a check may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_timeout: Option<Duration>,
    /// How many failures in a row make the container unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// How long failures do not count after the start [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_start_period: Option<Duration>,
    /// The time from one check to the next meanwhile [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    health_start_interval: Option<Duration>,
    /// Do not check the container's health, whatever its image says
    #[arg(long, conflicts_with_all = [
        "health_cmd", "health_interval", "health_timeout", "health_retries", "health_start_period",
        "health_start_interval",
    ])]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// What they mean; none is the image's choice.
    pub(crate) fn check(&self) -> Option<HealthCheck> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let check = HealthCheck {
            test: match (self.no_healthcheck, self.health_cmd.as_deref()) {
                (true, _) => words(&["NONE"]),
                (false, Some(line)) if !line.is_empty() => words(&["CMD-SHELL", line]),
                (false, _) => Vec::new(),
            },
            shell: Vec::new(),
            interval: self.health_interval.unwrap_or_default(),
            timeout: self.health_timeout.unwrap_or_default(),
            start_period: self.health_start_period.unwrap_or_default(),
            start_interval: self.health_start_interval.unwrap_or_default(),
            retries: self.health_retries.unwrap_or_default(),
        };
        (check != HealthCheck::default()).then_some(check)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    match time.is_zero() || time >= SHORTEST {
        true => Ok(time),
        false => Err("it cannot be less than 1ms".to_owned()),
    }
}
