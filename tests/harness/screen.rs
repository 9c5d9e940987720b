//! Where a terminal's cursor is. A real terminal tells programs that ask, as busybox's shell does before
//! each prompt, and some wait for it.

/// The cursor, and what has come of a sequence that steers it. ECMA-48; xterm's `ctlseqs`.
#[derive(Debug)]
pub(crate) struct Screen {
    rows: u16,
    columns: u16,
    /// From 1 on.
    row: u16,
    /// From 1 on. One more than there are: the next character begins a new line.
    column: u16,
    sequence: Sequence,
}

#[derive(Debug)]
enum Sequence {
    None,
    Escape,
    /// `ESC [` and what has come of its parameters.
    Control(String),
    /// `ESC ]` and a text that `BEL` or `ESC \` ends.
    Text,
}

impl Screen {
    pub(crate) fn new(rows: u16, columns: u16) -> Screen {
        Screen { rows, columns, row: 1, column: 1, sequence: Sequence::None }
    }

    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        (self.rows, self.columns) = (rows, columns);
        (self.row, self.column) = (self.row.min(rows), self.column.min(columns));
    }

    /// Shows what a program has written; gives what the terminal answers to it.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        for byte in bytes {
            answers.extend(self.take(*byte).into_iter().flat_map(String::into_bytes));
        }
        answers
    }

    fn take(&mut self, byte: u8) -> Option<String> {
        match (&mut self.sequence, byte) {
            (Sequence::None, _) => self.plain(byte),
            (Sequence::Escape, b'[') => self.sequence = Sequence::Control(String::new()),
            (Sequence::Escape, b']') => self.sequence = Sequence::Text,
            (Sequence::Control(parameters), 0x20..=0x3f) => parameters.push(char::from(byte)),
            (Sequence::Control(parameters), _) => {
                let parameters = std::mem::take(parameters);
                self.sequence = Sequence::None;
                return self.control(byte, &parameters);
            }
            (Sequence::Text, 0x1b) => self.sequence = Sequence::Escape,
            (Sequence::Text, byte) if byte != 0x07 => {}
            (Sequence::Escape | Sequence::Text, _) => self.sequence = Sequence::None,
        }
        None
    }

    fn plain(&mut self, byte: u8) {
        match byte {
            0x1b => self.sequence = Sequence::Escape,
            b'\r' => self.column = 1,
            b'\n' => self.row = self.rows.min(self.row + 1),
            0x08 => self.column = self.column.saturating_sub(1).max(1),
            b'\t' => self.column = ((self.column - 1) / 8 * 8 + 9).min(self.columns),
            // What follows the first byte of a character of UTF-8 takes no room of its own.
            0..=0x1f | 0x7f..=0xbf => {}
            _ if self.column > self.columns => {
                self.row = self.rows.min(self.row + 1);
                self.column = 2;
            }
            _ => self.column += 1,
        }
    }

    fn control(&mut self, last: u8, parameters: &str) -> Option<String> {
        let mut numbers = parameters.split(';').map(|text| text.parse::<u16>().unwrap_or(0));
        let first = numbers.next().unwrap_or(0);
        let (count, second) = (first.max(1), numbers.next().unwrap_or(0).max(1));
        match last {
            b'A' => self.row = self.row.saturating_sub(count).max(1),
            b'B' => self.row = self.row.saturating_add(count).min(self.rows),
            b'C' => self.column = self.column.saturating_add(count).min(self.columns),
            b'D' => self.column = self.column.saturating_sub(count).max(1),
            b'G' => self.column = count.min(self.columns),
            b'H' | b'f' => {
                (self.row, self.column) = (count.min(self.rows), second.min(self.columns));
            }
            b'n' if first == 5 => return Some("\x1b[0n".to_owned()),
            b'n' if first == 6 => {
                return Some(format!("\x1b[{};{}R", self.row, self.column.min(self.columns)));
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_where_programs_have_put_it() {
        for (shown, wanted) in [
            ("", "1;1"),
            ("/ # ", "1;5"),
            ("a\r\nbc", "2;3"),
            ("äö€", "1;4"),
            ("\x1b[1;31mred\x1b[0m\x1b[J\x1b[K", "1;4"),
            ("\x1b]0;a title\x07x\x1b]0;one more\x1b\\", "1;2"),
            ("\tx\x08", "1;9"),
            ("0123456789", "1;10"),
            ("0123456789x", "2;2"),
            ("\x1b[3;4H\x1b[A\x1b[2C\x1b[B\x1b[5D", "3;1"),
            ("\x1b[99;99H\n\n", "5;10"),
            ("abc\x1b[2G", "1;2"),
        ] {
            let mut screen = Screen::new(5, 10);
            assert_eq!(screen.show(shown.as_bytes()), b"", "{shown:?}");
            let answer = format!("\x1b[{wanted}R");
            assert_eq!(screen.show(b"\x1b[6n"), answer.as_bytes(), "{shown:?}");
        }
    }

    #[test]
    fn a_question_may_come_in_pieces() {
        let mut screen = Screen::new(5, 10);
        assert_eq!(screen.show(b"ab\x1b"), b"");
        assert_eq!(screen.show(b"[6"), b"");
        assert_eq!(screen.show(b"nc\x1b[5n"), b"\x1b[1;3R\x1b[0n");
        screen.resize(5, 2);
        assert_eq!(screen.show(b"\x1b[6n"), b"\x1b[1;2R");
    }
}
