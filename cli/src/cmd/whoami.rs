//! `whoami`, `can-i`, and the renewal of one's own certificate.

use std::time::Duration;

use model::{
    access::{Verdict, Whoami},
    id::ClusterId,
    request::{Request, Response},
    time::{ClusterTime, WallTime},
};
use pki::{CaCertificate, CertificateError, KeyAndCsr, LeafCertificate};
use serde::Serialize;

use super::Session;
use crate::{
    args::CanI,
    client::{Client, unexpected},
    context::{Context, Contexts},
    exit::{Code, Failure},
    output::{self, age, users},
};

/// Clocks that differ by less are no trouble: certificates begin an hour before they are made.
const SKEW: Duration = Duration::from_secs(60);

/// `whoami`
///
/// # Errors
/// The manager does not know us, or cannot be asked.
pub async fn run(session: &Session) -> Result<Code, Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(flatten)]
        me: &'a Whoami,
        cluster: Option<ClusterId>,
        valid_until: Option<ClusterTime>,
        clock_ahead_secs: i64,
    }
    let leaf = leaf(session)?;
    let client = session.client()?;
    let me = ask(&client).await?;
    let until = leaf.as_ref().map(|leaf| ClusterTime(leaf.validity.not_after.0));
    let ahead = ahead(WallTime(age::now().0), me.clock);
    let document = Document {
        me: &me,
        cluster: leaf.as_ref().map(|leaf| leaf.name.cluster),
        valid_until: until,
        clock_ahead_secs: ahead,
    };
    session.print(&document, || users::me(&me, until, age::now()));
    if ahead.unsigned_abs() > SKEW.as_secs() {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        output::warn(format!("this machine's clock is {} s {way} the manager's", ahead.unsigned_abs()));
    }
    Ok(Code::DONE)
}

/// `can-i`
///
/// # Errors
/// There is no such object, or the manager cannot be asked.
pub async fn can_i(session: &Session, question: CanI) -> Result<Code, Failure> {
    let client = session.client()?;
    let Some(verb) = question.verb.filter(|_| !question.list) else {
        let me = ask(&client).await?;
        session.print(&me.rights, || users::rights(&me.rights).to_string());
        return Ok(Code::DONE);
    };
    let request = Request::CanI { verb, object: question.object };
    let Response::Verdict(verdict) = client.call(request).await?.response else {
        return Err(unexpected());
    };
    let Verdict { allowed, reason } = &verdict;
    let word = if *allowed { "yes" } else { "no" };
    session.print(&verdict, || format!("{word}: {reason}"));
    Ok(if *allowed { Code::DONE } else { Code::DENIED })
}

/// `context renew`: a new key with a new certificate in place of the one that is still valid.
///
/// # Errors
/// It is not valid any more, or the context cannot be written.
pub async fn renew(session: &Session, name: Option<String>) -> Result<Code, Failure> {
    let renewed = renewed(session, name).await?;
    let (context, until) =
        renewed.ok_or_else(|| Failure::invalid("this context has no certificate to renew"))?;
    session.print(&serde_json::json!({ "context": context, "valid_until": until }), || {
        format!("{context} until {}", age::date(until))
    });
    Ok(Code::DONE)
}

/// Gets a context another certificate over a new key; its name, and until when it counts. `None`: it has none, or no context is in use.
///
/// # Errors
/// It is not valid any more, or the context cannot be written.
pub async fn renewed(
    session: &Session,
    name: Option<String>,
) -> Result<Option<(String, ClusterTime)>, Failure> {
    if session.global.socket.is_some() || session.exchanged.is_some() {
        return Ok(None);
    }
    let mut contexts = Contexts::load(&session.config)?;
    let name = name.or_else(|| session.global.context.clone());
    let context = contexts.choose(name.as_deref())?.clone();
    if context.certificate.is_empty() {
        return Ok(None);
    }
    let client = Client::new(&context, &session.config, false, session.global.timeout)?;
    let pair = KeyAndCsr::generate().map_err(|error| Failure::error(format!("no key: {error}")))?;
    let request = Request::RenewCertificate { csr: pair.csr_pem.clone(), key: None };
    let Response::Joined { certificate, authority, .. } = client.call(request).await?.response else {
        return Err(unexpected());
    };
    let leaf = read(&context.name, &certificate)?;
    let key = pair.key_pem();
    contexts.put(Context { ca: authority, certificate, key, ..context.clone() });
    contexts.save(&session.config)?;
    Ok(Some((context.name, ClusterTime(leaf.validity.not_after.0))))
}

/// Whether the chosen context's certificate is of this authority (PEM); so it is where none is needed.
///
/// # Errors
/// The context is not usable.
pub fn is_of(session: &Session, authority: &str) -> Result<bool, Failure> {
    if session.global.socket.is_some() || session.exchanged.is_some() {
        return Ok(true);
    }
    let contexts = Contexts::load(&session.config)?;
    let context = contexts.choose(session.global.context.as_deref())?;
    if context.certificate.is_empty() {
        return Ok(true);
    }
    let unusable = |error: CertificateError| Failure::error(format!("context \"{}\": {error}", context.name));
    let own = LeafCertificate::der_from_pem(&context.credentials(&session.config)?.certificate);
    let authority = CaCertificate::from_pem(authority).map_err(unusable)?;
    Ok(authority.issued(&own.map_err(unusable)?))
}

async fn ask(client: &Client) -> Result<Whoami, Failure> {
    match client.call(Request::Whoami).await?.response {
        Response::Whoami(me) => Ok(*me),
        _ => Err(unexpected()),
    }
}

/// The certificate of the chosen context; a local socket needs none.
fn leaf(session: &Session) -> Result<Option<LeafCertificate>, Failure> {
    if session.global.socket.is_some() {
        return Ok(None);
    }
    let contexts = Contexts::load(&session.config)?;
    let context = contexts.choose(session.global.context.as_deref())?;
    let credentials = context.credentials(&session.config)?;
    read(&context.name, &credentials.certificate).map(Some)
}

fn read(context: &str, certificate: &str) -> Result<LeafCertificate, Failure> {
    LeafCertificate::from_pem(certificate).map_err(|error| {
        Failure::new(Code::DENIED, format!("the certificate of context \"{context}\": {error}"))
    })
}

/// Whole seconds by which this machine's clock is ahead.
fn ahead(ours: WallTime, theirs: WallTime) -> i64 {
    (ours.0.cast_signed() - theirs.0.cast_signed()) / 1_000_000
}
