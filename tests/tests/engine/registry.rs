//! The laboratory's own registry: what the tests of images rest on.

use tests::hosts::Lab;
use tests::image::{MIMIC_1, MIMIC_2, mimic_archive};
use tests::registry::{Place, Plan, Registry};
use tests::require::{LAB, can_run};

#[test]
fn registry_serves_what_was_pushed_to_whom_it_knows() {
    if !can_run("engine: registry", &LAB) {
        return;
    }
    let lab = Lab::start(1).expect("a host");
    let engine = lab.host(0).engine();
    engine.load(&mimic_archive().expect("the mimic")).expect("loaded");
    let open = Registry::start(&lab, &Plan::default()).expect("a registry");
    let first = open.push(engine, MIMIC_1, "mx/web:prod").expect("pushed");
    engine.docker(&["pull", &open.image("mx/web:prod")]).expect("pulled");
    assert!(open.asked("/v2/mx/web/manifests/prod") > 0);
    let second = open.push(engine, MIMIC_2, "mx/web:prod").expect("the tag moves");
    assert_ne!(first, second);
    engine.docker(&["pull", &open.image(&format!("mx/web@{first}"))]).expect("by digest");

    let asking = Plan { login: Some(("ci", "secret")), ..Plan::default() };
    let closed = Registry::start(&lab, &asking).expect("a registry with a login");
    closed.push(engine, MIMIC_1, "mx/web:prod").expect("pushed by the back door");
    assert!(engine.docker(&["pull", &closed.image("mx/web:prod")]).is_err(), "it asks for a login");
    let config = lab.dir().join("client");
    let client = |args: &[&str]| {
        let mut command = engine.client();
        tests::command::run(command.arg("--config").arg(&config).args(args))
    };
    client(&["login", "--username", "ci", "--password", "secret", &closed.address()]).expect("logged in");
    client(&["pull", &closed.image("mx/web:prod")]).expect("pulled with the login");
    closed.set_login("ci", "other").expect("changed");
    let login = ["login", "--username", "ci", "--password"];
    assert!(
        client(&[&login[..], &["secret", &closed.address()]].concat()).is_err(),
        "the old one is refused"
    );
    client(&[&login[..], &["other", &closed.address()]].concat()).expect("the new one is taken");

    let tls = Registry::start(&lab, &Plan { place: Place::Host(0), tls: true, ..Plan::default() });
    let tls = tls.expect("a registry with TLS");
    tls.push(engine, MIMIC_1, "mx/web:prod").expect("pushed");
    let refused =
        engine.docker(&["pull", &tls.image("mx/web:prod")]).expect_err("nobody knows its authority");
    assert!(refused.to_string().contains("x509"), "{refused:#}");

    open.stop().expect("stopped");
    assert!(engine.docker(&["pull", &open.image("mx/web:prod")]).is_err());
    open.restart().expect("it comes back");
    engine.docker(&["pull", &open.image("mx/web:prod")]).expect("with what it had");
}
