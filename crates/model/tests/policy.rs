//! Which declaration a policy refuses, by which rule, and what it says about it.

use model::{
    container::{Mount, MountSource, PortSpec},
    hook::Hook,
    id::{Generation, MemberId},
    identity::{Identity, Role},
    job::JobPolicy,
    policy::{Caps, Forbid, Grants, Policy, PolicySpec, Refusal, Require, Selector, Verb, admit},
    route::IngressPort,
    security::Device,
    service::{Mode, ServiceSpec, UpdateOrder},
    time::ClusterTime,
    validate::{validate_policy, validate_service},
};

fn service(change: impl FnOnce(&mut ServiceSpec)) -> ServiceSpec {
    let mut spec = ServiceSpec { name: "web".into(), ..ServiceSpec::default() };
    spec.template.container.image = "registry.example/mx/web:1".into();
    change(&mut spec);
    spec
}

fn policy(change: impl FnOnce(&mut PolicySpec)) -> Policy {
    let mut spec = PolicySpec { name: "mx".into(), ..PolicySpec::default() };
    change(&mut spec);
    let by = operator();
    Policy { spec, generation: Generation(1), by, set: ClusterTime(1) }
}

fn grants(grants: Grants) -> Policy {
    policy(|spec| (spec.grants, spec.services.names) = (grants, vec!["web".into()]))
}

fn operator() -> Identity {
    Identity::Operator { name: "ann".into(), role: Role::Admin }
}

fn ask(verb: Verb, old: Option<&ServiceSpec>, new: &ServiceSpec, policies: &[Policy]) -> Result<(), Refusal> {
    admit(&operator(), verb, old, new, policies)
}

fn rules(new: &ServiceSpec, policies: &[Policy]) -> Vec<String> {
    let refusal = ask(Verb::Create, None, new, policies).err();
    refusal.map_or_else(Vec::new, |refusal| refusal.breaches.into_iter().map(|breach| breach.rule).collect())
}

fn bind(source: &str, read_only: bool) -> impl Fn(&mut ServiceSpec) {
    move |spec| {
        let mount = Mount { source: MountSource::Bind(source.into()), target: "/x".into(), read_only };
        spec.template.container.mounts.push(mount);
    }
}

type Change = fn(&mut ServiceSpec);
type Rule = (&'static str, Change, fn(&mut PolicySpec), fn(&mut PolicySpec));

/// A rule, a declaration that breaks it, what makes the rule (nothing: it holds by default), and what lifts it.
const RULES: &[Rule] = &[
    (
        "grants.privileged",
        |s| s.template.container.security.privileged = true,
        |_| {},
        |p| p.grants.privileged = true,
    ),
    (
        "grants.network_host",
        |s| s.template.container.security.network_host = true,
        |_| {},
        |p| p.grants.network_host = true,
    ),
    (
        "grants.pid_host",
        |s| s.template.container.security.pid_host = true,
        |_| {},
        |p| p.grants.pid_host = true,
    ),
    (
        "grants.ipc_host",
        |s| s.template.container.security.ipc_host = true,
        |_| {},
        |p| p.grants.ipc_host = true,
    ),
    (
        "grants.seccomp_unconfined",
        |s| s.template.container.security.seccomp_unconfined = true,
        |_| {},
        |p| p.grants.seccomp_unconfined = true,
    ),
    (
        "grants.apparmor_unconfined",
        |s| s.template.container.security.apparmor_unconfined = true,
        |_| {},
        |p| p.grants.apparmor_unconfined = true,
    ),
    (
        "grants.new_privileges",
        |s| s.template.container.security.new_privileges = true,
        |_| {},
        |p| p.grants.new_privileges = true,
    ),
    (
        "grants.capabilities",
        |s| s.template.container.security.cap_add = vec!["NET_ADMIN".into()],
        |_| {},
        |p| p.grants.capabilities = vec!["NET_ADMIN".into()],
    ),
    (
        "grants.devices",
        |s| {
            let host = "/dev/bus/usb/001".into();
            s.template.container.security.devices = vec![Device { host, ..Device::default() }];
        },
        |_| {},
        |p| p.grants.devices = vec!["/dev/bus/usb/".into()],
    ),
    ("grants.binds", |s| bind("/etc/app", false)(s), |_| {}, |p| p.grants.binds = vec!["/etc/app".into()]),
    (
        "forbid.binds",
        |s| bind("/data/visitor", false)(s),
        |p| p.forbid.binds = vec!["/".into()],
        |p| p.grants.binds = vec!["/data".into()],
    ),
    (
        "forbid.ports",
        |s| s.ports = vec![IngressPort { published: 80, target: 80, http: None, proxy_protocol: false }],
        |p| p.forbid.ports = vec!["1-1023".parse().expect("ports")],
        |p| p.grants.ports = vec!["80".parse().expect("a port")],
    ),
    (
        "forbid.ports",
        |s| {
            s.template.container.ports =
                vec![PortSpec { target: 53, published: 53, protocol: Default::default() }]
        },
        |p| p.forbid.ports = vec!["53".parse().expect("a port")],
        |p| p.grants.ports = vec!["1-100".parse().expect("ports")],
    ),
    (
        "forbid.node_labels",
        |s| {
            s.template.placement.constraints =
                vec!["node.labels.beamline==id23-1".parse().expect("a constraint")]
        },
        |p| p.forbid.node_labels = vec!["beamline".into()],
        |p| p.grants.node_labels = vec!["beamline=id23-1".into()],
    ),
    (
        "require.images",
        |_| {},
        |p| p.require.images = vec!["registry.example/px/*".into()],
        |p| p.services.except = vec!["web".into()],
    ),
    ("require.digest", |_| {}, |p| p.require.digest = true, |p| p.services.except = vec!["web".into()]),
    (
        "require.constraints",
        |_| {},
        |p| p.require.constraints = vec!["node.labels.beamline==id23-1".parse().expect("a constraint")],
        |p| p.services.except = vec!["web".into()],
    ),
    ("caps.replicas", |s| s.mode = Mode::Replicated(4), |p| p.caps.replicas = 3, |p| p.caps.replicas = 4),
    ("caps.replicas", |s| s.mode = Mode::Global, |p| p.caps.replicas = 3, |p| p.caps.replicas = 0),
    (
        "caps.memory",
        |s| s.template.container.resources.memory_limit = 2 << 30,
        |p| p.caps.memory = 1 << 30,
        |p| p.caps.memory = 2 << 30,
    ),
    ("caps.memory", |_| {}, |p| p.caps.memory = 1 << 30, |p| p.caps.memory = 0),
    (
        "caps.memory_total",
        |s| (s.template.container.resources.memory_limit, s.mode) = (1 << 30, Mode::Replicated(3)),
        |p| p.caps.memory_total = 3 << 30,
        |p| p.caps.memory_total = 4 << 30,
    ),
    ("caps.connections", |_| {}, |p| p.caps.connections = 9, |p| p.caps.connections = 0),
    (
        "caps.connections",
        |s| (s.connections, s.mode) = (10, Mode::Replicated(3)),
        |p| p.caps.connections = 30,
        |p| p.caps.connections = 40,
    ),
];

#[test]
fn every_rule_refuses_in_every_way_that_a_declaration_comes_and_is_lifted_by_its_own_item_only() {
    let verbs = [Verb::Create, Verb::Update, Verb::Rollback, Verb::Schedule, Verb::Run];
    for (rule, breaks, makes, lifts) in RULES {
        let new = service(breaks);
        assert_eq!(rules(&service(|_| {}), &[]), [""; 0]);
        let strict = policy(makes);
        let policies = [strict.clone()];
        for verb in verbs {
            let refusal = ask(verb, None, &new, &policies).expect_err(rule);
            assert_eq!(refusal.breaches.len(), 1, "{rule}: {refusal}");
            let breach = &refusal.breaches[0];
            assert_eq!(
                (&*breach.rule, breach.policy.is_empty()),
                (*rule, rule.starts_with("grants.")),
                "{refusal}"
            );
            assert!(breach.path.starts_with(['t', 'p', 'm', 'c']) && breach.ask.contains("ask "), "{breach}");
            // Who keeps what he had is judged all the same: nothing is allowed because it was.
            assert!(ask(verb, Some(&new), &new, &policies).is_err(), "{rule}");
        }
        assert_eq!(ask(Verb::Return, None, &new, &policies), Ok(()), "a failed release returns to what ran");
        let mut lenient = strict;
        lenient.spec.services.names = vec!["web".into()];
        lifts(&mut lenient.spec);
        assert_eq!(rules(&new, &[lenient.clone()]), [""; 0], "{rule} is lifted");
        lenient.spec.services.names = vec!["other".into()];
        let strict = policy(makes);
        let others = [strict, lenient];
        assert_eq!(
            rules(&new, &others).first().map(String::as_str),
            Some(*rule),
            "{rule}: another service's"
        );
    }
}

#[test]
fn what_needs_a_grant_says_the_line_that_grants_it_and_that_line_is_enough() {
    let new = service(|spec| {
        bind("//etc/./app/", true)(spec);
        spec.template.container.security.cap_add = vec!["SYS_TIME".into()];
    });
    let refusal = ask(Verb::Update, None, &new, &[]).expect_err("denied by default");
    assert!(refusal.what.contains("operator ann may not update service \"web\""));
    let text: Vec<String> = refusal.breaches.iter().map(ToString::to_string).collect();
    assert!(
        text[0].contains("orchctl policy set grants-web --service web --grant-cap SYS_TIME"),
        "{}",
        text[0]
    );
    assert!(text[1].contains("--grant-bind /etc/app:ro"), "{}", text[1]);
    let given = Grants {
        capabilities: vec!["SYS_TIME".into()],
        binds: vec!["/etc/app:ro".into()],
        ..Grants::default()
    };
    assert_eq!(rules(&new, &[grants(given.clone())]), [""; 0]);
    let writable = service(bind("/etc/app", false));
    assert_eq!(rules(&writable, &[grants(given)]), ["grants.binds"], "granted for reading only");
}

#[test]
fn whom_to_ask_is_who_the_policy_names() {
    let strict = policy(|spec| (spec.require.digest, spec.contact) = (true, "mx-it@example.org".into()));
    let refusal = ask(Verb::Create, None, &service(|_| {}), &[strict]).expect_err("a tag");
    assert!(
        refusal.to_string().contains("ask mx-it@example.org")
            && refusal.to_string().contains("policy \"mx\"")
    );
}

#[test]
fn paths_are_judged_by_what_they_mean() {
    for source in [
        "/",
        "//var/run/docker.sock",
        "/run/docker.sock",
        "/srv/../etc",
        "/proc/1",
        "/var/lib/docker/x",
        "/var",
    ] {
        assert_eq!(rules(&service(bind(source, true)), &[]), ["grants.binds"], "{source}");
    }
    assert_eq!(rules(&service(bind("/etc/localtime", true)), &[]), [""; 0]);
    let below = grants(Grants { binds: vec!["/etc/app".into()], ..Grants::default() });
    assert_eq!(
        rules(&service(bind("/etc/application", true)), &[below]),
        ["grants.binds"],
        "no part of a name"
    );
}

#[test]
fn privileged_is_all_power_and_no_data() {
    let all = grants(Grants { privileged: true, ..Grants::default() });
    let new = service(|spec| {
        let security = &mut spec.template.container.security;
        (security.privileged, security.pid_host) = (true, true);
        security.cap_add = vec!["ALL".into()];
    });
    assert_eq!(rules(&new, std::slice::from_ref(&all)), [""; 0]);
    assert_eq!(rules(&service(bind("/etc", true)), &[all]), ["grants.binds"]);
}

#[test]
fn nobody_leaves_a_policy_by_changing_a_label_and_no_label_brings_a_grant() {
    let labelled = |label: &str| service(|spec| drop(spec.labels.insert("team".into(), label.into())));
    let strict = policy(|spec| {
        spec.services.labels.insert("team".into(), "mx".into());
        spec.require.digest = true;
    });
    let (old, new) = (labelled("mx"), labelled("none"));
    assert!(ask(Verb::Update, Some(&old), &new, std::slice::from_ref(&strict)).is_err());
    assert_eq!(rules(&new, &[strict]), [""; 0]);
    let by_label = PolicySpec {
        name: "x".into(),
        services: Selector { labels: [("team".into(), "mx".into())].into(), ..Selector::default() },
        grants: Grants { privileged: true, ..Grants::default() },
        ..PolicySpec::default()
    };
    assert_eq!(validate_policy(&by_label)[0].path, "services.names");
}

#[test]
fn scaling_is_judged_by_amounts_and_down_it_is_always_allowed() {
    let capped = policy(|spec| {
        spec.caps = Caps { replicas: 5, ..Caps::default() };
        spec.require.digest = true;
    });
    let of = |count| service(|spec| spec.mode = Mode::Replicated(count));
    let scale = |old, new| ask(Verb::Scale, Some(&of(old)), &of(new), std::slice::from_ref(&capped));
    assert_eq!(scale(2, 5), Ok(()), "its image is not what changes");
    assert_eq!(scale(2, 6).expect_err("too many").breaches[0].rule, "caps.replicas");
    assert_eq!(scale(9, 7), Ok(()), "less is right, even where it is still too much");
}

#[test]
fn totals_count_what_an_update_starts_first_and_its_hook() {
    let capped = |connections| [policy(|spec| spec.caps.connections = connections)];
    let three = |change: Change| {
        service(|spec| {
            (spec.connections, spec.mode) = (10, Mode::Replicated(3));
            change(spec);
        })
    };
    assert_eq!(rules(&three(|_| {}), &capped(39)), ["caps.connections"]);
    assert_eq!(rules(&three(|_| {}), &capped(40)), [""; 0]);
    let stop_first: Change = |spec| spec.update.order = UpdateOrder::StopFirst;
    assert_eq!(rules(&three(stop_first), &capped(30)), [""; 0]);
    let hooked: Change = |spec| {
        spec.update.order = UpdateOrder::StopFirst;
        spec.update.pre_deploy = Some(Hook { command: vec!["migrate".into()], ..Hook::default() });
    };
    assert_eq!(rules(&three(hooked), &capped(30)), ["caps.connections"]);
    let job = |concurrency| {
        service(|spec| {
            (spec.connections, spec.mode) = (10, Mode::Replicated(100));
            spec.job = Some(JobPolicy { concurrency, ..JobPolicy::default() });
        })
    };
    assert_eq!(rules(&job(4), &capped(40)), [""; 0], "of a job what runs at a time counts");
    assert_eq!(rules(&job(0), &capped(40)), ["caps.connections"]);
}

#[test]
fn managers_themselves_are_judged_like_everybody() {
    let privileged = service(|spec| spec.template.container.security.privileged = true);
    let manager = Identity::Manager(MemberId(1));
    assert!(admit(&manager, Verb::Run, None, &privileged, &[]).is_err());
}

#[test]
fn a_policy_that_means_nothing_is_refused_with_its_field() {
    let problems = |change: fn(&mut PolicySpec)| {
        let mut spec = PolicySpec { name: "mx".into(), ..PolicySpec::default() };
        change(&mut spec);
        validate_policy(&spec).into_iter().map(|problem| problem.path).collect::<Vec<_>>()
    };
    assert_eq!(problems(|_| {}), [""; 0]);
    assert_eq!(problems(|spec| spec.name = "No".into()), ["name"]);
    assert_eq!(
        problems(|spec| spec.require.images = vec!["registry.example/mx/web:1".into()]),
        ["require.images[0]"]
    );
    assert_eq!(
        problems(
            |spec| spec.require.images = vec!["registry.example/*".into(), "nginx".into(), "r:5000/*".into()]
        ),
        [""; 0]
    );
    assert_eq!(
        problems(|spec| spec.forbid = Forbid { binds: vec!["data".into()], ..Forbid::default() }),
        ["forbid.binds[0]"]
    );
    let grant = |spec: &mut PolicySpec| spec.grants.capabilities = vec!["CAP_NET_ADMIN".into()];
    assert_eq!(problems(|spec| spec.services.names = vec!["*".into()]), [""; 0]);
    let mut spec = PolicySpec { name: "mx".into(), ..PolicySpec::default() };
    grant(&mut spec);
    let paths: Vec<_> = validate_policy(&spec).into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["services.names", "grants.capabilities[0]"]);
    assert_eq!(
        problems(|spec| spec.require = Require { images: vec!["x".repeat(600)], ..Require::default() }).len(),
        2
    );
    let long = |spec: &mut PolicySpec| {
        spec.forbid.binds = (0..100).map(|n| format!("/{n}{}", "x".repeat(300))).collect()
    };
    let mut spec = PolicySpec { name: "mx".into(), ..PolicySpec::default() };
    long(&mut spec);
    assert_eq!(validate_policy(&spec)[0].path, "");
}

#[test]
fn security_that_means_nothing_is_refused_with_its_field() {
    let paths = |change: Change| {
        validate_service(&service(change)).into_iter().map(|problem| problem.path).collect::<Vec<_>>()
    };
    const AT: &str = "template.container.security";
    assert_eq!(paths(|s| s.template.container.security.cap_drop = vec!["ALL".into()]), [""; 0]);
    assert_eq!(
        paths(|s| s.template.container.security.cap_add = vec!["net_admin".into()]),
        [format!("{AT}.cap_add[0]")]
    );
    let device = |host: &str, permissions: &str| {
        vec![Device { host: host.into(), permissions: permissions.into(), ..Device::default() }]
    };
    let with = |devices| {
        let spec = service(|spec| spec.template.container.security.devices = devices);
        validate_service(&spec).into_iter().map(|problem| problem.path).collect::<Vec<_>>()
    };
    assert_eq!(with(device("/dev/kvm", "rw")), [""; 0]);
    assert_eq!(with(device("/srv/disk", "")), [format!("{AT}.devices[0].host")]);
    assert_eq!(with(device("/dev/kvm", "rr")), [format!("{AT}.devices[0].permissions")]);
    let clash: Change = |spec| {
        spec.template.container.security.network_host = true;
        spec.template.container.networks = vec!["shop".into()];
    };
    assert_eq!(paths(clash), [format!("{AT}.network_host")]);
}
