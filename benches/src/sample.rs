//! Times of one thing that was done several times.

use std::time::Duration;

/// At least one time; in order.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// Of times in the order in which they were taken.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn new(mut times: Vec<Duration>) -> Sample {
        assert!(!times.is_empty(), "a sample has at least one time");
        times.sort_unstable();
        Sample(times)
    }

    /// The one in the middle; of an even number, the later of the two there.
    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// The shortest one.
    pub(crate) fn least(&self) -> Duration {
        self.0[0]
    }

    /// The longest one.
    pub(crate) fn most(&self) -> Duration {
        self.0[self.0.len() - 1]
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The median in milliseconds.
    pub(crate) fn median_ms(&self) -> f64 {
        milliseconds(self.median())
    }

    /// How many times as long as the other the median is.
    pub(crate) fn ratio_to(&self, other: &Sample) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }
}

/// For people, plots and JSON.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_told_by_its_middle_and_its_ends() {
        let sample = Sample::new([30, 10, 200, 20, 40].map(Duration::from_millis).to_vec());
        let ends = (sample.least(), sample.most());
        assert_eq!(sample.median(), Duration::from_millis(30));
        assert_eq!(ends, (Duration::from_millis(10), Duration::from_millis(200)));
        let other = Sample::new(vec![Duration::from_millis(60)]);
        assert!((sample.ratio_to(&other) - 0.5).abs() < 1e-9);
    }
}
