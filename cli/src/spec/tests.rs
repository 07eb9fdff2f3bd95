//! Command lines and files against the declarations that they make, written as the files that `inspect --spec` prints.

use clap::Parser as _;
use model::service::{Mode, ServiceSpec};

use super::{create, file, update};
use crate::{
    args::{Cli, Command, ServiceCommand},
    exit::Failure,
};

fn created(line: &[&str]) -> Result<ServiceSpec, Failure> {
    let words = ["orchctl", "service", "create"].iter().chain(line);
    match Cli::try_parse_from(words).expect("the command line is read").command {
        Command::Service(ServiceCommand::Create(flags)) => create::spec(&flags),
        other => panic!("{other:?}"),
    }
}

fn updated(current: &ServiceSpec, line: &[&str]) -> Result<(ServiceSpec, Vec<String>), Failure> {
    let words = ["orchctl", "service", "update", "ispyb"].iter().chain(line);
    match Cli::try_parse_from(words).expect("the command line is read").command {
        Command::Service(ServiceCommand::Update(flags)) => update::spec(&flags, current),
        other => panic!("{other:?}"),
    }
}

fn check(line: &[&str], expected: &str) {
    let spec = created(line).expect("the flags are right");
    assert_eq!(file::to_toml(&spec).trim(), expected.trim());
    assert_eq!(file::parse(&file::to_toml(&spec)).expect("it reads back").spec, spec);
    assert_eq!(file::parse(&file::tree(&spec).to_string()).expect("so does JSON").spec, spec);
}

fn paths(failure: Failure) -> Vec<String> {
    failure.problems.into_iter().map(|problem| problem.path).collect()
}

#[test]
fn the_smallest_service_is_a_name_and_an_image() {
    check(
        &["--name", "ispyb", "ispyb:1.2"],
        r#"
name = "ispyb"

[mode]
replicated = 1

[template.container]
image = "ispyb:1.2"
"#,
    );
}

#[test]
fn every_flag_lands_in_its_field() {
    let line = "--name ispyb --replicas 3 --replicas-max-per-node 1 --env A=1 -e B= --label team=mx \
        --container-label tier=web --constraint node.labels.beamline==id23-1 --placement-pref spread=node.labels.rack \
        --mount type=bind,src=/data,dst=/data,ro --tmpfs /tmp:size=64m --publish 8080:80 -p 53/udp --limit-cpu 1.5 \
        --limit-memory 512m --limit-pids 100 --reserve-cpu 0.5 --reserve-memory 256m --restart-condition on-failure \
        --restart-delay 2s --restart-max-attempts 5 --restart-window 1m30s --update-parallelism 2 --update-order \
        start-first --update-delay 5s --update-monitor 10s --update-failure-action rollback --health-interval 10s \
        --health-timeout 3s --health-retries 4 --health-start-period 1m --stop-signal SIGINT --stop-grace-period 30s \
        --init --read-only --ulimit nofile=1024:4096 --user 1000:1000 --workdir /srv --log-max-size 5m \
        --log-max-files 2 --pull never";
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.extend([
        "--hostname",
        "{{.Service.Name}}-{{.Task.Slot}}",
        "--health-cmd",
        "curl -f http://localhost/",
    ]);
    words.extend(["--entrypoint", "java -jar", "ispyb:1.2", "--port", "80", "-v"]);
    check(
        &words,
        r#"
name = "ispyb"

[labels]
team = "mx"

[mode]
replicated = 3

[[ports]]
proxy_protocol = false
published = 8080
target = 80

[template.container]
args = [
    "--port",
    "80",
    "-v",
]
command = [
    "java",
    "-jar",
]
hostname = "{{.Service.Name}}-{{.Task.Slot}}"
image = "ispyb:1.2"
init = true
pull = "never"
read_only = true
stop_grace = "30s"
stop_signal = "SIGINT"
user = "1000:1000"
workdir = "/srv"

[template.container.env]
A = "1"
B = ""

[template.container.healthcheck]
interval = "10s"
retries = 4
start_period = "1m"
test = [
    "CMD-SHELL",
    "curl -f http://localhost/",
]
timeout = "3s"

[template.container.labels]
tier = "web"

[template.container.log]
max_files = 2
max_size = "5MiB"

[[template.container.mounts]]
read_only = true
target = "/data"

[template.container.mounts.source]
bind = "/data"

[[template.container.mounts]]
read_only = false
target = "/tmp"

[template.container.mounts.source.tmpfs]
mode = 0
size = "64MiB"

[[template.container.ports]]
protocol = "udp"
published = 0
target = 53

[template.container.resources]
cpu_limit_millis = 1500
cpu_reserve_millis = 500
memory_limit = "512MiB"
memory_reserve = "256MiB"
pids_limit = 100

[[template.container.ulimits]]
hard = 4096
name = "nofile"
soft = 1024

[template.placement]
constraints = ["node.labels.beamline==id23-1"]
max_per_node = 1
spread = ["node.labels.rack"]

[template.restart]
condition = "on-failure"
delay = "2s"
max_attempts = 5
window = "1m30s"

[update]
delay = "5s"
failure_action = "rollback"
monitor = "10s"
order = "start-first"
parallelism = 2
"#,
    );
}

#[test]
fn a_global_service_has_no_count() {
    check(
        &["--name", "agent", "--mode", "global", "--no-healthcheck", "a"],
        r#"
mode = "global"
name = "agent"

[template.container]
image = "a"

[template.container.healthcheck]
interval = "0s"
retries = 0
start_period = "0s"
test = ["NONE"]
timeout = "0s"
"#,
    );
    let refused = created(&["--name", "a", "--mode", "global", "--replicas", "2", "a"]).unwrap_err();
    assert_eq!(paths(refused), ["--replicas"]);
}

#[test]
fn all_wrong_flags_are_reported_at_once() {
    let line = [
        "--limit-memory",
        "lots",
        "--publish",
        "http",
        "--env",
        "NOT_SET_ANYWHERE",
        "--restart-delay",
        "soon",
    ];
    let mut found = paths(created(&line).unwrap_err());
    found.sort();
    assert_eq!(found, ["--env", "--limit-memory", "--name", "--publish", "--restart-delay", "IMAGE"]);
    let line =
        ["--name", "Not A Name", "--mount", "type=bind,src=a,dst=/a", "--constraint", "node.x==1", "a:1"];
    let mut found = paths(created(&line).unwrap_err());
    found.sort();
    assert_eq!(found, ["--constraint", "name", "template.container.mounts[0].source"]);
}

#[test]
fn an_environment_file_is_read_and_flags_win_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("env");
    std::fs::write(&path, "# comment\n\nA=1\nB=x=y\n").unwrap();
    let path = path.to_str().unwrap();
    let spec = created(&["--name", "a", "--env-file", path, "--env", "A=2", "a"]).unwrap();
    let env: Vec<(&str, &str)> =
        spec.template.container.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("A", "2"), ("B", "x=y")]);
    let missing = created(&["--name", "a", "--env-file", "/does/not/exist", "a"]).unwrap_err();
    assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let before = created(&[
        "--name",
        "ispyb",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--publish",
        "80",
        "--publish",
        "90:90",
        "--mount",
        "src=vol,dst=/v",
        "--constraint",
        "node.hostname!=h1",
        "ispyb:1",
    ])
    .unwrap();
    let line = "--image ispyb:2 --env-add A=9 --env-rm B --publish-rm 90 --publish-add 8080:80 --mount-rm /v \
        --constraint-rm node.hostname!=h1 --constraint-add node.class==server --replicas 4 --health-retries 7";
    let (after, warnings) = updated(&before, &line.split_whitespace().collect::<Vec<_>>()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let expected = created(&[
        "--name",
        "ispyb",
        "--env",
        "A=9",
        "--publish",
        "8080:80",
        "--constraint",
        "node.class==server",
        "--replicas",
        "4",
        "--health-retries",
        "7",
        "ispyb:2",
    ]);
    assert_eq!(after, expected.unwrap());
    assert_eq!(updated(&before, &[]).unwrap().0, before);
}

#[test]
fn removing_what_is_not_there_is_a_warning() {
    let spec = created(&["--name", "ispyb", "a"]).unwrap();
    let (after, warnings) = updated(&spec, &["--env-rm", "X", "--mount-rm", "/x"]).unwrap();
    assert_eq!((after, warnings.len()), (spec, 2));
}

#[test]
fn force_counts_up_and_a_file_that_does_not_mention_it_leaves_it() {
    let spec = created(&["--name", "ispyb", "a"]).unwrap();
    let (forced, _) = updated(&spec, &["--force"]).unwrap();
    assert_eq!(forced.template.force, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spec.toml");
    std::fs::write(&path, file::to_toml(&spec)).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(updated(&forced, &["--file", path]).unwrap().0, forced);
    std::fs::write(path, file::to_toml(&spec).replace("ispyb", "other")).unwrap();
    assert_eq!(paths(updated(&forced, &["--file", path]).unwrap_err()), ["name"]);
}

#[test]
fn a_file_creates_a_service_and_flags_apply_on_top() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spec.toml");
    std::fs::write(&path, "name='a'\nmode={replicated=3}\ntemplate.container.image='a:1'\n").unwrap();
    let spec = created(&["--file", path.to_str().unwrap(), "--replicas", "5"]).unwrap();
    assert_eq!((spec.name.as_str(), spec.mode), ("a", Mode::Replicated(5)));
}

#[test]
fn unknown_fields_and_wrong_values_are_refused_with_their_paths_all_at_once() {
    let text = r#"
        name = 3
        colour = "red"
        mode = "sometimes"
        [template.container]
        image = "a"
        imagee = "b"
        init = "yes"
        ports = [{ target = 80, colour = "blue" }, { target = 70000 }]
        [template.restart]
        delay = "soon"
        max_attempts = -1
    "#;
    // Unreadable units do not hide the rest.
    let mut found = paths(file::parse(text).unwrap_err());
    found.sort();
    let expected = [
        "colour",
        "mode",
        "name",
        "template.container.imagee",
        "template.container.init",
        "template.container.ports[0].colour",
        "template.container.ports[1]",
        "template.restart.delay",
        "template.restart.max_attempts",
    ];
    assert_eq!(found, expected);
}

#[test]
fn unknown_fields_inside_lists_and_optional_parts_are_refused() {
    let text = r#"
        name = "a"
        [template.container]
        image = "a"
        ports = [{ target = 80, mode = "host" }]
        healthcheck = { test = ["CMD", "true"], intervall = "3s" }
        env = { anything = "goes" }
    "#;
    let mut found = paths(file::parse(text).unwrap_err());
    found.sort();
    assert_eq!(found, ["template.container.healthcheck.intervall", "template.container.ports[0].mode"]);
}

#[test]
fn a_file_that_is_neither_toml_nor_json_says_where() {
    assert!(file::parse("name = \n").unwrap_err().message.contains("no TOML"));
    assert!(file::parse("{ \"name\": }").unwrap_err().message.contains("no JSON"));
}

#[test]
fn probes_read_back_and_are_taken_away_one_by_one() {
    let line = [
        "--name",
        "ispyb",
        "--probe-startup",
        "tcp:8080,deadline=3m",
        "--probe-readiness",
        "http:8080/status,body-not=Exception,interval=2s",
        "--probe-liveness",
        "exec:/check alive,timeout=5s,failures=4",
        "--diagnose",
        "exec:jcmd 1 Thread.print,within=20s",
        "ispyb:1.2",
    ];
    check(
        &line,
        r#"
name = "ispyb"

[mode]
replicated = 1

[template.container]
image = "ispyb:1.2"

[template.container.probes]
start_deadline = "3m"

[template.container.probes.diagnosis]
within = "20s"

[template.container.probes.diagnosis.by]
exec = [
    "jcmd",
    "1",
    "Thread.print",
]

[template.container.probes.liveness]
failures = 4
timeout = "5s"

[template.container.probes.liveness.check]
exec = [
    "/check",
    "alive",
]

[template.container.probes.readiness]
interval = "2s"

[template.container.probes.readiness.check.http]
body_not = "Exception"
path = "/status"
port = 8080

[template.container.probes.startup.check]
tcp = 8080
"#,
    );
    let spec = created(&line).unwrap();
    let (spec, _) =
        updated(&spec, &["--probe-startup", "none", "--probe-liveness", "none", "--diagnose", "none"])
            .unwrap();
    let probes = spec.template.container.probes;
    assert!(
        probes.diagnosis.is_none()
            && probes.startup.is_none()
            && probes.liveness.is_none()
            && probes.readiness.is_some()
    );
    assert!(probes.start_deadline.is_zero());
}

#[test]
fn a_pre_deploy_hook_reads_back_and_is_taken_away() {
    let line = [
        "--name",
        "ispyb",
        "--pre-deploy",
        "/opt/migrate --to 'latest one'",
        "--pre-deploy-timeout",
        "15m",
        "--pre-deploy-migration",
        "true",
        "ispyb:1.2",
    ];
    check(
        &line,
        r#"
name = "ispyb"

[mode]
replicated = 1

[template.container]
image = "ispyb:1.2"

[update.pre_deploy]
command = [
    "/opt/migrate",
    "--to",
    "latest one",
]
migration = true
retries = 0
timeout = "15m"
"#,
    );
    let spec = created(&line).unwrap();
    let (changed, _) =
        updated(&spec, &["--pre-deploy-retries", "2", "--pre-deploy-migration", "false"]).unwrap();
    let hook = changed.update.pre_deploy.unwrap();
    assert_eq!((hook.retries, hook.migration, hook.command.len()), (2, false, 3));
    let (without, _) = updated(&spec, &["--pre-deploy", ""]).unwrap();
    assert_eq!(without.update.pre_deploy, None);
    assert_eq!(paths(updated(&without, &["--pre-deploy-retries", "2"]).unwrap_err()), ["--pre-deploy"]);
}

#[test]
fn the_access_log_of_a_port_is_declared_by_its_share() {
    let port = "published=80,target=8080,http,log=1/100,log-mask=keys/*,log-query";
    check(
        &["--name", "ispyb", "--publish", port, "ispyb:1.2"],
        r#"
name = "ispyb"

[mode]
replicated = 1

[[ports]]
proxy_protocol = false
published = 80
target = 8080

[ports.http]
backend = "http1"
hosts = []
log = "1/100"
log_mask = ["keys/*"]
log_query = true
path = "/"
sticky = false
timeout = "2s900ms"
try_timeout = "2s500ms"

[template.container]
image = "ispyb:1.2"
"#,
    );
    let wrong = "name = \"a\"\n[[ports]]\npublished = 80\ntarget = 80\n[ports.http]\nlog = \"some\"\n";
    assert_eq!(paths(file::parse(wrong).unwrap_err()), ["ports[].http.log"]);
}
