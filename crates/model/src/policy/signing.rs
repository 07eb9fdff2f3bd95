//! Which signatures a declaration needs, and which of those that a registry has do.

use super::{Policy, Require};
use crate::{
    service::ServiceSpec,
    signature::{
        Certified, Flaw, FoundSignature, ImageSignature, MAX_CERTIFICATES, MAX_ENCODED, MAX_ENTRY,
        MAX_PAYLOAD, MAX_SIGNATURES, PublicKey, SignerIdentity, names, signer_key,
    },
};

impl Require {
    /// Whether a signature is asked for.
    pub fn asks_signature(&self) -> bool {
        !self.signed_by.is_empty() || !self.signed_by_identity.is_empty()
    }

    /// Whether a signature that holds is by one of those who are named.
    pub(super) fn names_signer(&self, one: &ImageSignature) -> bool {
        match &one.certified {
            None => self.signed_by.contains(&one.key),
            Some(certified) => self.signed_by_identity.contains(&certified.by),
        }
    }

    /// What a signature that a registry has would be by each of those who are named: a proof, if it holds.
    fn claims<'a>(&'a self, found: &'a FoundSignature) -> impl Iterator<Item = ImageSignature> + 'a {
        let by_key = self.signed_by.iter().map(|key| claim(found, *key, None));
        let proof = found.certified.as_ref();
        let key = proof.and_then(|proof| signer_key(&proof.certificates));
        let certified = move |by: &SignerIdentity| {
            let proof = proof?;
            let (certificates, entry) = (proof.certificates.clone(), proof.entry.clone());
            Some(claim(found, key?, Some(Certified { by: by.clone(), certificates, entry })))
        };
        by_key.chain(self.signed_by_identity.iter().filter_map(certified))
    }
}

fn claim(found: &FoundSignature, key: PublicKey, certified: Option<Certified>) -> ImageSignature {
    let FoundSignature { payload, signature, .. } = found.clone();
    ImageSignature { key, payload, signature, certified: certified.map(Box::new) }
}

/// What the policies about a declaration, or about what it replaces, ask for: by one that each names it has to be signed.
pub fn signers<'a>(old: Option<&ServiceSpec>, new: &ServiceSpec, policies: &'a [Policy]) -> Vec<&'a Require> {
    let asks = policies.iter().filter(|policy| policy.spec.require.asks_signature());
    let about = asks.filter(|policy| {
        policy.spec.services.covers(new) || old.is_some_and(|old| policy.spec.services.covers(old))
    });
    about.map(|policy| &policy.spec.require).collect()
}

/// Whether an image is signed by one whom each names that names any, as the signatures prove that go with it.
pub fn is_signed(image: &str, signatures: &[ImageSignature], signers: &[&Require]) -> bool {
    let by = |require: &Require, one: &ImageSignature| require.names_signer(one) && one.verify(image).is_ok();
    let mut asked = signers.iter().filter(|require| require.asks_signature());
    asked.all(|require| signatures.iter().any(|one| by(require, one)))
}

/// Of the signatures that a registry has of an image, those that prove one whom each names, each once; none for whom no signature
/// is by.
pub fn choose(image: &str, signers: &[&Require], found: &[FoundSignature]) -> Vec<ImageSignature> {
    let fits = |one: &FoundSignature| {
        let small = |text: &str, most: usize| text.len() <= most;
        let certified = one.certified.as_ref();
        small(&one.payload, MAX_PAYLOAD)
            && small(&one.signature, MAX_ENCODED)
            && certified.is_none_or(|proof| {
                small(&proof.certificates, MAX_CERTIFICATES) && small(&proof.entry, MAX_ENTRY)
            })
    };
    let named = |one: &&FoundSignature| fits(one) && names(&one.payload, image).is_ok();
    let named: Vec<&FoundSignature> = found.iter().filter(named).collect();
    let mut chosen: Vec<ImageSignature> = Vec::new();
    for require in signers {
        if chosen.len() == MAX_SIGNATURES || chosen.iter().any(|one| require.names_signer(one)) {
            continue;
        }
        let holds = |claim: &ImageSignature| claim.verify(image).is_ok();
        chosen.extend(named.iter().flat_map(|one| require.claims(one)).find(holds));
    }
    chosen
}

/// Why what a registry has does not do for those who ask, in words.
pub fn why_not(image: &str, signers: &[&Require], found: &[FoundSignature]) -> String {
    let Some(first) = found.first() else { return "its registry has no signature of it".into() };
    let named: Vec<&FoundSignature> = found.iter().filter(|one| names(&one.payload, image).is_ok()).collect();
    if named.is_empty() {
        let why = names(&first.payload, image).err().unwrap_or(Flaw::OtherKey);
        return format!("its registry has a signature that does not count: {why}");
    }
    // What is wrong with the newest that comes with a certificate says most: whose it is, where all else holds.
    let claims = named.iter().flat_map(|one| signers.iter().flat_map(|require| require.claims(one)));
    let flaws: Vec<Flaw> = claims
        .filter(|claim| claim.certified.is_some())
        .filter_map(|claim| claim.verify(image).err())
        .collect();
    let whose = flaws.iter().find(|flaw| matches!(flaw, Flaw::OtherIdentity(_)));
    match whose.or(flaws.first()) {
        Some(why) => format!("its registry has a signature that does not count: {why}"),
        None => "its registry has signatures of it, all by other keys".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Generation,
        identity::Identity,
        policy::{PolicySpec, Refusal, Verb, admit, review},
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
        FoundSignature { payload: PAYLOAD.into(), signature: SIGNATURE.into(), certified: None }
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
        let of = |keys: &[&str]| Require {
            signed_by: keys.iter().map(|text| key(text)).collect(),
            ..Require::default()
        };
        let (good, other, either) = (of(&[KEY]), of(&[OTHER_KEY]), of(&[OTHER_KEY, KEY]));
        let chosen = |signers: &[&Require]| choose(&image(), signers, &[found(), found()]).len();
        assert_eq!(chosen(&[&good]), 1);
        assert_eq!(chosen(&[&either, &good]), 1, "one signature does for both");
        assert_eq!(chosen(&[&other]), 0);
        let elsewhere = image().replace("mx/web", "mx/api");
        assert!(choose(&elsewhere, &[&good], &[found()]).is_empty());
        assert!(why_not(&elsewhere, &[&good], &[found()]).contains("another repository"));
        assert!(why_not(&image(), &[&other], &[]).contains("no signature"));
        assert!(why_not(&image(), &[&other], &[found()]).contains("other keys"));
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
        assert_eq!((review(&spec, &signed).len(), review(&spec, &changed).len()), (0, 1));
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
