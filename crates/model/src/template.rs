//! Placeholders in configs, filled in for each task.
//!
//! ```text
//! url = jdbc:mariadb://db/{{ service.name }}
//! slot = {{ task.slot }} on {{ node.hostname }} in rack {{ node.labels.rack }}
//! password = {{ secret "db" }}
//! literal braces: {{ "{{" }}
//! ```
//!
//! Strict: what is not known is refused when the config is declared, with its line and column, so that no task finds it out.

use std::fmt;

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// To be filled in.
    Value(Value),
}

/// What can be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The service's name.
    ServiceName,
    /// The task's slot.
    TaskSlot,
    /// The task's id.
    TaskId,
    /// The node's host name.
    NodeHostname,
    /// The node's id.
    NodeId,
    /// A label of the node; a task whose node does not have it cannot run there.
    NodeLabel(String),
    /// A secret's value; the service must mount it too.
    Secret(String),
}

/// Where a template is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// From 1.
    pub line: usize,
    /// In letters, from 1.
    pub column: usize,
    /// In words.
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

/// Takes a template apart.
///
/// # Errors
/// The first place that is wrong.
pub fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, open) = rest.split_at(start);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let wrong = |message: String| error(text, text.len() - open.len(), message);
        let (inner, after) = inside(&open[2..]).ok_or_else(|| wrong("this {{ has no }}".into()))?;
        pieces.push(piece(inner.trim()).map_err(wrong)?);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// The secrets that a template names, each once, in order.
pub fn secrets(pieces: &[Piece]) -> Vec<String> {
    let mut names: Vec<String> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Value(Value::Secret(name)) => Some(name.clone()),
            Piece::Value(_) | Piece::Text(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What is between the braces and what follows them; braces in quotes are letters.
fn inside(open: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    for (at, letter) in open.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '}' if !quoted && open[at..].starts_with("}}") => return Some((&open[..at], &open[at + 2..])),
            '\n' => return None,
            _ => {}
        }
    }
    None
}

fn piece(inner: &str) -> Result<Piece, String> {
    if let Some(literal) = quoted(inner) {
        return Ok(Piece::Text(literal.to_owned()));
    }
    let value = match inner {
        "service.name" => Value::ServiceName,
        "task.slot" => Value::TaskSlot,
        "task.id" => Value::TaskId,
        "node.hostname" => Value::NodeHostname,
        "node.id" => Value::NodeId,
        _ => match (inner.strip_prefix("node.labels."), inner.strip_prefix("secret ")) {
            (Some(label), _) if !label.is_empty() && !label.contains(char::is_whitespace) => {
                Value::NodeLabel(label.to_owned())
            }
            (_, Some(name)) => {
                let name = quoted(name.trim()).filter(|name| !name.is_empty());
                Value::Secret(name.ok_or_else(|| format!("{inner}: write secret \"NAME\""))?.to_owned())
            }
            _ => return Err(unknown(inner)),
        },
    };
    Ok(Piece::Value(value))
}

fn unknown(inner: &str) -> String {
    let shown: String = inner.chars().take(64).collect();
    format!(
        "{shown:?} is not filled in; known are service.name, task.slot, task.id, node.hostname, node.id, node.labels.KEY, \
         secret \"NAME\", and \"TEXT\" for a text as it stands"
    )
}

fn quoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then_some(inner)
}

fn error(text: &str, at: usize, message: String) -> TemplateError {
    let before = &text[..at];
    let line = before.rsplit('\n').next().unwrap_or_default();
    TemplateError { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn known_placeholders_are_taken_apart_and_text_stays_as_it_is() {
        let pieces = parse("a {{service.name}}\n{{ node.labels.rack }}{{ secret \"db\" }} }} {").unwrap();
        assert_eq!(
            pieces,
            [
                text("a "),
                Piece::Value(Value::ServiceName),
                text("\n"),
                Piece::Value(Value::NodeLabel("rack".into())),
                Piece::Value(Value::Secret("db".into())),
                text(" }} {"),
            ]
        );
        assert_eq!(secrets(&pieces), ["db"]);
        assert_eq!(parse("{{ \"{{\" }}x{{ \"}}\" }}").unwrap(), [text("{{"), text("x"), text("}}")]);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        for (template, line, column) in [
            ("x\nbé {{ task.name }}", 2, 4),
            ("{{ secret db }}", 1, 1),
            ("ok {{ service.name", 1, 4),
            ("{{}}", 1, 1),
        ] {
            let error = parse(template).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{template}: {error}");
        }
    }
}
