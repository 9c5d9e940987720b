//! Reads `--device-read-bps` and its siblings: how fast a container's disks are at most.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::config::DiskLimits;

use crate::limits::Size;

/// A limit in bytes: `DEVICE:SIZE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteRate(pub DeviceRate);

/// A limit in requests: `DEVICE:NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestRate(pub DeviceRate);

/// So much of a device in each second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceRate {
    /// The device as it was named.
    pub path: String,
    /// Bytes or requests; 0 is no limit.
    pub rate: u64,
}

/// All that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRates {
    /// `--device-read-bps`.
    pub read_bps: Vec<ByteRate>,
    /// `--device-write-bps`.
    pub write_bps: Vec<ByteRate>,
    /// `--device-read-iops`.
    pub read_iops: Vec<RequestRate>,
    /// `--device-write-iops`.
    pub write_iops: Vec<RequestRate>,
}

/// Text that is no limit of a device; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceRateError {
    /// No colon.
    #[error("bad format: {0}")]
    Format(String),
    /// No device.
    #[error("bad format for device path: {0}")]
    Device(String),
    /// No number of bytes.
    #[error(
        "invalid rate for device: {0}. The correct format is <device-path>:<number>[<unit>]. Number \
         must be a positive integer. Unit is optional and can be kb, mb, or gb"
    )]
    Bytes(String),
    /// No number of requests.
    #[error(
        "invalid rate for device: {0}. The correct format is <device-path>:<number>. Number must be \
         a positive integer"
    )]
    Requests(String),
}

impl DeviceRates {
    /// What the machine's disks keep to, whichever device was named: of several limits the smallest.
    #[must_use]
    pub fn limits(&self) -> DiskLimits {
        let bytes = |rates: &[ByteRate]| smallest(rates.iter().map(|one| one.0.rate));
        let requests = |rates: &[RequestRate]| smallest(rates.iter().map(|one| one.0.rate));
        DiskLimits {
            read_bytes: bytes(&self.read_bps),
            write_bytes: bytes(&self.write_bps),
            read_requests: requests(&self.read_iops),
            write_requests: requests(&self.write_iops),
        }
    }
}

fn smallest(rates: impl Iterator<Item = u64>) -> Option<u64> {
    rates.filter(|rate| *rate > 0).min()
}

impl FromStr for ByteRate {
    type Err = DeviceRateError;

    fn from_str(text: &str) -> Result<Self, DeviceRateError> {
        let (path, rate) = parts(text)?;
        let size: Result<Size, _> = rate.parse();
        let rate = size.map_err(|_| DeviceRateError::Bytes(text.to_owned()))?.bytes;
        Ok(Self(DeviceRate { path: path.to_owned(), rate }))
    }
}

impl FromStr for RequestRate {
    type Err = DeviceRateError;

    fn from_str(text: &str) -> Result<Self, DeviceRateError> {
        let (path, rate) = parts(text)?;
        let rate = rate.parse().map_err(|_| DeviceRateError::Requests(text.to_owned()))?;
        Ok(Self(DeviceRate { path: path.to_owned(), rate }))
    }
}

/// A device and what stands behind its colon.
fn parts(text: &str) -> Result<(&str, &str), DeviceRateError> {
    match text.split_once(':') {
        None | Some((_, "")) => Err(DeviceRateError::Format(text.to_owned())),
        Some((path, _)) if !path.starts_with("/dev/") => {
            Err(DeviceRateError::Device(text.to_owned()))
        }
        Some(parts) => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_dockers() {
        let bytes = |text: &str| text.parse::<ByteRate>().map(|one| one.0.rate);
        let requests = |text: &str| text.parse::<RequestRate>().map(|one| one.0.rate);
        assert_eq!(bytes("/dev/sda:1mb"), Ok(1 << 20));
        assert_eq!(bytes("/dev/sda:1000"), Ok(1000));
        assert_eq!(requests("/dev/sda:1000"), Ok(1000));
        let wrong = |text: &str| text.to_owned();
        assert_eq!(bytes("/dev/sda"), Err(DeviceRateError::Format(wrong("/dev/sda"))));
        assert_eq!(bytes("/dev/sda:"), Err(DeviceRateError::Format(wrong("/dev/sda:"))));
        assert_eq!(bytes("sda:1mb"), Err(DeviceRateError::Device(wrong("sda:1mb"))));
        assert_eq!(bytes("/dev/sda:-1"), Err(DeviceRateError::Bytes(wrong("/dev/sda:-1"))));
        for text in ["/dev/sda:1mb", "/dev/sda:-1", "/dev/sda:x"] {
            assert_eq!(requests(text), Err(DeviceRateError::Requests(wrong(text))));
        }
    }

    #[test]
    fn the_smallest_limit_counts() {
        let rates = DeviceRates {
            read_bps: ["/dev/a:2m", "/dev/b:1m", "/dev/c:0"].map(|one| one.parse().unwrap()).into(),
            write_iops: vec!["/dev/a:0".parse().unwrap()],
            ..DeviceRates::default()
        };
        let wanted = DiskLimits { read_bytes: Some(1 << 20), ..DiskLimits::default() };
        assert_eq!(rates.limits(), wanted);
        assert_eq!(DeviceRates::default().limits(), DiskLimits::default());
    }
}
