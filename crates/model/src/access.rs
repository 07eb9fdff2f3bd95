//! Users and their roles: who a person is, what each role may do, and the words in which one asks about it.
//!
//! A certificate says who a user is and never what that user may do: roles lie in the replicated state and are looked up for
//! every request, so that a change of them holds at once. What each request takes is decided in `manager-core`, in one place.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    deployer::DeployTokenSpec, id::UserId, identity::Identity, login::UserOrigin, node::Node,
    time::ClusterTime,
};

/// Users of a cluster at most: they travel with the cluster's record.
pub const MAX_USERS: usize = 1_000;
/// Roles of one user at most.
pub const MAX_ROLES: usize = 32;
/// Letters of a user's name at most.
pub const MAX_USER_NAME: usize = 64;
/// A working day: a certificate that is lost is worth little the next morning.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(12 * 3600);
/// The longest life of a user's certificate.
pub const MAX_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a user may do; one may have several. In text `admin`, `operator`, `viewer`, `team:SERVICE`, `team:LABEL=VALUE`,
/// `beamline:LABEL=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserRole {
    /// Everything.
    Admin,
    /// Everything about services, jobs, secrets, networks and freezes, and whether nodes take tasks. Not tokens, users, settings,
    /// registries, managers, nor what nodes are (labels, class, removal).
    Operator,
    /// Reads everything, logs included.
    Viewer,
    /// Everything about these services, and about the secrets and configs of that name or label, and no others; reads lists.
    Team(Scope),
    /// Whether the nodes with this label take tasks, freezes of these nodes only, logs of tasks there; reads lists.
    Beamline(Label),
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The key.
    pub key: String,
    /// The value that it must have.
    pub value: String,
}

/// Which services are a team's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The service (or the cron, with its jobs) of exactly this name.
    Name(String),
    /// All services (crons, jobs) that carry this label.
    Label(Label),
}

impl Label {
    /// Whether these labels have it.
    pub fn is_in(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.key) == Some(&self.value)
    }

    /// Whether a node has it.
    pub fn is_on(&self, node: &Node) -> bool {
        self.is_in(&node.spec.labels)
    }
}

impl Scope {
    /// Whether a service of this name with these labels is in it.
    pub fn covers(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Label(label) => label.is_in(labels),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Label(label) => label.fmt(f),
        }
    }
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Operator => f.write_str("operator"),
            Self::Viewer => f.write_str("viewer"),
            Self::Team(scope) => write!(f, "team:{scope}"),
            Self::Beamline(label) => write!(f, "beamline:{label}"),
        }
    }
}

/// A text that is no role, with what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no role; write admin, operator, viewer, team:SERVICE, team:LABEL=VALUE or beamline:LABEL=VALUE"
)]
pub struct ParseRoleError(String);

impl FromStr for UserRole {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseRoleError(text.chars().take(128).collect());
        let label = |text: &str| {
            let (key, value) =
                text.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty())?;
            Some(Label { key: key.to_owned(), value: value.to_owned() })
        };
        match text.split_once(':') {
            None => match text {
                "admin" => Ok(Self::Admin),
                "operator" => Ok(Self::Operator),
                "viewer" => Ok(Self::Viewer),
                _ => Err(wrong()),
            },
            Some(("team", scope)) if scope.contains('=') => {
                label(scope).map(|label| Self::Team(Scope::Label(label))).ok_or_else(wrong)
            }
            Some(("team", name)) if !name.is_empty() => Ok(Self::Team(Scope::Name(name.to_owned()))),
            Some(("beamline", scope)) => label(scope).map(Self::Beamline).ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }
}

impl Serialize for UserRole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What an admin declares of a new user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// Unique among the users there are: letters, digits and `. _ - @`. It never changes.
    pub name: String,
    /// At least one.
    pub roles: Vec<UserRole>,
    /// How long each of the user's certificates lives.
    pub life: Duration,
}

/// What changes about a user; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserChange {
    /// The roles, all of them.
    pub roles: Option<Vec<UserRole>>,
    /// How long certificates live that are issued from now on.
    pub life: Option<Duration>,
    /// Whether every request is refused.
    pub disabled: Option<bool>,
}

/// A user as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its identity; one that was removed and made anew under the same name has another.
    pub id: UserId,
    /// The declaration.
    pub spec: UserSpec,
    /// Every request is refused until an admin says otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Who made it.
    pub by: Identity,
    /// When.
    pub created: ClusterTime,
    /// When its roles, its life or whether it is disabled last changed.
    pub changed: ClusterTime,
    /// By which login it is there; `None`: an admin made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<UserOrigin>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl User {
    /// Who it is to a manager.
    pub fn identity(&self) -> Identity {
        Identity::User { id: self.id, name: self.spec.name.clone() }
    }
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident $word:literal,)*) => {
        /// What one asks about with `can-i`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Verb {
            $($(#[$doc])* $name,)*
        }

        impl Verb {
            /// All of them, in the order in which they are listed.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

verbs! {
    /// List and look at everything but logs.
    Read "read",
    /// Logs of a service or a task.
    Logs "logs",
    /// A new service, job or cron.
    Create "create",
    /// Another declaration of a service.
    Update "update",
    /// Another image of a service.
    Deploy "deploy",
    /// Another number of replicas.
    Scale "scale",
    /// An earlier declaration of a service.
    Rollback "rollback",
    /// The end of a service.
    Remove "remove",
    /// Whether a node takes tasks: drain, pause, activate.
    Drain "drain",
    /// Times in which nodes are left alone.
    Freeze "freeze",
    /// Networks.
    Networks "networks",
    /// What nodes are: labels, class, removal.
    Nodes "nodes",
    /// Join tokens.
    Tokens "tokens",
    /// Users and their roles.
    Users "users",
    /// Registries and their logins.
    Registries "registries",
    /// What services may ask for.
    Policies "policies",
    /// Settings of the cluster.
    Settings "settings",
    /// Managers.
    Managers "managers",
    /// Secrets and configs: make, change, remove and mount them.
    Secrets "secrets",
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|verb| verb.word() == text).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|verb| verb.word()).collect();
            format!("\"{text}\" is nothing that one may or may not; known are {}", words.join(", "))
        })
    }
}

/// On what something may be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// On everything.
    All,
    /// For the sake of these roles, on what is theirs.
    Only(Vec<UserRole>),
    /// On nothing.
    Nothing,
}

/// One line of what somebody may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// What.
    pub verb: Verb,
    /// On what.
    pub extent: Extent,
}

/// The answer to `can-i`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it would be allowed.
    pub allowed: bool,
    /// Why, in words.
    pub reason: String,
}

/// The answer to `whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// Who asks.
    pub identity: Identity,
    /// What the identity may do, as roles of users.
    pub roles: Vec<UserRole>,
    /// How long its certificates live, for a user.
    pub life: Option<Duration>,
    /// The wall clock of the manager that answers.
    pub clock: crate::time::WallTime,
    /// All that it may do.
    pub rights: Vec<Right>,
    /// What a deploy token grants its bearer, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<(DeployTokenSpec, ClusterTime)>,
    /// By which login it is there, for a user whom no admin made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<UserOrigin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back_from_their_text_and_nothing_else_is_one() {
        for text in ["admin", "operator", "viewer", "team:ispyb", "team:app=mx", "beamline:beamline=id23-1"] {
            assert_eq!(text.parse::<UserRole>().map(|role| role.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "root", "admin:x", "team", "team:", "team:=x", "team:x=", "beamline:id23", "Admin"] {
            assert!(text.parse::<UserRole>().is_err(), "{text}");
        }
    }

    #[test]
    fn verbs_read_back_from_their_words() {
        for verb in Verb::ALL {
            assert_eq!(verb.word().parse(), Ok(*verb));
        }
        assert!("fly".parse::<Verb>().unwrap_err().contains("deploy"));
    }

    #[test]
    fn a_scope_covers_a_name_exactly_or_a_label_with_its_value() {
        let labels = BTreeMap::from([("app".to_owned(), "mx".to_owned())]);
        let covers = |role: &str| match role.parse() {
            Ok(UserRole::Team(scope)) => scope.covers("ispyb", &labels),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            ["team:ispyb", "team:ispy", "team:app=mx", "team:app=m"].map(covers),
            [true, false, true, false]
        );
    }
}
