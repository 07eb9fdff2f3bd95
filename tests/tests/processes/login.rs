//! People log in to three real managers with the names and passwords of a real directory: its groups say what they may, and whoever
//! is not let in learns nothing.

use std::path::PathBuf;
use std::process::Child;

use tests::cluster::ctl::{Ctl, Said};
use tests::cluster::{Cluster, Plan};
use tests::directory::{ACCOUNT, Directory};
use tests::require::{Need, can_run};

use super::PATIENCE;

/// The exit code of a refusal.
const DENIED: i32 = 4;
/// What is looked for where it must not be.
const CANARY: &str = "canary-password-of-ann";

struct Site {
    cluster: Cluster,
    directory: Directory,
    place: tempfile::TempDir,
}

impl Site {
    fn open(managers: usize) -> Site {
        let place = tempfile::tempdir().expect("a directory");
        let directory = Directory::start(place.path()).expect("slapd");
        for (name, password) in
            [("ann", CANARY), ("bob", "bob-secret"), ("root", "root-secret"), ("eve", "eve-secret")]
        {
            directory.person(name, password).expect("a person");
        }
        directory.group("orch-admins", &["root"]).expect("a group");
        directory.group("mx", &["ann"]).expect("a group");
        directory.group("id23", &["ann", "bob"]).expect("a group");
        let site =
            Site { cluster: Cluster::start(Plan::loopback(managers)).expect("managers"), directory, place };
        site.declare(&["--role", "admin@cn=orch-admins,ou=groups,dc=example"]);
        site
    }

    fn path(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    fn declare(&self, more: &[&str]) {
        let (url, ca) = (self.directory.ldaps(), self.directory.authority().display().to_string());
        let words = [
            "login-method",
            "set",
            "ldap",
            "--ldap",
            &url,
            "--ca",
            &ca,
            "--user-dn",
            "uid={user},ou=people,dc=example",
            "--group-base",
            "ou=groups,dc=example",
            "--role",
            "team:ispyb@CN=mx, OU=groups, DC=example",
            "--role",
            "beamline:beamline=id23-1@cn=id23,ou=groups,dc=example",
        ];
        self.cluster.ctl().ok(&[&words[..], more].concat()).expect("declared");
    }

    fn nobody(&self, name: &str) -> Ctl {
        self.cluster.ctl().with_config(PathBuf::from(self.path(&format!("{name}.toml"))))
    }

    /// Somebody at a machine that knows nothing of the cluster but what an admin told.
    fn log_in(&self, user: &str, password: &str) -> (Ctl, Said) {
        let own = self.nobody(user);
        let inspected = self.cluster.ctl().ok(&["login-method", "inspect", "ldap"]).expect("shown");
        let hint =
            inspected.lines().find(|line| line.contains("--ca-fingerprint")).expect("how people log in");
        let fingerprint = hint.rsplit(' ').next().expect("a fingerprint");
        let (manager, user) = (self.cluster.address(0), user.to_owned());
        let words = [
            "login",
            "--manager",
            &manager,
            "--ca-fingerprint",
            fingerprint,
            "--user",
            &user,
            "--password-stdin",
            "--force",
        ];
        let said = own.say_to(&words, &format!("{password}\n"));
        (own, said)
    }

    fn let_in(&self, user: &str, password: &str) -> Ctl {
        let (own, said) = self.log_in(user, password);
        assert_eq!(said.code, 0, "{said:?}");
        own
    }

    fn service(&self, name: &str) {
        let words = ["service", "create", "--name", name, "--replicas", "0", "--detach", "orch/mimic:1"];
        self.cluster.ctl().ok(&words).expect("created");
    }
}

fn roles(ctl: &Ctl) -> Vec<String> {
    let me = ctl.json(&["whoami"]).expect("known");
    let roles = me["roles"].as_array().expect("roles").iter();
    roles.map(|role| role.as_str().expect("text").to_owned()).collect()
}

#[test]
fn the_groups_of_a_directory_say_what_people_may_and_say_it_anew_at_every_login() {
    if !can_run("login_groups", &[Need::Directory]) {
        return;
    }
    let site = Site::open(3);
    ["ispyb", "shop"].iter().for_each(|name| site.service(name));
    let root = site.let_in("root", "root-secret");
    assert_eq!(roles(&root), ["admin"]);
    root.ok(&["token", "create", "--quiet"]).expect("an admin");
    let ann = site.let_in("Ann", CANARY);
    assert_eq!(roles(&ann), ["team:ispyb", "beamline:beamline=id23-1"]);
    ann.ok(&["scale", "ispyb=0", "--detach"]).expect("hers");
    assert_eq!(ann.say(&["scale", "shop=0", "--detach"]).code, DENIED);
    assert_eq!(ann.say(&["token", "create"]).code, DENIED);
    let me = ann.ok(&["whoami"]).expect("known");
    assert!(
        me.contains("user ldap:ann") && me.contains("by ldap as uid=ann,ou=people,dc=example until"),
        "{me}"
    );
    assert!(site.cluster.ctl().ok(&["user", "ls"]).expect("a list").contains("ldap:ann"));

    site.directory.leave("mx", "ann").expect("left");
    let said = ann.say_to(&["login", "--user", "ann", "--password-stdin"], &format!("{CANARY}\n"));
    assert_eq!(said.code, 0, "the context knows the cluster: {said:?}");
    assert_eq!(roles(&ann), ["beamline:beamline=id23-1"]);
    assert_eq!(ann.say(&["scale", "ispyb=0", "--detach"]).code, DENIED);
}

#[test]
fn whoever_is_not_let_in_learns_nothing_and_no_secret_is_written_down_anywhere() {
    if !can_run("login_refusals", &[Need::Directory]) {
        return;
    }
    let site = Site::open(1);
    let wrong = site.log_in("ann", "wrong").1;
    assert_eq!(wrong.code, DENIED, "{wrong:?}");
    assert_eq!(wrong.err, site.log_in("nobody", "wrong").1.err, "a wrong name and a wrong password are one");
    let (_, none) = site.log_in("eve", "eve-secret");
    assert!(none.code == DENIED && none.err.contains("none of its groups has a role"), "{none:?}");
    assert_ne!(site.log_in("ann", "").1.code, 0);
    let binds = |site: &Site| site.directory.log_text().matches(" BIND dn=").count();
    let before = binds(&site);
    for name in ["*", "ann)(uid=*", "ann,ou=people", "uid=ann", "a\\2a", "ann+cn=x"] {
        let said = site.log_in(name, CANARY).1;
        assert_ne!(said.code, 0, "{name}: {said:?}");
    }
    assert_eq!(binds(&site), before, "nobody is asked about what is no name");
    site.let_in("ann", CANARY);

    for _ in 0..3 {
        assert_eq!(site.log_in("bob", "guess").1.code, DENIED);
    }
    let before = binds(&site);
    let said = site.log_in("bob", "bob-secret").1;
    assert!(said.code != 0 && said.err.contains("too many"), "{said:?}");
    assert_eq!(binds(&site), before, "the directory has nothing to lock");

    let audit = site.cluster.ctl().ok(&["audit", "ls", "--json"]).expect("the audit");
    for word in ["log in", "ldap:ann", "the name or the password is wrong", "127.0.0.1"] {
        assert!(audit.contains(word), "{word}: {audit}");
    }
    let shown = site.cluster.ctl().ok(&["login-method", "inspect", "ldap", "--json"]).expect("shown");
    let log = site.cluster.manager(0).log_text();
    let texts = [(audit, "the audit"), (shown, "inspect"), (log, "the log")];
    let mut places: Vec<_> = texts.into_iter().map(|(text, place)| (text.into_bytes(), place)).collect();
    for file in files_below(site.cluster.manager(0).dir()) {
        places.push((std::fs::read(file).unwrap_or_default(), "the manager's directory"));
    }
    for (text, place) in places {
        let holds = text.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!holds, "a password is in {place}");
    }
}

fn files_below(dir: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

#[test]
fn a_login_ends_with_its_user_its_method_or_its_time_everywhere_at_once() {
    if !can_run("login_ends", &[Need::Directory]) {
        return;
    }
    let site = Site::open(3);
    let admin = site.cluster.ctl();
    let end = |mut child: Child| {
        let ended = site.cluster.ask("the stream to end", PATIENCE, || child.try_wait().expect("a child"));
        assert_eq!(ended.expect("it ends").code(), Some(DENIED));
    };
    let ann = site.let_in("ann", CANARY);
    let stream = ann.follow_events();
    admin.ok(&["user", "rm", "ldap:ann"]).expect("removed");
    end(stream);
    assert_eq!(ann.say(&["service", "ls"]).code, DENIED);

    let ann = site.let_in("ann", CANARY);
    assert_ne!(ann.say(&["context", "renew"]).code, 0, "another certificate takes another login");
    assert_ne!(admin.say(&["user", "update", "ldap:ann", "--role", "admin"]).code, 0);
    admin.ok(&["user", "update", "ldap:ann", "--disable"]).expect("disabled");
    assert_eq!(site.log_in("ann", CANARY).1.code, DENIED, "the directory does not overrule an admin");
    admin.ok(&["user", "update", "ldap:ann", "--enable"]).expect("enabled");
    ann.ok(&["logout"]).expect("logged out");
    let said = ann.say(&["service", "ls"]);
    assert!(said.code == DENIED && said.err.contains("logged out"), "{said:?}");
    assert!(!std::fs::read_to_string(ann.config()).expect("a file").contains("PRIVATE KEY"));

    let bob = site.let_in("bob", "bob-secret");
    let stream = bob.follow_events();
    admin.ok(&["login-method", "rm", "ldap"]).expect("removed");
    end(stream);
    assert_eq!(bob.say(&["service", "ls"]).code, DENIED);
    assert!(!admin.ok(&["user", "ls"]).expect("a list").contains("ldap:"));

    site.declare(&["--ttl", "8s"]);
    let bob = site.let_in("bob", "bob-secret");
    end(bob.follow_events());
    let said = bob.say(&["service", "ls"]);
    assert!(said.code == DENIED && said.err.contains("orchctl login"), "{said:?}");
}

#[test]
fn a_directory_is_searched_over_start_tls_and_one_that_nobody_vouches_for_is_not_told_anything() {
    if !can_run("login_search", &[Need::Directory]) {
        return;
    }
    let site = Site::open(1);
    let (admin, url) = (site.cluster.ctl(), site.directory.ldap());
    let ca = site.directory.authority().display().to_string();
    let words = [
        "login-method",
        "set",
        "ldap",
        "--ldap",
        &url,
        "--search-base",
        "ou=people,dc=example",
        "--bind-dn",
        ACCOUNT.0,
        "--bind-password-stdin",
        "--role",
        "viewer@cn=mx,ou=groups,dc=example",
    ];
    let said = admin.say_to(&[&words[..], &["--ca", &ca]].concat(), ACCOUNT.1);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.all().contains(ACCOUNT.1), "{said:?}");
    let ann = site.let_in("ann", CANARY);
    assert_eq!(roles(&ann), ["viewer"], "her entry names her groups");
    assert_eq!(site.log_in("nobody", "wrong").1.code, DENIED);

    // No --ca: an authority that this machine does not know.
    let said = admin.say_to(&words, ACCOUNT.1);
    assert_eq!(said.code, 0, "{said:?}");
    let before = site.directory.log_text().matches(" BIND dn=").count();
    let said = site.log_in("ann", CANARY).1;
    assert!(said.code != 0 && said.err.contains("cannot judge"), "{said:?}");
    assert_eq!(site.directory.log_text().matches(" BIND dn=").count(), before);
    let shown = admin.ok(&["login-method", "inspect", "ldap"]).expect("shown");
    assert!(shown.contains("TLS with 127.0.0.1 fails"), "{shown}");
}
