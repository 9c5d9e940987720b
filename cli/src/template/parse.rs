//! Makes a tree of a template's pieces.

use serde_json::Value;

use super::lex::{Piece, Token, Word};
use super::{TemplateError, functions};

/// Blocks and parentheses in each other. Parsing and running recurse that deep and no deeper.
const DEPTH_LIMIT: usize = 100;

/// A part of a template that makes text, or decides about other parts.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Output(Pipeline),
    If { condition: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Range { names: Vec<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

/// Commands of which each gets what the one before it made as its last argument.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// The variable that takes the result, which then makes no text.
    pub(super) target: Option<Target>,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) is_new: bool,
}

/// Something with a value, and the fields to take from it.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>),
}

/// What ended a list of nodes.
enum Close {
    End,
    Else(Vec<Token>),
    Eof,
}

/// Makes the tree.
pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0 };
    match parser.list()? {
        (nodes, Close::Eof) => Ok(nodes),
        (_, Close::End) => Err(TemplateError::Unexpected("{{end}}".to_owned())),
        (_, Close::Else(_)) => Err(TemplateError::Unexpected("{{else}}".to_owned())),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, Close), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token { word: Word::Name(name), .. }) => name.as_str(),
                _ => "",
            };
            match keyword {
                "end" => return Ok((nodes, Close::End)),
                "else" => return Ok((nodes, Close::Else(tokens[1..].to_vec()))),
                "if" | "with" | "range" => {
                    let keyword = keyword.to_owned();
                    nodes.push(self.block(&keyword, &tokens[1..])?);
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => {
                    return Err(TemplateError::Unexpected(format!("{{{{{keyword}}}}}")));
                }
                _ => nodes.push(Node::Output(self.whole_pipeline(&tokens, "command")?)),
            }
        }
        Ok((nodes, Close::Eof))
    }

    fn block(&mut self, keyword: &str, tokens: &[Token]) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(TemplateError::Depth);
        }
        let (names, tokens) = match keyword {
            "range" => range_names(tokens)?,
            _ => (Vec::new(), tokens),
        };
        let value = self.whole_pipeline(tokens, "if, with or range")?;
        let (body, end) = self.list()?;
        let otherwise = match end {
            Close::End => Vec::new(),
            Close::Eof => return Err(TemplateError::MissingEnd),
            Close::Else(more) => self.otherwise(&more)?,
        };
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: value, body, otherwise },
            "with" => Node::With { value, body, otherwise },
            _ => Node::Range { names, over: value, body, otherwise },
        })
    }

    /// What stands behind `else`: a list of its own, or one block that shares the `end`.
    fn otherwise(&mut self, tokens: &[Token]) -> Result<Vec<Node>, TemplateError> {
        match tokens.first() {
            None => match self.list()? {
                (nodes, Close::End) => Ok(nodes),
                (_, Close::Eof) => Err(TemplateError::MissingEnd),
                (_, Close::Else(_)) => Err(TemplateError::Unexpected("{{else}}".to_owned())),
            },
            Some(Token { word: Word::Name(name), .. }) if name == "if" || name == "with" => {
                let name = name.clone();
                Ok(vec![self.block(&name, &tokens[1..])?])
            }
            Some(token) => Err(unexpected(&token.word)),
        }
    }

    fn whole_pipeline(
        &mut self,
        tokens: &[Token],
        place: &'static str,
    ) -> Result<Pipeline, TemplateError> {
        let mut tokens = Tokens { tokens, at: 0 };
        let pipeline = self.pipeline(&mut tokens, place)?;
        match tokens.next() {
            None => Ok(pipeline),
            Some(token) => Err(unexpected(&token.word)),
        }
    }

    fn pipeline(
        &mut self,
        tokens: &mut Tokens<'_>,
        place: &'static str,
    ) -> Result<Pipeline, TemplateError> {
        let target = tokens.target();
        let mut commands = Vec::new();
        loop {
            let mut operands = Vec::new();
            while let Some(token) = tokens.peek() {
                if matches!(token.word, Word::Pipe | Word::Close) {
                    break;
                }
                operands.push(self.operand(tokens)?);
            }
            if operands.is_empty() {
                return Err(TemplateError::MissingValue(place));
            }
            commands.push(operands);
            match tokens.peek() {
                Some(Token { word: Word::Pipe, .. }) => tokens.at += 1,
                _ => return Ok(Pipeline { target, commands }),
            }
        }
    }

    fn operand(&mut self, tokens: &mut Tokens<'_>) -> Result<Operand, TemplateError> {
        let token = tokens.next().ok_or(TemplateError::MissingValue("command"))?;
        let mut fields = Vec::new();
        let base = match &token.word {
            Word::Dot => Base::Dot,
            Word::Field(name) => {
                fields.push(name.clone());
                Base::Dot
            }
            Word::Variable(name) => Base::Variable(name.clone()),
            Word::Literal(value) => Base::Literal(value.clone()),
            Word::Name(name) => match name.as_str() {
                "true" => Base::Literal(true.into()),
                "false" => Base::Literal(false.into()),
                "nil" => Base::Literal(Value::Null),
                name if functions::is_known(name) => Base::Function(name.to_owned()),
                name => return Err(TemplateError::Function(name.to_owned())),
            },
            Word::Open => self.group(tokens)?,
            other => return Err(unexpected(other)),
        };
        while let Some(Token { word: Word::Field(name), glued: true }) = tokens.peek() {
            fields.push(name.clone());
            tokens.at += 1;
        }
        Ok(Operand { base, fields })
    }

    fn group(&mut self, tokens: &mut Tokens<'_>) -> Result<Base, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(TemplateError::Depth);
        }
        let inner = self.pipeline(tokens, "parenthesized pipeline")?;
        self.depth -= 1;
        match tokens.next() {
            Some(Token { word: Word::Close, .. }) => Ok(Base::Group(Box::new(inner))),
            _ => Err(TemplateError::Unexpected("end of action: a `)` is missing".to_owned())),
        }
    }
}

/// The words of one action.
struct Tokens<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// `$x :=` or `$x =`.
    fn target(&mut self) -> Option<Target> {
        let [first, second, ..] = self.tokens.get(self.at..)? else { return None };
        let (Word::Variable(name), Word::Declare | Word::Assign) = (&first.word, &second.word)
        else {
            return None;
        };
        self.at += 2;
        Some(Target { name: name.clone(), is_new: second.word == Word::Declare })
    }
}

/// `$item :=` or `$key, $item :=` in front of what a range goes over.
fn range_names(tokens: &[Token]) -> Result<(Vec<String>, &[Token]), TemplateError> {
    let words: Vec<&Word> = tokens.iter().take(4).map(|token| &token.word).collect();
    match words[..] {
        [Word::Variable(item), Word::Declare, ..] => Ok((vec![item.clone()], &tokens[2..])),
        [Word::Variable(key), Word::Comma, Word::Variable(item), Word::Declare] => {
            Ok((vec![key.clone(), item.clone()], &tokens[4..]))
        }
        [Word::Variable(_), Word::Comma, ..] => {
            Err(TemplateError::Unexpected("\",\" in range".to_owned()))
        }
        _ => Ok((Vec::new(), tokens)),
    }
}

fn unexpected(word: &Word) -> TemplateError {
    TemplateError::Unexpected(match word {
        Word::Dot => "\".\"".to_owned(),
        Word::Field(name) => format!("\".{name}\""),
        Word::Variable(name) | Word::Name(name) => format!("{name:?}"),
        Word::Literal(value) => value.to_string(),
        Word::Pipe => "\"|\"".to_owned(),
        Word::Open => "\"(\"".to_owned(),
        Word::Close => "\")\"".to_owned(),
        Word::Comma => "\",\"".to_owned(),
        Word::Assign => "\"=\"".to_owned(),
        Word::Declare => "\":=\"".to_owned(),
    })
}
