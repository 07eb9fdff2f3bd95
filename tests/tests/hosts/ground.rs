//! The laboratory itself: hosts see each other, cuts cut, and a dead host is dead.

use std::path::Path;
use std::time::Duration;

use tests::command::call;
use tests::hosts::switch::Direction;
use tests::hosts::{Host, Lab, Plan};
use tests::image::{self, MIMIC_1, MIMIC_PORT};
use tests::require::{LAB, can_run};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);

fn bare(hosts: usize) -> Lab {
    Lab::with(Plan { hosts, engines: 0 }).expect("bare hosts")
}

#[test]
fn every_host_reaches_every_other() {
    if !can_run("hosts: reach", &LAB) {
        return;
    }
    let lab = bare(4);
    for from in lab.hosts() {
        for to in lab.hosts() {
            assert!(from.reaches(to), "{} does not reach {}", from.name(), to.name());
        }
    }
}

#[test]
fn cut_host_is_alone_until_its_link_is_restored() {
    if !can_run("hosts: cut", &LAB) {
        return;
    }
    let lab = bare(3);
    let [one, two, three] = lab.hosts() else { panic!("three hosts") };
    for cut in [Host::cut, Host::unplug] {
        cut(two).expect("cut");
        assert!(!one.reaches(two) && !two.reaches(one));
        assert!(one.reaches(three), "the others are not touched");
        two.restore().expect("restored");
        wait::until_true("the link to come back", PATIENCE, || one.reaches(two) && two.reaches(one))
            .expect("back");
    }
}

#[test]
fn one_way_cut_lets_datagrams_through_in_the_other_direction_only() {
    if !can_run("hosts: one-way cut", &LAB) {
        return;
    }
    let lab = bare(2);
    let [one, two] = lab.hosts() else { panic!("two hosts") };
    // Both must know each other's link address first: asking for it needs both directions.
    assert!(one.reaches(two) && two.reaches(one));
    let socket_of = |host: &Host| {
        let socket = host.within(|| std::net::UdpSocket::bind((host.address(), 7000)));
        let socket = socket.expect("the namespace").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        socket
    };
    let (at_one, at_two) = (socket_of(one), socket_of(two));
    two.cut_one_way(Direction::ToHost).expect("cut");
    at_one.send_to(b"lost", (two.address(), 7000)).expect("sent");
    at_two.send_to(b"heard", (one.address(), 7000)).expect("sent");
    let mut buffer = [0; 8];
    assert_eq!(at_one.recv(&mut buffer).expect("from the cut host"), 5);
    assert!(at_two.recv(&mut buffer).is_err(), "the cut host hears nothing");
    two.restore().expect("restored");
    at_one.send_to(b"now", (two.address(), 7000)).expect("sent");
    assert_eq!(at_two.recv(&mut buffer).expect("heard again"), 3);
}

#[test]
fn image_has_the_same_id_on_every_engine() {
    if !can_run("hosts: image", &LAB) {
        return;
    }
    let lab = Lab::start(3).expect("three engines");
    let archive = image::mimic_archive().expect("the mimic's image");
    let id_on = |host: &Host| {
        host.engine().load(&archive).expect("loads");
        host.engine().inspect(MIMIC_1, "{{.Id}}").expect("an id")
    };
    let ids: Vec<String> = lab.hosts().iter().map(id_on).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn powered_off_host_takes_its_containers_along_and_boots_with_its_disk() {
    if !can_run("hosts: power", &LAB) {
        return;
    }
    let lab = Lab::start(1).expect("one engine");
    let host = lab.host(0);
    host.engine().load(&image::mimic_archive().expect("the image")).expect("loads");
    host.engine().docker(&["run", "--detach", "--name", "one", MIMIC_1]).expect("runs");
    let pid = host.engine().inspect("one", "{{.State.Pid}}").expect("a pid");
    let address = host.engine().address("one").expect("an address");
    wait::until_true("an answer", PATIENCE, || host.get((address, MIMIC_PORT), "/").is_ok())
        .expect("it serves");
    let daemon = host
        .spawn("daemon", {
            let mut c = host.command("sleep");
            c.arg("1000");
            c
        })
        .expect("a daemon");

    host.power_off().expect("off");
    assert!(daemon.wait_exit(PATIENCE).is_ok(), "the host's daemons are gone with it");
    assert!(host.get((address, MIMIC_PORT), "/").is_err(), "its containers too (pid {pid} on the host)");

    host.power_on().expect("on");
    host.engine().start().expect("the engine starts on the old disk");
    assert_eq!(host.engine().inspect("one", "{{.State.Running}}").expect("known"), "false");
    host.engine().docker(&["start", "one"]).expect("starts again");
}

#[test]
fn laboratory_leaves_nothing_behind() {
    if !can_run("hosts: clean", &LAB) {
        return;
    }
    let lab = bare(2);
    let (dir, namespace) = (lab.dir().to_owned(), lab.switch().namespace().to_owned());
    let daemon = lab.host(1).spawn("daemon", {
        let mut c = lab.host(1).command("sleep");
        c.arg("1000");
        c
    });
    let pid = daemon.expect("a daemon").pid();
    assert!(dir.is_dir() && call("ip", &["netns", "list"]).expect("a list").contains(&namespace));
    drop(lab);
    assert!(!dir.exists());
    assert!(!call("ip", &["netns", "list"]).expect("a list").contains(&namespace));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
