//! `login` and `logout`: a certificate for whoever proves oneself, in place of one that somebody hands over.

use std::path::Path;

use model::{
    access::Whoami,
    login::{LogInRequest, LoginOffer, OfferKind, Password, Proof},
    request::{Request, Response},
    time::ClusterTime,
};
use pki::{CaCertificate, Fingerprint, KeyAndCsr, LeafCertificate};

use super::Session;
use crate::{
    args::{Login, Logout},
    client::{Client, bearer::with_port, unexpected},
    context::{Context, Contexts},
    exit::{Code, Failure},
    oidc,
    output::{self, age, users},
    terminal,
};

/// What a first context is called.
const FIRST: &str = "orch";

/// `login`
///
/// # Errors
/// The proof is not taken, nobody could judge it, or the context cannot be written.
pub async fn run(session: &Session, flags: Login) -> Result<Code, Failure> {
    let mut contexts = Contexts::load(&session.config)?;
    let base = base(session, &contexts, &flags)?;
    let name = name(session, &contexts, &flags);
    if let Ok(known) = contexts.get(&name)
        && known.method.is_none()
        && !flags.force
    {
        return Err(Failure::invalid(format!(
            "context \"{name}\" did not come by a login, and its key would be lost: orchctl login OTHERNAME, or --force"
        )));
    }
    let client = base.client(session)?;
    let offer = choose(&client, flags.method.as_deref().or(base.method.as_deref())).await?;
    let pair = KeyAndCsr::generate().map_err(|error| Failure::error(format!("no key: {error}")))?;
    let (proof, user) = match &offer.kind {
        OfferKind::Password => {
            let user = user(&flags, base.user.as_deref())?;
            let password = Password::new(terminal::password("Password: ", flags.password_stdin)?.as_str());
            (Proof::Password { user: user.clone(), password }, Some(user))
        }
        OfferKind::IdToken(issuer) => {
            (Proof::IdToken(oidc::token(issuer, &pair.csr_pem, flags.browser).await?), None)
        }
    };
    let login = LogInRequest { method: offer.method.clone(), proof, csr: pair.csr_pem.clone() };
    let answer = client.call(Request::LogIn(Box::new(login))).await?.response;
    let Response::Joined { certificate, authority, cluster, managers, .. } = answer else {
        return Err(unexpected());
    };
    let context = Context {
        name: name.clone(),
        managers: managers.into_iter().map(|manager| manager.address).collect(),
        ca: authority,
        certificate,
        key: pair.key_pem(),
        token: None,
        cluster: Some(cluster.to_string()),
        method: Some(offer.method),
        user,
    };
    let me = whoami(session, &context).await?;
    let until = until(&context)?;
    contexts.put(context);
    if contexts.current.is_none() {
        contexts.current = Some(name.clone());
    }
    contexts.save(&session.config)?;
    let document = serde_json::json!({
        "context": name, "identity": me.identity, "roles": me.roles, "valid_until": until,
    });
    session.print(&document, || users::me(&me, Some(until), age::now()));
    Ok(Code::DONE)
}

/// `logout`: the key and the certificate go, what is needed for the next login stays.
///
/// # Errors
/// The context did not come by a login, or cannot be written.
pub fn end(session: &Session, flags: Logout) -> Result<Code, Failure> {
    let mut contexts = Contexts::load(&session.config)?;
    let name = flags.name.or_else(|| session.global.context.clone());
    let mut context = contexts.choose(name.as_deref())?.clone();
    if context.method.is_none() {
        return Err(Failure::invalid(format!(
            "context \"{}\" did not come by a login; orchctl context rm forgets it",
            context.name
        )));
    }
    (context.certificate, context.key) = (String::new(), String::new());
    let name = context.name.clone();
    contexts.put(context);
    contexts.save(&session.config)?;
    session.print(&serde_json::json!({ "context": name }), || {
        format!("logged out of {name}; orchctl login comes back")
    });
    Ok(Code::DONE)
}

/// Says that a login is over, by this machine's clock: the managers refuse it by theirs.
pub fn warn_of_end(context: &Context) {
    let ended =
        context.method.as_ref().and_then(|_| until(context).ok()).filter(|until| *until <= age::now());
    if let Some(until) = ended {
        output::warn(format!("this login ended at {}: orchctl login {}", age::date(until), context.name));
    }
}

/// Where the cluster is, and how one logged in last time.
struct Base {
    managers: Vec<String>,
    trust: Trust,
    method: Option<String>,
    user: Option<String>,
}

/// How one knows that it is the cluster.
enum Trust {
    Authority(String),
    Pinned(Fingerprint),
}

impl Base {
    fn client(&self, session: &Session) -> Result<Client, Failure> {
        let tls = match &self.trust {
            Trust::Authority(pem) => rpc::tls::ClientTls::anonymous(pem),
            Trust::Pinned(fingerprint) => rpc::tls::ClientTls::pinned(*fingerprint.as_bytes()),
        };
        let tls = tls.map_err(|error| Failure::new(Code::DENIED, error.to_string()))?;
        Ok(Client::nobody("login", &self.managers, &tls, session.global.timeout))
    }
}

fn base(session: &Session, contexts: &Contexts, flags: &Login) -> Result<Base, Failure> {
    if !flags.manager.is_empty() {
        let trust = match (&flags.ca_fingerprint, &flags.ca) {
            (Some(text), _) => {
                let plain = text.replace(':', "").to_ascii_lowercase();
                Trust::Pinned(
                    plain.parse().map_err(|error| Failure::invalid(format!("--ca-fingerprint: {error}")))?,
                )
            }
            (None, Some(path)) => Trust::Authority(read(path)?),
            (None, None) => {
                return Err(Failure::invalid(
                    "--manager needs --ca-fingerprint or --ca: ask an admin, whom orchctl login-method inspect tells it",
                ));
            }
        };
        let managers = flags.manager.iter().map(|address| with_port(address)).collect();
        return Ok(Base { managers, trust, method: None, user: None });
    }
    let named = flags.name.as_deref().filter(|name| contexts.get(name).is_ok());
    let context = contexts.choose(named.or(session.global.context.as_deref())).map_err(|failure| {
        let message = format!("{failure}\nor log in: orchctl login --manager HOST --ca-fingerprint HEX");
        Failure { message, ..failure }
    })?;
    let ca = context.authority(&session.config)?;
    Ok(Base {
        managers: context.managers.clone(),
        trust: Trust::Authority(ca),
        method: context.method.clone(),
        user: context.user.clone(),
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    CaCertificate::from_pem(&text)
        .map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))?;
    Ok(text)
}

/// The context that is written.
fn name(session: &Session, contexts: &Contexts, flags: &Login) -> String {
    let named = flags.name.clone().or_else(|| session.global.context.clone());
    let chosen =
        || contexts.choose(None).ok().filter(|_| flags.manager.is_empty()).map(|own| own.name.clone());
    named.or_else(chosen).unwrap_or_else(|| FIRST.to_owned())
}

async fn choose(client: &Client, wanted: Option<&str>) -> Result<LoginOffer, Failure> {
    let Response::Logins(offers) = client.call(Request::ListLogins).await?.response else {
        return Err(unexpected());
    };
    let names: Vec<&str> = offers.iter().map(|offer| offer.method.as_str()).collect();
    let names = names.join(", ");
    match (wanted, &offers[..]) {
        (_, []) => Err(Failure::error(
            "nobody logs in to this cluster: an admin declares how, orchctl login-method set",
        )),
        (Some(wanted), _) => offers.iter().find(|offer| offer.method == wanted).cloned().ok_or_else(|| {
            Failure::error(format!(
                "login method \"{wanted}\" does not exist; there is {names}: --method NAME"
            ))
        }),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(Failure::invalid(format!("which login method? --method {names}"))),
    }
}

fn user(flags: &Login, last: Option<&str>) -> Result<String, Failure> {
    if let Some(user) = &flags.user {
        return Ok(user.clone());
    }
    let prompt = match last {
        Some(last) => format!("User [{last}]: "),
        None => "User: ".to_owned(),
    };
    let line = terminal::line(&prompt)?;
    match (line.trim(), last) {
        ("", Some(last)) => Ok(last.to_owned()),
        ("", None) => Err(Failure::invalid("nobody logs in without a name: --user NAME")),
        (user, _) => Ok(user.to_owned()),
    }
}

async fn whoami(session: &Session, context: &Context) -> Result<Whoami, Failure> {
    let client = Client::new(context, &session.config, false, session.global.timeout)?;
    match client.call(Request::Whoami).await?.response {
        Response::Whoami(me) => Ok(*me),
        _ => Err(unexpected()),
    }
}

fn until(context: &Context) -> Result<ClusterTime, Failure> {
    let leaf = LeafCertificate::from_pem(&context.certificate)
        .map_err(|error| Failure::error(format!("the certificate: {error}")))?;
    Ok(ClusterTime(leaf.validity.not_after.0))
}
