//! What declared registries say: whether a login is right, whether an image is there, what its tag means now.
//!
//! The leader asks, through its shell, and only registries that were declared. A change that brings a new image waits for the
//! answer, and is refused when the registry does not know the image; nobody has to find that out from a rollout. A registry that
//! is down, slow or refuses the login holds nothing up: after a bounded time everything goes on as if it were not declared,
//! with what the nodes have and know. Only signatures that a policy asks for are as good as not there while nobody can read them.
//!
//! All of it is soft: a new leader asks again.

use std::{collections::BTreeMap, fmt, time::Duration};

use model::{
    container::PullPolicy,
    registry::{ImageName, Registry, RegistrySpec},
    request::{ApiError, ErrorCode, RegistrySaid, RegistryView, Request},
    service::{ImagePin, ServiceSpec},
    signature::FoundSignature,
    time::Instant,
    validate::Problem,
};

use crate::{Action, Manager, audit::Asked, query::Ask, signatures::Finding};

/// Questions under way at once; what comes beyond goes on unasked.
const MAX_OPEN: usize = 64;
/// Signatures are read with so many times the patience that a digest is.
const SIGNATURES_TAKE: u32 = 2;
/// An answer to a change is still right when its tasks are sent out; later the tag may have moved.
const FRESH: Duration = Duration::from_secs(30);
/// So long an image is not asked for again whose registry could not say what it means: the nodes are asked.
const DOUBT: Duration = Duration::from_secs(30);

/// A question to a registry. It holds the login: it is not to be kept longer than the question is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryQuestion {
    /// Which one, and how.
    pub registry: RegistrySpec,
    /// What.
    pub wish: RegistryWish,
}

/// What a registry is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryWish {
    /// Is the login right?
    Greeting,
    /// Which contents has this image?
    Digest {
        /// Its path there, such as `library/nginx`.
        repository: String,
        /// Its tag or digest.
        reference: String,
    },
    /// Which contents has this image, and who signed them?
    Signatures {
        /// Its path there.
        repository: String,
        /// Its tag or digest.
        reference: String,
    },
}

/// What a registry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryWord {
    /// The login is right.
    Welcome,
    /// The digest (`sha256:…`) of what was asked for.
    Digest(String),
    /// The digest, and every signature of it that there is.
    Signatures(String, Vec<FoundSignature>),
}

/// Why a registry gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryRefusal {
    /// It does not know the image.
    Missing(String),
    /// It does not let us.
    Denied(String),
    /// It could not be asked.
    Unreachable(String),
}

impl fmt::Display for RegistryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(why) | Self::Denied(why) | Self::Unreachable(why) => f.write_str(why),
        }
    }
}

/// What a registry answers.
pub type RegistryAnswer = Result<RegistryWord, RegistryRefusal>;

/// Who waits for an answer.
enum Errand {
    /// A change that brings an image, or a registry.
    Change(Box<Ask>),
    /// Templates whose tag's meaning is wanted.
    Pin,
}

/// What a registry is asked about.
struct Topic {
    registry: RegistrySpec,
    /// `None`: its login.
    image: Option<String>,
    /// Who signed it is asked too.
    signatures: bool,
}

struct Open {
    host: String,
    image: Option<String>,
    signatures: bool,
    errand: Errand,
    until: Instant,
}

/// What is asked, and what was said lately.
#[derive(Default)]
pub(crate) struct Registries {
    open: BTreeMap<u64, Open>,
    said: BTreeMap<String, RegistrySaid>,
    /// What images mean, and until when that is taken for true.
    fresh: BTreeMap<String, (ImagePin, Instant)>,
    doubted: BTreeMap<String, Instant>,
    /// What was said of images' signatures, by the names that were asked for.
    findings: BTreeMap<String, (Finding, Instant)>,
}

impl Registries {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.until).min()
    }

    /// The declarations changed: what was not known may be now.
    pub(crate) fn declared_anew(&mut self) {
        self.doubted.clear();
    }

    /// What a registry said of an image just now.
    pub(crate) fn fresh(&self, image: &str, now: Instant) -> Option<&ImagePin> {
        self.fresh.get(image).filter(|(_, until)| *until > now).map(|(pin, _)| pin)
    }

    /// What was said just now of the signatures of an image, by a name that does.
    pub(crate) fn finding(&self, mut does: impl FnMut(&str) -> bool, now: Instant) -> Option<&Finding> {
        let mut fresh = self.findings.iter().filter(|(_, (_, until))| *until > now);
        fresh.find(|(asked, _)| does(asked)).map(|(_, (finding, _))| finding)
    }

    fn is_doubted(&self, image: &str, now: Instant) -> bool {
        self.doubted.get(image).is_some_and(|until| *until > now)
    }

    fn forget_old(&mut self, now: Instant) {
        self.fresh.retain(|_, (_, until)| *until > now);
        self.doubted.retain(|_, until| *until > now);
        self.findings.retain(|_, (_, until)| *until > now);
    }
}

impl Manager {
    /// Takes a change: one that brings a new image or a registry is answered when the registry was asked.
    pub(crate) fn change(&mut self, ask: Ask) {
        if matches!(ask.request, Request::LogIn(_)) {
            return self.log_in(ask);
        }
        let Some(topic) = self.to_be_asked(&ask.request) else { return self.carry_on(ask) };
        if self.lead.as_ref().is_none_or(|lead| lead.registries.open.len() >= MAX_OPEN) {
            return self.carry_on(ask);
        }
        self.ask_registry(topic, Errand::Change(Box::new(ask)));
    }

    /// The registry that has to say something about a change, and what it is asked.
    fn to_be_asked(&self, request: &Request) -> Option<Topic> {
        let about = |image: String, signatures| {
            let registry = self.store.registry_of(&image)?.spec.clone();
            Some(Topic { registry, image: Some(image), signatures })
        };
        if let Some(image) = self.unsigned_image(request) {
            return about(image, true);
        }
        let brings = |spec: &ServiceSpec, old: Option<&ServiceSpec>| {
            let image = &spec.template.container.image;
            let known = old.is_some_and(|old| old.template.container.has_image(image));
            let asked = !known && spec.template.container.pull != PullPolicy::Never;
            asked.then(|| image.clone())
        };
        let stored = |reference: &str| self.store.resolve_service(reference).ok();
        let image = match request {
            Request::SetRegistry { spec, check: true } => {
                return Some(Topic { registry: spec.clone(), image: None, signatures: false });
            }
            Request::CreateService(spec) => brings(spec, None),
            Request::UpdateService { service, spec, .. } => {
                brings(spec, stored(service).map(|service| &*service.spec))
            }
            Request::Deploy { service, image, .. } => {
                let container = &stored(service)?.spec.template.container;
                let asked = !container.has_image(image) && container.pull != PullPolicy::Never;
                asked.then(|| image.clone())
            }
            _ => None,
        }?;
        about(image, false)
    }

    /// Asks what a tag means, if its registry is declared and lately knew an answer.
    pub(crate) fn resolve_at_registry(&mut self, image: &str) -> bool {
        let now = self.now.mono;
        let Some(registry) = self.store.registry_of(image).map(|registry| registry.spec.clone()) else {
            return false;
        };
        let Some(lead) = &self.lead else { return false };
        // A manager that lacks the data key still can ask nodes.
        if self.login(&registry).is_err() {
            return false;
        }
        if lead.registries.is_doubted(image, now) || lead.registries.open.len() >= MAX_OPEN {
            return false;
        }
        let same = |open: &Open| matches!(open.errand, Errand::Pin) && open.image.as_deref() == Some(image);
        if !lead.registries.open.values().any(same) {
            let topic = Topic { registry, image: Some(image.to_owned()), signatures: false };
            self.ask_registry(topic, Errand::Pin);
        }
        true
    }

    fn ask_registry(&mut self, topic: Topic, errand: Errand) {
        let Topic { registry, image, signatures } = topic;
        let job = self.next_id();
        let until = self.now.mono + self.patience(signatures);
        let host = registry.host.clone();
        let place = image.as_deref().and_then(ImageName::parse);
        let place = place.map(|name| (name.repository(), name.reference.to_owned()));
        let wish = match place {
            Some((repository, reference)) if signatures => RegistryWish::Signatures { repository, reference },
            Some((repository, reference)) => RegistryWish::Digest { repository, reference },
            None => RegistryWish::Greeting,
        };
        let opened = self.opened(&registry);
        let Some(lead) = &mut self.lead else { return };
        lead.registries.open.insert(job, Open { host, image, signatures, errand, until });
        let registry = match opened {
            Ok(registry) => registry,
            Err(error) => {
                let why = format!("its login cannot be opened: {error}");
                return self.on_registry_answered(job, Err(RegistryRefusal::Unreachable(why)));
            }
        };
        self.act(Action::AskRegistry { job, question: Box::new(RegistryQuestion { registry, wish }) });
    }

    pub(crate) fn on_registry_answered(&mut self, job: u64, answer: RegistryAnswer) {
        let (now, at) = (self.now.mono, self.stamps.peek(self.now));
        let Some(lead) = &mut self.lead else { return };
        let Some(open) = lead.registries.open.remove(&job) else { return };
        let Open { host, image, signatures, errand, .. } = open;
        // An image that it does not know says nothing against the registry.
        let problem = match &answer {
            Ok(_) | Err(RegistryRefusal::Missing(_)) => None,
            Err(refusal) => Some(refusal.to_string()),
        };
        lead.registries.said.insert(host.clone(), RegistrySaid { at, problem });
        lead.registries.forget_old(now);
        if let Some(image) = image.as_ref().filter(|_| signatures) {
            let finding = match &answer {
                Ok(RegistryWord::Signatures(digest, found)) => Ok((digest.clone(), found.clone())),
                Ok(_) => Err("it told nothing of signatures".to_owned()),
                Err(refusal) => Err(refusal.to_string()),
            };
            lead.registries.findings.insert(image.clone(), (finding, now + FRESH));
        }
        let answer = answer.map(|word| match (&image, word) {
            (Some(image), RegistryWord::Digest(digest) | RegistryWord::Signatures(digest, _)) => {
                Some(ImagePin::Digest(pinned(image, &digest)))
            }
            (None, _) | (_, RegistryWord::Welcome) => None,
        });
        match (&image, &answer) {
            (Some(image), Ok(Some(pin))) => {
                lead.registries.fresh.insert(image.clone(), (pin.clone(), now + FRESH));
            }
            (Some(image), Err(_)) => {
                lead.registries.doubted.insert(image.clone(), now + DOUBT);
            }
            _ => {}
        }
        match errand {
            Errand::Change(ask) => self.change_answered(*ask, &host, (image, signatures), answer),
            Errand::Pin => self.pin_answered(&host, &image.unwrap_or_default(), answer),
        }
    }

    fn change_answered(
        &mut self,
        ask: Ask,
        host: &str,
        (image, signatures): (Option<String>, bool),
        answer: Result<Option<ImagePin>, RegistryRefusal>,
    ) {
        if !self.queries.is_open(ask.handle) {
            return;
        }
        match (answer, image) {
            (Ok(_), _) => self.carry_on(ask),
            (Err(RegistryRefusal::Missing(why)), Some(image)) => {
                let message = format!("registry {host} does not have {image}: {why}");
                let problem = Problem { path: "image".into(), message };
                self.refuse(&Asked::of(&ask), vec![problem].into());
            }
            // The policies that ask for signatures refuse it, and say why there are none.
            (Err(_), Some(_)) if signatures => self.carry_on(ask),
            (Err(refusal), Some(image)) => {
                self.notice(format!(
                    "registry {host} could not say whether it has {image}: {refusal}; it is brought all the same, \
                     and the nodes find out"
                ));
                self.carry_on(ask);
            }
            (Err(refusal), None) => {
                let message = format!("registry {host}: {refusal}; --no-check declares it all the same");
                self.refuse(&Asked::of(&ask), ApiError::new(ErrorCode::Invalid, message));
            }
        }
    }

    fn pin_answered(&mut self, host: &str, image: &str, answer: Result<Option<ImagePin>, RegistryRefusal>) {
        match answer {
            Ok(Some(pin)) => self.on_image_resolved(None, image, Ok(pin)),
            Ok(None) => {}
            Err(refusal) => {
                self.notice(format!(
                    "registry {host} could not say what \"{image}\" means: {refusal}; a node is asked"
                ));
                self.ask_nodes_instead(image);
            }
        }
    }

    /// For one answer. Signatures take several.
    fn patience(&self, signatures: bool) -> Duration {
        self.config.knobs.registry_patience * if signatures { SIGNATURES_TAKE } else { 1 }
    }

    /// Nobody waits longer than the patience for a registry, whatever the shell does.
    pub(crate) fn expire_registries(&mut self) {
        let now = self.now.mono;
        let Some(lead) = &self.lead else { return };
        let open = lead.registries.open.iter();
        let late: Vec<(u64, bool)> =
            open.filter(|(_, open)| open.until <= now).map(|(job, open)| (*job, open.signatures)).collect();
        for (job, signatures) in late {
            let why = format!("it did not answer within {} s", self.patience(signatures).as_secs());
            self.on_registry_answered(job, Err(RegistryRefusal::Unreachable(why)));
        }
    }

    /// The lead ends: who waits for a registry's word asks the next leader.
    pub(crate) fn end_registries(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        for (_, open) in std::mem::take(&mut lead.registries.open) {
            if let Errand::Change(ask) = open.errand {
                let message = "the lead changed; ask again with the same request id";
                self.reply(ask.handle, Err(ApiError::new(ErrorCode::Unavailable, message)));
            }
        }
    }

    pub(crate) fn registry_views(&self) -> Vec<RegistryView> {
        let said = |host: &str| self.lead.as_ref().and_then(|lead| lead.registries.said.get(host).cloned());
        let view = |Registry { spec, by, set }: &Registry| RegistryView {
            host: spec.host.clone(),
            login: spec.login_kind(),
            authority: spec.authority.clone(),
            plain_http: spec.plain_http,
            by: by.clone(),
            set: *set,
            said: said(&spec.host),
            services: self.services_of_registry(&spec.host),
        };
        self.store.registries().iter().map(view).collect()
    }

    fn services_of_registry(&self, host: &str) -> Vec<String> {
        let theirs = self.store.services().filter(|service| {
            let image = &service.spec.template.container.image;
            ImageName::parse(image).is_some_and(|name| name.host == host)
        });
        theirs.map(|service| service.spec.name.clone()).collect()
    }
}

/// An image's name with its contents in place of its tag.
fn pinned(image: &str, digest: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    format!("{name}@{digest}")
}
