//! Policies as an admin and a team meet them: what is refused, with which words, and how it is granted.

use tests::cluster::{Cluster, Plan, ctl::Ctl};
use tests::trust::attacks::policies::POWERS;

const IMAGE: &str = "registry.example/mx/web:1";

fn create<'a>(name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["service", "create", "--detach", "--name", name][..], rest, &[IMAGE]].concat()
}

fn denied(ctl: &Ctl, args: &[&str], says: &[&str]) -> String {
    let said = ctl.say(args);
    assert_eq!(said.code, 4, "{args:?}: {said:?}");
    for word in says {
        assert!(said.err.contains(word), "{args:?} does not say {word:?}: {}", said.err);
    }
    said.err
}

#[test]
fn what_gives_power_over_a_node_is_refused_until_the_line_that_the_refusal_says_grants_it() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let ctl = cluster.ctl();
    for (name, flags) in POWERS {
        let said = denied(ctl, &create(name, flags), &["needs a grant", "by default", "an admin"]);
        let line = said.split("orchctl ").nth(1).expect("the line that grants it");
        let line: Vec<&str> = line.split_whitespace().collect();
        ctl.ok(&line).expect("granted");
        ctl.ok(&create(name, flags)).expect("created with the grant");
        denied(ctl, &create(&format!("{name}-2"), flags), &["needs a grant"]);
    }
    ctl.ok(&create("drop", &["--cap-drop", "ALL"])).expect("less power needs no grant");
    assert_eq!(
        ctl.ok(&["policy", "check"]).expect("nothing"),
        "everything that runs or is scheduled would be admitted today"
    );
}

#[test]
fn policy_of_a_team_holds_on_every_way_a_declaration_comes() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let ctl = cluster.ctl();
    ctl.ok(&create("web", &[])).expect("free before");
    let cron = ["cron", "set", "--name", "sync", "--schedule", "0 4 * * *", IMAGE];
    ctl.ok(&cron).expect("free before");
    let file = "name = \"mx\"\ncontact = \"mx-it@example.org\"\n[services]\nnames = [\"web\", \"sync\"]\n\
                [require]\nimages = [\"registry.example/mx/*\"]\ndigest = true\n[caps]\nreplicas = 3\n";
    let dry = ctl.say_to(&["policy", "set", "--file", "-", "--dry-run"], file);
    assert_eq!(dry.code, 4, "{dry:?}");
    assert!(dry.out.contains("service web") && dry.out.contains("cron sync"), "{}", dry.out);
    assert_eq!(ctl.ok(&["policy", "ls", "--quiet"]).expect("a list"), "");
    let set = ctl.say_to(&["policy", "set", "--file", "-"], file);
    assert!(set.code == 0 && set.err.contains("2 of what runs"), "{set:?}");

    let status = ctl.ok(&["status"]).expect("a status");
    assert!(status.contains("service web") && status.contains("require.digest"), "{status}");
    let says = ["policy \"mx\"", "mx-it@example.org"];
    denied(ctl, &["service", "update", "web", "--detach", "--env-add", "A=1"], &says);
    denied(ctl, &["deploy", "web", "--detach", "--image", "registry.example/mx/web:2"], &says);
    denied(ctl, &["scale", "web=4", "--detach"], &["caps.replicas", "at most 3"]);
    ctl.ok(&["scale", "web=3", "--detach"]).expect("within the cap");
    denied(ctl, &["cron", "run-now", "sync"], &says);
    denied(ctl, &["run", "--name", "web", "--detach", IMAGE], &["require.digest"]);
    denied(ctl, &["run", "--name", "sync", "--detach", IMAGE], &says);
    ctl.ok(&["cron", "suspend", "sync"]).expect("what would be refused may be suspended");
    denied(ctl, &["cron", "resume", "sync"], &says);

    let digest = format!("registry.example/mx/web@sha256:{}", "a".repeat(64));
    denied(
        ctl,
        &["deploy", "web", "--detach", "--image", &digest.replace("/mx/", "/px/")],
        &["require.images"],
    );
    ctl.ok(&["deploy", "web", "--detach", "--image", &digest]).expect("as it has to be");
    denied(ctl, &["service", "rollback", "web", "--detach"], &["may not roll back", "require.digest"]);
    ctl.ok(&["policy", "rm", "mx"]).expect("gone");
    ctl.ok(&["service", "rollback", "web", "--detach"]).expect("free again");

    let text = ctl.say(&["policy", "rm", "mx"]);
    assert_eq!(text.code, 1, "{text:?}");
    let empty = ctl.say(&["policy", "set", "all", "--grant-cap", "SYS_TIME"]);
    assert!(empty.code == 2 && empty.err.contains("names its services"), "{empty:?}");
}

#[test]
fn policies_outlive_the_leader_and_read_back_as_they_were_written() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let ctl = cluster.ctl();
    ctl.ok(&["policy", "set", "ports", "--forbid-port", "1-1023", "--max-memory", "1g", "--contact", "ops"])
        .expect("set");
    ctl.ok(&["policy", "set", "ports", "--forbid-port", "9090"]).expect("added to");
    let spec = ctl.ok(&["policy", "inspect", "ports", "--spec"]).expect("a file");
    assert!(spec.contains("\"1-1023\"") && spec.contains("\"9090\"") && spec.contains("1GiB"), "{spec}");
    let again = ctl.say_to(&["policy", "set", "--file", "-"], &spec);
    assert_eq!(again.code, 0, "{again:?}");
    ctl.ok(&["manager", "transfer"]).ok();
    denied(
        ctl,
        &create("web", &["--limit-memory", "512m", "--publish", "80:8080"]),
        &["port 80", "forbid.ports", "ops"],
    );
    denied(ctl, &create("web", &[]), &["caps.memory", "a limit of memory"]);
    ctl.ok(&create("web", &["--limit-memory", "512m", "--publish", "8080:8080"])).expect("within all");
}
