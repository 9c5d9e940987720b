//! The functions of templates: Go's own, then Docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::{TemplateError, number, print};

/// What a template may call.
const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// The most blanks that `pad` and `printf` put in front of or behind something.
pub(super) const PAD_LIMIT: usize = 1000;

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// What Go takes for true: everything but nothing, zero and what is empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The name of a value's kind, for errors.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "type bool",
        Value::Number(_) => "type number",
        Value::String(_) => "type string",
        Value::Array(_) => "type list",
        Value::Object(_) => "type map",
    }
}

/// The value of a label, of a map of them or of a row's cell as `colour=blue,size=large`; empty where there is
/// none. What stands above a column of labels has no `=`: above one of them stands the end of its key.
pub(super) fn label(labels: &Value, key: &str) -> String {
    match labels {
        Value::Object(map) => map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned(),
        Value::String(cell) if cell.contains('=') => label_in(cell, key).to_owned(),
        Value::String(heading) if !heading.is_empty() => {
            key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ")
        }
        _ => String::new(),
    }
}

/// A comma is the end of a value only if a key and `=` follow.
fn label_in<'c>(cell: &'c str, key: &str) -> &'c str {
    let is_begin = |at: usize| {
        let next = cell[at..].find([',', '=']).map(|end| &cell[at + end..]);
        next.is_some_and(|rest| rest.starts_with('='))
    };
    let commas = cell.match_indices(',').map(|(at, _)| at + 1);
    let mut begins: Vec<usize> = commas.filter(|at| is_begin(*at)).collect();
    begins.insert(0, 0);
    let ends = begins.iter().skip(1).map(|at| at - 1).chain([cell.len()]);
    let mut pairs = begins.iter().zip(ends).map(|(begin, end)| &cell[*begin..end]);
    pairs.find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
}

/// Calls a function that [`is_known`].
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let result = match name {
        // Both have ended at the argument that decides, unless it is the last.
        "and" | "or" => arguments.last().cloned().ok_or_else(|| count(1, 0)),
        "not" => one(arguments).map(|value| Value::Bool(!truth(value))),
        "eq" => equal_to_any(arguments),
        "ne" => two(arguments).and_then(|(a, b)| Ok(Value::Bool(!equal(a, b)?))),
        "lt" => order(arguments, &[Ordering::Less]),
        "le" => order(arguments, &[Ordering::Less, Ordering::Equal]),
        "gt" => order(arguments, &[Ordering::Greater]),
        "ge" => order(arguments, &[Ordering::Greater, Ordering::Equal]),
        "len" => one(arguments).and_then(length),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(print::joined(arguments).into()),
        "println" => Ok(print::line(arguments).into()),
        "printf" => match arguments.split_first() {
            Some((Value::String(format), rest)) => Ok(print::formatted(format, rest).into()),
            _ => Err("the format must be a string".to_owned()),
        },
        "json" => one(arguments).map(|value| value.to_string().into()),
        "join" => join(arguments),
        "split" => split(arguments),
        "lower" => text(arguments, str::to_lowercase),
        "upper" => text(arguments, str::to_uppercase),
        "title" => text(arguments, title),
        "pad" => pad(arguments),
        "truncate" => truncate(arguments),
        _ => Err("it is not known".to_owned()),
    };
    result.map_err(|reason| TemplateError::Call { function: name.to_owned(), reason })
}

type Result1 = Result<Value, String>;

fn count(wanted: usize, found: usize) -> String {
    format!("wrong number of args: want {wanted} got {found}")
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [value] => Ok(value),
        _ => Err(count(1, arguments.len())),
    }
}

fn two(arguments: &[Value]) -> Result<(&Value, &Value), String> {
    match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(count(2, arguments.len())),
    }
}

fn string(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        other => Err(format!("expected string; found {}", print::plain(other))),
    }
}

/// A place or a length; what is negative or no whole number is refused.
fn place(value: &Value) -> Result<usize, String> {
    let found = || format!("index out of range: {}", print::plain(value));
    value.as_u64().and_then(|place| usize::try_from(place).ok()).ok_or_else(found)
}

fn text(arguments: &[Value], change: impl Fn(&str) -> String) -> Result1 {
    Ok(change(string(one(arguments)?)?).into())
}

fn equal_to_any(arguments: &[Value]) -> Result1 {
    let (first, rest) = match arguments.split_first() {
        Some((first, rest)) if !rest.is_empty() => (first, rest),
        _ => return Err("missing argument for comparison".to_owned()),
    };
    for other in rest {
        if equal(first, other)? {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn equal(left: &Value, right: &Value) -> Result<bool, String> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            Ok(number::compare(left, right) == Some(Ordering::Equal))
        }
        (Value::Null, _) | (_, Value::Null) => Ok(left == right),
        _ if std::mem::discriminant(left) == std::mem::discriminant(right) => Ok(left == right),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(arguments: &[Value], wanted: &[Ordering]) -> Result1 {
    let found = match two(arguments)? {
        (Value::Number(left), Value::Number(right)) => number::compare(left, right),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    let found = found.ok_or("invalid type for comparison")?;
    Ok(wanted.contains(&found).into())
}

/// Strings are counted in bytes, as in Go.
fn length(value: &Value) -> Result1 {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("len of {}", kind(other))),
    }
}

/// A key that a map does not have gives nothing; a place that a list does not have is an error.
fn index(arguments: &[Value]) -> Result1 {
    let (value, keys) = arguments.split_first().ok_or_else(|| count(1, 0))?;
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Object(map), Value::String(key)) => {
                map.get(key).cloned().unwrap_or_else(|| Value::String(String::new()))
            }
            (Value::Array(items), key) => {
                let at = place(key)?;
                items.get(at).cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::String(text), key) => {
                let at = place(key)?;
                let byte = text.as_bytes().get(at);
                (*byte.ok_or_else(|| format!("index out of range: {at}"))?).into()
            }
            (Value::Null, _) => Value::String(String::new()),
            (other, _) => return Err(format!("can't index item of {}", kind(other))),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Result1 {
    let (value, places) = arguments.split_first().ok_or_else(|| count(1, 0))?;
    let whole = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(format!("can't slice item of {}", kind(other))),
    };
    let (from, to) = match places {
        [] => (0, whole),
        [from] => (place(from)?, whole),
        [from, to] => (place(from)?, place(to)?),
        _ => return Err(format!("too many slice indexes: {}", places.len())),
    };
    let outside = || format!("index out of range: {from}:{to}");
    match value {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(outside),
        Value::Array(items) => {
            items.get(from..to).map(|items| items.to_vec().into()).ok_or_else(outside)
        }
        _ => Err(outside()),
    }
}

fn join(arguments: &[Value]) -> Result1 {
    let (list, separator) = two(arguments)?;
    let separator = string(separator)?;
    match list {
        Value::Null => Ok(String::new().into()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(print::plain).collect();
            Ok(items.join(separator).into())
        }
        other => Err(format!("expected list; found {}", print::plain(other))),
    }
}

fn split(arguments: &[Value]) -> Result1 {
    let (text, separator) = two(arguments)?;
    let (text, separator) = (string(text)?, string(separator)?);
    if separator.is_empty() {
        return Ok(text.chars().map(String::from).collect());
    }
    Ok(text.split(separator).collect())
}

/// Go's `strings.Title`: the first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut inside = false;
    let raise = |c: char| {
        let first = !inside && c.is_alphabetic();
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(raise).collect()
}

fn pad(arguments: &[Value]) -> Result1 {
    let [text, before, after] = arguments else { return Err(count(3, arguments.len())) };
    let text = string(text)?;
    if text.is_empty() {
        return Ok(text.into());
    }
    let (before, after) = (place(before)?.min(PAD_LIMIT), place(after)?.min(PAD_LIMIT));
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

fn truncate(arguments: &[Value]) -> Result1 {
    let (text, length) = two(arguments)?;
    Ok(string(text)?.chars().take(place(length)?).collect::<String>().into())
}
