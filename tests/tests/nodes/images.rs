//! Images of a real registry: what a tag means is asked once, by the managers; what they are told is what every node runs.

use std::collections::BTreeSet;

use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, Plan};
use tests::image::{MIMIC_1, MIMIC_2};
use tests::registry::{self, Registry};
use tests::registry::{
    cosign::{Signer, Signing},
    sigstore::{Job, Sigstore},
};
use tests::require::{LAB, can_run};

use super::PATIENCE;

/// A manager, two nodes without images, and a registry with `mx/web:prod`.
struct Place {
    cluster: Cluster,
    registry: Registry,
    /// The digest of version 1.
    first: String,
}

impl Place {
    fn start(test: &str, plan: &registry::Plan) -> Option<Place> {
        if !can_run(&format!("nodes: {test}"), &LAB) {
            return None;
        }
        let cluster = Cluster::start(Plan::lab(1, 2)).expect("a manager and two nodes");
        let registry = Registry::start(cluster.lab(), plan).expect("a registry");
        cluster.node(0).engine().load(&tests::image::mimic_archive().expect("the mimic")).expect("loaded");
        let first = registry.push(cluster.node(0).engine(), MIMIC_1, "mx/web:prod").expect("pushed");
        Some(Place { cluster, registry, first })
    }

    /// The tag means version 2 from now on.
    fn move_tag(&self) -> String {
        self.registry.push(self.cluster.node(0).engine(), MIMIC_2, "mx/web:prod").expect("pushed")
    }

    fn say(&self, args: &[&str]) -> Said {
        self.cluster.ctl().say(args)
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cluster.ctl().ok(args).expect("orchctl")
    }

    fn declare_plain(&self) {
        self.ok(&["registry", "set", &self.registry.address(), "--plain-http"]);
    }

    fn create(&self, replicas: usize, flags: &[&str]) {
        let (image, count) = (self.registry.image("mx/web:prod"), replicas.to_string());
        let args = ["service", "create", "--name", "web", "--replicas", &count, "--quiet"];
        self.ok(&[&args[..], flags, &[&image]].concat());
        self.cluster.wait_one_per_slot("web", replicas, PATIENCE).expect("running");
    }

    /// The images that the service's containers run, as their engines name them.
    fn images(&self) -> BTreeSet<String> {
        let mut images = BTreeSet::new();
        for node in self.cluster.nodes() {
            for container in tests::cluster::containers::on(node.engine(), "web").expect("an engine") {
                if container.running {
                    images.insert(node.engine().inspect(&container.id, "{{.Image}}").expect("its image"));
                }
            }
        }
        images
    }

    /// Questions of the managers for a manifest.
    fn asked_by_managers(&self) -> usize {
        self.registry.asked("orch/")
    }
}

#[test]
fn moved_tag_splits_no_service_and_a_registry_that_is_down_stops_nobody() {
    let Some(place) = Place::start("moved tag", &registry::Plan::default()) else { return };
    let address = place.registry.address();
    let wrong = place.say(&["registry", "set", &address]);
    assert!(wrong.code == 2 && wrong.err.contains("--plain-http"), "{}", wrong.all());
    place.declare_plain();
    assert!(place.ok(&["registry", "ls"]).contains("answers"), "{}", place.ok(&["registry", "ls"]));

    let asked = place.asked_by_managers();
    place.create(
        2,
        &["--update-order", "stop-first", "--update-monitor", "100ms", "--restart-delay", "100ms"],
    );
    assert_eq!(place.asked_by_managers(), asked + 1, "once for the cluster");
    let before = place.images();
    assert_eq!(before.len(), 1);
    let second = place.move_tag();
    assert_ne!(second, place.first);
    place.ok(&["scale", "web=4"]);
    assert_eq!(place.images(), before, "the tag means what it meant");

    // What the registry does not have does not even begin.
    let unknown = place.registry.image("mx/web:nothing");
    let refused = place.say(&["deploy", "web", "--image", &unknown]);
    assert!(refused.code == 2 && refused.err.contains("does not have"), "{}", refused.all());
    let unknown = place.registry.image(&format!("mx/web@sha256:{}", "0".repeat(64)));
    let refused = place.say(&["deploy", "web", "--image", &unknown]);
    assert!(refused.code == 2 && refused.err.contains("does not have"), "{}", refused.all());

    let image = place.registry.image(&format!("mx/web@{second}"));
    place.ok(&["deploy", "web", "--image", &image]);
    let after = place.images();
    assert!(after.len() == 1 && after != before, "{after:?} after {before:?}");

    place.registry.stop().expect("stopped");
    place.ok(&["scale", "web=6"]);
    assert_eq!(place.images(), after);
    let victim = place.cluster.containers("web").into_iter().find(|container| container.running);
    let victim = victim.expect("a container");
    let engine = place.cluster.nodes().iter().find(|node| node.engine().address(&victim.id).is_ok());
    engine.expect("its engine").engine().docker(&["kill", &victim.id]).expect("killed");
    place.cluster.wait_one_per_slot("web", 6, PATIENCE).expect("running again");
    place.ok(&["service", "rollback", "web"]);
    assert_eq!(place.images(), before, "from what is on the nodes");
}

#[test]
fn login_is_given_at_pull_time_and_a_new_one_counts_at_once() {
    let plan = registry::Plan { login: Some(("ci", "first-secret")), ..registry::Plan::default() };
    let Some(place) = Place::start("logins", &plan) else { return };
    let address = place.registry.address();
    let set = |password: &str, more: &[&str]| {
        let args = ["registry", "set", &address, "--plain-http", "--username", "ci", "--password-stdin"];
        place.cluster.ctl().say_to(&[&args[..], more].concat(), &format!("{password}\n"))
    };
    let wrong = set("wrong-secret", &[]);
    assert!(wrong.code == 2 && wrong.err.contains("refuses the login of ci"), "{}", wrong.all());
    assert_eq!(set("wrong-secret", &["--no-check"]).code, 0);

    // No node has a login of its own: with the wrong one nothing is pulled, and what is said helps.
    let image = place.registry.image("mx/web:prod");
    let flags = ["--restart-delay", "100ms", "--update-order", "stop-first", "--update-monitor", "100ms"];
    let args = ["service", "create", "--name", "web", "--replicas", "2", "--detach"];
    place.ok(&[&args[..], &flags, &[&image]].concat());
    let advised =
        || place.ok(&["why", "web"]).contains(&format!("orchctl registry set {address}")).then_some(());
    place.cluster.ask("advice", PATIENCE, advised).expect("the reason and what helps");

    let right = set("first-secret", &[]);
    assert_eq!(right.code, 0, "{}", right.all());
    place.cluster.wait_one_per_slot("web", 2, PATIENCE).expect("running with the login");

    // The registry's login changes; the cluster's with it: the next image comes.
    let second = place.move_tag();
    place.registry.set_login("ci", "second-secret").expect("changed");
    assert_eq!(set("second-secret", &[]).code, 0);
    let before = place.images();
    place.ok(&["deploy", "web", "--image", &place.registry.image(&format!("mx/web@{second}"))]);
    assert_ne!(place.images(), before);

    for secret in ["first-secret", "second-secret", "wrong-secret"] {
        for said in [
            place.ok(&["registry", "inspect", &address, "--json"]),
            place.ok(&["registry", "ls"]),
            place.ok(&["service", "inspect", "web", "--json"]),
            place.ok(&["events", "--after", "0.0", "--json"]),
        ] {
            assert!(!said.contains(secret), "{said}");
        }
        for log in
            place.cluster.managers().iter().chain(place.cluster.nodes().iter().map(|node| node.agent()))
        {
            assert!(!log.log_text().contains(secret), "in the log of {}", log.name());
        }
    }
}

#[test]
fn stop_first_update_has_the_image_before_it_stops_anything() {
    let Some(place) = Place::start("fetch", &registry::Plan::default()) else { return };
    place.declare_plain();
    place.create(
        2,
        &["--update-order", "stop-first", "--update-monitor", "100ms", "--restart-delay", "100ms"],
    );
    let running = || -> BTreeSet<String> {
        let all = place.cluster.containers("web").into_iter().filter(|container| container.running);
        all.map(|container| container.id).collect()
    };
    let (before, images) = (running(), place.images());

    // The registry takes connections and says nothing: who pulls now waits.
    let image = place.registry.image(&format!("mx/web@{}", place.move_tag()));
    place.registry.freeze().expect("frozen");
    place.ok(&["deploy", "web", "--image", &image, "--detach"]);
    let told = || place.ok(&["why", "web"]).contains(&format!("fetches {image} on h")).then_some(());
    place.cluster.ask("the fetch", PATIENCE, told).expect("the rollout says what it waits for");
    tests::wait::steadily("the old replicas", super::CALM, || running() == before).expect("they go on");
    place.registry.thaw().expect("thawed");
    place.ok(&["deploy", "web", "--image", &image]);
    assert!(place.images().is_disjoint(&images));

    // Nobody but the nodes can say that this is not there, and nothing stops for it.
    let before = running();
    place.ok(&["registry", "rm", &place.registry.address()]);
    let unknown = place.registry.image("mx/web:nothing");
    let failed = place.say(&["deploy", "web", "--image", &unknown]);
    assert_eq!(failed.code, 3, "{}", failed.all());
    assert!(failed.err.contains("cannot fetch"), "{}", failed.all());
    assert_eq!(running(), before, "no replica was touched");
}

#[test]
fn authority_of_ones_own_is_believed_by_the_managers_where_it_was_named() {
    let plan = registry::Plan { place: registry::Place::Host(0), tls: true, ..registry::Plan::default() };
    let Some(place) = Place::start("authority", &plan) else { return };
    let address = place.registry.address();
    let unknown = place.say(&["registry", "set", &address]);
    assert!(unknown.code == 2 && unknown.err.contains("--ca"), "{}", unknown.all());
    let authority = place.registry.authority().to_str().expect("a path");
    place.ok(&["registry", "set", &address, "--ca", authority]);
    assert!(place.ok(&["registry", "ls"]).contains("answers"));

    let missing = place.registry.image("mx/web:nothing");
    let refused = place.say(&["service", "create", "--name", "none", "--detach", &missing]);
    assert!(refused.code == 2 && refused.err.contains("does not have"), "{}", refused.all());
    // The node's engine has no such trust: what the tag means is known all the same, by the managers' own question.
    let image = place.registry.image("mx/web:prod");
    place.ok(&["service", "create", "--name", "web", "--detach", &image]);
    let known = || {
        let service = place.cluster.ctl().json(&["service", "inspect", "web"]).ok()?;
        service.to_string().contains(&place.first).then_some(())
    };
    place.cluster.ask("the tag's meaning", PATIENCE, known).expect("it was asked for");
}

#[test]
fn only_what_the_policys_key_signed_is_run_and_by_the_digest_that_it_signed() {
    let Some(place) = Place::start("signed images", &registry::Plan::default()) else { return };
    let (key, other) = (Signer::new(), Signer::new());
    let file = place.cluster.lab().dir().join("cosign.pub");
    key.write_public_key(&file).expect("written");
    let file = file.to_str().expect("a path");
    let policy = ["policy", "set", "team-mx", "--service", "web", "--contact", "mx-it@example.org"];
    place.ok(&[&policy[..], &["--require-signed-by", file]].concat());
    let shown = place.ok(&["policy", "inspect", "team-mx", "--spec"]);
    assert!(shown.contains("BEGIN PUBLIC KEY"), "{shown}");

    let tag = place.registry.image("mx/web:prod");
    let refused = |why: &str| {
        let said = place.say(&["service", "create", "--name", "web", "--detach", &tag]);
        assert_eq!(said.code, 4, "{}", said.all());
        for part in [why, "require.signed_by of policy \"team-mx\"", "mx-it@example.org"] {
            assert!(said.err.contains(part), "{part}: {}", said.all());
        }
    };
    refused("orchctl registry set");
    place.declare_plain();
    refused("its registry has no signature of it");
    place.registry.sign(&other, "mx/web", &place.first).expect("signed");
    refused("all by other keys");
    let (first, repository) = (place.first.clone(), place.registry.image("mx/web"));
    let mut copied = Signing { repository: "mx/web", beside: &first, names: &repository, digest: &first };
    let zeros = format!("sha256:{}", "0".repeat(64));
    copied.digest = &zeros;
    place.registry.put_signature(&key, copied).expect("put");
    refused("another image");
    let elsewhere = place.registry.image("mx/api");
    place.registry.put_signature(&key, Signing { names: &elsewhere, digest: &first, ..copied }).expect("put");
    refused("another repository");

    place.registry.sign(&key, "mx/web", &place.first).expect("signed");
    place.create(
        2,
        &["--update-order", "stop-first", "--update-monitor", "100ms", "--restart-delay", "100ms"],
    );
    let before = place.images();
    let shown = place.ok(&["service", "inspect", "web"]);
    assert!(shown.contains(&place.first) && shown.contains("signed by"), "{shown}");

    // The tag moves to what nobody signed: it is refused, and what runs and is made anew stays what was signed.
    let second = place.move_tag();
    let exact = place.registry.image(&format!("mx/web@{second}"));
    let said = place.say(&["deploy", "web", "--image", &exact]);
    assert!(said.code == 4 && said.err.contains("has no signature"), "{}", said.all());
    place.ok(&["scale", "web=3"]);
    assert_eq!(place.images(), before);
    place.registry.sign(&key, "mx/web", &second).expect("signed");
    place.ok(&["deploy", "web", "--image", &exact]);
    let after = place.images();
    assert!(after.len() == 1 && after != before, "{after:?} after {before:?}");
    // The way back carries its signature, registry or no registry.
    place.registry.stop().expect("stopped");
    place.ok(&["service", "rollback", "web"]);
    assert_eq!(place.images(), before);
    let said = place.say(&["deploy", "web", "--image", &place.registry.image("mx/web:other")]);
    assert!(said.code == 4 && said.err.contains("did not say"), "{}", said.all());
}

#[test]
fn only_what_a_pipeline_of_the_policys_signed_is_run() {
    const GITLAB: &str = "https://gitlab.example";
    const PIPELINE: &str = "https://gitlab.example/mx/web//.gitlab-ci.yml@refs/heads/main";
    let Some(place) = Place::start("signed by identity", &registry::Plan::default()) else { return };
    place.declare_plain();
    let sigstore = Sigstore::new().expect("keys");
    let dir = place.cluster.lab().dir();
    sigstore.write(dir).expect("written");
    let signer = format!(
        "issuer={GITLAB},subject=https://gitlab.example/mx/web//*,authority={0}/authority.pem,log={0}/log.pub",
        dir.display()
    );
    let policy = ["policy", "set", "team-mx", "--service", "web", "--require-signed-by-identity"];
    place.ok(&[&policy[..], &[&signer]].concat());
    let shown = place.ok(&["policy", "inspect", "team-mx", "--spec"]);
    assert!(shown.contains("[[require.signed_by_identity]]"), "{shown}");
    let file = dir.join("team-mx.toml");
    std::fs::write(&file, shown).expect("written");
    place.ok(&["policy", "set", "--file", file.to_str().expect("a path")]);

    let tag = place.registry.image("mx/web:prod");
    let refused = |why: &str| {
        let said = place.say(&["service", "create", "--name", "web", "--detach", &tag]);
        assert!(said.code == 4 && said.err.contains(why), "{why}: {}", said.all());
    };
    refused("has no signature by https://gitlab.example/mx/web//* (https://gitlab.example)");
    let sign = |sigstore: &Sigstore, subject: &str| {
        let job = Job::new(GITLAB, subject);
        place.registry.sign_as(sigstore, job, "mx/web", &place.first).expect("signed");
    };
    let elsewhere = "https://gitlab.example/mx/other//.gitlab-ci.yml@refs/heads/main";
    sign(&sigstore, elsewhere);
    refused(&format!("its certificate is of {elsewhere}"));
    sign(&Sigstore::new().expect("keys"), PIPELINE);
    refused("it is of another log");
    sign(&sigstore, PIPELINE);
    place.create(1, &[]);
    let shown = place.ok(&["service", "inspect", "web"]);
    assert!(shown.contains(&place.first) && shown.contains("https://gitlab.example/mx/web//*"), "{shown}");
    // It goes with the declaration: what comes later asks nobody.
    place.registry.stop().expect("stopped");
    place.ok(&["scale", "web=2"]);
    assert_eq!(place.images().len(), 1);
}
