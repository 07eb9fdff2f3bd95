//! A host that lives and cannot be heard: its replicas are replaced, and the old ones end when it is back.

use tests::hosts::switch::Direction;

use super::{PATIENCE, Site};

#[test]
fn cut_hosts_are_replaced_and_their_own_copies_end_when_the_link_is_back() {
    let Some(site) = Site::start("cut links") else { return };
    site.create("web", 4, &[]);
    for (index, way) in [(0, None), (1, Some(Direction::ToHost)), (2, Some(Direction::FromHost))] {
        let name = site.node(index).name().to_owned();
        let host = site.host(index);
        match way {
            None => host.cut().expect("cut"),
            Some(way) => host.cut_one_way(way).expect("cut"),
        }
        site.becomes(index, "down");
        site.moved_off("web", 4, &name);
        // Unreachable is not dead: its own copies run on until it hears otherwise.
        host.restore().expect("restored");
        site.becomes(index, "ready");
        site.whole("web", 4);
        site.stays("web");
        // Spread out again for the next one.
        site.ok(&["scale", "web=1"]);
        site.ok(&["scale", "web=4"]);
        site.whole("web", 4);
    }
}

#[test]
fn link_that_flickers_restarts_nothing() {
    let Some(site) = Site::start("flickering link") else { return };
    site.create("web", 3, &[]);
    let before = site.ids("web");
    for _ in 0..3 {
        site.host(0).cut().expect("cut");
        // Shorter than the patience with a server's silence.
        drop(tests::wait::steadily("a short silence", std::time::Duration::from_millis(300), || true));
        site.host(0).restore().expect("restored");
        site.becomes(0, "ready");
    }
    site.whole("web", 3);
    assert_eq!(site.ids("web"), before);
}

#[test]
fn frozen_agent_is_replaced_and_its_copies_end_when_it_is_thawed() {
    let Some(site) = Site::start("frozen agent") else { return };
    site.create("web", 3, &["--replicas-max-per-node", "2"]);
    let name = site.node(0).name().to_owned();
    site.node(0).agent().freeze().expect("frozen");
    site.becomes(0, "down");
    site.moved_off("web", 3, &name);
    site.node(0).agent().thaw().expect("thawed");
    site.becomes(0, "ready");
    site.whole("web", 3);
    let left = tests::cluster::containers::on(site.node(0).engine(), "web").expect("a list");
    assert!(left.iter().all(|container| !container.running), "{left:?}");
    site.cluster
        .ask("the old copies to be gone", PATIENCE, || {
            let left = tests::cluster::containers::on(site.node(0).engine(), "web").ok()?;
            left.iter().all(|container| !container.running).then_some(())
        })
        .expect("gone");
}
