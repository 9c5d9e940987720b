//! Go's text templates, as far as `--format` needs them: over JSON, without definitions of templates.
//!
//! The language is that of Go's `text/template` package, the functions are Docker's. A template is a
//! person's own text, but it may come out of a file: nothing in it makes this panic or recurse
//! without end.

mod functions;
mod lex;
mod number;
mod parse;
mod print;
mod run;

use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::parse(lex::lex(text)?)? })
    }

    /// What it makes of `value`, which is `.` and `$` in it.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        run::run(&self.nodes, value)
    }
}

/// Why a template makes nothing, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("unclosed action")]
    UnclosedAction,
    #[error("unclosed comment")]
    UnclosedComment,
    #[error("unterminated quoted string")]
    UnclosedString,
    #[error("bad character {0:?}")]
    Character(char),
    #[error("bad number syntax: {0:?}")]
    Number(String),
    #[error("unexpected {0}")]
    Unexpected(String),
    #[error("unexpected EOF: an {{{{end}}}} is missing")]
    MissingEnd,
    #[error("missing value for {0}")]
    MissingValue(&'static str),
    #[error("it is nested too deeply")]
    Depth,
    #[error("function {0:?} not defined")]
    Function(String),
    #[error("undefined variable {0:?}")]
    Variable(String),
    #[error("map has no entry for key {0:?}")]
    NoEntry(String),
    #[error("can't evaluate field {field} in {value}")]
    Field { field: String, value: String },
    #[error("range can't iterate over {0}")]
    Range(String),
    #[error("error calling {function}: {reason}")]
    Call { function: String, reason: String },
}

#[cfg(test)]
mod tests;
