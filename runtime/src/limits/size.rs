//! Reads sizes as Docker writes them: `512m`, `1.5g`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Powers of 1024, the first one being 1.
const UNITS: [&str; 6] = ["", "k", "m", "g", "t", "p"];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Bytes; what is larger than 64 bits counts as the largest number.
    pub bytes: u64,
}

/// Text that is no size: no number, or a unit that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid size: '{text}'")]
pub struct SizeError {
    text: String,
}

impl FromStr for Size {
    type Err = SizeError;

    /// A number, perhaps with a fraction, and one of b, k, m, g, t, p in either case, perhaps with
    /// `b` or `ib` behind it; all are powers of 1024 (`RAMInBytes` of Docker's go-units). A part of
    /// a byte counts as a whole one.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let invalid = || SizeError { text: text.to_owned() };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let shift = unit_shift(unit).ok_or_else(invalid)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number, never negative; the cast saturates"
        )]
        let bytes = (number * f64::from(shift).exp2()).ceil() as u64;
        Ok(Self { bytes })
    }
}

impl fmt::Display for Size {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.bytes, 0);
        while number > 0 && number.is_multiple_of(1024) && unit + 1 < UNITS.len() {
            (number, unit) = (number / 1024, unit + 1);
        }
        write!(formatter, "{number}{}", UNITS[unit])
    }
}

/// The power of two a unit stands for.
fn unit_shift(unit: &str) -> Option<u32> {
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let letter = unit.strip_suffix('i').unwrap_or(unit);
    UNITS
        .iter()
        .position(|known| *known == letter)
        .map(|at| u32::try_from(at * 10).expect("six units have six shifts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            ("0", 0, "0"),
            ("1023", 1023, "1023"),
            ("1kb", 1024, "1k"),
            ("1.5K", 1536, "1536"),
            ("128g", 128 << 30, "128g"),
            ("2 GiB", 2 << 30, "2g"),
            ("4p", 4 << 50, "4p"),
            ("99999999999999999999g", u64::MAX, "18446744073709551615"),
        ];
        for (text, bytes, shown) in cases {
            assert_eq!(text.parse(), Ok(Size { bytes }), "{text}");
            assert_eq!(Size { bytes }.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_size_is_said() {
        for text in ["", "m", "abc", "-1g", "1x", "1gg", ".5g", "1.g", "1.2.3g", "1  g", "1e9"] {
            let error = text.parse::<Size>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid size: '{text}'"));
        }
    }
}
