//! Changes to an image's configuration in the words of a Dockerfile: `CMD ["sh"]`, `ENV A=b`.

use std::str::FromStr;

use serde_json::{Map, Value, json};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    field: &'static str,
    value: New,
}

/// What becomes of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum New {
    /// It is this.
    Set(Value),
    /// It is a list of `KEY=value`, in which these replace those of the same key.
    Variables(Vec<(String, String)>),
    /// It is a map that has these as well.
    Entries(Vec<(String, Value)>),
}

/// Why a text is no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The instruction is not one of those that change a configuration.
    #[error("{instruction} is not a valid change command")]
    Unknown {
        /// Its first word, in upper case.
        instruction: String,
    },
    /// The instruction wants an argument.
    #[error("{instruction} requires at least one argument")]
    Empty {
        /// Which one.
        instruction: &'static str,
    },
    /// A variable or label without a value.
    #[error("{instruction} must have the form KEY=value, not {text:?}")]
    NoValue {
        /// Which one.
        instruction: &'static str,
        /// What stands there.
        text: String,
    },
    /// A port that is none.
    #[error("invalid port in EXPOSE: {text:?}")]
    Port {
        /// What stands there.
        text: String,
    },
    /// Quotes that are not closed.
    #[error("unclosed quote in {instruction}")]
    Quote {
        /// Which one.
        instruction: &'static str,
    },
}

const INSTRUCTIONS: [&str; 9] =
    ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

impl FromStr for Change {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Change, ChangeError> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let upper = word.to_ascii_uppercase();
        let instruction = INSTRUCTIONS.into_iter().find(|known| *known == upper);
        let instruction = instruction.ok_or(ChangeError::Unknown { instruction: upper })?;
        let rest = rest.trim();
        if rest.is_empty() && !matches!(instruction, "CMD" | "ENTRYPOINT") {
            return Err(ChangeError::Empty { instruction });
        }
        let set = |field, value| Ok(Change { field, value: New::Set(value) });
        match instruction {
            "CMD" => set("Cmd", command(rest)),
            "ENTRYPOINT" => set("Entrypoint", command(rest)),
            "ENV" => {
                let value = New::Variables(pairs(instruction, rest)?);
                Ok(Change { field: "Env", value })
            }
            "LABEL" => {
                let labels = pairs(instruction, rest)?.into_iter();
                let value = New::Entries(labels.map(|(key, value)| (key, value.into())).collect());
                Ok(Change { field: "Labels", value })
            }
            "EXPOSE" => {
                let ports: Result<Vec<_>, _> = rest.split_whitespace().map(port).collect();
                Ok(Change { field: "ExposedPorts", value: New::Entries(keys(ports?)) })
            }
            "VOLUME" => {
                let paths = match list(rest) {
                    Some(paths) => paths,
                    None => words(instruction, rest)?,
                };
                Ok(Change { field: "Volumes", value: New::Entries(keys(paths)) })
            }
            "STOPSIGNAL" => set("StopSignal", rest.into()),
            "USER" => set("User", rest.into()),
            _ => set("WorkingDir", absolute(rest).into()),
        }
    }
}

impl Change {
    /// Makes the change in a configuration document's `config`.
    pub(crate) fn apply(&self, config: &mut Map<String, Value>) {
        let slot = config.entry(self.field).or_insert(Value::Null);
        match &self.value {
            New::Set(value) => *slot = value.clone(),
            New::Variables(pairs) => {
                let mut list = slot.as_array().cloned().unwrap_or_default();
                for (key, value) in pairs {
                    let same = |entry: &Value| {
                        let text = entry.as_str().unwrap_or_default();
                        text.split_once('=').map_or(text, |(known, _)| known) == key
                    };
                    let entry = Value::from(format!("{key}={value}"));
                    match list.iter_mut().find(|entry| same(entry)) {
                        Some(there) => *there = entry,
                        None => list.push(entry),
                    }
                }
                *slot = list.into();
            }
            New::Entries(entries) => {
                let mut map = slot.as_object().cloned().unwrap_or_default();
                map.extend(entries.iter().cloned());
                *slot = map.into();
            }
        }
    }
}

/// A list in JSON is the command itself, anything else a line for the shell.
fn command(text: &str) -> Value {
    match list(text) {
        Some(words) => words.into(),
        None if text.is_empty() => json!([]),
        None => json!(["/bin/sh", "-c", text]),
    }
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn keys(names: Vec<String>) -> Vec<(String, Value)> {
    names.into_iter().map(|name| (name, json!({}))).collect()
}

/// `80` is `80/tcp`.
fn port(text: &str) -> Result<String, ChangeError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = ["tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str());
    let valid = !number.starts_with('+') && number.parse::<u16>().is_ok_and(|number| number > 0);
    if !known || !valid {
        return Err(ChangeError::Port { text: text.to_owned() });
    }
    Ok(format!("{number}/{}", protocol.to_ascii_lowercase()))
}

fn absolute(folder: &str) -> String {
    if folder.starts_with('/') { folder.to_owned() } else { format!("/{folder}") }
}

/// `KEY=value KEY2="with blanks"`, or `KEY the rest`.
fn pairs(instruction: &'static str, text: &str) -> Result<Vec<(String, String)>, ChangeError> {
    let no_value = |text: &str| ChangeError::NoValue { instruction, text: text.to_owned() };
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| no_value(text))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(no_value(&word)),
    };
    words(instruction, text)?.into_iter().map(pair).collect()
}

/// Words as a shell cuts them: single and double quotes, and backslashes.
fn words(instruction: &'static str, text: &str) -> Result<Vec<String>, ChangeError> {
    let mut words = Vec::new();
    let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(ChangeError::Quote { instruction });
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_dockerfiles() {
        let cases = [
            ("CMD [\"sh\", \"-c\", \"ls -l\"]", json!({"Cmd": ["sh", "-c", "ls -l"]})),
            ("cmd echo $HOME", json!({"Cmd": ["/bin/sh", "-c", "echo $HOME"]})),
            ("ENTRYPOINT []", json!({"Entrypoint": []})),
            ("ENTRYPOINT", json!({"Entrypoint": []})),
            (
                "ENV A=b C=\"d e\" F='g \"h' I=j\\ k",
                json!({"Env": ["A=b", "C=d e", "F=g \"h", "I=j k"]}),
            ),
            ("ENV PATH /bin:/usr/bin x", json!({"Env": ["PATH=/bin:/usr/bin x"]})),
            ("WORKDIR srv", json!({"WorkingDir": "/srv"})),
            ("USER app:staff", json!({"User": "app:staff"})),
            ("EXPOSE 80 53/UDP", json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}})),
            ("LABEL a=1 b=\"two words\"", json!({"Labels": {"a": "1", "b": "two words"}})),
            ("VOLUME /a /b", json!({"Volumes": {"/a": {}, "/b": {}}})),
            ("VOLUME [\"/with blank\"]", json!({"Volumes": {"/with blank": {}}})),
            ("STOPSIGNAL SIGINT", json!({"StopSignal": "SIGINT"})),
        ];
        for (text, wanted) in cases {
            let mut config = Map::new();
            text.parse::<Change>().unwrap().apply(&mut config);
            assert_eq!(Value::from(config), wanted, "{text}");
        }
    }

    #[test]
    fn later_changes_add_to_earlier_ones() {
        let mut config = Map::new();
        for text in ["ENV A=1 B=2", "ENV A=3", "LABEL x=1", "LABEL y=2", "USER a", "USER b"] {
            text.parse::<Change>().unwrap().apply(&mut config);
        }
        let wanted = json!({"Env": ["A=3", "B=2"], "Labels": {"x": "1", "y": "2"}, "User": "b"});
        assert_eq!(Value::from(config), wanted);
    }

    #[test]
    fn what_is_no_change_is_said() {
        let cases = [
            ("RUN ls", "RUN is not a valid change command"),
            ("", " is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have the form KEY=value, not \"A\""),
            ("ENV A=b c", "ENV must have the form KEY=value, not \"c\""),
            ("LABEL =x", "LABEL must have the form KEY=value, not \"=x\""),
            ("EXPOSE 0", "invalid port in EXPOSE: \"0\""),
            ("EXPOSE 80/x", "invalid port in EXPOSE: \"80/x\""),
            ("LABEL a=\"b", "unclosed quote in LABEL"),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Change>().unwrap_err().to_string(), wanted, "{text}");
        }
    }
}
