//! Files of variables (`--env-file`) and of labels (`--label-file`), a line each.

use thiserror::Error;

use crate::spec::EnvChange;

/// Why a file is none of these; the number is that of the line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinesError {
    /// Spaces before the equals sign.
    #[error("variable '{name}' contains whitespaces, in line {line}")]
    Whitespace {
        /// The name.
        name: String,
        /// Where.
        line: usize,
    },
    /// Nothing before the equals sign.
    #[error("no variable name on line '{text}', line {line}")]
    NoName {
        /// The line.
        text: String,
        /// Where.
        line: usize,
    },
    /// Bytes that are no text.
    #[error("invalid utf8 bytes at line {line}")]
    NoText {
        /// Where.
        line: usize,
    },
}

/// Reads a file of variables as Docker does: `KEY=VALUE` as it stands, without quotes or
/// escapes; `KEY` for the value that hyperrun itself has; `#` at the beginning for a comment.
///
/// # Errors
/// When a line is none of these.
pub fn env_file(bytes: &[u8]) -> Result<Vec<EnvChange>, LinesError> {
    let lines = lines(bytes)?.into_iter();
    Ok(lines
        .map(|(key, value)| match value {
            Some(value) => EnvChange::Set { key: key.into(), value: value.into() },
            None => EnvChange::FromHost(key.into()),
        })
        .collect())
}

/// Reads a file of labels: as one of variables, but a name alone is a label with an empty value.
///
/// # Errors
/// When a line is none of these.
pub fn label_file(bytes: &[u8]) -> Result<Vec<(String, String)>, LinesError> {
    let lines = lines(bytes)?.into_iter();
    Ok(lines.map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

fn lines(bytes: &[u8]) -> Result<Vec<(String, Option<String>)>, LinesError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut found = Vec::new();
    for (number, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = number + 1;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = str::from_utf8(text).map_err(|_| LinesError::NoText { line })?.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.trim_end(), None),
        };
        if name.is_empty() || text.contains('\0') {
            return Err(LinesError::NoName { text: text.to_owned(), line });
        }
        if name.contains(char::is_whitespace) {
            return Err(LinesError::Whitespace { name: name.to_owned(), line });
        }
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let file = b"\xef\xbb\xbfA=b\r\n# no\n\n  B= c=\"d\" \nHOME\n#C=1\nE=\n";
        let set = |key: &str, value: &str| EnvChange::Set { key: key.into(), value: value.into() };
        let wanted = [
            set("A", "b"),
            set("B", " c=\"d\" "),
            EnvChange::FromHost(b"HOME".to_vec()),
            set("E", ""),
        ];
        assert_eq!(env_file(file).unwrap(), wanted);
        let labels = label_file(b"a=b\nc\n").unwrap();
        assert_eq!(labels, [("a".into(), "b".into()), ("c".into(), String::new())]);
        assert_eq!(env_file(b"").unwrap(), []);
    }

    #[test]
    fn bad_lines_are_named() {
        for (file, wanted) in [
            (b"A=1\nB C=2".as_slice(), "variable 'B C' contains whitespaces, in line 2"),
            (b"A =1", "variable 'A ' contains whitespaces, in line 1"),
            (b"\n=1\n", "no variable name on line '=1', line 2"),
            (b"A=1\nB=\xff\n", "invalid utf8 bytes at line 2"),
            (b"A=\0", "no variable name on line 'A=\0', line 1"),
        ] {
            assert_eq!(env_file(file).unwrap_err().to_string(), wanted);
        }
    }
}
