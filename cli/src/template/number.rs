//! Numbers of templates and of JSON: integers where they are whole, else floating point.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// A number as Go writes it, in base 10 or with `0x`; `None` if it is none.
pub(super) fn parse(text: &str) -> Option<Value> {
    let digits = text.replace('_', "");
    if let Some(hex) = digits.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Value::from);
    }
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    if let Ok(whole) = digits.parse::<i64>() {
        return Some(whole.into());
    }
    if !digits.contains(['.', 'e', 'E']) {
        return digits.parse::<u64>().ok().map(Value::from);
    }
    digits.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
}

/// Compares whole numbers exactly, others as floating point.
pub(super) fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// A number without a fraction.
pub(super) fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}
