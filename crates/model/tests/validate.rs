//! What is refused, where it points, and what it says would be right.

use std::time::Duration;

use model::{
    cluster::ClusterSettings,
    container::{Healthcheck, Mount, MountSource, PortSpec, Protocol, PullPolicy, Ulimit},
    identity::JoinRole,
    network::AddressPool,
    node::{Facts, NodeClass, NodeSpec},
    request::{NodeChange, Request},
    route::{HttpPort, IngressPort},
    service::{Mode, ServiceSpec, UpdateOrder},
    validate::{
        Problem, lint_service, validate_address, validate_facts, validate_node_change, validate_request,
        validate_scale, validate_service, validate_settings, validate_token,
    },
};

fn spec() -> ServiceSpec {
    let mut spec = ServiceSpec { name: "ispyb".into(), ..ServiceSpec::default() };
    spec.template.container.image = "registry.example.org/mx/ispyb:7.2.1".into();
    spec
}

fn with(change: impl FnOnce(&mut ServiceSpec)) -> Vec<Problem> {
    let mut spec = spec();
    change(&mut spec);
    validate_service(&spec)
}

fn paths(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| &*problem.path).collect()
}

/// One change, one problem, there, which says this.
#[track_caller]
fn check(path: &str, says: &str, change: impl FnOnce(&mut ServiceSpec)) {
    let problems = with(change);
    assert_eq!(paths(&problems), [path], "{problems:?}");
    assert!(problems[0].message.contains(says), "{}", problems[0]);
}

fn port(target: u16, published: u16) -> PortSpec {
    PortSpec { target, published, protocol: Protocol::Tcp }
}

fn mount(source: MountSource, target: &str) -> Mount {
    Mount { source, target: target.into(), read_only: false }
}

fn bind(source: &str) -> MountSource {
    MountSource::Bind(source.into())
}

#[test]
fn a_plain_declaration_is_valid_and_so_is_one_that_uses_everything() {
    assert_eq!(with(|_| {}), []);
    let problems = with(|spec| {
        spec.mode = Mode::Replicated(10_000);
        spec.labels.insert("team".into(), "mx".into());
        let container = &mut spec.template.container;
        container.command = vec!["/bin/sh".into(), "-c".into(), String::new()];
        container.env.insert("NODE".into(), "{{.Node.Hostname}} {{.Task.Slot}} {{ .Values.x }}".into());
        container.user = Some("1000:1000".into());
        container.workdir = Some("/opt/jboss".into());
        container.hostname = Some("{{.Service.Name}}-{{.Task.Slot}}".into());
        container.mounts = vec![
            mount(bind("/data/visitor"), "/data"),
            mount(MountSource::Volume("db".into()), "/var/lib/mysql"),
            mount(MountSource::Tmpfs { size: 1 << 20, mode: 0o1777 }, "/tmp"),
        ];
        container.ports = vec![port(8080, 80), port(8443, 443), port(9990, 0)];
        container.resources.memory_limit = 6 << 20;
        container.resources.memory_reserve = 6 << 20;
        container.healthcheck = Some(Healthcheck {
            test: vec!["CMD-SHELL".into(), "curl -f localhost".into()],
            interval: Duration::from_secs(5),
            ..Healthcheck::default()
        });
        container.stop_signal = Some("SIGQUIT".into());
        container.stop_grace = Some(Duration::from_secs(3600));
        container.ulimits = vec![Ulimit { name: "nofile".into(), soft: 1024, hard: -1 }];
        spec.template.placement.constraints = vec!["node.class==server".parse().expect("a constraint")];
        spec.template.placement.spread = vec!["node.labels.room".parse().expect("an attribute")];
    });
    assert_eq!(problems, []);
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = with(|spec| {
        spec.name = "ISPyB".into();
        spec.update.parallelism = 0;
        spec.template.container.image = "Bad Image".into();
        spec.template.container.ports = vec![port(0, 80), port(80, 80)];
        spec.template.container.stop_grace = Some(Duration::from_secs(7200));
    });
    let expected = [
        "name",
        "template.container.image",
        "template.container.ports[0].target",
        "template.container.ports[1].published",
        "template.container.stop_grace",
        "update.parallelism",
    ];
    assert_eq!(paths(&problems), expected, "{problems:?}");
}

#[test]
fn names_and_counts_stay_within_their_bounds() {
    check("name", "DNS label", |spec| spec.name = "a.b".into());
    check("mode.replicated", "10000", |spec| spec.mode = Mode::Replicated(10_001));
    check("labels", "1 to 128", |spec| drop(spec.labels.insert("a b".into(), String::new())));
    check("labels.a", "4096", |spec| drop(spec.labels.insert("a".into(), "x".repeat(5_000))));
    check("", "at most 65536", |spec| {
        let env = &mut spec.template.container.env;
        env.extend((0..3).map(|n| (format!("V{n}"), "x".repeat(30_000))));
    });
    check("template.container.env", "at most 1000", |spec| {
        spec.template.container.env.extend((0..1001).map(|n| (format!("V{n}"), String::new())));
    });
    check("template.container.command", "at most 256", |spec| {
        spec.template.container.command = vec!["x".into(); 257];
    });
}

#[test]
fn images_are_named_as_an_engine_understands_them() {
    check("template.container.image", "an image is needed", |spec| spec.template.container.image.clear());
    check("template.container.image", "its tag", |spec| spec.template.container.image = "app:-x".into());
    check("template.container.pull", "cannot be pulled", |spec| {
        spec.template.container.image = format!("sha256:{}", "a".repeat(64));
        spec.template.container.pull = PullPolicy::Always;
    });
}

#[test]
fn the_environment_labels_and_words_are_ones_that_an_engine_takes() {
    check("template.container.env", "variable's name", |spec| {
        spec.template.container.env.insert("A=B".into(), String::new());
    });
    check("template.container.env.A", "zero byte", |spec| {
        spec.template.container.env.insert("A".into(), "\0".into());
    });
    check("template.container.env.A", "{{.Task.Slot}}", |spec| {
        spec.template.container.env.insert("A".into(), "{{.Task.Number}}".into());
    });
    check("template.container.labels", "are ours", |spec| {
        spec.template.container.labels.insert("orch.task".into(), "1".into());
    });
    check("template.container.command", "names the program", |spec| {
        spec.template.container.command = vec![String::new()];
    });
    check("template.container.user", "UID:GID", |spec| spec.template.container.user = Some("a:".into()));
    check("template.container.workdir", "absolute", |spec| {
        spec.template.container.workdir = Some("opt".into())
    });
    check("template.container.stop_signal", "SIGTERM", |spec| {
        spec.template.container.stop_signal = Some("SIGFOO".into());
    });
}

#[test]
fn a_host_name_is_valid_when_it_is_filled_in() {
    check("template.container.hostname", "known are", |spec| {
        spec.template.container.hostname = Some("{{.Node.Name}}".into());
    });
    check("template.container.hostname", "no host name", |spec| {
        spec.template.container.hostname = Some("a_b".into());
    });
    check("template.container.hostname", "at most 63", |spec| {
        spec.name = "s".repeat(60);
        spec.template.container.hostname = Some("{{.Service.Name}}.{{.Task.ID}}".into());
    });
}

#[test]
fn mounts_are_absolute_distinct_and_leave_the_node_to_itself() {
    let mounts = |mounts: Vec<Mount>| move |spec: &mut ServiceSpec| spec.template.container.mounts = mounts;
    let path = "template.container.mounts[0]";
    let volume = || MountSource::Volume("data".into());
    check(&format!("{path}.target"), "absolute", mounts(vec![mount(volume(), "data")]));
    check(&format!("{path}.target"), "root", mounts(vec![mount(volume(), "/.//")]));
    check("template.container.mounts[1].target", "twice", {
        mounts(vec![mount(volume(), "/data"), mount(bind("/srv"), "/data/")])
    });
    check(
        &format!("{path}.source"),
        "volume name",
        mounts(vec![mount(MountSource::Volume("/x".into()), "/data")]),
    );
    check(&format!("{path}.source"), "absolute", mounts(vec![mount(bind("srv"), "/data")]));
    check(&format!("{path}.source.mode"), "octal", {
        mounts(vec![mount(MountSource::Tmpfs { size: 0, mode: 0o10000 }, "/tmp")])
    });
}

#[test]
fn ports_are_real_and_each_host_port_is_published_once() {
    let ports = |ports: Vec<PortSpec>| move |spec: &mut ServiceSpec| spec.template.container.ports = ports;
    check("template.container.ports[0].target", "1 to 65535", ports(vec![port(0, 80)]));
    check("template.container.ports[1].published", "ports[0]", ports(vec![port(1, 80), port(2, 80)]));
    check("template.container.ports[1]", "twice", ports(vec![port(1, 0), port(1, 0)]));
    let udp = PortSpec { protocol: Protocol::Udp, ..port(53, 53) };
    assert_eq!(with(ports(vec![port(53, 53), udp])), [], "another protocol is another port");
}

#[test]
fn limits_are_possible_and_reservations_lie_within_them() {
    let path = |field: &str| format!("template.container.resources.{field}");
    check(&path("memory_limit"), "6 MiB", |spec| spec.template.container.resources.memory_limit = 4 << 20);
    check(&path("cpu_limit_millis"), "10 to", |spec| spec.template.container.resources.cpu_limit_millis = 9);
    check(&path("memory_reserve"), "at most the limit", |spec| {
        spec.template.container.resources.memory_limit = 1 << 30;
        spec.template.container.resources.memory_reserve = 2 << 30;
    });
    check(&path("cpu_reserve"), "at most the limit", |spec| {
        spec.template.container.resources.cpu_limit_millis = 1000;
        spec.template.container.resources.cpu_reserve_millis = 1001;
    });
    let ulimit = |name: &str, soft, hard| {
        let ulimit = Ulimit { name: name.into(), soft, hard };
        move |spec: &mut ServiceSpec| spec.template.container.ulimits = vec![ulimit]
    };
    check("template.container.ulimits[0]", "known are core", ulimit("files", 1, 1));
    check("template.container.ulimits[0]", "above the hard", ulimit("nofile", -1, 1));
    check("template.container.ulimits[0]", "-1 for no limit", ulimit("nofile", -2, 1));
    check("template.container.log.max_files", "1 to 100", |spec| spec.template.container.log.max_files = 0);
    check("template.container.log.max_size", "at least", |spec| spec.template.container.log.max_size = 1);
    check("template.container.log", "16 GiB", |spec| spec.template.container.log.max_size = 10 << 30);
}

#[test]
fn health_checks_have_one_of_three_forms() {
    for test in
        [&["CMD"][..], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["curl"], &["NONE", "x"], &["CMD", ""]]
    {
        check("template.container.healthcheck.test", "CMD-SHELL", |spec| {
            let test = test.iter().map(ToString::to_string).collect();
            spec.template.container.healthcheck = Some(Healthcheck { test, ..Healthcheck::default() });
        });
    }
    check("template.container.healthcheck.interval", "1 ms", |spec| {
        let interval = Duration::from_micros(5);
        spec.template.container.healthcheck = Some(Healthcheck { interval, ..Healthcheck::default() });
    });
}

#[test]
fn policies_stay_within_what_somebody_would_wait_for() {
    check("template.restart.max_attempts", "condition: none", |spec| {
        spec.template.restart.max_attempts = Some(0);
    });
    check("template.restart.delay", "the cap", |spec| spec.template.restart.delay = Duration::from_secs(61));
    check("template.restart.max_delay", "3600s", |spec| {
        spec.template.restart.max_delay = Duration::from_secs(3601);
    });
    check("update.progress_deadline", "less than a second", |spec| {
        spec.update.progress_deadline = Duration::ZERO
    });
    check("update.monitor", "86400s", |spec| spec.update.monitor = Duration::MAX);
}

#[test]
fn a_constraint_that_no_node_can_meet_is_told() {
    let constraint = |text: &str| {
        let constraint = text.parse().expect("a constraint");
        move |spec: &mut ServiceSpec| spec.template.placement.constraints = vec![constraint]
    };
    let path = "template.placement.constraints[0]";
    check(path, "server or workstation", constraint("node.role==manager"));
    check(path, "13 letters", constraint("node.id==h1"));
    check(path, "is no label", constraint("node.labels.a b==c"));
}

#[test]
fn tokens_settings_addresses_and_changes_of_nodes_have_bounds_too() {
    let token = |ttl, uses| validate_token(JoinRole::Agent, ttl, uses, &NodeSpec::default());
    let hour = Duration::from_secs(3600);
    assert_eq!(token(hour, 1), []);
    assert_eq!(paths(&token(Duration::ZERO, 0)), ["ttl", "uses"]);
    assert_eq!(paths(&token(hour * 24 * 31, 1001)), ["ttl", "uses"]);
    let workstation = NodeSpec { class: NodeClass::Workstation, ..NodeSpec::default() };
    assert_eq!(paths(&validate_token(JoinRole::Manager, hour, 1, &workstation)), ["node_spec"]);

    let mut settings = ClusterSettings::default();
    assert_eq!(validate_settings(&settings), []);
    settings.patience.server = Duration::from_millis(100);
    assert_eq!(paths(&validate_settings(&settings)), ["patience.server"]);
    let pool = |base: [u8; 4], networks: u16| {
        let pool = AddressPool { base: base.into(), networks };
        validate_settings(&ClusterSettings { pool, ..ClusterSettings::default() })
    };
    for (base, networks) in
        [([10, 0, 0, 0], 256), ([172, 16, 0, 0], 16), ([192, 168, 0, 0], 1), ([100, 64, 0, 0], 64)]
    {
        assert_eq!(pool(base, networks), []);
    }
    assert_eq!(paths(&pool([10, 1, 2, 0], 1)), ["pool.base"]);
    assert_eq!(paths(&pool([10, 1, 0, 0], 0)), ["pool.networks"]);
    assert_eq!(paths(&pool([0, 0, 0, 0], 257)), ["pool.networks"]);
    for (base, networks) in
        [([10, 1, 0, 0], 256), ([192, 168, 0, 0], 2), ([8, 0, 0, 0], 1), ([255, 255, 0, 0], 200)]
    {
        assert_eq!(paths(&pool(base, networks)), ["pool.base"], "{base:?}");
    }

    assert_eq!(validate_address("address", "m1.site.org:4400"), []);
    assert_eq!(paths(&validate_address("address", "m1")), ["address"]);

    let label = |name: &str| (name.to_owned(), String::new());
    let change = NodeChange {
        set_labels: vec![label("a"), label("a")],
        remove_labels: vec!["a".into(), " ".into()],
        ..NodeChange::default()
    };
    assert_eq!(paths(&validate_node_change(&change)), ["remove_labels", "remove_labels", "set_labels"]);

    assert_eq!(validate_scale(&[("ispyb".into(), 3)]), []);
    assert_eq!(paths(&validate_scale(&[("a".into(), 1), ("a".into(), 10_001)])), ["a", "a"]);
    assert_eq!(validate_scale(&[]).len(), 1);
}

#[test]
fn what_an_agent_says_of_its_machine_is_bounded() {
    let facts = Facts { hostname: "h1.site.org".into(), ..Facts::default() };
    assert_eq!(validate_facts(&facts), []);
    let wrong = Facts { hostname: String::new(), kernel: "6.1\n".into(), agent: "x".repeat(300), ..facts };
    assert_eq!(paths(&validate_facts(&wrong)), ["facts.hostname", "facts.kernel", "facts.agent"]);
}

#[test]
fn a_request_is_validated_whatever_it_asks() {
    assert_eq!(validate_request(&Request::ListServices), []);
    assert_eq!(validate_request(&Request::CreateService(spec().into())), []);
    assert_eq!(paths(&validate_request(&Request::RemoveService(String::new()))), ["reference"]);
    assert_eq!(paths(&validate_request(&Request::RenewCertificate { csr: "x".into(), key: None })), ["csr"]);
}

fn lint(change: impl FnOnce(&mut ServiceSpec)) -> Vec<Problem> {
    let mut spec = spec();
    let test = vec!["CMD".into(), "true".into()];
    spec.template.container.healthcheck = Some(Healthcheck { test, ..Healthcheck::default() });
    change(&mut spec);
    lint_service(&spec)
}

#[test]
fn warnings_name_what_will_hurt() {
    assert_eq!(lint(|_| {}), []);
    for image in ["ispyb", "ispyb:latest", "host:5000/ispyb"] {
        let warnings = lint(|spec| spec.template.container.image = image.into());
        assert_eq!(paths(&warnings), ["template.container.image"], "{image}");
    }
    let warnings = lint(|spec| spec.template.container.healthcheck = None);
    assert_eq!(paths(&warnings), ["template.container.healthcheck"]);
    let warnings = lint(|spec| {
        spec.update.order = UpdateOrder::StartFirst;
        spec.template.container.ports = vec![port(1, 0), port(8080, 80)];
    });
    assert_eq!(paths(&warnings), ["template.container.ports[1].published"]);
    let grace = |seconds| {
        move |spec: &mut ServiceSpec| {
            spec.template.container.stop_grace = Some(Duration::from_secs(seconds));
        }
    };
    assert_eq!(lint(grace(10)), []);
    assert_eq!(paths(&lint(grace(3))), ["template.container.stop_grace"]);
}

#[test]
fn a_heap_beyond_the_memory_limit_is_told_and_so_is_a_missing_end() {
    let java = |options: &str, limit: u64| {
        lint(|spec| {
            spec.template.container.resources.memory_limit = limit;
            spec.template.container.env.insert("JAVA_OPTS".into(), options.into());
        })
    };
    let exits = "-XX:+ExitOnOutOfMemoryError";
    assert_eq!(java(&format!("-Xms1g -Xmx1g {exits}"), 2 << 30), []);
    assert_eq!(java(&format!("-Xmx8g {exits}"), 0), [], "without a limit there is none to exceed");
    let path = "template.container.env.JAVA_OPTS";
    for heap in ["2g", "2048M", "2147483648", "3T"] {
        assert_eq!(paths(&java(&format!("{exits} \"-Xmx{heap}\""), 2 << 30)), [path], "{heap}");
    }
    assert_eq!(paths(&java("-Xmx1g", 2 << 30)), ["template.container"]);
}

#[test]
fn http_ports_of_the_ingress_nodes_say_what_their_log_writes() {
    let http = |change: fn(&mut HttpPort)| {
        move |spec: &mut ServiceSpec| {
            let mut http = HttpPort::default();
            change(&mut http);
            let port = IngressPort { published: 80, target: 80, http: Some(http), proxy_protocol: false };
            spec.ports.push(port);
        }
    };
    let good = |http: &mut HttpPort| http.log_mask = ["rest/*", "/a/*/b/*", "*"].map(str::to_owned).to_vec();
    assert_eq!(with(http(good)), []);
    check("ports[0].http.log", "1/1000000", http(|http| http.log = 1_000_001));
    for mask in ["", "/", "rest", "rest/x*", "rest//*", "rest/*?a", "r%65st/*"] {
        let bad = move |spec: &mut ServiceSpec| {
            http(|_| ())(spec);
            spec.ports[0].http.as_mut().unwrap().log_mask = vec!["a/*".into(), mask.into()];
        };
        check("ports[0].http.log_mask[1]", "whole segments", bad);
    }
}
