//! What an authority issues, and what it refuses, seen through the public API.

use std::time::Duration;

use model::id::{ClusterId, MemberId, NodeId};
use model::identity::{CertName, Identity, Role};
use model::time::WallTime;
use pki::{
    BACKDATE, CA_LIFETIME, CaCertificate, CertificateError, ClockProblem, ClusterCa, Fingerprint, FoundError,
    IssueError, KeyAndCsr, LeafCertificate, MANAGER_SERVER_NAME, NameError, PrivateKey, key_print,
};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> WallTime {
    WallTime(1_800_000_000_000_000)
}

fn after(time: WallTime, duration: Duration) -> WallTime {
    WallTime(time.0 + duration.as_micros() as u64)
}

fn before(time: WallTime, duration: Duration) -> WallTime {
    WallTime(time.0 - duration.as_micros() as u64)
}

fn ca(cluster: u64) -> ClusterCa {
    ClusterCa::generate(ClusterId(cluster), now()).expect("an authority")
}

fn name(identity: Identity) -> CertName {
    CertName { cluster: ClusterId(1), identity }
}

fn node() -> CertName {
    name(Identity::Node(NodeId(7)))
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate in PEM form")
}

fn issue(ca: &ClusterCa, name: &CertName, serial: u64) -> CertificateDer<'static> {
    let request = KeyAndCsr::generate().expect("a request");
    der(&ca.issue(request.csr_pem.as_bytes(), name, DAY, now(), serial).expect("a certificate"))
}

/// Parses a certificate and hands it to `look`.
fn inspect<T>(der: &[u8], look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let (_, parsed) = X509Certificate::from_der(der).expect("a certificate");
    look(&parsed)
}

/// The (client, server) usages of a certificate.
fn usages(der: &[u8]) -> (bool, bool) {
    inspect(der, |parsed| {
        let usage = parsed.extended_key_usage().expect("well formed").expect("present").value;
        (usage.client_auth, usage.server_auth)
    })
}

fn dns_names(der: &[u8]) -> Vec<String> {
    inspect(der, |parsed| {
        let names = parsed.subject_alternative_name().expect("well formed").expect("present");
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        names.value.general_names.iter().filter_map(dns).collect()
    })
}

#[test]
fn an_authority_survives_its_pem_form() {
    let founded = ca(1);
    let read =
        ClusterCa::from_pem(founded.certificate_pem(), &founded.key_pem()).expect("the same authority");
    assert_eq!(read.fingerprint(), founded.fingerprint());
    assert_eq!(read.cluster(), ClusterId(1));
    founded
        .certificate()
        .verify(&issue(&read, &node(), 1), now())
        .expect("the read authority signs for the founded");
}

#[test]
fn an_authority_lives_ten_years() {
    let validity = ca(1).certificate().validity();
    assert_eq!(validity.not_before, before(now(), BACKDATE));
    assert_eq!(validity.not_after, after(now(), CA_LIFETIME));
}

#[test]
fn a_fingerprint_is_the_digest_of_the_certificate() {
    let founded = ca(1);
    let expected = ring::digest::digest(&ring::digest::SHA256, &der(founded.certificate_pem()));
    assert_eq!(founded.fingerprint().as_bytes().as_slice(), expected.as_ref());
    assert_eq!(founded.fingerprint().to_string().parse(), Ok(founded.fingerprint()));
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let refused = ClusterCa::from_pem(ca(1).certificate_pem(), &ca(1).key_pem());
    assert_eq!(refused.expect_err("foreign key"), FoundError::Certificate(CertificateError::KeyMismatch));
}

#[test]
fn a_leaf_is_no_authority() {
    let leaf = issue(&ca(1), &node(), 1);
    assert!(matches!(CaCertificate::from_der(&leaf), Err(CertificateError::NotAnAuthority(_))));
}

#[test]
fn every_kind_of_holder_gets_its_identity_serial_and_usages() {
    let ca = ca(1);
    let cases = [
        (name(Identity::Manager(MemberId(3))), (true, true), vec![MANAGER_SERVER_NAME.to_owned()]),
        (node(), (true, true), vec![]),
        (name(Identity::Operator { name: "anna@esrf.fr".into(), role: Role::Admin }), (true, false), vec![]),
    ];
    let mut serial = u64::MAX - 10;
    for (name, expected_usages, expected_names) in cases {
        serial += 1;
        let leaf = issue(&ca, &name, serial);
        let judged = ca.certificate().verify(&leaf, now()).expect("our own certificate");
        assert_eq!((&judged.name, judged.serial), (&name, serial));
        assert_eq!(usages(&leaf), expected_usages, "{name}");
        assert_eq!(dns_names(&leaf), expected_names, "{name}");
    }
}

#[test]
fn a_request_with_other_names_gets_ours() {
    let ca = ca(1);
    let key = KeyPair::generate().expect("a key");
    let mut wish = CertificateParams::new([MANAGER_SERVER_NAME.to_owned()]).expect("a name");
    wish.distinguished_name.push(DnType::CommonName, "manager 1");
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.subject_alt_names.push(rcgen::SanType::URI(
        name(Identity::Manager(MemberId(1))).to_string().try_into().expect("ascii"),
    ));
    let csr = wish.serialize_request(&key).expect("a request");

    let leaf = der(&ca.issue(csr.der(), &node(), DAY, now(), 9).expect("a certificate"));

    assert_eq!(LeafCertificate::from_der(&leaf).expect("ours").name, node());
    assert_eq!(dns_names(&leaf), Vec::<String>::new());
    inspect(&leaf, |parsed| {
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject().to_string(), format!("CN={}", node().identity));
        assert_eq!(*parsed.public_key().subject_public_key.data, *key.public_key_raw());
    });
}

#[test]
fn a_request_over_a_foreign_key_is_refused() {
    let mine = der_request(&KeyAndCsr::generate().expect("a request"));
    let theirs = PrivateKey::generate().expect("a key");
    let point = PrivateKey::from_pem(&theirs.to_pem()).expect("the same key").public_key().to_vec();
    // The public key is the only 65-byte curve point in a request; put the other's in its place.
    let start = mine.windows(2).position(|pair| pair == [0x00, 0x04]).expect("a curve point") + 1;
    let mut forged = mine;
    forged[start..start + 65].copy_from_slice(&point);

    let refused = ca(1).issue(&forged, &node(), DAY, now(), 1);
    assert_eq!(refused, Err(IssueError::BadSelfSignature));
}

fn der_request(request: &KeyAndCsr) -> Vec<u8> {
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(request.csr_pem.as_bytes());
    der.expect("a request in PEM form").to_vec()
}

#[test]
fn a_request_in_der_form_is_accepted_too() {
    let ca = ca(1);
    let request = der_request(&KeyAndCsr::generate().expect("a request"));
    ca.issue(&request, &node(), DAY, now(), 1).expect("a certificate");
}

#[test]
fn only_p256_keys_are_certified() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let csr = CertificateParams::default().serialize_request(&key).expect("a request");
    assert_eq!(ca(1).issue(csr.der(), &node(), DAY, now(), 1), Err(IssueError::UnsupportedKey));
}

#[test]
fn rubbish_and_floods_are_refused_as_requests() {
    let ca = ca(1);
    assert!(matches!(ca.issue(b"hello", &node(), DAY, now(), 1), Err(IssueError::Request(_))));
    let flood = vec![0; 1 << 20];
    assert!(matches!(ca.issue(&flood, &node(), DAY, now(), 1), Err(IssueError::TooLong { .. })));
}

#[test]
fn nothing_is_issued_for_another_cluster_or_without_a_serial() {
    let ca = ca(1);
    let csr = KeyAndCsr::generate().expect("a request").csr_pem;
    let foreign = CertName { cluster: ClusterId(2), ..node() };
    let refused = ca.issue(csr.as_bytes(), &foreign, DAY, now(), 1);
    assert_eq!(refused, Err(IssueError::WrongCluster { expected: ClusterId(1), found: ClusterId(2) }));
    assert_eq!(ca.issue(csr.as_bytes(), &node(), DAY, now(), 0), Err(IssueError::ZeroSerial));
    let nobody = ca.issue(csr.as_bytes(), &name(Identity::Anonymous), DAY, now(), 1);
    assert_eq!(nobody, Err(IssueError::Name(NameError::Nobody)));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let ca = ca(1);
    let end = ca.certificate().validity().not_after;
    let csr = KeyAndCsr::generate().expect("a request").csr_pem;
    let leaf = ca
        .issue(csr.as_bytes(), &node(), DAY, before(end, Duration::from_secs(60)), 1)
        .expect("a certificate");
    assert_eq!(LeafCertificate::from_pem(&leaf).expect("ours").validity.not_after, end);

    let refused = ca.issue(csr.as_bytes(), &node(), DAY, after(end, DAY), 1);
    assert!(matches!(refused, Err(IssueError::Authority(ClockProblem::Expired { .. }))));
}

#[test]
fn a_certificate_of_another_authority_is_refused_even_under_the_same_name() {
    let impostor = ca(1);
    let refused = ca(1).certificate().verify(&issue(&impostor, &node(), 1), now());
    assert_eq!(refused, Err(CertificateError::WrongCa { cluster: ClusterId(1) }));
}

#[test]
fn an_expired_certificate_is_refused_with_the_time_since() {
    let ca = ca(1);
    let leaf = issue(&ca, &node(), 1);
    let late = after(now(), DAY + Duration::from_secs(5));
    let expected = ClockProblem::Expired { valid_until: after(now(), DAY), now: late };
    assert_eq!(ca.certificate().verify(&leaf, late), Err(CertificateError::Clock(expected)));
    ca.certificate().verify(&leaf, after(now(), DAY)).expect("the last second still counts");
}

#[test]
fn a_clock_behind_by_less_than_the_backdating_does_not_matter() {
    let ca = ca(1);
    let leaf = issue(&ca, &node(), 1);
    ca.certificate().verify(&leaf, before(now(), BACKDATE)).expect("the first second counts");
    let early = before(now(), BACKDATE + Duration::from_secs(30));
    let refused = ca.certificate().verify(&leaf, early).expect_err("30 seconds early");
    assert!(refused.to_string().ends_with("30 seconds behind"), "{refused}");
}

#[test]
fn a_certificate_that_ran_out_proves_its_holder_with_its_key_and_with_no_other() {
    let ca = ca(1);
    let (own, other) = (KeyAndCsr::generate().expect("a request"), KeyAndCsr::generate().expect("a request"));
    let old = ca.issue(own.csr_pem.as_bytes(), &node(), DAY, now(), 5).expect("issued");
    assert!(ca.certificate().verify(&der(&old), after(now(), 30 * DAY)).is_err(), "it ran out");
    let holder = ca.certificate().holder(&old, &own.csr_pem).expect("proven");
    assert_eq!((holder.leaf.name, holder.leaf.serial, holder.own), (node(), 5, true));
    let again = KeyAndCsr::for_key(PrivateKey::from_pem(&own.key_pem()).expect("a key")).expect("a request");
    let again = ca.certificate().holder(&old, &again.csr_pem).expect("any request over the same key");
    assert_eq!((again.own, again.key), (true, holder.key));
    let stranger = ca.certificate().holder(&old, &other.csr_pem).expect("it has a key");
    assert_eq!((stranger.own, stranger.key), (false, key_print(other.csr_pem.as_bytes()).expect("proven")));
    assert_ne!(stranger.key, holder.key);
    let foreign = self::ca(1).certificate().holder(&old, &own.csr_pem).expect_err("another authority");
    assert_eq!(foreign, CertificateError::WrongCa { cluster: ClusterId(1) }.into());
    assert!(ca.certificate().holder(ca.certificate_pem(), &own.csr_pem).is_err(), "no node's certificate");
    assert!(ca.certificate().holder(&old, &old).is_err(), "no request");
}

#[test]
fn half_of_the_life_is_the_time_to_renew() {
    let leaf = LeafCertificate::from_der(&issue(&ca(1), &node(), 1)).expect("ours");
    assert_eq!(leaf.validity.renew_at(), after(before(now(), BACKDATE), (DAY + BACKDATE) / 2));
}

#[test]
fn no_secret_shows_in_debug_output() {
    let ca = ca(1);
    let request = KeyAndCsr::generate().expect("a request");
    let shown = format!("{ca:?} {request:?}");
    assert!(!shown.contains("PRIVATE KEY") && shown.contains("<redacted>"), "{shown}");
}

#[test]
fn a_successor_has_a_name_of_its_own_and_is_vouched_for() {
    let first = ca(1);
    let (second, bridge) = first.successor(now()).expect("a successor");
    let (third, _) = second.successor(now()).expect("another one");
    assert_eq!([&first, &second, &third].map(|of| of.certificate().nth()), [1, 2, 3]);
    assert_eq!(second.cluster(), first.cluster());
    assert_ne!(second.fingerprint(), first.fingerprint());

    let leaf = issue(&second, &node(), 5);
    assert!(second.certificate().issued(&leaf) && !first.certificate().issued(&leaf));
    let bundle = format!("{}{}{bridge}", second.certificate_pem(), first.certificate_pem());
    let roots = CaCertificate::all_from_pem(&bundle).expect("a bundle");
    let prints: Vec<Fingerprint> = roots.iter().map(CaCertificate::fingerprint).collect();
    assert_eq!(prints, [second.fingerprint(), first.fingerprint()], "a bridge is no root");
    CaCertificate::all_from_pem(&bridge).expect_err("it proves nothing alone");

    let (anchor, bridge) = (der(first.certificate_pem()), der(&bridge));
    let anchor = webpki::anchor_from_trusted_cert(&anchor).expect("an anchor");
    let leaf = webpki::EndEntityCert::try_from(&leaf).expect("a certificate");
    let verified = |bridges: &[CertificateDer<'_>]| {
        let time = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_micros(now().0));
        let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
        let usage = webpki::KeyUsage::client_auth();
        let anchors = std::slice::from_ref(&anchor);
        leaf.verify_for_usage(algorithms, anchors, bridges, time, usage, None, None).is_ok()
    };
    assert!(verified(&[bridge]), "who trusts the first one finds the way");
    assert!(!verified(&[]));
}
