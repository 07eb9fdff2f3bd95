//! Signatures of images: where a policy asks for one, the leader reads what the image's registry has before it proposes, and the
//! command carries the image by its digest with the signatures that do. So every manager judges by the same bytes, and whatever comes
//! of the declaration later, a way back, a cron's job, a task on a node, asks no registry.
//!
//! A registry that cannot be asked is no reason to let an image pass: the change is refused, with what the registry said. What is
//! there already needs no asking, as long as its signature is by a key that counts today.

use std::sync::Arc;

use model::{
    command::Command,
    policy::{
        Policy, Refusal, Require,
        signing::{choose, is_signed, signers, why_not},
    },
    registry::{ImageName, is_named},
    request::{ApiError, Request},
    service::{ImagePin, Service, ServiceSpec},
    signature::{FoundSignature, ImageSignature},
};

use crate::Manager;

/// The version of the conversation that verifies signatures.
pub(crate) const PROTOCOL: u32 = 5;

/// What a registry said of an image's signatures: its digest with them, or why it said nothing.
pub(crate) type Finding = Result<(String, Vec<FoundSignature>), String>;

/// An image and what proves who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof {
    image: String,
    signatures: Vec<ImageSignature>,
}

impl Manager {
    /// The image whose signatures have to be read before a request can be judged.
    pub(crate) fn unsigned_image(&self, request: &Request) -> Option<String> {
        let (spec, old) = self.declares(request)?;
        let policies = self.store.policies();
        let signers = signers(old.map(|old| &*old.spec), &spec, policies);
        let Proof { image, signatures } = present(&spec, old, policies);
        let asked = !is_signed(&image, &signatures, &signers) && ImageName::parse(&image).is_some();
        asked.then_some(image)
    }

    /// What a request declares, as policies know it, in place of what.
    fn declares(&self, request: &Request) -> Option<(Arc<ServiceSpec>, Option<&Service>)> {
        let stored = |reference: &str| self.store.resolve_service(reference).ok();
        Some(match request {
            Request::CreateService(spec) => (spec.clone(), None),
            Request::UpdateService { service, spec, .. } => (spec.clone(), stored(service)),
            Request::Deploy { service, image, .. } => {
                let old = stored(service)?;
                let mut spec = (*old.spec).clone();
                spec.template.container.image.clone_from(image);
                (Arc::new(spec), Some(old))
            }
            Request::SetCron(spec) if !spec.suspended => (known_as(&spec.job, &spec.name), None),
            Request::SuspendCron { name, suspended: false } => {
                (known_as(&self.store.cron_by_name(name)?.spec.job, name), None)
            }
            _ => return None,
        })
    }

    /// A declaration with the signatures that its policies ask for, as far as they are known, and its image by the digest that was
    /// signed. `name`: that by which policies know it.
    ///
    /// # Errors
    /// A manager of another version would not know them.
    pub(crate) fn signed(
        &self,
        spec: Arc<ServiceSpec>,
        name: &str,
        old: Option<&Service>,
    ) -> Result<Arc<ServiceSpec>, ApiError> {
        let Proof { image, signatures } = self.proof(&known_as(&spec, name), old);
        if !signatures.is_empty() {
            self.same_versions("a signed image")?;
        }
        let container = &spec.template.container;
        if container.image == image && container.signatures == signatures {
            return Ok(spec);
        }
        let mut spec = (*spec).clone();
        spec.template.container.image = image;
        spec.template.container.signatures = signatures;
        Ok(Arc::new(spec))
    }

    fn proof(&self, spec: &ServiceSpec, old: Option<&Service>) -> Proof {
        let policies = self.store.policies();
        let signers = signers(old.map(|old| &*old.spec), spec, policies);
        let mut proof = present(spec, old, policies);
        if !is_signed(&proof.image, &proof.signatures, &signers)
            && let Some(Ok((digest, found))) = self.finding(&proof.image)
        {
            if ImageName::parse(&proof.image).is_some_and(|name| !name.is_digest()) {
                proof.image = format!("{}@{digest}", proof.image);
            }
            proof.signatures = choose(&proof.image, &signers, found);
        }
        // What nobody asks for is neither verified nor kept, whoever sent it, unless it was there before.
        let was = old.map_or(&[][..], |old| &old.spec.template.container.signatures);
        let Proof { image, signatures } = &mut proof;
        let asked = |one: &ImageSignature| signers.iter().any(|require| require.names_signer(one));
        signatures.retain(|one| (was.contains(one) || asked(one)) && one.verify(image).is_ok());
        proof
    }

    /// What was found of an image, by the name that it was asked for.
    fn finding(&self, image: &str) -> Option<&Finding> {
        self.lead.as_ref()?.registries.finding(|asked| asked == image, self.now.mono)
    }

    /// Says in a refusal why an image's signature is missing, which only the leader knows.
    pub(crate) fn explain_signature(&self, command: &Command, refusal: &mut Refusal) {
        if refusal.lacks_signature() {
            refusal.explain_signature(&self.why_unsigned(command));
        }
    }

    /// Whom the policies about a declaration want its image signed by.
    fn asked_of(&self, command: &Command) -> Vec<&Require> {
        let (spec, old) = match command {
            Command::CreateService { spec, .. } => (spec.clone(), None),
            Command::UpdateService { id, spec, .. } => (spec.clone(), self.store.service(*id)),
            Command::SetCron { spec, .. } => (known_as(&spec.job, &spec.name), None),
            _ => return Vec::new(),
        };
        signers(old.map(|old| &*old.spec), &spec, self.store.policies())
    }

    fn why_unsigned(&self, command: &Command) -> String {
        let image = match command {
            Command::CreateService { spec, .. } | Command::UpdateService { spec, .. } => {
                &spec.template.container.image
            }
            Command::SetCron { spec, .. } => &spec.job.template.container.image,
            Command::RollbackService { .. } => {
                return "that release was not signed so when it came; deploy its image instead, and its registry is asked".into();
            }
            _ => return "it was not signed so when it was declared; declare it again, and its registry is asked".into(),
        };
        let Some(name) = ImageName::parse(image) else {
            return "an engine's own image is of no registry, which could have one; name the image".into();
        };
        if self.store.registry_of(image).is_none() {
            let host = name.host;
            return format!(
                "managers read signatures from registries that they know: orchctl registry set {host}"
            );
        }
        let now = self.now.mono;
        let finding = self.lead.as_ref().and_then(|lead| {
            let exactly = lead.registries.finding(|asked| asked == image, now);
            exactly.or_else(|| lead.registries.finding(|asked| is_named(image, asked), now))
        });
        match finding {
            Some(Ok((_, found))) => why_not(image, &self.asked_of(command), found),
            Some(Err(why)) => format!("registry {} did not say: {why}", name.host),
            None => {
                format!("registry {} was not asked, because too much is asked at once; try again", name.host)
            }
        }
    }
}

/// What is known of a declaration's image without asking: of the same image as before what went with it, and what its tag meant
/// where a signature has to be of something. A forced update asks anew what a tag means.
fn present(spec: &ServiceSpec, old: Option<&Service>, policies: &[Policy]) -> Proof {
    let own = &spec.template.container;
    let unforced = |old: &&Service| old.spec.template.force == spec.template.force;
    let same = old.filter(|old| {
        let was = &old.spec.template.container;
        was.image == own.image || (unforced(old) && was.has_image(&own.image))
    });
    let Some(old) = same else {
        return Proof { image: own.image.clone(), signatures: own.signatures.clone() };
    };
    let was = &old.spec.template.container;
    let signatures = if own.signatures.is_empty() { &was.signatures } else { &own.signatures };
    let (mut image, signatures) = (was.image.clone(), signatures.clone());
    let signers = signers(Some(&old.spec), spec, policies);
    let pin = old.pins.get(&old.template).filter(|_| !signers.is_empty() && unforced(&old));
    if let Some(ImagePin::Digest(text)) = pin
        && ImageName::parse(&image).is_some_and(|name| !name.is_digest())
        && let Some((_, digest)) = text.split_once('@')
    {
        image = format!("{image}@{digest}");
    }
    Proof { image, signatures }
}

/// As policies know it: a cron's jobs go by the cron's name.
fn known_as(spec: &Arc<ServiceSpec>, name: &str) -> Arc<ServiceSpec> {
    if spec.name == name {
        return spec.clone();
    }
    Arc::new(ServiceSpec { name: name.to_owned(), ..(**spec).clone() })
}
