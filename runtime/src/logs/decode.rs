//! An entry of a log as it is read. Those that hyperrun writes are taken apart without a parser, which
//! would be most of the work of following a fast program; whatever looks different goes to one.

use std::borrow::Cow;

use super::Entry;
use super::bytes::{no_escape, unescaped};

/// The entry in a line, if there is one. Its text may lie in `text`, which keeps its memory.
pub(super) fn entry<'a>(line: &'a [u8], text: &'a mut Vec<u8>) -> Option<Entry<'a>> {
    match ours(line, text) {
        Some((stream, time)) => {
            let log = Cow::Borrowed(str::from_utf8(text).ok()?);
            Some(Entry { log, stream: Cow::Borrowed(stream), time: Cow::Borrowed(time) })
        }
        None => serde_json::from_slice(line).ok(),
    }
}

/// How many lines the text of an entry has, of which the last needs no end.
pub(super) fn lines(mut entry: &[u8]) -> u64 {
    let (mut count, mut last) = (0, 1);
    while let [b'\\', letter, rest @ ..] = &entry[no_escape(entry)..] {
        if *letter == b'n' {
            count += 1;
            last = u64::from(rest.first() != Some(&b'"'));
        }
        entry = rest;
    }
    count + last
}

/// Stream and time of a line as [`LogWriter`](super::LogWriter) writes it, with its text in `text`.
fn ours<'a>(line: &'a [u8], text: &mut Vec<u8>) -> Option<(&'static str, &'a str)> {
    let inside = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}\n")?;
    let quote = inside.iter().rposition(|byte| *byte == b'"')?;
    let (before, time) = inside.split_at(quote + 1);
    if unescaped(time) < time.len() {
        return None;
    }
    // An escaped text has no bare quote, so that none of this is a part of it.
    let stdout = before.strip_suffix(b"\",\"stream\":\"stdout\",\"time\":\"");
    let (escaped, stream) = match stdout {
        Some(escaped) => (escaped, "stdout"),
        None => (before.strip_suffix(b"\",\"stream\":\"stderr\",\"time\":\"")?, "stderr"),
    };
    text.clear();
    unescape(escaped, text)?;
    Some((stream, str::from_utf8(time).ok()?))
}

/// Appends what an escaped text stands for; nothing comes of one that is damaged, or has an escape by
/// number.
fn unescape(mut escaped: &[u8], to: &mut Vec<u8>) -> Option<()> {
    loop {
        let (run, rest) = escaped.split_at(unescaped(escaped));
        to.extend_from_slice(run);
        let [b'\\', letter, rest @ ..] = rest else { return rest.is_empty().then_some(()) };
        to.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'"' | b'\\' => *letter,
            _ => return None,
        });
        escaped = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken apart here is what a parser makes of it, and nothing is taken for an entry that is
    /// none.
    #[test]
    fn a_line_is_what_a_parser_makes_of_it() {
        let whole = |text: &str| {
            format!(
                "{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"2024-05-14T01:28:06Z\"}}\n"
            )
        };
        let texts = [
            "plain\\n",
            "",
            "\\n",
            "\\\\n",
            "\\\"",
            "a\\tb\\r\\n",
            "\u{e4}\\u001b[0m\\n",
            "\\ud83d",
            "\\/",
            "\\",
            "a\"b",
            "\",\"stream\":\"stderr\",\"log\":\"",
            "tab\there",
            "\\x",
            "\\\",\\\"stream\\\":\\\"stderr\\\",\\\"time\\\":\\\"",
        ];
        let other = whole("x\\n").replace("stdout", "stderr");
        let lines = texts.iter().map(|text| whole(text).into_bytes()).chain([
            other.clone().into_bytes(),
            other.replace("stderr", "stdin").into_bytes(),
            other.replace("2024", "\\u0032").into_bytes(),
            other.replace("2024", "\n").into_bytes(),
            other.trim_end().as_bytes().to_vec(),
            b"{\"time\":\"t\",\"log\":\"x\",\"stream\":\"stdout\"}\n".to_vec(),
            b"{\"log\":\"\xff\",\"stream\":\"stdout\",\"time\":\"t\"}\n".to_vec(),
            b"{\"log\":\"\"}\n".to_vec(),
            b"{\"log\":\"\"\"}\n".to_vec(),
            b"\n".to_vec(),
            b"".to_vec(),
        ]);
        let mut text = b"what was there before".to_vec();
        for line in lines {
            let parsed: Option<Entry<'_>> = serde_json::from_slice(&line).ok();
            assert_eq!(entry(&line, &mut text), parsed, "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn the_lines_of_an_entry_are_counted() {
        for (text, count) in [
            ("", 1),
            ("one", 1),
            ("one\\n", 1),
            ("\\n", 1),
            ("one\\ntwo\\n", 2),
            ("one\\ntwo", 2),
            ("one\\\\no\\n", 1),
            ("one\\n\\\"two\\\"", 2),
            ("\\n\\n\\n", 3),
        ] {
            let entry = format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"t\"}}\n");
            assert_eq!(lines(entry.as_bytes()), count, "{text}");
        }
        assert_eq!(lines(b"{\"log\":\"\\"), 1);
    }

    #[test]
    fn what_is_usual_needs_no_parser() {
        let line = b"{\"log\":\"a \\\"b\\\"\\tc\\n\",\"stream\":\"stderr\",\"time\":\"t\"}\n";
        let mut text = Vec::new();
        assert_eq!(ours(line, &mut text), Some(("stderr", "t")));
        assert_eq!(text, b"a \"b\"\tc\n");
    }
}
