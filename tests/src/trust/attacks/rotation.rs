//! What another authority's predecessor has issued, after its end. Nobody of the cast gets in after it: it comes last of all.

use anyhow::{Context, Result};
use model::request::Request;

use super::joins;
use crate::cluster::PATIENCE;
use crate::trust::site::Site;
use crate::trust::tally::Tally;
use crate::wait;

/// Puts another authority in place, and tries what the former one has issued.
///
/// # Errors
/// The authority is not replaced.
pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let cast = &site.cast;
    let change = Request::ScaleServices(vec![("ispyb".into(), 7)]);
    let deploy_token = site.deploy_token("former", &[])?;
    let join_token =
        joins::token(site, model::identity::JoinRole::Agent, 1, std::time::Duration::from_secs(60))?;
    site.done(&["authority", "rotate", "--detach"])?;
    wait::until("managers with other certificates", PATIENCE, || {
        let shown = site.say(&["authority", "show"]);
        (shown.code == 0 && !shown.out.contains("managers that")).then_some(())
    })?;
    let join = joins::join(site, join_token.fingerprint().as_bytes(), joins::request(&join_token)?)?;
    tally.tried("a join token of a former authority", &join).saying(&["not accepted"]);
    site.done(&["authority", "finish", "--leave-behind"])?;

    for manager in 0..site.cluster.managers().len() {
        wait::until("the end", PATIENCE, || {
            let bundle = std::fs::read_to_string(site.cluster.manager(manager).dir().join("ca.pem"));
            bundle.is_ok_and(|bundle| bundle.matches("BEGIN").count() == 2).then_some(())
        })?;
        for (what, papers) in
            [("an operator's", &cast.operator), ("a node's", &cast.n1.papers), ("a manager's", &cast.manager)]
        {
            let answer = site.ask(&site.client_from_elsewhere(papers, manager)?, &change);
            let name = format!("{what} certificate of a former authority, at manager {manager}");
            tally.tried(name, &answer).saying(&["refused the connection"]);
        }
    }
    let said = site.say_with_token(&deploy_token, &["service", "inspect", "ispyb"]);
    tally.holds("a deploy token of a former authority is refused", said.code == 4);
    let shown = site.say(&["authority", "show"]);
    tally.holds("the admin goes on", shown.code == 0 && shown.out.contains("counts no more"));
    site.cluster.leader().context("the managers know each other").map(drop)
}
