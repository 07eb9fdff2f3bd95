//! The authority is replaced while a node is away: it comes back by itself, and no container stops.

use super::{PATIENCE, Site};

#[test]
fn node_that_was_away_while_the_authority_was_replaced_comes_back_by_proof_of_its_key_and_no_container_stops()
{
    let Some(site) = Site::with_web("rotation", 1, &[]) else { return };
    let (ctl, agent) = (site.cluster.ctl(), site.node().agent());
    let ids = || site.cluster.containers("web").into_iter().map(|found| found.id).collect::<Vec<_>>();
    let first = ids();
    assert_eq!(first.len(), 1);

    // There: it is told, and has another certificate at once.
    ctl.ok(&["authority", "rotate", "--timeout", "60s"]).unwrap_or_else(|error| {
        panic!("{error:#}\n{}", agent.log_text());
    });
    ctl.ok(&["authority", "finish"]).expect("finished");
    ctl.ok(&["scale", "web=2"]).unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log_text()));

    // Away, from before the rotation until after its end.
    agent.stop().expect("it ends");
    site.cluster.wait_node(site.node().name(), "down", PATIENCE).expect("down");
    let said = ctl.say(&["authority", "rotate", "--timeout", "60s"]);
    assert!(said.code == 0 && said.out.contains("come back by themselves"), "{said:?}");
    assert_ne!(ctl.say(&["authority", "finish"]).code, 0, "a node would be left behind");
    ctl.ok(&["authority", "finish", "--leave-behind"]).expect("finished");
    agent.start().expect("started");
    site.cluster
        .wait_node(site.node().name(), "ready", PATIENCE)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log_text()));
    let audit = ctl.ok(&["audit", "ls"]).expect("a list");
    assert!(audit.contains("re-enrol"), "{audit}");
    assert!(ids().contains(&first[0]) && ids().len() == 2, "{:?} of {first:?}", ids());
    ctl.ok(&["scale", "web=3"]).expect("it takes work again");
}
