//! `login`, `logout` and `login-method …`

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Subcommand};
use model::login::RoleRule;

/// `login`
#[derive(Debug, Args)]
pub struct Login {
    /// The context to write; without it, the current one
    #[arg(value_name = "CONTEXT")]
    pub name: Option<String>,
    /// Which login method, where there are several
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// The name there; without it, it is asked for
    #[arg(long, short, value_name = "NAME")]
    pub user: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "user")]
    pub password_stdin: bool,
    /// With an issuer: open a browser on this machine, in place of a code that is typed in anywhere
    #[arg(long)]
    pub browser: bool,
    /// A manager, where no context knows one; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    pub manager: Vec<String>,
    /// The fingerprint of the cluster's authority, as an admin tells it
    #[arg(long, value_name = "HEX", requires = "manager")]
    pub ca_fingerprint: Option<String>,
    /// The certificate of the cluster's authority (PEM)
    #[arg(long, value_name = "FILE", requires = "manager", conflicts_with = "ca_fingerprint")]
    pub ca: Option<PathBuf>,
    /// Replace a context whose certificate did not come by a login
    #[arg(long, short)]
    pub force: bool,
}

/// `logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The context; without it, the current one
    #[arg(value_name = "CONTEXT")]
    pub name: Option<String>,
}

/// `login-method …`
#[derive(Debug, Subcommand)]
pub enum LoginMethodCommand {
    /// Declare how people log in and which of their groups have which roles, in place of what was declared of this name
    #[command(
        after_help = "Examples:\n  orchctl login-method set ldap --ldap ldaps://ldap.example --ca ldap-ca.pem \\\n      \
                      --user-dn \"uid={user},ou=people,dc=example\" --group-base ou=groups,dc=example \\\n      \
                      --role admin@cn=orch-admins,ou=groups,dc=example --role viewer@*\n  \
                      orchctl login-method set ad --ldap ldaps://dc1.example --search-base dc=example \\\n      \
                      --search-filter \"(sAMAccountName={user})\" --bind-dn cn=orch,ou=services,dc=example --bind-password-stdin \\\n      \
                      --role team:app=mx@cn=mx,ou=groups,dc=example < password\n  \
                      orchctl login-method set sso --oidc https://sso.example/realms/site --client-id orch --scope profile \\\n      \
                      --role admin@orch-admins --role viewer@*"
    )]
    Set(Box<LoginMethodSet>),
    /// List login methods
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a login method, without its secret, and how people log in there
    Inspect {
        /// Its name
        name: String,
    },
    /// Forget login methods: whoever came by them is refused at once
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `login-method set`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("people").args(["user_dn", "search_base"])))]
pub struct LoginMethodSet {
    /// Its name: it stands before every name that logs in, such as ldap:ann
    pub name: String,
    /// A directory: ldaps://HOST[:PORT], or ldap://HOST[:PORT] with StartTLS
    #[arg(
        long,
        value_name = "URL",
        requires = "people",
        required_unless_present = "oidc",
        conflicts_with = "oidc"
    )]
    pub ldap: Option<String>,
    /// An issuer of OpenID Connect: https://HOST[:PORT][/PATH], as its tokens say
    #[arg(long, value_name = "URL", requires = "client_id", conflicts_with_all = ["people", "group_base", "bind_dn"])]
    pub oidc: Option<String>,
    /// What the issuer calls this cluster: a public client, to which it gives no secret
    #[arg(long, value_name = "ID", requires = "oidc")]
    pub client_id: Option<String>,
    /// The claim that names people's groups; a.b is b in a
    #[arg(long, value_name = "CLAIM", default_value = "groups", requires = "oidc")]
    pub groups_claim: String,
    /// The claim that names people
    #[arg(long, value_name = "CLAIM", default_value = "preferred_username", requires = "oidc")]
    pub name_claim: String,
    /// What to ask for besides openid; may be given several times
    #[arg(long, value_name = "SCOPE", requires = "oidc")]
    pub scope: Vec<String>,
    /// Where people's entries are, with {user} in it
    #[arg(long, value_name = "DN")]
    pub user_dn: Option<String>,
    /// Below which entry people are searched instead
    #[arg(long, value_name = "DN", requires = "bind_dn")]
    pub search_base: Option<String>,
    /// What fits one person, with {user} in it
    #[arg(long, value_name = "FILTER", default_value = "(uid={user})")]
    pub search_filter: String,
    /// Who searches
    #[arg(long, value_name = "DN", requires = "bind_password_stdin", requires = "search_base")]
    pub bind_dn: Option<String>,
    /// Read the password of who searches from standard input
    #[arg(long, requires = "bind_dn")]
    pub bind_password_stdin: bool,
    /// Below which entry groups are; without it, people's entries name them (memberOf)
    #[arg(long, value_name = "DN")]
    pub group_base: Option<String>,
    /// What fits the groups of one person, with {dn} or {user} in it
    #[arg(long, value_name = "FILTER", default_value = "(member={dn})", requires = "group_base")]
    pub group_filter: String,
    /// Certificates of the authority that vouches for it (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Who gets which role: ROLE@GROUP, where * is everybody; may be given several times
    #[arg(long, required = true, value_name = "ROLE@GROUP")]
    pub role: Vec<RoleRule>,
    /// How long a login holds, at most 12h
    #[arg(long, default_value = "12h", value_name = "DURATION", value_parser = crate::value::duration)]
    pub ttl: Duration,
}
