//! Keeps the last of what a guest's kernel prints. What a guest prints is hostile: control
//! characters never reach a person's terminal.

/// The longest piece that is passed on at once, in bytes.
pub(super) const MAX_PIECE_BYTES: usize = 16 << 10;
/// How much is kept, in bytes.
const MAX_TAIL_BYTES: usize = 4 << 10;

/// The end of what was printed.
#[derive(Debug, Default)]
pub(super) struct ConsoleTail(String);

impl ConsoleTail {
    /// Adds what was printed next.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.push_str(&printable(&String::from_utf8_lossy(bytes)));
        if self.0.len() > MAX_TAIL_BYTES {
            let from = self.0.ceil_char_boundary(self.0.len() - MAX_TAIL_BYTES);
            self.0.drain(..from);
        }
    }

    /// What is kept.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// `text` without control characters, but for tabs and the ends of lines.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_escapes_are_not() {
        let mut tail = ConsoleTail::default();
        tail.add("ä".repeat(5000).as_bytes());
        tail.add(b"\x1b[2Jpanic\r\n");
        assert!(tail.text().len() <= MAX_TAIL_BYTES);
        assert!(tail.text().ends_with("ä[2Jpanic\n"));
    }
}
