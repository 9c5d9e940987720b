//! Cuts a template into text and the words of its actions.

use super::{TemplateError, number};
use serde_json::Value;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) word: Word,
    /// Whether it follows the word before it without a blank: `(.A).B`.
    pub(super) glued: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// `.` alone.
    Dot,
    /// `.Name`.
    Field(String),
    /// `$` or `$name`, with its dollar.
    Variable(String),
    /// A function or a keyword.
    Name(String),
    /// A string or a number.
    Literal(Value),
    Pipe,
    Open,
    Close,
    Comma,
    Assign,
    Declare,
}

/// Cuts the whole template.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let before = if trim_next { before.trim_start_matches(is_space) } else { before };
        let Some(mut inside) = after else {
            push_text(&mut pieces, before);
            return Ok(pieces);
        };
        let trims = inside.strip_prefix('-').filter(|more| more.starts_with(is_space));
        if let Some(more) = trims {
            inside = more;
            push_text(&mut pieces, before.trim_end_matches(is_space));
        } else {
            push_text(&mut pieces, before);
        }
        let mut lexer = Lexer { rest: inside };
        if !lexer.skip_comment()? {
            let tokens = lexer.action()?;
            pieces.push(Piece::Action(tokens));
        }
        (trim_next, rest) = lexer.close()?;
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    /// Skips `/* … */`, which must be all there is in its action.
    fn skip_comment(&mut self) -> Result<bool, TemplateError> {
        let start = self.rest.trim_start_matches(is_space);
        let Some(comment) = start.strip_prefix("/*") else { return Ok(false) };
        let (_, after) = comment.split_once("*/").ok_or(TemplateError::UnclosedComment)?;
        self.rest = after;
        Ok(true)
    }

    /// The end of an action: whether it trims what follows, and what follows.
    fn close(&mut self) -> Result<(bool, &'a str), TemplateError> {
        let trimmed = self.rest.trim_start_matches(is_space);
        if trimmed.len() < self.rest.len()
            && let Some(after) = trimmed.strip_prefix("-}}")
        {
            return Ok((true, after));
        }
        let after = trimmed.strip_prefix("}}").ok_or(TemplateError::UnclosedAction)?;
        Ok((false, after))
    }

    fn action(&mut self) -> Result<Vec<Token>, TemplateError> {
        let mut tokens = Vec::new();
        loop {
            let trimmed = self.rest.trim_start_matches(is_space);
            let spaced = trimmed.len() < self.rest.len();
            if trimmed.starts_with("}}") || spaced && trimmed.starts_with("-}}") {
                return Ok(tokens);
            }
            if trimmed.is_empty() {
                return Err(TemplateError::UnclosedAction);
            }
            self.rest = trimmed;
            let word = self.word()?;
            tokens.push(Token { word, glued: !spaced && !tokens.is_empty() });
        }
    }

    fn word(&mut self) -> Result<Word, TemplateError> {
        let first = self.rest.chars().next().ok_or(TemplateError::UnclosedAction)?;
        let after = &self.rest[first.len_utf8()..];
        let simple = match first {
            '|' => Some(Word::Pipe),
            '(' => Some(Word::Open),
            ')' => Some(Word::Close),
            ',' => Some(Word::Comma),
            '=' => Some(Word::Assign),
            _ => None,
        };
        if let Some(word) = simple {
            self.rest = after;
            return Ok(word);
        }
        match first {
            ':' => {
                self.rest = after.strip_prefix('=').ok_or(TemplateError::Character(':'))?;
                Ok(Word::Declare)
            }
            '"' => self.quoted().map(|text| Word::Literal(Value::String(text))),
            '`' => {
                let (text, after) = after.split_once('`').ok_or(TemplateError::UnclosedString)?;
                self.rest = after;
                Ok(Word::Literal(Value::String(text.to_owned())))
            }
            '$' => {
                self.rest = after;
                Ok(Word::Variable(format!("${}", self.name())))
            }
            '.' if !after.starts_with(|c: char| c.is_ascii_digit()) => {
                self.rest = after;
                let name = self.name();
                Ok(if name.is_empty() { Word::Dot } else { Word::Field(name.to_owned()) })
            }
            c if c.is_ascii_digit() || matches!(c, '.' | '+' | '-') => self.number(),
            c if is_name(c) => Ok(Word::Name(self.name().to_owned())),
            c => Err(TemplateError::Character(c)),
        }
    }

    fn name(&mut self) -> &'a str {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at(end);
        self.rest = after;
        name
    }

    fn number(&mut self) -> Result<Word, TemplateError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (text, after) = self.rest.split_at(end);
        let value = number::parse(text).ok_or_else(|| TemplateError::Number(text.to_owned()))?;
        self.rest = after;
        Ok(Word::Literal(value))
    }

    /// A string in double quotes, with the escapes of Go and JSON.
    fn quoted(&mut self) -> Result<String, TemplateError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\n' => break,
                '\\' => {
                    let (_, escaped) = chars.next().ok_or(TemplateError::UnclosedString)?;
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '\\' | '"' | '\'' => escaped,
                        other => return Err(TemplateError::Character(other)),
                    });
                }
                c => text.push(c),
            }
        }
        Err(TemplateError::UnclosedString)
    }
}
