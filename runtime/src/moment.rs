//! A point in time as records and logs hold it: RFC 3339, with nanoseconds.

use std::time::{Duration, SystemTime};

use images::{format_rfc3339, parse_rfc3339};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub SystemTime);

impl Moment {
    /// What Docker shows for something that has not happened.
    pub const NEVER: &str = "0001-01-01T00:00:00Z";

    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    /// How long ago it was; nothing if the clock was turned back meanwhile.
    #[must_use]
    pub fn age(self) -> Duration {
        SystemTime::now().duration_since(self.0).unwrap_or_default()
    }

    /// In UTC: `2024-05-14T01:28:06.5Z`.
    #[must_use]
    pub fn to_text(self) -> String {
        format_rfc3339(self.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = parse_rfc3339(&text);
        time.map(Self).ok_or_else(|| de::Error::custom(format_args!("{text:?} is no time")))
    }
}
