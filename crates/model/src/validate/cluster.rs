//! Everything of a request that is not a service's declaration.

use std::time::Duration;

use super::{
    Problem, Problems,
    issuer::{validate_binding, validate_exchange, validate_issuer},
    item::{validate_item, validate_value},
    job::validate_cron,
    login,
    policy::validate_policy,
    service::{at_most, canary, labels, validate_scale, validate_service},
    text,
    traffic::validate_network,
};
use crate::{
    access::{Label, MAX_LIFE, MAX_ROLES, Scope, UserRole},
    audit::MAX_TEXT,
    cluster::ClusterSettings,
    deployer::{DeployTokenSpec, MAX_DEPLOY_TOKEN_TTL},
    freeze::{FreezeSpec, MAX_WINDOWS},
    identity::JoinRole,
    network::AddressPool,
    node::{Facts, NodeSpec},
    registry::{Login, RegistrySpec, Secret},
    request::{JoinRequest, NodeChange, Reference, Request},
    service::ReleaseNote,
};

/// How long a join token may live.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a join token may be used.
pub const MAX_TOKEN_USES: u32 = 1_000;
/// A name, an id or the beginning of one; `SERVICE.SLOT` with a host's name is the longest.
const MAX_REFERENCE: usize = 320;
/// A version or a kernel's release.
const MAX_FACT: usize = 256;
/// What brought a release: a URL, or a few words.
const MAX_JOB: usize = 512;
/// A certificate request of a 4096-bit key has about 2 KiB.
const MAX_CSR: usize = 16 << 10;
/// Below this a busy machine's pauses look like its end.
const MIN_PATIENCE: Duration = Duration::from_millis(500);
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Networks of one cluster.
const MAX_POOL: u16 = 256;
/// Addresses that nobody has on the internet: the first byte, and the second ones from and to (RFC 1918, RFC 6598).
const PRIVATE: [(u8, u8, u8); 4] = [(10, 0, 255), (172, 16, 31), (192, 168, 168), (100, 64, 127)];
/// Things that a node cannot do.
const MAX_PROBLEMS: usize = 16;
/// Pulls at once: more than the nodes of any cluster.
const MAX_PULLS: u32 = 10_000;
/// A password or token of a registry; identity tokens have some KiB.
const MAX_LOGIN: usize = 8 << 10;
/// Certificates of a registry's or issuer's authorities: a chain or two.
pub(super) const MAX_AUTHORITY: usize = 32 << 10;
/// The secret of a token.
const MAX_SECRET: usize = 256;

/// All that is wrong with a request, whatever it asks; empty when it is valid. Whether what it names exists, and whether the
/// caller may, is not asked here.
pub fn validate_request(request: &Request) -> Vec<Problem> {
    let mut problems = Problems::default();
    match request {
        Request::CreateService(spec) => problems.0.extend(validate_service(spec)),
        Request::UpdateService { service, spec, .. } => {
            reference(&mut problems, "service", service);
            problems.0.extend(validate_service(spec));
        }
        Request::ScaleServices(scales) => problems.0.extend(validate_scale(scales)),
        Request::UpdateNode { node, change } => {
            reference(&mut problems, "node", node);
            problems.0.extend(validate_node_change(change));
        }
        Request::CreateNetwork(spec) => problems.0.extend(validate_network(spec)),
        Request::CreateToken { role, ttl, uses, node_spec } => {
            problems.0.extend(validate_token(*role, *ttl, *uses, node_spec));
        }
        Request::SetSettings(settings) => problems.0.extend(validate_settings(settings)),
        Request::UpdateMember { address, version } => {
            problems.0.extend(validate_address("address", address));
            fact(&mut problems, "version", version);
        }
        Request::ReplaceMember { address, csr } => {
            problems.0.extend(validate_address("address", address));
            certificate_request(&mut problems, csr);
        }
        Request::Join(join) => validate_join(&mut problems, join),
        Request::RenewCertificate { csr, .. } => certificate_request(&mut problems, csr),
        Request::RotateAuthority { current, .. } | Request::FinishRotation { current, .. } => {
            certificate(&mut problems, "current", current);
        }
        Request::JudgeJoiner { joiner, .. } => reference(&mut problems, "joiner", joiner),
        Request::Reenrol(reenrol) => {
            certificate_request(&mut problems, &reenrol.csr);
            certificate(&mut problems, "certificate", &reenrol.certificate);
        }
        Request::ReturnTo { service, note, .. } => {
            reference(&mut problems, "service", service);
            release_note(&mut problems, note);
        }
        Request::Deploy { service, image, note } => {
            reference(&mut problems, "service", service);
            problems.judge("image", text::image(image));
            release_note(&mut problems, note);
        }
        Request::RollbackService(of)
        | Request::SteerRollout { service: of, .. }
        | Request::RemoveService(of)
        | Request::RemoveNetwork(of)
        | Request::GetNetwork(of)
        | Request::GetEndpoints(of)
        | Request::GetService(of)
        | Request::GetNode(of)
        | Request::Explain(of)
        | Request::RemoveNode { node: of, .. }
        | Request::Logs { of, .. } => reference(&mut problems, "reference", of),
        Request::ListTasks(filter) => {
            filter.service.iter().for_each(|of| reference(&mut problems, "service", of));
            filter.node.iter().for_each(|of| reference(&mut problems, "node", of));
        }
        Request::SetFreeze(spec) => freeze(&mut problems, spec),
        Request::SetCron(spec) => problems.0.extend(validate_cron(spec)),
        Request::RemoveFreeze(name)
        | Request::RemoveCron(name)
        | Request::SuspendCron { name, .. }
        | Request::RunCron(name) => problems.judge("name", text::dns_label(name)),
        Request::SetRegistry { spec, .. } => registry(&mut problems, spec),
        Request::RemoveRegistry(host) => problems.judge("host", text::registry_host(host)),
        Request::CreateUser(spec) => {
            problems.judge("name", text::user_name(&spec.name));
            user(&mut problems, Some(&spec.roles), Some(spec.life));
        }
        Request::UpdateUser { user: of, change } => {
            reference(&mut problems, "user", of);
            user(&mut problems, change.roles.as_deref(), change.life);
        }
        Request::CertifyUser { user, csr } => {
            reference(&mut problems, "user", user);
            certificate_request(&mut problems, csr);
        }
        Request::RemoveUser(of) => reference(&mut problems, "user", of),
        Request::CanI { object, .. } => {
            object.iter().for_each(|of| reference(&mut problems, "object", of));
        }
        Request::CreateDeployToken { spec, ttl, .. } => deploy_token(&mut problems, spec, *ttl),
        Request::RemoveDeployToken(name) => problems.judge("name", text::dns_label(name)),
        Request::SetPolicy { spec, .. } => problems.0.extend(validate_policy(spec)),
        Request::CheckPolicies { with } => {
            problems.0.extend(with.iter().flat_map(|spec| validate_policy(spec)))
        }
        Request::RemovePolicy(name) => problems.judge("name", text::dns_label(name)),
        Request::ListUsers
        | Request::Whoami
        | Request::RevokeToken(_)
        | Request::TransferLeader { .. }
        | Request::RemoveMember(_)
        | Request::ListServices
        | Request::ListNetworks
        | Request::ListFreezes
        | Request::ListCrons
        | Request::ListRegistries
        | Request::ListPolicies
        | Request::ListNodes
        | Request::ListMembers
        | Request::ListTokens
        | Request::GetStatus
        | Request::ListDeployTokens
        | Request::Watch { .. }
        | Request::GetAudit { .. }
        | Request::ListItems(_)
        | Request::RotateKey
        | Request::GetKeys
        | Request::ListIssuers
        | Request::ListBindings
        | Request::ListLoginMethods
        | Request::ListLogins
        | Request::ListJoiners
        | Request::GetAuthority => {}
        Request::NoteRefusal { source, reason, .. } => {
            let line = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT;
            for (path, text) in [("source", source), ("reason", reason)] {
                problems.ensure(line(text), path, || format!("write 1 to {MAX_TEXT} bytes"));
            }
        }
        Request::CreateItem { spec, value } => problems.0.extend(validate_item(spec, value)),
        Request::UpdateItem { name, value, .. } => {
            problems.judge("name", text::item_name(name));
            problems.0.extend(validate_value(value));
        }
        Request::RemoveItem { name, .. } | Request::GetItem { name, .. } => {
            problems.judge("name", text::item_name(name));
        }
        Request::SetIssuer(spec) => validate_issuer(&mut problems, spec),
        Request::CreateBinding(spec) => validate_binding(&mut problems, spec),
        Request::Exchange(exchange) => validate_exchange(&mut problems, exchange),
        Request::RemoveIssuer(name) | Request::RemoveBinding(name) => {
            problems.judge("name", text::dns_label(name));
        }
        Request::SetLoginMethod { spec, password } => login::method(&mut problems, spec, password.as_ref()),
        Request::RemoveLoginMethod(name) => problems.judge("name", text::dns_label(name)),
        Request::LogIn(request) => {
            login::request(&mut problems, request);
            certificate_request(&mut problems, &request.csr);
        }
    }
    problems.0
}

fn release_note(problems: &mut Problems, note: &ReleaseNote) {
    problems.ensure(note.job.len() <= MAX_JOB && !note.job.contains(char::is_control), "job", || {
        format!("{} bytes; at most {MAX_JOB} in one line are kept with the release", note.job.len())
    });
    if let Some(policy) = &note.canary {
        canary(problems, "canary", policy);
    }
    despite(problems, note.despite_freeze.as_deref());
}

fn freeze(problems: &mut Problems, spec: &FreezeSpec) {
    problems.judge("name", text::dns_label(&spec.name));
    labels(problems, "nodes", &spec.nodes);
    problems.at_most(spec.windows.len(), MAX_WINDOWS, "windows", "windows");
    problems.ensure(!spec.windows.is_empty(), "windows", || "write when: --until, --for or --weekly".into());
    problems.ensure(spec.windows.iter().all(|window| window.from < window.until), "windows", || {
        "a window ends before it begins".into()
    });
    sentence(problems, "reason", &spec.reason);
}

/// What a user may do, and for how long without asking again.
pub(super) fn user(problems: &mut Problems, roles: Option<&[UserRole]>, life: Option<Duration>) {
    if let Some(roles) = roles {
        problems.ensure(!roles.is_empty(), "roles", || "a user has at least one role: --role ROLE".into());
        problems.at_most(roles.len(), MAX_ROLES, "roles", "roles");
        for (place, role) in roles.iter().enumerate() {
            let path = format!("roles[{place}]");
            problems.ensure(!roles[..place].contains(role), &path, || format!("{role} is there twice"));
            match role {
                UserRole::Team(Scope::Name(name)) => problems.judge(&path, text::dns_label(name)),
                UserRole::Team(Scope::Label(Label { key, value }))
                | UserRole::Beamline(Label { key, value }) => {
                    labels(problems, &path, &[(key.clone(), value.clone())].into());
                }
                UserRole::Admin | UserRole::Operator | UserRole::Viewer => {}
            }
        }
    }
    if let Some(life) = life {
        problems.ensure((Duration::from_secs(1)..=MAX_LIFE).contains(&life), "life", || {
            format!("{life:?}; a user's certificate lives for 1 s to 30 days")
        });
    }
}

/// What a problem says of a secret is that it is wrong, never what it is.
fn registry(problems: &mut Problems, spec: &RegistrySpec) {
    problems.judge("host", text::registry_host(&spec.host));
    problems.ensure(spec.sealed.is_none(), "sealed", || "the managers seal logins: declare `login`".into());
    let secret = |problems: &mut Problems, path: &str, secret: &Secret| {
        let text = secret.reveal();
        let right = (1..=MAX_LOGIN).contains(&text.len()) && !text.contains(char::is_control);
        problems.ensure(right, path, || format!("it has 1 to {MAX_LOGIN} bytes on one line"));
    };
    match &spec.login {
        Some(Login::Password { username, password }) => {
            let right = (1..=MAX_FACT).contains(&username.len())
                && !username.contains(|letter: char| letter.is_control() || letter == ':');
            problems.ensure(right, "login.username", || {
                format!("it has 1 to {MAX_FACT} bytes on one line, without a colon")
            });
            secret(problems, "login.password", password);
        }
        Some(Login::Token(token)) => secret(problems, "login.token", token),
        None => {}
    }
    if let Some(authority) = &spec.authority {
        let right = authority.len() <= MAX_AUTHORITY && authority.contains("-----BEGIN CERTIFICATE-----");
        problems.ensure(right, "authority", || {
            format!("no PEM certificates, or more than {MAX_AUTHORITY} bytes of them")
        });
        problems.ensure(!spec.plain_http, "authority", || {
            "plain HTTP has no certificates: choose one of the two".into()
        });
    }
}

fn deploy_token(problems: &mut Problems, spec: &DeployTokenSpec, ttl: Duration) {
    granted(problems, spec);
    problems.ensure(ttl >= Duration::from_secs(1) && ttl <= MAX_DEPLOY_TOKEN_TTL, "ttl", || {
        format!("{ttl:?}; a deploy token lives for 1 s to 90 days")
    });
}

/// What a deploy token or binding allows.
pub(super) fn granted(problems: &mut Problems, spec: &DeployTokenSpec) {
    problems.judge("name", text::dns_label(&spec.name));
    problems.judge("service", text::dns_label(&spec.service));
    problems.judge("image", text::image(&spec.image));
    let whole = spec.image.contains('@') || spec.image.starts_with("sha256:");
    problems.ensure(!whole && text::split_tag(&spec.image).1.is_none(), "image", || {
        "write a repository, without tag and digest, such as registry.example/ispyb".into()
    });
    problems.ensure(!spec.allow.is_empty(), "allow", || "it would let nobody do anything".into());
}

fn despite(problems: &mut Problems, reason: Option<&str>) {
    if let Some(reason) = reason {
        problems.ensure(!reason.trim().is_empty(), "despite_freeze", || "write why".into());
        sentence(problems, "despite_freeze", reason);
    }
}

/// One line of bounded length.
fn sentence(problems: &mut Problems, path: &str, text: &str) {
    problems.ensure(text.len() <= MAX_JOB && !text.contains(char::is_control), path, || {
        format!("{} bytes; at most {MAX_JOB} in one line are kept", text.len())
    });
}

/// All that is wrong with what an admin decides about a node.
pub fn validate_node_spec(spec: &NodeSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    labels(&mut problems, "labels", &spec.labels);
    problems.0
}

/// All that is wrong with a change of a node.
pub fn validate_node_change(change: &NodeChange) -> Vec<Problem> {
    let mut problems = Problems::default();
    despite(&mut problems, change.despite_freeze.as_deref());
    labels(&mut problems, "set_labels", &change.set_labels.iter().cloned().collect());
    for key in &change.remove_labels {
        problems.judge("remove_labels", text::label_key(key));
        let set = change.set_labels.iter().any(|(name, _)| name == key);
        problems.ensure(!set, "remove_labels", || format!("{} is set and removed at once", text::quote(key)));
    }
    let names = change.set_labels.iter().map(|(name, _)| name);
    let distinct: std::collections::BTreeSet<_> = names.collect();
    problems
        .ensure(distinct.len() == change.set_labels.len(), "set_labels", || "a label is set twice".into());
    problems.0
}

/// All that is wrong with a wish for a join token.
pub fn validate_token(role: JoinRole, ttl: Duration, uses: u32, node_spec: &NodeSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.ensure(ttl >= Duration::from_secs(1) && ttl <= MAX_TOKEN_TTL, "ttl", || {
        format!("{ttl:?}; a token lives for 1 s to 30 days")
    });
    problems.ensure((1..=MAX_TOKEN_USES).contains(&uses), "uses", || {
        format!("{uses}; a token has 1 to {MAX_TOKEN_USES} uses")
    });
    problems.ensure(role == JoinRole::Agent || *node_spec == NodeSpec::default(), "node_spec", || {
        "a manager is no node: class and labels are for agents' tokens".into()
    });
    problems.0.extend(validate_node_spec(node_spec));
    problems.0
}

/// All that is wrong with settings.
pub fn validate_settings(settings: &ClusterSettings) -> Vec<Problem> {
    let mut problems = Problems::default();
    let patience = &settings.patience;
    let spans =
        [("server", patience.server, MAX_PATIENCE), ("workstation", patience.workstation, MAX_PATIENCE)];
    at_most(&mut problems, "patience", &spans);
    for (name, span, _) in spans {
        problems.ensure(span >= MIN_PATIENCE, format!("patience.{name}"), || {
            format!("{span:?}; below {MIN_PATIENCE:?} a busy node would be taken for a dead one")
        });
    }
    let pulls = settings.pulls.0;
    problems.ensure((1..=MAX_PULLS).contains(&pulls), "pulls", || {
        format!("{pulls}; 1 to {MAX_PULLS} nodes may pull at once")
    });
    validate_pool(&mut problems, &settings.pool);
    problems.0
}

/// Networks get addresses that belong to nobody else anywhere.
fn validate_pool(problems: &mut Problems, pool: &AddressPool) {
    let whole = pool.base.octets()[2..] == [0, 0];
    problems.ensure(whole, "pool.base", || {
        format!("{}; networks begin at addresses such as 10.128.0.0", pool.base)
    });
    let some = (1..=MAX_POOL).contains(&pool.networks);
    problems.ensure(some, "pool.networks", || {
        format!("{}; a pool has 1 to {MAX_POOL} networks, a /16 each", pool.networks)
    });
    let inside = |range: &(u8, u8, u8)| {
        let first = u32::from(pool.base) >> 16;
        let last = first + u32::from(pool.networks).saturating_sub(1);
        let number = |second: u8| u32::from(range.0) << 8 | u32::from(second);
        (number(range.1)..=number(range.2)).contains(&first) && last <= number(range.2)
    };
    problems.ensure(!some || PRIVATE.iter().any(inside), "pool.base", || {
        format!("{pool} is not private as a whole; choose it out of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10")
    });
}

/// What is wrong with `host:port`.
pub fn validate_address(path: &str, address: &str) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge(path, text::address(address));
    problems.0
}

/// All that is wrong with what an agent says of its machine: an agent may be anything.
pub fn validate_facts(facts: &Facts) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge("facts.hostname", text::host_name(&facts.hostname));
    labels(&mut problems, "facts.labels", &facts.labels);
    facts.mesh.iter().for_each(|address| problems.judge("facts.mesh", text::address(address)));
    problems.at_most(facts.problems.len(), MAX_PROBLEMS, "facts.problems", "problems");
    for (position, problem) in facts.problems.iter().enumerate() {
        fact(&mut problems, &format!("facts.problems[{position}]"), problem);
    }
    let texts = [
        ("os", &facts.os),
        ("arch", &facts.arch),
        ("kernel", &facts.kernel),
        ("engine", &facts.engine),
        ("engine_api", &facts.engine_api),
        ("agent", &facts.agent),
    ];
    for (name, value) in texts {
        fact(&mut problems, &format!("facts.{name}"), value);
    }
    problems.0
}

fn validate_join(problems: &mut Problems, join: &JoinRequest) {
    problems.at_most(join.secret.len(), MAX_SECRET, "secret", "bytes");
    certificate_request(problems, &join.csr);
    problems.0.extend(validate_facts(&join.facts));
    if join.role == JoinRole::Manager {
        problems.0.extend(validate_address("address", &join.address));
    }
}

fn certificate_request(problems: &mut Problems, csr: &str) {
    let right = csr.len() <= MAX_CSR && csr.trim_start().starts_with("-----BEGIN");
    problems.ensure(right, "csr", || format!("not a PEM certificate request of at most {MAX_CSR} bytes"));
}

fn certificate(problems: &mut Problems, path: &str, certificate: &str) {
    let right = certificate.len() <= MAX_CSR && certificate.trim_start().starts_with("-----BEGIN");
    problems.ensure(right, path, || format!("not a PEM certificate of at most {MAX_CSR} bytes"));
}

fn reference(problems: &mut Problems, path: &str, of: &Reference) {
    let right = (1..=MAX_REFERENCE).contains(&of.len()) && of.bytes().all(|byte| byte.is_ascii_graphic());
    problems.ensure(right, path, || {
        format!("{} names nothing; write a name, an id, or the beginning of an id", text::quote(of))
    });
}

fn fact(problems: &mut Problems, path: &str, value: &str) {
    problems.ensure(value.len() <= MAX_FACT && !value.contains(char::is_control), path, || {
        format!("at most {MAX_FACT} bytes on one line")
    });
}
