//! Bad input, case by case: the exit code, and the words that tell a person what to mend.

use tests::cluster::{Cluster, Plan};

/// A command line, its exit code, and what the message must contain.
struct Case {
    line: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

const fn case(line: &'static [&'static str], code: i32, says: &'static [&'static str]) -> Case {
    Case { line, code, says }
}

const IMAGE: &str = "orch/mimic:1";

const CASES: &[Case] = &[
    case(&["service", "create", "--name", "taken", "--detach", IMAGE], 5, &["taken", "exist"]),
    case(&["service", "create", "--name", "Not_A_Name", "--detach", IMAGE], 2, &["name"]),
    case(&["service", "create", "--name", "x", "--replicas", "-1", IMAGE], 2, &["-1"]),
    case(
        &["service", "create", "--name", "x", "--replicas", "99999999", "--detach", IMAGE],
        2,
        &["replicas", "99999999"],
    ),
    case(&["service", "create", "--name", "x", "--limit-memory=-5", "--detach", IMAGE], 2, &["limit-memory"]),
    case(
        &["service", "create", "--name", "x", "--limit-memory", "lots", "--detach", IMAGE],
        2,
        &["limit-memory", "lots"],
    ),
    case(&["service", "create", "--name", "x", "--reserve-cpu=-1", "--detach", IMAGE], 2, &["reserve-cpu"]),
    case(
        &["service", "create", "--name", "x", "--constraint", "node.color", "--detach", IMAGE],
        2,
        &["constraint", "node.color"],
    ),
    case(
        &["service", "create", "--name", "x", "--constraint", "moon.phase==full", "--detach", IMAGE],
        2,
        &["moon.phase"],
    ),
    case(&["service", "create", "--name", "x", "--publish", "99999:80", "--detach", IMAGE], 2, &["99999"]),
    case(
        &["service", "create", "--name", "x", "--mount", "type=bind,src=relative,dst=/x", "--detach", IMAGE],
        2,
        &["mount"],
    ),
    case(
        &["service", "create", "--name", "x", "--restart-delay", "soon", "--detach", IMAGE],
        2,
        &["restart-delay", "soon"],
    ),
    case(&["service", "create", "--name", "x", "--detach", ""], 2, &["image"]),
    case(&["service", "create", "--name", "x", "--no-such-flag", IMAGE], 2, &["--no-such-flag"]),
    case(&["service", "create", "--name", "x", "--file", "/nonexistent.toml"], 1, &["/nonexistent.toml"]),
    case(&["scale", "taken=-1"], 2, &["taken=-1"]),
    case(&["scale", "taken"], 2, &["taken"]),
    case(&["scale", "nothere=1", "--detach"], 1, &["nothere"]),
    case(&["scale", "taken=99999999", "--detach"], 2, &["99999999"]),
    case(&["service", "inspect", "nothere"], 1, &["nothere"]),
    case(&["service", "rm", "nothere", "--detach"], 1, &["nothere"]),
    case(&["service", "rollback", "taken", "--detach"], 5, &["previous"]),
    case(&["node", "inspect", "nothere"], 1, &["nothere"]),
    case(&["node", "update", "nothere", "--availability", "gone"], 2, &["gone"]),
    case(&["manager", "remove", "nothere"], 1, &["nothere"]),
    case(&["token", "create", "--ttl", "400d"], 2, &["ttl"]),
    case(&["token", "create", "--uses", "0"], 2, &["uses"]),
    case(&["token", "revoke", "nonsense"], 2, &["nonsense"]),
    case(&["why", "nothere"], 1, &["nothere"]),
    case(&["logs", "nothere"], 1, &["nothere"]),
    case(&["events", "--after", "yesterday"], 2, &["yesterday"]),
];

fn cluster_with_a_service() -> Cluster {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let args = ["service", "create", "--name", "taken", "--replicas", "0", "--detach", IMAGE];
    cluster.ctl().ok(&args).expect("created");
    cluster
}

#[test]
fn bad_input_is_refused_with_its_exit_code_and_a_message_that_names_it() {
    let cluster = cluster_with_a_service();
    let mut wrong = Vec::new();
    for case in CASES {
        let said = cluster.ctl().say(case.line);
        let silent: Vec<_> = case.says.iter().filter(|word| !said.err.contains(**word)).collect();
        if said.code != case.code || !silent.is_empty() {
            wrong.push(format!(
                "orchctl {}: exit {} (expected {}), not said: {silent:?}\n{}",
                case.line.join(" "),
                said.code,
                case.code,
                said.err
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let rows = cluster.ctl().json(&["service", "ls"]).expect("a list");
    assert_eq!(rows.as_array().expect("a list").len(), 1, "nothing was half-done: {rows}");
}

#[test]
fn all_problems_of_a_spec_are_reported_at_once() {
    let cluster = cluster_with_a_service();
    let said = cluster.ctl().say(&[
        "service",
        "create",
        "--name",
        "x",
        "--limit-memory",
        "lots",
        "--restart-delay",
        "soon",
        "--publish",
        "x:y",
        "--detach",
        IMAGE,
    ]);
    assert_eq!(said.code, 2);
    for word in ["limit-memory", "restart-delay", "publish"] {
        assert!(said.err.contains(word), "{word} is missing: {}", said.err);
    }
}

#[test]
fn spec_file_with_an_unknown_field_names_the_field() {
    let cluster = cluster_with_a_service();
    let file = cluster.dir().join("spec.toml");
    let text = "name = \"x\"\nreplikas = 3\n[template.container]\nimage = \"orch/mimic:1\"\n";
    std::fs::write(&file, text).expect("written");
    let said = cluster.ctl().say(&["service", "create", "--detach", "--file", &file.to_string_lossy()]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("replikas"), "{}", said.err);
}

#[test]
fn update_on_an_outdated_version_is_refused() {
    let cluster = cluster_with_a_service();
    let client = tests::workload::Workload::new(cluster.ctl().config(), 1);
    let refused = client.update_with_an_old_generation("taken");
    assert_eq!(refused.code.0, 5, "{refused}");
    assert!(refused.message.contains("changed") || refused.message.contains("generation"), "{refused}");
}

#[test]
fn impossible_constraint_is_accepted_and_says_what_it_waits_for() {
    let cluster = cluster_with_a_service();
    let ctl = cluster.ctl();
    ctl.ok(&[
        "service",
        "create",
        "--name",
        "picky",
        "--replicas",
        "1",
        "--constraint",
        "node.labels.gpu==a100",
        "--detach",
        IMAGE,
    ])
    .expect("accepted");
    let why = cluster
        .ask("a reason", super::PATIENCE, || {
            let why = ctl.ok(&["why", "picky"]).ok()?;
            (why.contains("no node") || why.contains("node.labels.gpu")).then_some(why)
        })
        .expect("a reason");
    assert!(!why.is_empty());
    let status = ctl.ok(&["status"]).expect("a status");
    assert!(status.contains("picky"), "what waits is in the status: {status}");
    let waited = ctl.say(&["scale", "picky=2", "--timeout", "1s"]);
    assert_eq!(waited.code, 7, "waiting ends at the deadline: {waited:?}");
}

#[test]
fn without_a_context_or_a_manager_the_message_says_what_to_do() {
    let cluster = cluster_with_a_service();
    let nowhere = cluster.ctl().with_config(cluster.dir().join("nothing.toml"));
    let said = nowhere.say(&["service", "ls"]);
    assert!(said.code == 1 || said.code == 2, "{said:?}");
    assert!(said.err.contains("context") || said.err.contains("dev up"), "{}", said.err);

    cluster.manager(0).kill().expect("killed");
    let said = cluster.ctl().say(&["service", "ls", "--timeout", "2s"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(&cluster.address(0)), "it names whom it asked: {}", said.err);
}
