//! Certificates that prove nothing, prove somebody else, or are shown in the wrong way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use model::id::{DeployTokenId, MemberId};
use model::identity::{Identity, Role};
use model::request::Request;
use proto::codec;
use rpc::tls::channel;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use crate::client::{block_on, message};
use crate::trust::answer::{Answer, Verdict};
use crate::trust::cast::Papers;
use crate::trust::matrix::call;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    strangers(site, tally)?;
    known(site, tally)?;
    behalf(site, tally)?;
    both(site, tally)?;
    services(site, tally)?;
    let newest = tls(site, &rustls::version::TLS13)?;
    ensure!(!newest.refused, "a client of TLS 1.3 is let in: {}", newest.said);
    tally.tried("a client of TLS 1.2", &tls(site, &rustls::version::TLS12)?).saying(&["fatal alert"]);
    tally.tried("a client without TLS", &plaintext(site)?).silently();
    Ok(())
}

/// A change that would be one.
fn change() -> Request {
    Request::ScaleServices(vec![("ispyb".into(), 7)])
}

fn strangers(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let cast = &site.cast;
    let answer = |papers: &Papers| anyhow::Ok(site.ask(&site.client_from_elsewhere(papers, 0)?, &change()));
    tally
        .tried("an admin's name signed by another authority", &answer(&cast.forged)?)
        .saying(&["refused the connection"])
        .on_record_at_the_door("wrong CA");
    tally
        .tried("a certificate that expired", &answer(&cast.expired)?)
        .saying(&["clock", "seconds"])
        .on_record_at_the_door("seconds too late");
    let nobody = site.ask(&site.nobody(0)?, &change());
    tally.tried("no certificate", &nobody).saying(&["may only join", "needs a certificate"]);
    Ok(())
}

/// Certificates of the cluster, for what they are not for.
fn known(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let cast = &site.cast;
    let node = format!("node {}", cast.n1.id);
    let removed = format!("node {}", cast.removed_node.id);
    for (name, papers, who, says) in [
        ("a node's certificate on a manager's call", &cast.n1.papers, node.as_str(), &["only renew"][..]),
        ("a removed node's certificate", &cast.removed_node.papers, &removed, &["join again"]),
        (
            "a manager's certificate in the hand of a person",
            &cast.manager,
            "manager 1",
            &["hand the lead over"],
        ),
        ("a viewer who changes something", &cast.viewer, "user viewer", &["takes the role", "ask an admin"]),
        ("a removed admin", &cast.removed, "user gone", &["worth nothing", "ask an admin"]),
        ("a disabled admin", &cast.disabled, "user away", &["disabled", "ask an admin"]),
    ] {
        for manager in 0..site.cluster.managers().len() {
            let answer = site.ask(&site.client(papers, manager)?, &change());
            let name = format!("{name}, at manager {manager}");
            tally.tried(name, &answer).saying(says).on_record(who, "scale");
        }
    }
    Ok(())
}

/// Speaking for somebody else is for managers, and even they prove no deploy token.
fn behalf(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let cast = &site.cast;
    let admin = Identity::Operator { name: "admin".into(), role: Role::Admin };
    let deployer = Identity::Deployer { id: DeployTokenId(1), name: "ci".into(), job: None };
    let bearer = Identity::Bearer(DeployTokenId(1));
    let manager = Identity::Manager(MemberId(1));
    let node = format!("node {}", cast.n1.id);
    let (of_viewer, of_manager) = ((&cast.viewer, "user viewer"), (&cast.manager, "manager 1"));
    for (name, (papers, who), whom, says) in [
        ("a viewer on behalf of an admin", of_viewer, &admin, "only managers speak"),
        ("a node on behalf of a manager", (&cast.n1.papers, node.as_str()), &manager, "only managers speak"),
        ("a manager on behalf of a deploy token's bearer", of_manager, &deployer, "only the leader says"),
        ("a manager on behalf of a token without it", of_manager, &bearer, "not accepted"),
    ] {
        let mut call = message(&change(), CALL)?;
        call.on_behalf_of = codec::encode(whom);
        let answer = Answer::of(&block_on(site.client(papers, 0)?.send(call)));
        tally.tried(name, &answer).saying(&[says]).on_record(who, "connect");
    }
    let mut call = message(&change(), CALL)?;
    call.on_behalf_of = codec::encode(&admin);
    let answer = Answer::of(&block_on(site.nobody(0)?.bearing(&cast.deploy_token).send(call)));
    tally
        .tried("a deploy token on behalf of an admin", &answer)
        .saying(&["only managers speak"])
        .on_record("anonymous", "connect");
    Ok(())
}

/// A certificate and a token at once: none of them is taken for the other.
fn both(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let client = site.client(&site.cast.viewer, 0)?.bearing(&site.cast.deploy_token);
    let answer = Answer::of(&block_on(client.call(&change(), CALL)));
    tally
        .tried("a viewer with a deploy token", &answer)
        .saying(&["not with both"])
        .on_record("user viewer", "connect");
    Ok(())
}

/// The services of nodes and managers are for nobody else.
fn services(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    for (method, says) in [
        ("Session", "only nodes' agents of this cluster may open a session"),
        ("PushLogs", "only nodes' agents of this cluster may push logs"),
        ("Exchange", "only managers of this cluster may send here"),
    ] {
        let tls = site.tls(&site.cast.viewer)?;
        let called = block_on(async { call(method, channel(&site.cluster.address(0), tls)).await });
        let answer = called.err().map_or_else(Answer::done, |status| Answer::of_status(&status));
        tally
            .tried(format!("a viewer who calls {method}"), &answer)
            .saying(&[says])
            .on_record("user viewer", "connect");
    }
    Ok(())
}

/// Shakes hands by a version of TLS.
fn tls(site: &Site<'_>, version: &'static SupportedProtocolVersion) -> Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(site.authority.as_bytes()).context("the authority")?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from("orch-manager")?)?;
    let mut socket = connect(site)?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            return Ok(Answer::refused(Verdict::NoHandshake, error.to_string()));
        }
    }
    Ok(Answer::done())
}

fn plaintext(site: &Site<'_>) -> Result<Answer> {
    let mut socket = connect(site)?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut said = Vec::new();
    // A reset is as good an end as a close.
    drop(socket.read_to_end(&mut said));
    let spoke = said.starts_with(b"HTTP") || said.windows(4).any(|window| window == b"HTTP");
    Ok(if spoke { Answer::done() } else { Answer::refused(Verdict::NoHandshake, "") })
}

fn connect(site: &Site<'_>) -> Result<TcpStream> {
    let socket = TcpStream::connect(site.elsewhere(0))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(socket)
}
