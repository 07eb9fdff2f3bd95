//! Another authority: whoever knows only the former one finds the way, and after the end nobody comes in by that.

use model::id::{MemberId, NodeId};
use model::identity::Identity;
use rpc::tls::{CertReloader, ClientTls, Credentials, Refusal, TlsError};

use crate::cluster::{Cluster, ask, now, within};

fn manager(of: &Cluster, bundle: &str) -> Credentials {
    of.issue_beside(bundle, Identity::Manager(MemberId(1)), 11, now())
}

fn node(of: &Cluster, bundle: &str) -> CertReloader {
    CertReloader::new(of.issue_beside(bundle, Identity::Node(NodeId(7)), 12, now()))
}

#[tokio::test]
async fn whoever_knows_only_the_former_authority_verifies_the_new_one() {
    let old = Cluster::new(1);
    let (new, both, after) = old.rotated();
    let server = old.serve_with(manager(&new, &both)).await;
    server.tls.trust(&both).expect("a bundle");
    let serial = async |tls| within(ask(&server.channel(tls))).await.expect("an answer").serial;
    assert_eq!(serial(old.client()).await, 2, "its own certificate counts still");
    let ahead = ClientTls::mutual(&both, node(&new, &both)).expect("settings");
    assert_eq!(serial(ahead).await, 12);
    let pinned = ClientTls::pinned(*old.ca.fingerprint().as_bytes()).expect("settings");
    assert_eq!(serial(pinned).await, 0, "a token that names the former one");

    server.credentials.swap(manager(&new, &after));
    server.tls.trust(&after).expect("a bundle");
    let anonymous = ClientTls::anonymous(old.ca_pem()).expect("settings");
    assert_eq!(serial(anonymous).await, 0, "it may come back and prove itself");
    let pinned = ClientTls::pinned(*new.ca.fingerprint().as_bytes()).expect("settings");
    assert_eq!(serial(pinned).await, 0);
}

#[tokio::test]
async fn a_server_that_has_not_heard_of_the_new_authority_verifies_what_it_issued() {
    let old = Cluster::new(1);
    let (new, both, _) = old.rotated();
    let server = old.serve().await;
    let tls = ClientTls::mutual(&both, node(&new, &both)).expect("settings");
    assert_eq!(within(ask(&server.channel(tls))).await.expect("an answer").serial, 12);
}

#[tokio::test]
async fn after_the_end_what_the_former_authority_issued_is_refused_and_a_forgery_over_the_bridge_too() {
    let old = Cluster::new(1);
    let (new, both, after) = old.rotated();
    let server = old.serve_with(manager(&new, &after)).await;
    server.tls.trust(&after).expect("a bundle");
    let refusal = async |tls| {
        let status = within(ask(&server.channel(tls))).await.expect_err("it is shut out");
        TlsError::in_chain(&status).expect("a reason")
    };
    let refused = refusal(old.client()).await;
    assert!(matches!(refused, TlsError::Refused(Refusal::UnknownCa)), "{refused:?}");
    let with_bundle = ClientTls::mutual(&both, node(&old, &both)).expect("settings");
    let refused = refusal(with_bundle).await;
    assert!(matches!(refused, TlsError::Refused(Refusal::UnknownCa)), "whatever lies beside it: {refused:?}");
    let ahead = ClientTls::mutual(&after, node(&new, &after)).expect("settings");
    assert_eq!(within(ask(&server.channel(ahead.clone()))).await.expect("an answer").serial, 12);

    let impostor = old.serve_with(manager(&old, &both)).await;
    let status = within(ask(&impostor.channel(ahead))).await.expect_err("it has a former certificate");
    assert!(matches!(TlsError::in_chain(&status), Some(TlsError::WrongCa)), "{status:?}");
}

#[tokio::test]
async fn a_client_changes_whom_it_trusts_without_being_made_anew() {
    let old = Cluster::new(1);
    let (new, both, after) = old.rotated();
    let server = old.serve_with(manager(&new, new.ca_pem())).await;
    server.tls.trust(&both).expect("a bundle");
    let tls = old.client();
    within(ask(&server.channel(tls.clone()))).await.expect_err("no bridge leads there");
    tls.trust(&after).expect("a bundle");
    assert_eq!(within(ask(&server.channel(tls.clone()))).await.expect("an answer").serial, 2);
    tls.trust("nothing").expect_err("no bundle");
    assert_eq!(within(ask(&server.channel(tls))).await.expect("an answer").serial, 2, "the last one stays");
}
