//! A name and a password, judged by a directory: who has the password logs in there, and has its groups read.
//!
//! Everything goes over TLS, from the first byte (ldaps) or after StartTLS, whose failure ends the conversation. What a
//! directory says against a name or against a password is one and the same answer, and where it knows no such name it is asked
//! all the same, so that the time that it takes does not tell.

use std::sync::Arc;

use manager_core::{LoginAnswer, LoginRefusal, Proven, logins::WRONG};
use model::login::{Directory, Dn, Password, People, Search};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    filter::{in_filter, in_name},
    session::{Entry, NOTHING, Scope, Session, SessionError, code},
};

/// Groups of one person.
const MAX_GROUPS: u32 = 1_000;
/// Any entry.
const ANY: &str = "(objectClass=*)";
const MEMBER_OF: &str = "memberOf";

type Conversation = Session<TlsStream<TcpStream>>;

/// Judges a name and a password; `account` is the password of the account that searches, if one does.
pub(super) async fn judge(
    directory: &Directory,
    account: Option<&Password>,
    user: &str,
    password: &Password,
) -> LoginAnswer {
    if password.reveal().is_empty() {
        return Err(wrong());
    }
    let mut session = connect(directory).await.map_err(LoginRefusal::Unreachable)?;
    let judged = converse(&mut session, directory, account, user, password).await;
    session.end().await;
    judged
}

fn wrong() -> LoginRefusal {
    LoginRefusal::Wrong(WRONG.into())
}

fn unreachable(error: SessionError) -> LoginRefusal {
    LoginRefusal::Unreachable(error.to_string())
}

async fn converse(
    session: &mut Conversation,
    directory: &Directory,
    secret: Option<&Password>,
    user: &str,
    password: &Password,
) -> LoginAnswer {
    let user = user.to_ascii_lowercase();
    let name = match &directory.people {
        People::At(template) => template.replace("{user}", &in_name(&user)),
        People::Found { search, account } => {
            log_in(session, account, secret).await?;
            match find(session, search, &user).await? {
                Some(name) => name,
                // Nobody has this name; somebody's password is asked about as ever.
                None => format!("cn=nobody,{}", search.base),
            }
        }
    };
    match session.bind(&name, password.reveal()).await.map_err(unreachable)? {
        code::SUCCESS => {}
        code::INVALID_CREDENTIALS
        | code::NO_SUCH_OBJECT
        | code::INVALID_NAME
        | code::INAPPROPRIATE
        | code::CONSTRAINT
        | code::UNWILLING => return Err(wrong()),
        code => return Err(LoginRefusal::Unreachable(format!("it answers a login with {code}"))),
    }
    // People may not be allowed to see their groups.
    if let People::Found { account, .. } = &directory.people {
        log_in(session, account, secret).await?;
    }
    let entries = session.search((&name, Scope::Entry), ANY, MEMBER_OF, 1).await.map_err(unreachable)?;
    let entry = entries.into_iter().next();
    let groups = match &directory.groups {
        None => entry.as_ref().map(|entry| entry.values.clone()).unwrap_or_default(),
        Some(search) => {
            let filter = fill(&search.filter, &user, &name);
            let found = session
                .search((&search.base, Scope::Subtree), &filter, NOTHING, MAX_GROUPS)
                .await
                .map_err(unreachable)?;
            found.into_iter().map(|entry| entry.name).collect()
        }
    };
    // As the directory writes it, where it may be seen.
    let name = entry.map_or(name, |Entry { name, .. }| name);
    let subject = Dn::parse(&name).map_or(name, |name| name.to_string());
    Ok(Proven { user, subject, groups, once: None })
}

async fn log_in(
    session: &mut Conversation,
    account: &str,
    secret: Option<&Password>,
) -> Result<(), LoginRefusal> {
    // Without one a directory would take it for a stranger, and say yes.
    let none = || LoginRefusal::Unreachable(format!("there is no password of {account}"));
    let secret = secret.map(Password::reveal).filter(|secret| !secret.is_empty()).ok_or_else(none)?;
    match session.bind(account, secret).await.map_err(unreachable)? {
        code::SUCCESS => Ok(()),
        code => Err(LoginRefusal::Unreachable(format!("it refuses the login of {account} ({code})"))),
    }
}

async fn find(
    session: &mut Conversation,
    search: &Search,
    user: &str,
) -> Result<Option<String>, LoginRefusal> {
    let filter = fill(&search.filter, user, "");
    let several = || LoginRefusal::Unreachable(format!("{} fits several entries of one name", search.filter));
    match session.search((&search.base, Scope::Subtree), &filter, NOTHING, 2).await {
        Ok(entries) if entries.len() > 1 => Err(several()),
        Ok(entries) => Ok(entries.into_iter().next().map(|entry| entry.name)),
        Err(SessionError::Refused { code: code::SIZE_LIMIT, .. }) => Err(several()),
        Err(error) => Err(unreachable(error)),
    }
}

fn fill(template: &str, user: &str, name: &str) -> String {
    let (user, name) = (in_filter(user), in_filter(name));
    // In one go: what is filled in is not looked at again.
    let mut out = String::with_capacity(template.len() + user.len() + name.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let (value, length) = match &rest[at..] {
            tail if tail.starts_with("{user}") => (user.as_str(), 6),
            tail if tail.starts_with("{dn}") => (name.as_str(), 4),
            _ => ("{", 1),
        };
        out.push_str(value);
        rest = &rest[at + length..];
    }
    out + rest
}

async fn connect(directory: &Directory) -> Result<Conversation, String> {
    let (encrypted, address) = match directory.url.split_once("://") {
        Some(("ldaps", address)) => (true, address),
        Some(("ldap", address)) => (false, address),
        _ => return Err(format!("{} is no directory", directory.url)),
    };
    let port = if encrypted { 636 } else { 389 };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, text)) if !host.ends_with(':') && !text.ends_with(']') => {
            (host, text.parse().map_err(|_| format!("{address} has no port"))?)
        }
        _ => (address, port),
    };
    let host = host.trim_matches(['[', ']']);
    let connector = connector(directory.authority.as_deref())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("{host} cannot be reached: {error}"))?;
    let stream = match encrypted {
        true => stream,
        false => Session::new(stream).start_tls().await.map_err(|error| error.to_string())?,
    };
    let stream = connector.connect(name, stream).await;
    stream.map(Session::new).map_err(|error| format!("TLS with {host} fails: {error}"))
}

/// Where an authority is declared, no other vouches for a directory: it says who is who.
fn connector(authority: Option<&str>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match authority {
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| format!("its authority: {error}"))?;
                roots.add(certificate).map_err(|error| format!("its authority: {error}"))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        assert_eq!(fill("(&(uid={user})(member={dn}))", "a", "cn=x"), "(&(uid=a)(member=cn=x))");
        assert_eq!(fill("(a={user})", "{dn}", "cn=x"), "(a={dn})");
        assert_eq!(fill("(a={x}{dn})", "u", "cn=a\\2cb*"), "(a={x}cn=a\\5c2cb\\2a)");
    }
}
