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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Generation,
        identity::Identity,
        policy::{PolicySpec, Refusal, Verb, admit},
        service::Mode,
        signature::tests::{KEY, OTHER_KEY, PAYLOAD, SIGNATURE},
        time::ClusterTime,
    };

    fn image() -> String {
        format!("registry.example/mx/web:prod@sha256:{}", "a".repeat(64))
    }

    fn key(text: &str) -> PublicKey {
        text.parse().expect("a key")
    }

    fn found() -> FoundSignature {
        FoundSignature { payload: PAYLOAD.into(), signature: SIGNATURE.into() }
    }

    fn policy(name: &str, keys: &[&str]) -> Policy {
        let mut spec = PolicySpec { name: name.into(), contact: "ops".into(), ..PolicySpec::default() };
        spec.require.signed_by = keys.iter().map(|text| key(text)).collect();
        Policy { spec, generation: Generation(1), by: Identity::Anonymous, set: ClusterTime::default() }
    }

    /// A service with the image, and what proves it under these policies.
    fn service(policies: &[Policy]) -> ServiceSpec {
        let mut spec = ServiceSpec { name: "web".into(), ..ServiceSpec::default() };
        spec.template.container.image = image();
        let signers = signers(None, &spec, policies);
        spec.template.container.signatures = choose(&image(), &signers, &[found()]);
        spec
    }

    fn judge(verb: Verb, spec: &ServiceSpec, policies: &[Policy]) -> Result<(), Refusal> {
        admit(&Identity::Anonymous, verb, Some(spec), spec, policies)
    }

    #[test]
    fn what_a_registry_has_is_chosen_by_what_it_proves() {
        let (good, other) = (key(KEY), key(OTHER_KEY));
        let chosen = |signers: &[&[PublicKey]]| choose(&image(), signers, &[found(), found()]).len();
        assert_eq!(chosen(&[&[good]]), 1);
        assert_eq!(chosen(&[&[other, good], &[good]]), 1, "one signature does for both");
        assert_eq!(chosen(&[&[other]]), 0);
        let elsewhere = image().replace("mx/web", "mx/api");
        assert!(choose(&elsewhere, &[&[good]], &[found()]).is_empty());
        assert!(why_not(&elsewhere, &[found()]).contains("another repository"));
        assert!(why_not(&image(), &[]).contains("no signature"));
        assert!(why_not(&image(), &[found()]).contains("other keys"));
    }

    #[test]
    fn every_way_to_a_declaration_is_judged_by_the_keys_of_today() {
        let (signed, changed) = ([policy("signed", &[OTHER_KEY, KEY])], [policy("signed", &[OTHER_KEY])]);
        let spec = service(&signed);
        for verb in [Verb::Create, Verb::Update, Verb::Rollback, Verb::Schedule, Verb::Run] {
            assert_eq!(judge(verb, &spec, &signed), Ok(()), "{verb}");
            let refusal = judge(verb, &spec, &changed).expect_err("another key");
            assert!(refusal.lacks_signature(), "{refusal}");
            let text = refusal.to_string();
            for part in [&key(OTHER_KEY).short(), "require.signed_by of policy \"signed\"", "ask ops"] {
                assert!(text.contains(part), "{text}");
            }
        }
        // What ran returns when a release fails, and what runs is scaled.
        assert_eq!(judge(Verb::Return, &spec, &changed), Ok(()));
        let more = ServiceSpec { mode: Mode::Replicated(3), ..spec.clone() };
        assert_eq!(admit(&Identity::Anonymous, Verb::Scale, Some(&spec), &more, &changed), Ok(()));
    }

    #[test]
    fn signature_that_does_not_hold_for_the_very_image_admits_nothing() {
        let policies = [policy("signed", &[KEY])];
        let good = service(&policies);
        let change = |change: fn(&mut ServiceSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            judge(Verb::Update, &spec, &policies)
        };
        assert_eq!(change(|_| {}), Ok(()));
        for wrong in [
            (|spec: &mut ServiceSpec| spec.template.container.signatures.clear()) as fn(&mut ServiceSpec),
            |spec| spec.template.container.image = "registry.example/mx/web:prod".into(),
            |spec| spec.template.container.image = image().replace("mx/web", "mx/api"),
            |spec| spec.template.container.image = image().replace("aaaa", "bbbb"),
            |spec| spec.template.container.signatures[0].payload.push(' '),
            |spec| spec.template.container.signatures[0].signature.clear(),
        ] {
            assert!(change(wrong).is_err());
        }
        let unasked = [policy("signed", &[])];
        assert_eq!(judge(Verb::Create, &ServiceSpec::default(), &unasked), Ok(()));
    }

    #[test]
    fn policies_of_before_read_back_as_they_were_written() {
        let policy = policy("plain", &[]);
        let text = serde_json::to_string(&policy).expect("plain data");
        assert!(!text.contains("signed_by"), "old states keep their hash: {text}");
        assert_eq!(serde_json::from_str::<Policy>(&text).expect("a policy"), policy);
    }
}
