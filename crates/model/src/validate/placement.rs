//! Constraints and preferences.

use super::{
    Problems,
    text::{label_key, quote},
};
use crate::{
    id::NodeId,
    placement::{Attribute, Constraint, Placement},
};

/// Each constraint is looked at for each kind of node; people write a handful.
const MAX_CONSTRAINTS: usize = 64;
/// Levels of spreading: rooms, racks, hosts.
const MAX_SPREAD: usize = 8;
const MAX_VALUE: usize = 256;

pub(super) fn placement(problems: &mut Problems, path: &str, placement: &Placement) {
    problems.at_most(
        placement.constraints.len(),
        MAX_CONSTRAINTS,
        format!("{path}.constraints"),
        "constraints",
    );
    for (position, constraint) in placement.constraints.iter().enumerate() {
        let path = format!("{path}.constraints[{position}]");
        attribute(problems, &path, &constraint.attribute);
        value(problems, &path, constraint);
    }
    problems.at_most(placement.spread.len(), MAX_SPREAD, format!("{path}.spread"), "preferences");
    for (position, spread) in placement.spread.iter().enumerate() {
        attribute(problems, &format!("{path}.spread[{position}]"), spread);
    }
}

fn attribute(problems: &mut Problems, path: &str, attribute: &Attribute) {
    if let Attribute::Label(key) | Attribute::EngineLabel(key) = attribute {
        problems.judge(path, label_key(key));
    }
}

/// A value that no node can ever have is a slip that would leave the service pending for ever.
fn value(problems: &mut Problems, path: &str, constraint: &Constraint) {
    let value = &constraint.value;
    let possible = match constraint.attribute {
        Attribute::Id if value.parse::<NodeId>().is_err() => "a node's whole id: 13 letters and digits",
        Attribute::Class if !matches!(&**value, "server" | "workstation") => "server or workstation",
        _ => {
            let fits = (1..=MAX_VALUE).contains(&value.len());
            return problems.ensure(fits, path, || format!("a value has 1 to {MAX_VALUE} bytes"));
        }
    };
    let attribute = &constraint.attribute;
    problems.add(path, format!("no node's {attribute} is {}; write {possible}", quote(value)));
}
