//! Whether a container is well: what is checked, and what the results of checks say. Runs nothing.

use std::time::Duration;

use images::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::containers::VERSION;
use crate::moment::Moment;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// How many results are kept.
const MAX_RESULTS: usize = 5;
/// How much of what a check writes is kept, in bytes.
const MAX_OUTPUT_BYTES: usize = 4096;

/// What is checked, and how often. A time or number of 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// `CMD` and a program with its arguments, `CMD-SHELL` and a line for the shell, or `NONE`.
    pub test: Vec<String>,
    /// The shell of the image, if it has one of its own.
    pub shell: Vec<String>,
    /// From the end of a check to the next one.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// How long failures mean nothing after the program has begun.
    pub start_period: Duration,
    /// The interval in that time.
    pub start_interval: Duration,
    /// How many failures in a row it takes to be unwell.
    pub retries: u32,
}

impl HealthCheck {
    /// What was asked for; what it leaves open is the image's.
    #[must_use]
    pub fn over_image(asked: Option<Self>, image: &ImageConfig) -> Option<Self> {
        let shell = image.shell.clone().unwrap_or_default();
        let images = image.healthcheck.as_ref().map(|check| Self {
            test: check.test.clone(),
            shell: shell.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        });
        let Some(asked) = asked else { return images };
        let images = images.unwrap_or_default();
        let time = |own: Duration, image: Duration| if own.is_zero() { image } else { own };
        Some(Self {
            test: if asked.test.is_empty() { images.test } else { asked.test },
            shell,
            interval: time(asked.interval, images.interval),
            timeout: time(asked.timeout, images.timeout),
            start_period: time(asked.start_period, images.start_period),
            start_interval: time(asked.start_interval, images.start_interval),
            retries: if asked.retries == 0 { images.retries } else { asked.retries },
        })
    }

    /// Program and arguments of the check; none if nothing is checked.
    #[must_use]
    pub fn command(&self) -> Option<Vec<Vec<u8>>> {
        let (kind, words) = self.test.split_first()?;
        let shell = match (kind.as_str(), self.shell.is_empty()) {
            ("CMD", _) => Vec::new(),
            ("CMD-SHELL", true) => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            ("CMD-SHELL", false) => self.shell.clone(),
            _ => return None,
        };
        let command: Vec<_> =
            shell.iter().chain(words).map(|word| word.clone().into_bytes()).collect();
        (!words.is_empty()).then_some(command)
    }

    /// How long a check may take.
    pub(crate) fn patience(&self) -> Duration {
        or_default(self.timeout, TIMEOUT)
    }
}

fn or_default(time: Duration, default: Duration) -> Duration {
    if time.is_zero() { default } else { time }
}

/// How a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It is not known yet.
    Starting,
    /// Its last check went well.
    Healthy,
    /// Too many checks have failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the checks of a container's program have told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    version: u32,
    /// How it does.
    pub status: HealthStatus,
    /// How many checks have failed since one went well.
    pub failing_streak: u32,
    /// The last results, the oldest first.
    pub log: Vec<CheckResult>,
}

/// What one check has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// When it began.
    pub start: Moment,
    /// When it ended.
    pub end: Moment,
    /// The code of its program; -1 when there was none, or it took too long.
    pub exit_code: i32,
    /// What it wrote, or what went wrong.
    pub output: String,
}

impl Default for Health {
    /// Of a program that has just begun.
    fn default() -> Self {
        let status = HealthStatus::Starting;
        Self { version: VERSION, status, failing_streak: 0, log: Vec::new() }
    }
}

impl Health {
    /// Takes note of a result of a program that has begun at `started`; whether that changes how it
    /// does.
    pub(crate) fn note(
        &mut self,
        check: &HealthCheck,
        started: Moment,
        result: CheckResult,
    ) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            (self.failing_streak, self.status) = (0, HealthStatus::Healthy);
        } else {
            let age = result.start.0.duration_since(started.0).unwrap_or_default();
            let is_excused = before == HealthStatus::Starting && age < check.start_period;
            let retries = if check.retries == 0 { RETRIES } else { check.retries };
            self.failing_streak += u32::from(!is_excused);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() >= MAX_RESULTS {
            self.log.drain(..=self.log.len() - MAX_RESULTS);
        }
        self.log.push(result);
        self.status != before
    }

    /// How long to wait for the next check of a program of this age.
    pub(crate) fn pause(&self, check: &HealthCheck, age: Duration) -> Duration {
        if age < check.start_period && self.status == HealthStatus::Starting {
            or_default(check.start_interval, START_INTERVAL)
        } else {
            or_default(check.interval, INTERVAL)
        }
    }
}

/// The beginning of what a check writes.
#[derive(Debug, Default)]
pub(crate) struct Excerpt {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Excerpt {
    /// Adds what there is room for.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.is_cut |= bytes.len() > room;
    }

    /// As text, with dots where something is missing.
    pub(crate) fn into_text(self) -> String {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.is_cut { text + "..." } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const STARTED: Moment = Moment(SystemTime::UNIX_EPOCH);

    fn result(second: u64, exit_code: i32) -> CheckResult {
        let start = Moment(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        CheckResult { start, end: start, exit_code, output: format!("at {second}") }
    }

    #[test]
    fn failures_in_a_row_make_unwell_and_one_success_makes_well() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let check = HealthCheck { retries: 2, ..HealthCheck::default() };
        let mut health = Health::default();
        for (code, status, streak, changed) in [
            (1, Starting, 1, false),
            (-1, Unhealthy, 2, true),
            (1, Unhealthy, 3, false),
            (0, Healthy, 0, true),
            (0, Healthy, 0, false),
            (1, Healthy, 1, false),
            (1, Unhealthy, 2, true),
        ] {
            assert_eq!(health.note(&check, STARTED, result(5, code)), changed);
            assert_eq!((health.status, health.failing_streak), (status, streak));
        }
    }

    #[test]
    fn failures_at_the_start_are_excused() {
        let start_period = Duration::from_secs(10);
        let check = HealthCheck { retries: 1, start_period, ..HealthCheck::default() };
        let mut health = Health::default();
        assert!(!health.note(&check, STARTED, result(1, 1)));
        assert!(!health.note(&check, STARTED, result(9, 1)));
        assert_eq!(health.failing_streak, 0);
        assert_eq!(health.pause(&check, Duration::from_secs(9)), START_INTERVAL);
        assert_eq!(health.pause(&check, Duration::from_secs(10)), INTERVAL);
        assert!(health.clone().note(&check, STARTED, result(10, 1)));
        // One success ends the excuse.
        assert!(health.note(&check, STARTED, result(2, 0)));
        assert_eq!(health.pause(&check, Duration::from_secs(3)), INTERVAL);
        assert!(health.note(&check, STARTED, result(3, 1)));
        assert_eq!(health.status, HealthStatus::Unhealthy);
    }

    #[test]
    fn the_last_results_are_kept() {
        let mut health = Health::default();
        for second in 0..9 {
            health.note(&HealthCheck::default(), STARTED, result(second, 1));
        }
        let kept: Vec<_> = health.log.iter().map(|result| result.output.as_str()).collect();
        assert_eq!(kept, ["at 4", "at 5", "at 6", "at 7", "at 8"]);
    }

    #[test]
    fn a_long_output_is_cut() {
        let mut excerpt = Excerpt::default();
        excerpt.add(&[b'a'; 4000]);
        excerpt.add(&[b'b'; 96]);
        assert!(!excerpt.is_cut);
        excerpt.add(b"c");
        let text = excerpt.into_text();
        assert_eq!(text.len(), MAX_OUTPUT_BYTES + 3);
        assert!(text.ends_with("b..."));
    }

    #[test]
    fn what_is_left_open_is_the_images() {
        let image = br#"{"config":{"Shell":["/bin/ash","-c"],"Healthcheck":{
            "Test":["CMD-SHELL","test -e /ok"],"Interval":7000000000,"Retries":9}}}"#;
        let image = ImageConfig::parse(image).unwrap();
        let check = HealthCheck::over_image(None, &image).unwrap();
        assert_eq!(
            check.command().unwrap(),
            [b"/bin/ash".to_vec(), b"-c".into(), b"test -e /ok".into()]
        );
        let asked = HealthCheck { retries: 1, ..HealthCheck::default() };
        let check = HealthCheck::over_image(Some(asked), &image).unwrap();
        assert_eq!((check.retries, check.interval), (1, Duration::from_secs(7)));
        let none = HealthCheck { test: vec!["NONE".to_owned()], ..HealthCheck::default() };
        assert_eq!(HealthCheck::over_image(Some(none), &image).unwrap().command(), None);
        assert_eq!(HealthCheck::over_image(None, &ImageConfig::default()), None);
        for test in [vec![], vec!["CMD"], vec!["CMD-SHELL"], vec!["RUN", "x"]] {
            let test = test.into_iter().map(str::to_owned).collect();
            assert_eq!(HealthCheck { test, ..HealthCheck::default() }.command(), None);
        }
    }
}
