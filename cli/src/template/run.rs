//! Runs a template's tree over a value.

use std::borrow::Cow;

use serde_json::Value;

use super::parse::{Base, Node, Operand, Pipeline};
use super::{TemplateError, functions, print};

/// The text that `nodes` make of `root`.
pub(super) fn run(nodes: &[Node], root: &Value) -> Result<String, TemplateError> {
    let variables = vec![("$".to_owned(), Cow::Borrowed(root))];
    let mut run = Run { out: String::new(), variables };
    run.list(nodes, root)?;
    Ok(run.out)
}

struct Run<'v> {
    out: String,
    /// The innermost last.
    variables: Vec<(String, Cow<'v, Value>)>,
}

/// Where to go on after a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Run<'_> {
    /// Variables end with the list that has made them.
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        let mut flow = Flow::Next;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::Next {
                break;
            }
        }
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Output(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.target.is_none() {
                    self.out.push_str(&print::whole(&value));
                }
            }
            Node::If { condition, body, otherwise } => {
                let outer = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                let chosen = if functions::truth(&value) { body } else { otherwise };
                let flow = self.list(chosen, dot)?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::With { value, body, otherwise } => {
                let outer = self.variables.len();
                let value = self.pipeline(value, dot)?;
                let flow = match functions::truth(&value) {
                    true => self.list(body, &value)?,
                    false => self.list(otherwise, dot)?,
                };
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Range { names, over, body, otherwise } => {
                let items = items(self.pipeline(over, dot)?)?;
                if items.is_empty() {
                    return self.list(otherwise, dot);
                }
                return self.range(names, items, body);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(
        &mut self,
        names: &[String],
        items: Vec<(Value, Value)>,
        body: &[Node],
    ) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        for (key, item) in items {
            match names {
                [name] => self.variables.push((name.clone(), Cow::Owned(item.clone()))),
                [first, second] => {
                    self.variables.push((first.clone(), Cow::Owned(key)));
                    self.variables.push((second.clone(), Cow::Owned(item.clone())));
                }
                _ => {}
            }
            let flow = self.list(body, &item)?;
            self.variables.truncate(outer);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        let value = piped.unwrap_or(Value::Null);
        if let Some(target) = &pipeline.target {
            if target.is_new {
                self.variables.push((target.name.clone(), Cow::Owned(value.clone())));
            } else {
                self.assign(&target.name, value.clone())?;
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        operands: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = operands.split_first() else { return Ok(Value::Null) };
        if let Base::Function(name) = &first.base {
            let value = self.call(name, rest, piped, dot)?;
            return fields(value, &first.fields);
        }
        if let Some(label) = self.label(first, rest, piped.as_ref(), dot)? {
            return Ok(label);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(TemplateError::Unexpected(
                "argument: what stands first is no function".to_owned(),
            ));
        }
        self.operand(first, dot)
    }

    /// What `.Label "KEY"` tells, the one method that Docker's rows have. `None` for what is not that.
    fn label(
        &mut self,
        first: &Operand,
        rest: &[Operand],
        piped: Option<&Value>,
        dot: &Value,
    ) -> Result<Option<Value>, TemplateError> {
        let Some(("Label", outer)) = first.fields.split_last().map(|(name, all)| (&name[..], all))
        else {
            return Ok(None);
        };
        let key = match (rest, piped) {
            ([key], None) => self.operand(key, dot)?,
            ([], Some(key)) => key.clone(),
            _ => return Ok(None),
        };
        let row = match &first.base {
            Base::Dot => dot,
            Base::Variable(name) => self.variable(name)?,
            _ => return Ok(None),
        };
        let labels = field_of(field_of(row, outer)?, &["Labels".to_owned()])?;
        Ok(key.as_str().map(|key| functions::label(labels, key).into()))
    }

    fn call(
        &mut self,
        name: &str,
        operands: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let mut arguments = Vec::new();
        for operand in operands {
            let value = self.operand(operand, dot)?;
            // As in Go, what follows the argument that decides is not looked at.
            let decides = match name {
                "and" => !functions::truth(&value),
                "or" => functions::truth(&value),
                _ => false,
            };
            if decides {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        functions::call(name, &arguments)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match &operand.base {
            Base::Dot => field_of(dot, &operand.fields).cloned(),
            Base::Variable(name) => field_of(self.variable(name)?, &operand.fields).cloned(),
            Base::Literal(value) => fields(value.clone(), &operand.fields),
            Base::Function(name) => fields(self.call(name, &[], None, dot)?, &operand.fields),
            Base::Group(pipeline) => fields(self.pipeline(pipeline, dot)?, &operand.fields),
        }
    }

    fn variable(&self, name: &str) -> Result<&Value, TemplateError> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        let (_, value) = found.ok_or_else(|| TemplateError::Variable(name.to_owned()))?;
        Ok(value)
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), TemplateError> {
        let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let (_, variable) = found.ok_or_else(|| TemplateError::Variable(name.to_owned()))?;
        *variable = Cow::Owned(value);
        Ok(())
    }
}

fn fields(value: Value, names: &[String]) -> Result<Value, TemplateError> {
    field_of(&value, names).cloned()
}

/// Docker's own values have types, in which a list or map that is not there is an empty one: a field
/// of nothing is nothing.
fn field_of<'v>(mut value: &'v Value, names: &[String]) -> Result<&'v Value, TemplateError> {
    for name in names {
        value = match value {
            Value::Object(map) => {
                map.get(name).ok_or_else(|| TemplateError::NoEntry(name.clone()))?
            }
            Value::Null => value,
            other => {
                let (field, value) = (name.clone(), functions::kind(other).to_owned());
                return Err(TemplateError::Field { field, value });
            }
        };
    }
    Ok(value)
}

/// What a range goes over, each with its key.
fn items(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect())
        }
        Value::Object(map) => {
            Ok(map.into_iter().map(|(key, item)| (Value::String(key), item)).collect())
        }
        other => Err(TemplateError::Range(print::plain(&other))),
    }
}
