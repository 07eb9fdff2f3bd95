//! Which signatures a declaration needs, and which of those that a registry has do.

use super::{Policy, Require};
use crate::{
    service::ServiceSpec,
    signature::{
        Certified, Flaw, FoundSignature, ImageSignature, MAX_CERTIFICATE, MAX_ENCODED, MAX_ENTRY,
        MAX_PAYLOAD, MAX_SIGNATURES, MAX_SIGNED_BYTES, PublicKey, Signer, SignerIdentity, names,
    },
};

/// What verifying the signatures of one declaration may cost, in those by a key, of which each takes some 0.07 ms.
const MAX_COST: usize = 256;
/// One by an identity takes some 0.9 ms where its authority's key is one of P-384, as Fulcio's is.
const IDENTITY_COST: usize = 8;
/// And to say what is wrong with them.
const MAX_TOLD: usize = 4;

impl Require {
    /// Whether a signature is asked for.
    pub fn asks_signature(&self) -> bool {
        !self.signed_by.is_empty() || !self.signed_by_identity.is_empty()
    }

    /// Whether a signature that holds is by one of those who are named.
    pub fn names_signer(&self, one: &ImageSignature) -> bool {
        match &one.certified {
            None => self.signed_by.contains(&one.key),
            Some(certified) => self.signed_by_identity.contains(&certified.by),
        }
    }

    /// What a signature that a registry has would be by each of those who are named: a proof, if it holds. By those identities only that
    /// its certificate names.
    fn claims<'a>(&'a self, found: &'a Found<'a>) -> impl Iterator<Item = ImageSignature> + 'a {
        let by_key = self.signed_by.iter().map(|key| claim(found.signature, *key, None));
        let certified = |by: &SignerIdentity| {
            let (signer, proof) = found.signer.as_ref().zip(found.signature.certified.as_ref())?;
            let (certificate, entry) = (proof.certificate.clone(), proof.entry.clone());
            let certified = Certified { by: by.clone(), certificate, entry };
            by.is(signer).then(|| claim(found.signature, signer.key, Some(certified)))
        };
        by_key.chain(self.signed_by_identity.iter().filter_map(certified))
    }
}

/// What a registry has, with whom its certificate names.
struct Found<'a> {
    signature: &'a FoundSignature,
    signer: Option<Signer>,
}

/// Those that name an image.
fn naming<'a>(image: &str, found: &'a [FoundSignature]) -> Vec<Found<'a>> {
    let named = found.iter().filter(|one| names(&one.payload, image).is_ok());
    let signer = |one: &FoundSignature| Signer::of(&one.certified.as_ref()?.certificate);
    named.map(|signature| Found { signature, signer: signer(signature) }).collect()
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
/// is by. So many are tried that a registry full of wrong ones does not keep a manager from its other work.
pub fn choose(image: &str, signers: &[&Require], found: &[FoundSignature]) -> Vec<ImageSignature> {
    let fits = |one: &ImageSignature| {
        let certified = one.certified.as_ref();
        one.payload.len() <= MAX_PAYLOAD
            && one.signature.len() <= MAX_ENCODED
            && certified.is_none_or(|proof| {
                proof.certificate.len() <= MAX_CERTIFICATE && proof.entry.len() <= MAX_ENTRY
            })
    };
    let named = naming(image, found);
    let mut chosen: Vec<ImageSignature> = Vec::new();
    let (mut cost, mut room) = (0, MAX_SIGNED_BYTES);
    for require in signers {
        if chosen.len() == MAX_SIGNATURES || chosen.iter().any(|one| require.names_signer(one)) {
            continue;
        }
        let claims = named.iter().flat_map(|one| require.claims(one));
        let mut claims = claims.filter(|one| fits(one) && one.bytes() <= room);
        let holds = |claim: &ImageSignature| {
            cost += if claim.certified.is_some() { IDENTITY_COST } else { 1 };
            cost <= MAX_COST && claim.verify(image).is_ok()
        };
        if let Some(one) = claims.find(holds) {
            room -= one.bytes();
            chosen.push(one);
        }
    }
    chosen
}

/// Why what a registry has does not do for those who ask, in words.
pub fn why_not(image: &str, signers: &[&Require], found: &[FoundSignature]) -> String {
    let Some(first) = found.first() else { return "its registry has no signature of it".into() };
    let does_not = |why: Flaw| format!("its registry has a signature that does not count: {why}");
    let named = naming(image, found);
    if named.is_empty() {
        return does_not(names(&first.payload, image).err().unwrap_or(Flaw::OtherKey));
    }
    // What is wrong with the newest that comes with the right name says most.
    let claims = named.iter().flat_map(|one| signers.iter().flat_map(|require| require.claims(one)));
    let mut certified = claims.filter(|claim| claim.certified.is_some()).take(MAX_TOLD);
    if let Some(why) = certified.find_map(|claim| claim.verify(image).err()) {
        return does_not(why);
    }
    let asks_identity = signers.iter().any(|require| !require.signed_by_identity.is_empty());
    match named.iter().find_map(|one| one.signer.as_ref()).filter(|_| asks_identity) {
        Some(other) => does_not(Flaw::OtherIdentity(other.to_string())),
        None if asks_identity => "its registry has signatures of it, all by others".into(),
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
        // Whoever may push fills a registry with wrong ones: they cost no more than so much.
        let wrong = FoundSignature { signature: SIGNATURE.replace("MEU", "MEQ"), ..found() };
        let after = |wrongs: usize| [vec![wrong.clone(); wrongs], vec![found()]].concat();
        assert_eq!(choose(&image(), &[&good], &after(MAX_COST - 1)).len(), 1);
        assert_eq!(choose(&image(), &[&good], &after(MAX_COST)).len(), 0);
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
