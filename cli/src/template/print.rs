//! Values as Go prints them.

use serde_json::Value;

use super::functions::PAD_LIMIT;
use super::number;

/// What an action prints.
pub(super) fn whole(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        other => plain(other),
    }
}

/// Go's `%v`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}:{}", plain(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
    }
}

/// Go's `Sprint`: a blank between two values of which neither is a string.
pub(super) fn joined(values: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        let both = at > 0 && !value.is_string() && !values[at - 1].is_string();
        text.push_str(if both { " " } else { "" });
        text.push_str(&plain(value));
    }
    text
}

/// Go's `Sprintln`.
pub(super) fn line(values: &[Value]) -> String {
    values.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n"
}

/// A verb of `printf` with its flags: `%-10s`.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Go's `Sprintf` with the verbs v, s, q, d, t, f, x.
pub(super) fn formatted(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let verb = flags(&mut chars);
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match values.next() {
                Some(value) => out.push_str(&one(letter, &verb, value)),
                None => out.push_str(&format!("%!{letter}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = values.map(plain).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn flags(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Verb {
    let mut verb = Verb::default();
    while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '0' | '#' | ' ')) {
        match flag {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            '0' => verb.zero = true,
            _ => {}
        }
    }
    verb.width = digits(chars);
    if chars.next_if_eq(&'.').is_some() {
        verb.precision = Some(digits(chars));
    }
    verb
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).map_or(0, |digit| digit as usize);
        number = (number * 10 + digit).min(PAD_LIMIT);
    }
    number
}

fn one(letter: char, verb: &Verb, value: &Value) -> String {
    let whole_number = match value {
        Value::Number(number) => number::whole(number),
        _ => None,
    };
    let text = match (letter, value) {
        ('v', value) => plain(value),
        ('s', Value::String(text)) => text.clone(),
        ('s', Value::Array(_) | Value::Object(_)) => plain(value),
        ('q', Value::String(text)) => format!("{text:?}"),
        ('t', Value::Bool(value)) => value.to_string(),
        ('d', _) if whole_number.is_some() => plain(value),
        ('x', _) if let Some(number) = whole_number => format!("{number:x}"),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f', Value::Number(number)) => {
            let precision = verb.precision.unwrap_or(6);
            format!("{:.precision$}", number.as_f64().unwrap_or(0.0))
        }
        (letter, value) => return format!("%!{letter}({})", plain(value)),
    };
    let text = match (letter, verb.precision) {
        ('s' | 'v', Some(most)) => text.chars().take(most).collect(),
        _ => text,
    };
    let text =
        if verb.plus && whole_number.is_some_and(|n| n >= 0) { format!("+{text}") } else { text };
    let missing = verb.width.saturating_sub(text.chars().count());
    match (verb.minus, verb.zero && value.is_number()) {
        (true, _) => text + &" ".repeat(missing),
        (false, true) => match text.strip_prefix(['-', '+']) {
            Some(rest) => format!("{}{}{rest}", &text[..1], "0".repeat(missing)),
            None => "0".repeat(missing) + &text,
        },
        (false, false) => " ".repeat(missing) + &text,
    }
}
