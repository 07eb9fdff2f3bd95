//! Login: people prove to a directory (LDAP) or an issuer (OpenID Connect) who they are, and their groups there say what they may.
//!
//! A [`LoginMethod`] says where proofs are judged and which group has which role. Whoever proves oneself becomes a user of the
//! cluster for some hours, named `METHOD:NAME`, which no admin's user can be named, with a certificate that ends with it.
//!
//! A declaration holds nothing secret. The password of the account that searches a directory comes beside it, and is sealed with the
//! managers' data key before it enters the log. A password that somebody proves oneself with is nowhere but in memory, on its way.

mod dn;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::{
    access::{MAX_ROLES, MAX_USER_NAME, UserRole},
    identity::Identity,
    sealed::{KeyId, Sealed},
    time::ClusterTime,
};

pub use dn::Dn;

/// Login methods of a cluster at most: they travel with the cluster's record.
pub const MAX_METHODS: usize = 8;
/// Rules of one method at most: what they give is never too much for one user.
pub const MAX_RULES: usize = MAX_ROLES;
/// A working day: the longest that somebody is let in without another proof.
pub const MAX_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Between a method and a person's name there.
pub const SEPARATOR: char = ':';
/// The group that everybody is in.
pub const EVERYBODY: &str = "*";

/// What an admin declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginMethodSpec {
    /// Unique in the cluster, a DNS label. It never changes.
    pub name: String,
    /// Who judges proofs.
    pub provider: Provider,
    /// Who gets which role.
    pub rules: Vec<RoleRule>,
    /// How long a login holds; at most [`MAX_LIFE`].
    pub life: Duration,
}

/// Who judges proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// A directory: a name and a password.
    Ldap(Box<Directory>),
    /// An issuer of ID tokens.
    Oidc(Box<Oidc>),
}

/// A directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Directory {
    /// `ldaps://HOST[:PORT]`, or `ldap://HOST[:PORT]`, where StartTLS comes before everything else.
    pub url: String,
    /// Certificates of the only authorities that may vouch for it, PEM; `None`: those that the managers' machines trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// How people are found.
    pub people: People,
    /// Below which entry their groups lie; `None`: a person's entry names them (`memberOf`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Search>,
}

/// How people are found in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum People {
    /// An entry's name with `{user}` in it.
    At(String),
    /// By a search, for which somebody has to log in.
    Found {
        /// Where, and how: the filter has `{user}` in it, and fits one entry.
        search: Search,
        /// Who searches: an entry's name. Its password is not part of the declaration.
        account: String,
    },
}

impl Default for People {
    fn default() -> Self {
        Self::At(String::new())
    }
}

/// A search below an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// The entry.
    pub base: String,
    /// What fits, as RFC 4515 writes it; `{user}` is the name given and `{dn}` the person's entry.
    pub filter: String,
}

/// An issuer of ID tokens. Clients of the cluster are public ones: they have no secret that they could keep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Oidc {
    /// Its URL, exactly as its tokens name it.
    pub url: String,
    /// What it calls this cluster; its tokens are for nobody else.
    pub client: String,
    /// Certificates of the authorities that may vouch for it, PEM, besides those that machines trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The claim that names a person's groups.
    pub groups_claim: String,
    /// The claim that names a person.
    pub name_claim: String,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
}

/// Members of a group have a role. In text `ROLE@GROUP`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRule {
    /// Which role.
    pub role: UserRole,
    /// Which group: a directory's by its whole name, an issuer's as its tokens name it; [`EVERYBODY`].
    pub group: String,
}

impl fmt::Display for RoleRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.role, self.group)
    }
}

impl std::str::FromStr for RoleRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (role, group) = text.split_once('@').filter(|(_, group)| !group.is_empty()).ok_or_else(|| {
            format!(
                "\"{text}\" names no group; write ROLE@GROUP, such as admin@cn=admins,dc=example or viewer@*"
            )
        })?;
        let role = role.parse::<UserRole>().map_err(|error| error.to_string())?;
        Ok(Self { role, group: group.to_owned() })
    }
}

impl LoginMethodSpec {
    /// The roles that these groups have, each once.
    pub fn roles_of(&self, groups: &[String]) -> Vec<UserRole> {
        let is_in = |group: &str| match &self.provider {
            _ if group == EVERYBODY => true,
            Provider::Oidc(_) => groups.iter().any(|of| of == group),
            Provider::Ldap(_) => Dn::parse(group)
                .is_some_and(|wanted| groups.iter().any(|of| Dn::parse(of).as_ref() == Some(&wanted))),
        };
        let given = self.rules.iter().filter(|rule| is_in(&rule.group));
        let mut roles: Vec<_> = given.map(|rule| rule.role.clone()).collect();
        roles.sort();
        roles.dedup();
        roles
    }

    /// The account that searches a directory: the directory's URL and the entry's name. Whoever has one has its password, too.
    pub fn account(&self) -> Option<(&str, &str)> {
        let Provider::Ldap(directory) = &self.provider else { return None };
        let People::Found { account, .. } = &directory.people else { return None };
        Some((&directory.url, account))
    }
}

/// A login method as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginMethod {
    /// The declaration.
    pub spec: LoginMethodSpec,
    /// The password of the [`account`](LoginMethodSpec::account) that searches; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Sealed>,
    /// Who declared it.
    pub by: Identity,
    /// When. A proof that was judged by an earlier declaration lets nobody in.
    pub set: ClusterTime,
}

impl LoginMethod {
    /// With which key the password is sealed; `None` without one.
    pub fn key(&self) -> Option<KeyId> {
        self.password.as_ref().map(|password| password.key)
    }
}

/// Where a user comes from whom no admin made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOrigin {
    /// By which login method.
    pub method: String,
    /// Who it is there: a directory's entry, an issuer's subject. It tells two people of one name apart.
    pub subject: String,
    /// Refused from then on, unless another login comes before.
    pub expires: ClusterTime,
}

/// What a user of a login method is called.
///
/// # Errors
/// The name holds what cannot stand in a certificate, or is too long.
pub fn user_name(method: &str, user: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    let name = format!("{method}{SEPARATOR}{user}");
    let good = user.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && user.bytes().all(fits)
        && name.len() <= MAX_USER_NAME;
    good.then_some(name).ok_or_else(|| {
        format!(
            "no name that can log in: letters, digits, . _ - and @, beginning with a letter or digit, at most {} of them",
            MAX_USER_NAME.saturating_sub(method.len() + 1)
        )
    })
}

/// A password on its way. It has no words for people, and leaves nothing behind in memory.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// What somebody proves oneself with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// To a directory.
    Password {
        /// The name there.
        user: String,
        /// The password.
        password: Password,
    },
    /// Of an issuer: an ID token.
    IdToken(Password),
}

/// What somebody who logs in asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInRequest {
    /// The login method.
    pub method: String,
    /// The proof.
    pub proof: Proof,
    /// The certificate request, PEM; only its key is used.
    pub csr: String,
}

/// What whoever wants to log in is told of a method, before anything is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginOffer {
    /// Its name.
    pub method: String,
    /// What it asks for.
    pub kind: OfferKind,
}

/// What a login method asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfferKind {
    /// A name and a password.
    Password,
    /// An ID token of this issuer.
    IdToken(Box<Oidc>),
}

impl LoginMethodSpec {
    /// What is told of it.
    pub fn offer(&self) -> LoginOffer {
        let kind = match &self.provider {
            Provider::Ldap(_) => OfferKind::Password,
            Provider::Oidc(issuer) => OfferKind::IdToken(issuer.clone()),
        };
        LoginOffer { method: self.name.clone(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(provider: Provider, rules: &[&str]) -> LoginMethodSpec {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        LoginMethodSpec { name: "site".into(), provider, rules, life: MAX_LIFE }
    }

    fn roles(method: &LoginMethodSpec, groups: &[&str]) -> Vec<String> {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        method.roles_of(&groups).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_read_back_from_their_text_and_nothing_else_is_one() {
        for text in
            ["admin@cn=a,dc=x", "team:app=mx@cn=mx,ou=g,dc=x", "beamline:line=id23@id23@site", "viewer@*"]
        {
            assert_eq!(text.parse::<RoleRule>().map(|rule| rule.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "admin", "admin@", "root@cn=a", "@cn=a"] {
            assert!(text.parse::<RoleRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_directorys_groups_are_the_same_however_their_names_are_written() {
        let rules =
            ["admin@CN=Orch Admins, DC=example", "viewer@*", "team:a@cn=a\\2cb,dc=example", "viewer@cn=v"];
        let method = method(Provider::Ldap(Box::default()), &rules);
        assert_eq!(roles(&method, &[]), ["viewer"]);
        assert_eq!(roles(&method, &["cn=orch admins,dc=EXAMPLE"]), ["admin", "viewer"]);
        assert_eq!(roles(&method, &["cn=a\\,b,dc=example"]), ["viewer", "team:a"]);
        for other in ["cn=orch admins,ou=x,dc=example", "cn=orch admins", "cn=a,b,dc=example", "admins", ""] {
            assert_eq!(roles(&method, &[other]), ["viewer"], "{other}");
        }
    }

    #[test]
    fn an_issuers_groups_are_compared_letter_by_letter() {
        let method = method(Provider::Oidc(Box::default()), &["admin@ops", "operator@Ops/shift"]);
        assert_eq!(roles(&method, &["ops"]), ["admin"]);
        assert!(roles(&method, &["Ops", "ops ", "ops/shift"]).is_empty());
    }

    #[test]
    fn names_that_mean_more_than_a_name_are_none() {
        assert_eq!(user_name("ldap", "ann.b@x"), Ok("ldap:ann.b@x".into()));
        for user in [
            "",
            "*",
            "a*",
            "a)(uid=*",
            "a,ou=x",
            "a\\2a",
            "a b",
            "a:b",
            "a/b",
            "é",
            "-a",
            "a\0",
            &"a".repeat(60),
        ] {
            assert!(user_name("ldap", user).is_err(), "{user}");
        }
    }

    #[test]
    fn nothing_that_is_shown_holds_a_secret() {
        let proof = Proof::Password { user: "ann".into(), password: Password::new("hunter2") };
        let token = Proof::IdToken(Password::new("hunter2"));
        let text = format!("{proof:?}{token:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn only_a_directory_that_is_searched_has_an_account() {
        let people = People::Found { search: Search::default(), account: "cn=orch".into() };
        let of = |people| {
            let directory = Directory { url: "ldaps://x".into(), people, ..Directory::default() };
            method(Provider::Ldap(Box::new(directory)), &[])
        };
        assert_eq!(of(people).account(), Some(("ldaps://x", "cn=orch")));
        assert_eq!(of(People::default()).account(), None);
        assert_eq!(method(Provider::Oidc(Box::default()), &[]).account(), None);
    }
}
