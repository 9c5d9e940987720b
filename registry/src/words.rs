//! Words from strangers, made fit for a terminal.

/// The longest message of a registry that is shown.
const LIMIT: usize = 300;

/// One line without control characters, cut to a readable length.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    if out.chars().count() > LIMIT {
        out = out.chars().take(LIMIT).chain(['…']).collect();
    }
    out
}

/// The messages of a registry's error document: distribution-spec, "Error Codes".
pub(crate) fn registry_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Problem>,
    }
    #[derive(serde::Deserialize)]
    struct Problem {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let told = errors
        .iter()
        .map(|error| if error.message.is_empty() { &error.code[..] } else { &error.message[..] });
    clean(&told.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_floods_are_taken_out() {
        assert_eq!(clean("a\x1b[31m\r\n b\t"), "a [31m b");
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), LIMIT + 1);
    }

    #[test]
    fn messages_are_found() {
        let body = br#"{"errors":[{"code":"DENIED","message":"not yours"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(registry_message(body), "not yours; UNKNOWN");
        assert_eq!(registry_message(b"<html>"), "");
        assert_eq!(registry_message(br#"{"errors":[]}"#), "");
    }
}
