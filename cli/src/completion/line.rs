//! A command line that is being typed, as bash hands it over: what its words are.

/// The words of a line, of which the last may be empty. A quote that is not closed ends with the line.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut has_word) = (None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('\''), _) => word.push(letter),
            (_, '\\') => word.extend(letters.next()),
            (None, '\'' | '"') => (quote, has_word) = (Some(letter), true),
            (None, _) if letter.is_whitespace() => {
                if has_word || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                has_word = false;
            }
            _ => word.push(letter),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_as_a_shell_does() {
        for (line, wanted) in [
            ("", &[""][..]),
            ("hyperrun", &["hyperrun"]),
            ("hyperrun ", &["hyperrun", ""]),
            ("hyperrun  rm -f  one two", &["hyperrun", "rm", "-f", "one", "two"]),
            ("h run -e 'A=b c' \"x y", &["h", "run", "-e", "A=b c", "x y"]),
            ("h run debian:bo", &["h", "run", "debian:bo"]),
            (r#"h a\ b "c\"d" 'e\'"#, &["h", "a b", "c\"d", "e\\"]),
            ("h '' ", &["h", "", ""]),
            ("h '", &["h", ""]),
        ] {
            assert_eq!(words(line), wanted, "{line}");
        }
    }
}
