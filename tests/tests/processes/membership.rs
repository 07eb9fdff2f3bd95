//! Who votes, who leads, who leaves, and what to do when the majority is gone.

use tests::cluster::boot::set_managers;
use tests::cluster::{Cluster, Plan};

use super::PATIENCE;

/// The exit code of a refusal, which systemd takes as final.
const DENIED: i32 = 4;

fn create(cluster: &Cluster, name: &str) {
    cluster
        .ctl()
        .ok(&["service", "create", "--name", name, "--replicas", "0", "--detach", "orch/mimic:1"])
        .expect("created");
}

#[test]
fn second_manager_stays_a_learner_loudly_until_a_third_one_joins() {
    let mut cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    create(&cluster, "before");
    cluster.add_manager().expect("joins");
    cluster
        .ask("the learner to be reached", PATIENCE, || {
            let members = cluster.members().ok()?;
            (members.len() == 2 && members.iter().all(|member| member.reachable)).then_some(())
        })
        .expect("reached");
    let members = cluster.members().expect("a list");
    assert_eq!(members.iter().filter(|member| member.voter).count(), 1, "{members:?}");
    let status = cluster.ctl().ok(&["status"]).expect("a status");
    assert!(status.contains("2 managers: one is a learner until a third joins"), "{status}");

    // The cluster does not depend on the learner.
    cluster.manager(1).kill().expect("killed");
    create(&cluster, "alone");
    cluster.manager(1).start().expect("started again");

    cluster.add_manager().expect("joins");
    cluster.wait_voters(3).expect("three voters");
    let status = cluster.ctl().ok(&["status"]).expect("a status");
    assert!(status.contains("1 may fail") && status.contains("nothing waits"), "{status}");
    let held = cluster.ask("the newest manager to have caught up", PATIENCE, || {
        let said = cluster.manager_says(2, &["service", "ls", "--stale"]);
        (said.out.contains("before") && said.out.contains("alone")).then_some(())
    });
    held.expect("everything from before it joined");
}

#[test]
fn lead_is_handed_over_and_any_manager_takes_any_request() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let leader = cluster.leader().expect("a leader");
    let next = (leader + 1) % 3;
    let name = cluster.manager(next).name().to_owned();
    let said = cluster.ctl().ok(&["manager", "transfer", &name]).expect("handed over");
    assert!(said.contains(&name), "{said}");
    assert_eq!(cluster.leader().expect("a leader"), next);

    for index in 0..3 {
        let service = format!("asked-{index}");
        let args = ["service", "create", "--name", &service, "--replicas", "0", "--detach", "orch/mimic:1"];
        let said = cluster.manager_says(index, &args);
        assert_eq!(said.code, 0, "{said:?}");
        // Read your own write, whomever you ask.
        for asked in 0..3 {
            let said = cluster.manager_says(asked, &["service", "inspect", &service]);
            assert_eq!(said.code, 0, "manager {asked}: {said:?}");
        }
    }
    let back = cluster.manager(leader).call(&["transfer"]).expect("it ends");
    assert_eq!(back.code, 0, "{}", back.all());
}

#[test]
fn manager_that_leaves_is_gone_and_cannot_come_back() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let leader = cluster.leader().expect("a leader");
    let leaving = (leader + 1) % 3;
    let name = cluster.manager(leaving).name().to_owned();
    let said = cluster.manager(leaving).call(&["leave"]).expect("it ends");
    assert_eq!(said.code, 0, "{}", said.all());
    cluster.manager(leaving).wait_exit(PATIENCE).expect("its process ends by itself");
    cluster
        .ask("the member to be gone", PATIENCE, || {
            let members = cluster.members().ok()?;
            members.iter().all(|member| member.name != name).then_some(())
        })
        .expect("gone");
    create(&cluster, "after");
    let again = cluster.manager(leaving).call(&["run"]).expect("it ends by itself");
    assert_ne!(again.code, 0, "{}", again.all());

    // The same for one that an operator removes.
    let other = (leader + 2) % 3;
    let name = cluster.manager(other).name().to_owned();
    cluster.ctl().ok(&["manager", "remove", &name]).expect("removed");
    cluster.manager(other).wait_exit(PATIENCE).expect("its process ends by itself");
    create(&cluster, "alone");
    // Started again by mistake, it neither joins nor disturbs, and it says what to do.
    cluster.manager(other).start().expect("starts");
    let status = cluster.manager(other).wait_exit(PATIENCE).expect("its process ends by itself");
    assert_eq!(status.code(), Some(DENIED), "{}", cluster.manager(other).last_words());
    let said = cluster.manager(other).log_text();
    assert!(said.contains("was removed from the cluster") && said.contains("join` anew"), "{said}");
    create(&cluster, "undisturbed");
    let members = cluster.members().expect("a list");
    assert_eq!(members.len(), 1, "{members:?}");
}

#[test]
fn manager_with_a_new_address_is_found_again() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let leader = cluster.leader().expect("a leader");
    let moving = (leader + 1) % 3;
    let manager = cluster.manager(moving);
    let (host, port) = cluster
        .address(moving)
        .rsplit_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .expect("host:port");
    let new = format!("{host}:{}", port.parse::<u16>().expect("a port") + 8);
    manager.stop().expect("it ends");
    let settings = format!("listen = \"{new}\"\naddress = \"{new}\"\n");
    std::fs::write(manager.dir().join("manager.toml"), settings).expect("written");
    manager.start().expect("started");
    cluster
        .ask("the new address", PATIENCE, || {
            let members = cluster.members().ok()?;
            let moved = members.iter().find(|member| member.name == manager.name())?;
            (moved.address == new && moved.reachable).then_some(())
        })
        .expect("known and reached");
    // It counts: with the third one dead, nothing goes without it.
    cluster.manager((leader + 2) % 3).kill().expect("killed");
    create(&cluster, "moved");
}

#[test]
fn survivor_of_a_lost_majority_is_made_a_cluster_again() {
    let mut cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    create(&cluster, "precious");
    cluster
        .ask("manager 1 to have it", PATIENCE, || {
            cluster.manager_says(0, &["service", "ls", "--stale"]).out.contains("precious").then_some(())
        })
        .expect("replicated");
    cluster.managers().iter().for_each(|manager| manager.kill().expect("killed"));

    let survivor = cluster.manager(0);
    let asked = survivor.call(&["recover"]).expect("it ends");
    assert_ne!(asked.code, 0, "without a confirmation nothing happens");
    assert!(asked.err.contains("--others-are-gone"), "{}", asked.err);
    let said = survivor.call(&["recover", "--others-are-gone"]).expect("it ends");
    assert_eq!(said.code, 0, "{}", said.all());
    survivor.start().expect("started");
    set_managers(cluster.ctl().config(), &[cluster.address(0)]).expect("a context");
    cluster.ask("the survivor to serve", PATIENCE, || cluster.ctl().ok(&["status"]).ok()).expect("serves");
    let services = cluster.ctl().ok(&["service", "ls"]).expect("a list");
    assert!(services.contains("precious"), "{services}");
    create(&cluster, "after");
    let members = cluster.members().expect("a list");
    assert_eq!(members.len(), 1, "{members:?}");

    // It grows again, with new managers on new disks.
    cluster.add_manager().expect("joins");
    cluster.add_manager().expect("joins");
    cluster.wait_voters(3).expect("three voters");
}

#[test]
fn manager_that_joins_waits_for_approval_and_both_sides_show_its_fingerprint() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let ctl = cluster.ctl();
    ctl.ok(&["manager", "approval", "on"]).expect("set");
    let join = |name: &str, port: u16| {
        let address = format!("127.0.0.1:{port}");
        let token = cluster.token("manager", 1).expect("a token");
        let mut command = std::process::Command::new(cluster.manager(0).program());
        command.args(["join", "--manager", &cluster.address(0), "--token", &token, "--name", name]);
        command.args(["--address", &address, "--listen", &address, "--dir"]).arg(cluster.dir().join(name));
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().expect("it starts")
    };
    let fingerprint = |name: &str| {
        let waiting = cluster.ask("it to wait", PATIENCE, || {
            let views = ctl.json(&["manager", "pending"]).ok()?;
            let view = views.as_array()?.iter().find(|view| view["name"] == name)?.clone();
            Some(view["fingerprint"].as_str()?.to_owned())
        });
        waiting.expect("it waits")
    };
    let welcome = join("m-welcome", 7998);
    let shown = fingerprint("m-welcome");
    let status = ctl.ok(&["status"]).expect("a status");
    assert!(status.contains("manager approve m-welcome"), "{status}");
    ctl.ok(&["manager", "approve", "m-welcome"]).expect("approved");
    let said: tests::cluster::ctl::Said = welcome.wait_with_output().expect("it ends").into();
    assert!(said.code == 0 && said.out.contains(&shown), "{said:?}");

    let stranger = join("m-stranger", 7999);
    ctl.ok(&["manager", "deny", &fingerprint("m-stranger")]).expect("denied");
    let said: tests::cluster::ctl::Said = stranger.wait_with_output().expect("it ends").into();
    assert!(said.code != 0 && said.err.contains("denied it"), "{said:?}");
    let audit = ctl.ok(&["audit", "ls"]).expect("records");
    assert!(audit.contains("approve") && audit.contains("deny"), "{audit}");
}
