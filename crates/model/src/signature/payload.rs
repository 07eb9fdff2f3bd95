//! What is signed, in the two forms of cosign: the simple-signing payload, which names the image's digest and its repository, and the
//! statement of cosign 3, which names the digest alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::Flaw;
use crate::registry::ImageName;

/// What cosign writes into every payload, so that a signature over something else is none.
const KIND: &str = "cosign container image signature";
/// What it writes into every statement of the kind (in-toto, spec/v1/statement.md there).
pub const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The media type of statements, part of what is signed.
pub const STATEMENT: &str = "application/vnd.in-toto+json";

/// The parts that say something.
#[derive(Deserialize)]
#[serde(untagged)]
enum Payload {
    Simple { critical: Critical },
    Statement(Statement),
}

#[derive(Deserialize)]
struct Critical {
    identity: Claimed,
    image: Contents,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Claimed {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Contents {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha256: String,
}

/// Whether a payload, whoever signed it, names an image.
///
/// # Errors
/// Why not.
pub fn names(payload: &str, image: &str) -> Result<(), Flaw> {
    let image = ImageName::parse(image).filter(ImageName::is_digest).ok_or(Flaw::NoDigest)?;
    let critical = match serde_json::from_str(payload).map_err(|_| Flaw::Payload)? {
        Payload::Simple { critical } => critical,
        Payload::Statement(statement) => return statement.names(&image),
    };
    if critical.kind != KIND {
        return Err(Flaw::Payload);
    }
    if critical.image.digest != image.reference {
        return Err(Flaw::OtherImage(critical.image.digest));
    }
    let claimed = ImageName::parse(&critical.identity.reference).ok_or(Flaw::Payload)?;
    if (claimed.host, claimed.repository()) != (image.host, image.repository()) {
        return Err(Flaw::OtherRepository(format!("{}/{}", claimed.host, claimed.repository())));
    }
    Ok(())
}

impl Statement {
    fn names(self, image: &ImageName<'_>) -> Result<(), Flaw> {
        let [Subject { digest }] = &self.subject[..] else { return Err(Flaw::Payload) };
        if self.predicate != PREDICATE || !STATEMENTS.contains(&&*self.kind) {
            return Err(Flaw::Payload);
        }
        let named = format!("sha256:{}", digest.sha256);
        if named == image.reference { Ok(()) } else { Err(Flaw::OtherImage(named)) }
    }
}

/// The bytes over which a signature of a payload is: of a statement its pre-authentication encoding (DSSE, protocol.md).
pub(super) fn signed(payload: &str) -> Cow<'_, [u8]> {
    if let Ok(Payload::Statement(_)) = serde_json::from_str(payload) {
        let encoded = format!("DSSEv1 {} {STATEMENT} {} {payload}", STATEMENT.len(), payload.len());
        return Cow::Owned(encoded.into_bytes());
    }
    Cow::Borrowed(payload.as_bytes())
}
