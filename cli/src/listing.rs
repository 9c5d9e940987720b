//! Lists as Docker prints them: a table, JSON, or whatever a template makes of each row.

use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Serializer, Value};

use crate::commands::print;
use crate::failure::Failure;
use crate::table;
use crate::template::Template;

/// How a command lists things when nobody asks for anything else.
pub(crate) struct Listing<'a> {
    /// The template of its table: fields, separated by tabs.
    pub(crate) table: &'a str,
    /// What stands above each field of a row.
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

impl Listing<'_> {
    /// Lays the rows out: as `--format` says, or as a table.
    pub(crate) fn lay_out(&self, format: Option<&str>, rows: &[Value]) -> Result<String, Failure> {
        let format = format.unwrap_or("table");
        let columns = match format.strip_prefix("table") {
            Some("") => Some(self.table),
            Some(rest) if rest.starts_with([' ', '\t', '\\']) => Some(rest.trim_start()),
            _ => None,
        };
        let Some(columns) = columns else {
            let template = if format == "json" { "{{json .}}" } else { format };
            let template = parse(template)?;
            return rows.iter().map(|row| Ok(render(&template, row)? + "\n")).collect();
        };
        let template = parse(columns)?;
        // A template that makes something of the rows only has no header.
        let mut text =
            template.render(&self.header()).map_or_else(|_| String::new(), |header| header + "\n");
        for row in rows {
            text.push_str(&render(&template, row)?);
            text.push('\n');
        }
        Ok(table::lay_out(&text))
    }

    fn header(&self) -> Value {
        let fields = self.headers.iter();
        fields.map(|(field, header)| ((*field).to_owned(), Value::from(*header))).collect()
    }
}

/// Reads a template in which `\t` and `\n` may stand for a tab and a new line.
pub(crate) fn parse(text: &str) -> Result<Template, Failure> {
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    Template::parse(&text).map_err(Failure::from)
}

/// What a template makes of a value.
pub(crate) fn render(template: &Template, value: &Value) -> Result<String, Failure> {
    template.render(value).map_err(Failure::from)
}

/// Values as JSON that is indented by four blanks, as Docker does.
pub(crate) fn indented<T: Serialize>(found: &[T]) -> Result<String, Failure> {
    if found.is_empty() {
        return Ok("[]\n".to_owned());
    }
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    found
        .serialize(&mut Serializer::with_formatter(&mut text, formatter))
        .map_err(std::io::Error::from)?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Prints values as an `inspect` does: indented, as JSON in one line, or what a template makes of each.
pub(crate) fn show(format: Option<&str>, found: &[Value]) -> Result<(), Failure> {
    match format {
        None | Some("") => print(&indented(found)?),
        Some("json") => {
            print(&(serde_json::to_string(found).map_err(std::io::Error::from)? + "\n"))
        }
        Some(text) => {
            let template = parse(text)?;
            found.iter().try_for_each(|value| print(&(render(&template, value)? + "\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: Listing<'_> = Listing {
        table: "{{.ID}}\t{{.Size}}",
        headers: &[("ID", "IMAGE ID"), ("Size", "SIZE"), ("Tag", "TAG")],
    };

    #[test]
    fn formats_are_dockers() {
        let rows = [json!({"ID": "abc", "Size": "1kB", "Tag": "x"})];
        let cases = [
            (None, "IMAGE ID   SIZE\nabc        1kB\n"),
            (Some("table"), "IMAGE ID   SIZE\nabc        1kB\n"),
            (Some("table {{.Tag}}\\t{{.ID}}"), "TAG       IMAGE ID\nx         abc\n"),
            (Some("table {{range $i, $c := .Tag.x}}{{end}}"), ""),
            (Some("json"), "{\"ID\":\"abc\",\"Size\":\"1kB\",\"Tag\":\"x\"}\n"),
            (Some("{{.ID}}: {{.Tag}}"), "abc: x\n"),
            (Some("tables"), "tables\n"),
        ];
        for (format, wanted) in cases {
            if let Ok(text) = LISTING.lay_out(format, &rows) {
                assert_eq!(text, wanted, "{format:?}");
            } else {
                assert_eq!(wanted, "", "{format:?}");
            }
        }
        assert_eq!(LISTING.lay_out(None, &[]).unwrap(), "IMAGE ID   SIZE\n");
    }
}
