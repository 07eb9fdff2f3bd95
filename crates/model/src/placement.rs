//! Where tasks may and should run: constraints, preferences, limits per node.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::node::Node;

/// What a constraint or a preference looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// `node.id`
    Id,
    /// `node.hostname`
    Hostname,
    /// `node.class`: `server` or `workstation`
    Class,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Arch,
    /// `node.labels.KEY`, set by an admin
    Label(String),
    /// `engine.labels.KEY`, from the agent's config
    EngineLabel(String),
}

impl Attribute {
    /// The node's value; `None` where a label is absent.
    pub fn of(&self, node: &Node) -> Option<String> {
        match self {
            Self::Id => Some(node.id.to_string()),
            Self::Hostname => Some(node.facts.hostname.clone()),
            Self::Class => Some(node.spec.class.to_string()),
            Self::Os => Some(node.facts.os.clone()),
            Self::Arch => Some(node.facts.arch.clone()),
            Self::Label(key) => node.spec.labels.get(key).cloned(),
            Self::EngineLabel(key) => node.facts.labels.get(key).cloned(),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Class => f.write_str("node.class"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Arch => f.write_str("node.platform.arch"),
            Self::Label(key) => write!(f, "node.labels.{key}"),
            Self::EngineLabel(key) => write!(f, "engine.labels.{key}"),
        }
    }
}

/// A text that is no attribute or no constraint, with what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParsePlacementError(String);

impl FromStr for Attribute {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |prefix| text.strip_prefix(prefix).filter(|key: &&str| !key.is_empty());
        Ok(match text {
            "node.id" => Self::Id,
            "node.hostname" => Self::Hostname,
            "node.class" | "node.role" => Self::Class,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Arch,
            _ => match (label("node.labels."), label("engine.labels.")) {
                (Some(key), _) => Self::Label(key.to_owned()),
                (_, Some(key)) => Self::EngineLabel(key.to_owned()),
                _ => {
                    return Err(ParsePlacementError(format!(
                        "unknown attribute \"{text}\"; known are node.id, node.hostname, node.class (or node.role), \
                         node.platform.os, node.platform.arch, node.labels.KEY and engine.labels.KEY"
                    )));
                }
            },
        })
    }
}

/// One condition on a node: `ATTRIBUTE == VALUE` or `ATTRIBUTE != VALUE`. An absent label equals nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    /// What it looks at.
    pub attribute: Attribute,
    /// `==` when true, `!=` when false.
    pub equal: bool,
    /// What it compares with.
    pub value: String,
}

impl Constraint {
    /// Whether the node passes.
    pub fn admits(&self, node: &Node) -> bool {
        (self.attribute.of(node).as_deref() == Some(&self.value)) == self.equal
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.attribute, if self.equal { "==" } else { "!=" }, self.value)
    }
}

impl FromStr for Constraint {
    type Err = ParsePlacementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, equal, value) = match (text.split_once("!="), text.split_once("==")) {
            (Some((name, value)), None) => (name, false, value),
            (None, Some((name, value))) => (name, true, value),
            _ => {
                return Err(ParsePlacementError(format!(
                    "\"{text}\" is no constraint; write ATTRIBUTE==VALUE or ATTRIBUTE!=VALUE"
                )));
            }
        };
        let value = value.trim();
        if value.is_empty() {
            return Err(ParsePlacementError(format!("\"{text}\" compares with nothing")));
        }
        Ok(Self { attribute: name.trim().parse()?, equal, value: value.to_owned() })
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

serde_as_text!(Attribute);
serde_as_text!(Constraint);

/// Where tasks may and should run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Spread evenly over the values of each, most significant first; nodes without the label form a value of their own.
    pub spread: Vec<Attribute>,
    /// At most so many replicas of the service on one node; 0 = no limit.
    pub max_per_node: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_reads_back_from_its_text() {
        for text in ["node.labels.beamline==id23-1", "node.hostname!=h1", "engine.labels.gpu==a100"] {
            assert_eq!(text.parse::<Constraint>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_wrong_constraint_says_what_would_be_right() {
        let unknown = "node.nmae==x".parse::<Constraint>().expect_err("unknown attribute");
        assert!(unknown.to_string().contains("node.hostname"), "{unknown}");
        assert!("node.id=x".parse::<Constraint>().is_err());
        assert!("node.id==".parse::<Constraint>().is_err());
    }
}
