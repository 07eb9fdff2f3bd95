//! A site's own authority and log, as Fulcio and Rekor are to whoever verifies: certificates that live for minutes, and a word for when
//! a signature was made.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::audit::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::cosign::Signer;

/// Who vouched for a signer, in a certificate of Fulcio.
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
/// How long a certificate counts.
const LIFE: Duration = Duration::from_secs(600);

/// An authority with a log.
#[derive(Debug)]
pub struct Sigstore {
    authority: Issuer<'static, KeyPair>,
    pem: String,
    log: Signer,
}

/// Whose certificate it is, and what is unusual about it.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Who vouches.
    pub issuer: &'a str,
    /// For whom.
    pub subject: &'a str,
    /// Between the certificate's beginning and the signature.
    pub late: Duration,
    /// What the certificate is for.
    pub usage: &'a ExtendedKeyUsagePurpose,
}

impl<'a> Job<'a> {
    /// A usual one.
    pub fn new(issuer: &'a str, subject: &'a str) -> Self {
        Self { issuer, subject, late: Duration::ZERO, usage: &ExtendedKeyUsagePurpose::CodeSigning }
    }
}

/// What comes with a signature.
#[derive(Debug)]
pub struct Proof {
    /// The signature, base64.
    pub signature: String,
    /// The signer's certificate, PEM.
    pub certificate: String,
    /// The log's word, JSON.
    pub entry: String,
}

impl Sigstore {
    /// With new keys.
    ///
    /// # Errors
    /// The machine has no entropy.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "The laboratory's signers");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { authority: Issuer::new(params, key), pem, log: Signer::new() })
    }

    /// The authority's certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.pem
    }

    /// The log's key, PEM.
    pub fn log(&self) -> String {
        self.log.public_key()
    }

    /// Writes `authority.pem` and `log.pub`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::write(dir.join("authority.pem"), &self.pem)?;
        Ok(std::fs::write(dir.join("log.pub"), self.log())?)
    }

    /// Signs a payload with a key that lives for this signature.
    ///
    /// # Errors
    /// A name is none.
    pub fn sign(&self, job: Job<'_>, payload: &str) -> Result<Proof> {
        self.sign_by(&Signer::new(), job, payload)
    }

    fn sign_by(&self, signer: &Signer, job: Job<'_>, payload: &str) -> Result<Proof> {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = now.into();
        params.not_after = (now + LIFE).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![job.usage.clone()];
        params.subject_alt_names = vec![SanType::URI(job.subject.try_into()?)];
        let issuer = [&[0x0c, u8::try_from(job.issuer.len())?], job.issuer.as_bytes()].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&ISSUER, issuer)];
        let certificate = params.signed_by(&signer.certified()?, &self.authority)?.pem();
        let signature = signer.sign(payload);
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": Digest::of(payload.as_bytes()).to_string() } },
                "signature": {
                    "content": signature,
                    "publicKey": { "content": STANDARD.encode(&certificate) },
                },
            },
        });
        let at = (now + job.late).duration_since(UNIX_EPOCH)?.as_secs();
        // In the canonical order (RFC 8785), which is what is signed.
        let entry = format!(
            r#"{{"body":"{}","integratedTime":{at},"logID":"{}","logIndex":1}}"#,
            STANDARD.encode(body.to_string()),
            self.log.fingerprint()
        );
        let promise = self.log.sign(&entry);
        let entry = format!(r#"{{"SignedEntryTimestamp":"{promise}","Payload":{entry}}}"#);
        Ok(Proof { signature, certificate, entry })
    }
}

#[cfg(test)]
mod tests {
    use model::{
        policy::{
            Require,
            signing::{choose, why_not},
        },
        signature::{FoundCertificate, FoundSignature, SignerIdentity},
    };

    use super::*;
    use crate::registry::cosign::payload;

    const ISSUED_BY: &str = "https://gitlab.example";
    const SUBJECT: &str = "https://gitlab.example/mx/web//.gitlab-ci.yml@refs/heads/main";

    fn text(letter: &str) -> String {
        payload("registry.example/mx/web", &format!("sha256:{}", letter.repeat(64)))
    }

    fn verdict(asked: &Sigstore, signed: &Sigstore, job: Job<'_>) -> Result<(), String> {
        judged(asked, text("a"), signed.sign(job, &text("a")).expect("signed"))
    }

    fn judged(asked: &Sigstore, payload: String, proof: Proof) -> Result<(), String> {
        let image = format!("registry.example/mx/web:1@sha256:{}", "a".repeat(64));
        let Proof { signature, certificate, entry } = proof;
        let certified = Some(FoundCertificate { certificate, entry });
        let found = [FoundSignature { payload, signature, certified }];
        let identity = SignerIdentity {
            issuer: ISSUED_BY.into(),
            subject: SUBJECT.into(),
            authority: asked.authority().parse().expect("an authority"),
            log: asked.log().parse().expect("a key"),
        };
        let require = Require { signed_by_identity: vec![identity], ..Require::default() };
        match &choose(&image, &[&require], &found)[..] {
            [_] => Ok(()),
            _ => Err(why_not(&image, &[&require], &found)),
        }
    }

    #[test]
    fn what_the_authority_and_the_log_do_not_both_stand_for_is_no_signature() {
        let (site, other) = (Sigstore::new().expect("keys"), Sigstore::new().expect("keys"));
        let mixed = Sigstore { log: Signer::new(), ..Sigstore::new().expect("keys") };
        let usual = Job::new(ISSUED_BY, SUBJECT);
        assert_eq!(verdict(&site, &site, usual), Ok(()));
        let late = Job { late: LIFE + Duration::from_secs(60), ..usual };
        let server = Job { usage: &ExtendedKeyUsagePurpose::ServerAuth, ..usual };
        let logged = Sigstore { log: site.log.again(), ..mixed };
        for (signed, job, why) in [
            (&site, late, "had ended"),
            (&site, server, "not for signing code"),
            (&other, usual, "another log"),
            (&logged, usual, "another authority"),
            (
                &site,
                Job { subject: "https://gitlab.example/mx/other", ..usual },
                "gitlab.example/mx/other (https",
            ),
            (&site, Job { issuer: "https://elsewhere.example", ..usual }, "(https://elsewhere.example)"),
        ] {
            let refusal = verdict(&site, signed, job).expect_err(why);
            assert!(refusal.contains(why), "{why}: {refusal}");
        }
    }

    #[test]
    fn whoever_comes_to_a_signers_key_later_signs_nothing_with_what_the_log_once_took() {
        let (site, signer) = (Sigstore::new().expect("keys"), Signer::new());
        let usual = Job::new(ISSUED_BY, SUBJECT);
        let once = site.sign_by(&signer, usual, &text("b")).expect("signed");
        let now = Proof { signature: signer.sign(&text("a")), ..once };
        let refusal = judged(&site, text("a"), now).expect_err("of another signature");
        assert!(refusal.contains("another signature"), "{refusal}");
    }
}
