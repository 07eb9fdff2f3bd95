//! Users on three real managers: each role may do its own and nothing else, changes hold at once, whoever is removed is cut off.

use std::path::PathBuf;
use std::process::Child;

use tests::cluster::boot::set_managers;
use tests::cluster::ctl::Ctl;
use tests::cluster::{Cluster, Plan};

use super::PATIENCE;

/// The exit code of a refusal.
const DENIED: i32 = 4;

struct Site {
    cluster: Cluster,
    place: tempfile::TempDir,
}

impl Site {
    fn open(managers: usize) -> Site {
        let cluster = Cluster::start(Plan::loopback(managers)).expect("managers");
        Site { cluster, place: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Makes a user and returns its own orchctl, with the context imported as a person does.
    fn user(&self, name: &str, flags: &[&str]) -> Ctl {
        let out = self.path(&format!("{name}.out.toml"));
        let words = ["user", "create", name, "--out", out.to_str().expect("a path")];
        self.cluster.ctl().ok(&[&words[..], flags].concat()).expect("a user");
        let own = self.cluster.ctl().with_config(self.path(&format!("{name}.toml")));
        own.ok(&["context", "import", out.to_str().expect("a path")]).expect("imported");
        own
    }

    /// The same user, who knows manager `index` only.
    fn through(&self, user: &Ctl, index: usize) -> Ctl {
        let file =
            self.path(&format!("only-{index}-{}", user.config().file_name().expect("a name").display()));
        std::fs::copy(user.config(), &file).expect("copied");
        set_managers(&file, &[self.cluster.address(index)]).expect("a context");
        user.with_config(file)
    }

    fn create(&self, name: &str, label: &str) {
        let words = [
            "service",
            "create",
            "--name",
            name,
            "--label",
            label,
            "--replicas",
            "0",
            "--detach",
            "orch/mimic:1",
        ];
        self.cluster.ctl().ok(&words).expect("created");
    }
}

#[test]
fn each_role_may_do_its_own_and_nothing_else_on_every_manager() {
    let site = Site::open(3);
    site.create("ispyb", "app=mx");
    site.create("shop", "app=shop");
    let ops = site.user("ops", &["--role", "operator"]);
    let ann = site.user("ann", &["--role", "team:app=mx", "--ttl", "1h"]);
    let eve = site.user("eve", &["--role", "viewer"]);
    let scale = |who: &Ctl, what: &str| who.say(&["scale", what, "--detach"]).code;
    for index in 0..3 {
        let (ops, ann, eve) =
            (site.through(&ops, index), site.through(&ann, index), site.through(&eve, index));
        assert_eq!(scale(&ops, "shop=0"), 0);
        assert_eq!(scale(&ann, "ispyb=0"), 0);
        assert_eq!(scale(&ann, "shop=0"), DENIED);
        assert_eq!(scale(&eve, "ispyb=0"), DENIED);
        for who in [&ops, &ann, &eve] {
            assert_eq!(who.say(&["token", "create"]).code, DENIED);
            assert_eq!(who.say(&["user", "update", "eve", "--role", "admin"]).code, DENIED);
            assert!(who.ok(&["service", "ls"]).expect("a list").contains("shop"));
        }
    }
    let said = ann.say(&["service", "update", "shop", "--label-add", "app=mx", "--detach"]);
    assert_eq!(said.code, DENIED, "nobody takes what is not theirs: {said:?}");
    let said = ann.say(&["can-i", "deploy", "ispyb"]);
    assert_eq!((said.code, said.out.starts_with("yes")), (0, true), "{said:?}");
    let said = ann.say(&["can-i", "deploy", "shop"]);
    assert_eq!((said.code, said.out.starts_with("no")), (DENIED, true), "{said:?}");
    assert!(said.out.contains("team:app=mx") && said.out.contains("ask an admin"), "{said:?}");
    let list = ann.ok(&["can-i", "--list"]).expect("a list");
    assert!(list.lines().any(|line| line.contains("deploy") && line.contains("team:app=mx")), "{list}");
    let me = ann.json(&["whoami"]).expect("known");
    assert_eq!(me["roles"][0], "team:app=mx");
    assert_eq!(me["life"], "1h");
}

#[test]
fn a_change_of_roles_holds_at_once_and_a_removed_user_is_cut_off_everywhere() {
    let site = Site::open(3);
    site.create("ispyb", "app=mx");
    let admin = site.cluster.ctl();
    let ann = site.user("ann", &["--role", "viewer"]);
    assert_eq!(ann.say(&["scale", "ispyb=0", "--detach"]).code, DENIED);
    admin.ok(&["user", "update", "ann", "--role", "team:ispyb"]).expect("changed");
    ann.ok(&["scale", "ispyb=0", "--detach"]).expect("allowed from now on");
    admin.ok(&["user", "update", "ann", "--disable"]).expect("disabled");
    assert_eq!(ann.say(&["service", "ls"]).code, DENIED);
    admin.ok(&["user", "update", "ann", "--enable"]).expect("enabled");
    ann.ok(&["service", "ls"]).expect("let in again");

    let mut open: Vec<Child> = (0..3).map(|index| site.through(&ann, index).follow_events()).collect();
    admin.ok(&["user", "rm", "ann"]).expect("removed");
    for child in &mut open {
        let ended = site.cluster.ask("the stream to end", PATIENCE, || child.try_wait().expect("a child"));
        assert_eq!(ended.expect("it ends").code(), Some(DENIED));
    }
    for index in 0..3 {
        let ann = site.through(&ann, index);
        assert_eq!(ann.say(&["service", "ls"]).code, DENIED);
        assert_ne!(ann.say(&["service", "ls", "--stale"]).code, 0);
        assert_eq!(ann.say(&["scale", "ispyb=0", "--detach"]).code, DENIED);
        assert_eq!(ann.say(&["context", "renew"]).code, DENIED);
    }
    let again = site.user("ann2", &["--role", "viewer"]);
    assert_eq!(ann.say(&["service", "ls"]).code, DENIED);
    again.ok(&["service", "ls"]).expect("somebody else");
}

#[test]
fn a_user_renews_its_certificate_over_a_key_of_its_own_and_it_keeps_its_life() {
    let site = Site::open(1);
    let ann = site.user("ann", &["--role", "viewer", "--ttl", "2h"]);
    let until = |ctl: &Ctl| ctl.json(&["whoami"]).expect("known")["valid_until"].as_u64().expect("a time");
    let (before, file) = (until(&ann), std::fs::read_to_string(ann.config()).expect("a file"));
    ann.ok(&["context", "renew"]).expect("renewed");
    let (after, renewed) = (until(&ann), std::fs::read_to_string(ann.config()).expect("a file"));
    assert!(after >= before && after < before + 3_600_000_000, "{before} {after}");
    assert_ne!(file, renewed, "a new key and a new certificate");
    site.cluster.ctl().ok(&["user", "update", "ann", "--ttl", "1s"]).expect("changed");
    ann.ok(&["context", "renew"]).expect("renewed");
    let expired = site.cluster.ask("the certificate to expire", PATIENCE, || {
        let said = ann.say(&["service", "ls"]);
        (said.code != 0).then_some(said)
    });
    let said = expired.expect("it expires");
    assert!(said.code == DENIED && said.err.contains("expired"), "{said:?}");
}

#[test]
fn a_second_context_is_not_written_over_the_first() {
    let site = Site::open(1);
    site.user("ann", &["--role", "viewer"]);
    let out = site.path("ann.out.toml");
    let before = std::fs::read_to_string(&out).expect("there");
    let words = ["user", "certificate", "ann", "--out", out.to_str().expect("a path")];
    assert_eq!(site.cluster.ctl().say(&words).code, 2);
    assert_eq!(std::fs::read_to_string(&out).expect("there"), before);
    site.cluster.ctl().ok(&[&words[..], &["--force"]].concat()).expect("replaced");
    assert_ne!(std::fs::read_to_string(&out).expect("there"), before);
}

#[test]
fn root_on_a_managers_machine_needs_no_certificate_and_makes_an_admin() {
    let site = Site::open(3);
    let socket = site.cluster.manager(2).dir().join("manager.sock");
    let socket = socket.to_str().expect("a path");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(socket).expect("a socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A context file that is not there: nothing but the socket is used.
    let nobody = site.cluster.ctl().with_config(site.path("none.toml"));
    assert_eq!(nobody.say(&["service", "ls"]).code, 1);
    let me = nobody.json(&["--socket", socket, "whoami"]).expect("known");
    assert_eq!(me["roles"][0], "admin");
    let out = site.path("ann.out.toml");
    let words = [
        "--socket",
        socket,
        "user",
        "create",
        "ann",
        "--role",
        "admin",
        "--out",
        out.to_str().expect("a path"),
    ];
    nobody.ok(&words).expect("a follower hands it on");
    nobody.ok(&["context", "import", out.to_str().expect("a path")]).expect("imported");
    nobody.ok(&["token", "create", "--quiet"]).expect("an admin by a certificate");
}
