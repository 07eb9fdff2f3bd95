//! Which signatures a declaration needs, and which of those that a registry has do.

use super::Policy;
use crate::{
    service::ServiceSpec,
    signature::{
        Flaw, FoundSignature, ImageSignature, MAX_ENCODED, MAX_PAYLOAD, MAX_SIGNATURES, PublicKey, names,
        verify,
    },
};

/// The keys that the policies about a declaration, or about what it replaces, ask for: by one of each list it has to be signed.
pub fn signers<'a>(
    old: Option<&ServiceSpec>,
    new: &ServiceSpec,
    policies: &'a [Policy],
) -> Vec<&'a [PublicKey]> {
    let asks = policies.iter().filter(|policy| !policy.spec.require.signed_by.is_empty());
    let about = asks.filter(|policy| {
        policy.spec.services.covers(new) || old.is_some_and(|old| policy.spec.services.covers(old))
    });
    about.map(|policy| policy.spec.require.signed_by.as_slice()).collect()
}

/// Whether an image is signed by one key of each list that is not empty, as the signatures prove that go with it.
pub fn is_signed(image: &str, signatures: &[ImageSignature], signers: &[&[PublicKey]]) -> bool {
    let by = |keys: &[PublicKey], one: &ImageSignature| keys.contains(&one.key) && one.verify(image).is_ok();
    let mut asked = signers.iter().filter(|keys| !keys.is_empty());
    asked.all(|keys| signatures.iter().any(|one| by(keys, one)))
}

/// Of the signatures that a registry has of an image, those that prove one key of each list, each once; none for a list that no
/// signature is by.
pub fn choose(image: &str, signers: &[&[PublicKey]], found: &[FoundSignature]) -> Vec<ImageSignature> {
    let named: Vec<&FoundSignature> = found.iter().filter(|one| names(&one.payload, image).is_ok()).collect();
    let mut chosen: Vec<ImageSignature> = Vec::new();
    for keys in signers {
        if chosen.len() == MAX_SIGNATURES || chosen.iter().any(|signature| keys.contains(&signature.key)) {
            continue;
        }
        let by = |one: &FoundSignature| {
            let fits = one.payload.len() <= MAX_PAYLOAD && one.signature.len() <= MAX_ENCODED;
            let made = |key: &&PublicKey| verify(key, &one.payload, &one.signature, image).is_ok();
            let key = *keys.iter().filter(|_| fits).find(made)?;
            Some(ImageSignature { key, payload: one.payload.clone(), signature: one.signature.clone() })
        };
        chosen.extend(named.iter().find_map(|one| by(one)));
    }
    chosen
}

/// Why what a registry has does not do, in words.
pub fn why_not(image: &str, found: &[FoundSignature]) -> String {
    let Some(first) = found.first() else { return "its registry has no signature of it".into() };
    let flaw = |one: &FoundSignature| names(&one.payload, image).err();
    match found.iter().find(|one| flaw(one).is_none()) {
        Some(_) => "its registry has signatures of it, all by other keys".into(),
        None => {
            let why = flaw(first).unwrap_or(Flaw::OtherKey);
            format!("its registry has a signature that does not count: {why}")
        }
    }
}
