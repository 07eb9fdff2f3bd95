//! Secrets and configs in real containers: what is in them, who may read it, where else it is, and when it goes.

use std::path::{Path, PathBuf};

use tests::cluster::Container;
use tests::cluster::ctl::Said;
use tests::command::finish;
use tests::image::{MIMIC_1, MIMIC_CHECKED};
use tests::wait;

use super::{PATIENCE, Site};

const CANARY: &str = "canary-9a0364b9e99bb480";

impl Site {
    fn set(&self, words: &[&str], value: &str) {
        let said = self.cluster.ctl().say_to(words, value);
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// What a program of the host says of a file as the container's processes see it.
    fn inside(&self, container: &Container, program: &[&str], path: &str) -> Said {
        let pid = self.node().engine().inspect(&container.id, "{{.State.Pid}}").expect("it runs");
        let mut command = self.host().command(program[0]);
        command.args(&program[1..]).arg(format!("/proc/{pid}/root{path}"));
        finish(&mut command).expect("it starts").into()
    }

    fn read(&self, container: &Container, path: &str) -> String {
        let said = self.inside(container, &["cat"], path);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    }

    /// What of this node is in memory for containers.
    fn kept(&self) -> Vec<PathBuf> {
        let places = ["/run/orch-agent", "/dev/shm/orch-agent"].map(PathBuf::from);
        let id = self.cluster.ctl().json(&["node", "ls"]).expect("nodes")[0]["node"]["id"].clone();
        let homes = places.iter().map(|place| place.join(id.as_str().expect("an id")));
        homes.filter_map(|home| std::fs::read_dir(home).ok()).flatten().flatten().map(|e| e.path()).collect()
    }
}

fn holds(path: &Path) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path).expect("a directory").flatten().any(|entry| holds(&entry.path()));
    }
    let contents = std::fs::read(path).unwrap_or_default();
    contents.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

#[test]
fn secret_is_in_the_container_as_declared_and_nowhere_else_and_goes_with_it() {
    let Some(site) = Site::start("a secret") else { return };
    site.set(&["secret", "create", "db", "-"], CANARY);
    let text = "{{ service.name }}.{{ task.slot }} on {{ node.hostname }}: {{ secret \"db\" }}";
    site.set(&["config", "create", "--template", "app.conf", "-"], text);
    let secret = "db,mode=0400,uid=1234,gid=5678";
    site.create("web", 1, &["--secret", secret, "--config", "app.conf,target=/etc/app.conf", MIMIC_CHECKED]);
    let first = site.only("web");
    assert_eq!(site.read(&first, "/run/secrets/db"), CANARY);
    let found = site.inside(&first, &["stat", "--format=%a %u %g"], "/run/secrets/db");
    assert_eq!(found.out, "400 1234 5678", "{found:?}");
    let host = site.node().name();
    assert_eq!(site.read(&first, "/etc/app.conf"), format!("web.1 on {host}: {CANARY}"));
    let write = site.inside(&first, &["truncate", "--size=0"], "/run/secrets/db");
    assert!(write.err.contains("Read-only"), "{write:?}");

    // A crash needs no manager: it is there still.
    site.node().engine().docker(&["kill", &first.id]).expect("killed");
    let second = site.wait_successor("web", &first);
    wait::until_true("it runs", PATIENCE, || site.get(&second, "/version").is_ok()).expect("it answers");
    assert_eq!(site.read(&second, "/run/secrets/db"), CANARY);

    let engine = site.node().engine();
    assert!(!engine.docker(&["inspect", &second.id]).expect("shown").contains(CANARY));
    for words in
        [&["events", "--after", "0.0"][..], &["service", "inspect", "--json", "web"], &["why", "web"]]
    {
        assert!(!site.ok(words).contains(CANARY), "{words:?}");
    }
    for daemon in [site.cluster.manager(0), site.node().agent()] {
        assert!(!holds(daemon.dir()), "in {}", daemon.dir().display());
        assert!(!daemon.log_text().contains(CANARY), "in the log of {}", daemon.name());
    }
    assert!(!site.kept().is_empty(), "it is in memory");
    site.ok(&["service", "rm", "web"]);
    wait::until_true("it is wiped", PATIENCE, || site.kept().is_empty()).expect("wiped");
}

#[test]
fn new_value_rolls_the_replicas_and_a_rollback_brings_the_old_one_back() {
    let Some(site) = Site::start("a new secret") else { return };
    site.set(&["secret", "create", "db", "-"], "one");
    site.create("web", 2, &["--secret", "db", MIMIC_CHECKED]);
    let values = || -> Vec<String> {
        site.cluster.wait_one_per_slot("web", 2, PATIENCE).expect("one for each slot");
        site.running("web").iter().map(|container| site.read(container, "/run/secrets/db")).collect()
    };
    let before = site.ids("web");
    site.set(&["secret", "update", "db", "-"], "one");
    assert_eq!(site.ids("web"), before, "the same value restarts nothing");
    site.set(&["secret", "update", "db", "-"], "two");
    assert_eq!(values(), ["two", "two"]);
    site.ok(&["service", "rollback", "web"]);
    assert_eq!(values(), ["one", "one"]);
}

#[test]
fn agent_that_begins_anew_without_managers_starts_containers_with_the_secrets_in_memory() {
    let Some(site) = Site::start("secrets without managers") else { return };
    site.set(&["secret", "create", "db", "-"], CANARY);
    site.create("web", 1, &["--secret", "db", MIMIC_1]);
    let first = site.only("web");
    site.cluster.manager(0).kill().expect("killed");
    site.node().agent().kill().expect("killed");
    site.node().engine().docker(&["kill", &first.id]).expect("killed");
    site.node().agent().start().expect("started");
    let second = site.wait_successor("web", &first);
    assert_eq!(site.read(&second, "/run/secrets/db"), CANARY);
    site.cluster.manager(0).start().expect("started");
}
