//! Placeholders in host names and environment values, filled in on the node.

use model::session::Assignment;

/// Fills in the placeholders; anything else in braces stays as it is, since it may be the application's own.
pub(crate) fn render(text: &str, assignment: &Assignment) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, braced) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = braced.find("}}") else {
            out.push_str(braced);
            return out;
        };
        match value(braced[2..end].trim(), assignment) {
            Some(value) => {
                out.push_str(&value);
                rest = &braced[end + 2..];
            }
            None => {
                out.push_str("{{");
                rest = &braced[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn value(name: &str, assignment: &Assignment) -> Option<String> {
    match name {
        ".Service.Name" => Some(assignment.service_name.clone()),
        ".Task.Slot" => Some(assignment.slot.to_string()),
        ".Task.ID" => Some(assignment.task.to_string()),
        ".Node.Hostname" => Some(assignment.node_name.clone()),
        ".Node.ID" => Some(assignment.node.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assignment;

    fn check(text: &str, expected: &str) {
        assert_eq!(render(text, &assignment(7)), expected);
    }

    #[test]
    fn known_placeholders_are_filled_in() {
        check("{{.Service.Name}}-{{ .Task.Slot }}", "web-7");
        check("on {{.Node.Hostname}}!", "on host!");
        check("{{.Task.ID}}", "0000000000007");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        check("{{ user.name }} {{", "{{ user.name }} {{");
        check("{{{{.Task.Slot}}}}", "{{7}}");
        check("a}}b{", "a}}b{");
    }
}
