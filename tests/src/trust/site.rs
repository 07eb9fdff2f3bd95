//! The world that the matrix speaks of, in a running cluster, with somebody for each part.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use model::audit::Record;
use model::id::ClusterId;
use model::request::{Reply, Request, Response};
use model::session::ManagerMessage;
use proto::codec;
use rpc::tls::ClientTls;

use super::answer::{Answer, Verdict};
use super::canaries::{Canaries, Search};
use super::cast::{Cast, Home, Maker, NodePapers, Papers, deploy_token, join, plant_deploy_token, tls};
use super::node::{Talker, facts};
use super::relay::Relay;
use crate::client::{Client, block_on};
use crate::cluster::Cluster;
use crate::cluster::ctl::Said;
use crate::command::finish;

/// What one call may take.
pub const CALL: Duration = Duration::from_secs(30);
/// What a deploy token is for.
pub const REPOSITORY: &str = "registry.example/mx/ispyb";

/// A cluster with its cast.
pub struct Site<'a> {
    pub cluster: &'a Cluster,
    pub cast: Cast,
    /// The authority's certificate, PEM.
    pub authority: String,
    pub id: ClusterId,
    admin: Client,
    relays: Vec<Relay>,
    place: tempfile::TempDir,
    canaries: Mutex<Canaries>,
    /// Everything that managers and programs answered, but for what is shown once.
    heard: Mutex<Vec<u8>>,
    /// `n1` and `n2`, connected.
    pub talkers: [Talker; 2],
}

impl<'a> Site<'a> {
    /// Fills a fresh cluster of managers on loopback.
    ///
    /// # Errors
    /// It does not take what it is to hold.
    pub fn fill(cluster: &'a Cluster) -> Result<Site<'a>> {
        let leader = cluster.address(cluster.leader()?);
        let home = Home::of(cluster.ctl().config())?;
        let admin = home.client(&home.first, &leader)?;
        let mut canaries = Canaries::default();
        let cast = Maker { cluster, home: &home, admin: &admin, leader: &leader }.cast(&mut canaries)?;
        let talk = |name: &str, node: &NodePapers| -> Result<Talker> {
            let talker = Talker::open(node.id, &leader, home.tls(&node.papers)?, facts(name));
            talker.welcome().map(|()| talker)
        };
        let talkers = [talk("n1", &cast.n1)?, talk("n2", &cast.n2)?];
        let addresses = (0..cluster.managers().len()).map(|index| cluster.address(index));
        let relays = addresses.map(|address| Relay::start(&address)).collect::<Result<Vec<Relay>>>()?;
        let Home { authority, id, .. } = home;
        let site = Site {
            cluster,
            cast,
            authority,
            id,
            admin,
            relays,
            place: tempfile::tempdir()?,
            canaries: Mutex::new(canaries),
            heard: Mutex::default(),
            talkers,
        };
        site.wait_placed()?;
        Ok(site)
    }

    /// Asks as the admin of `init`, through the manager that led at first.
    ///
    /// # Errors
    /// It is refused.
    pub fn admin(&self, request: &Request) -> Result<Response> {
        let reply = block_on(self.admin.call(request, CALL));
        self.note(&reply);
        Ok(reply?.response)
    }

    /// Asks and judges the answer; what nobody decided is asked again.
    pub fn ask(&self, client: &Client, request: &Request) -> Answer {
        for _ in 0..5 {
            let outcome = block_on(client.first(request, CALL));
            self.note(&outcome);
            let answer = Answer::of(&outcome);
            if answer.verdict != Verdict::Undecided {
                return answer;
            }
        }
        let outcome = block_on(client.first(request, CALL));
        Answer::of(&outcome)
    }

    /// A client of manager `index` with a certificate.
    ///
    /// # Errors
    /// The papers are unusable.
    pub fn client(&self, papers: &Papers, index: usize) -> Result<Client> {
        let tls = self.tls(papers)?;
        Ok(block_on(async { Client::with(&self.cluster.address(index), tls) }))
    }

    /// The same from an address that nobody had before.
    ///
    /// # Errors
    /// The papers are unusable.
    pub fn client_from_elsewhere(&self, papers: &Papers, index: usize) -> Result<Client> {
        let tls = self.tls(papers)?;
        Ok(block_on(async { Client::with(&self.relays[index].address(), tls) }))
    }

    /// A client without a certificate, from an address that nobody had before.
    ///
    /// # Errors
    /// The authority's certificate is unusable.
    pub fn nobody(&self, index: usize) -> Result<Client> {
        let tls = ClientTls::anonymous(&self.authority)?;
        Ok(block_on(async { Client::with(&self.relays[index].address(), tls) }))
    }

    /// How somebody with these papers dials.
    ///
    /// # Errors
    /// They are unusable.
    pub fn tls(&self, papers: &Papers) -> Result<ClientTls> {
        tls(&self.authority, papers)
    }

    /// A way to manager `index` from addresses that nobody had before.
    pub fn elsewhere(&self, index: usize) -> String {
        self.relays[index].address()
    }

    /// A file's path in a directory of the site.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What the admin's orchctl says.
    pub fn say(&self, args: &[&str]) -> Said {
        let said = self.cluster.ctl().say(args);
        self.note_text(&said.all());
        said
    }

    /// What orchctl says to the bearer of a deploy token, from an address that nobody had before.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn say_with_token(&self, token: &str, args: &[&str]) -> Said {
        let mut command = self.cluster.ctl().command(args);
        command.env("ORCH_CONFIG", "/nowhere/config.toml");
        command.env("ORCH_TOKEN", token).env("ORCH_MANAGERS", self.elsewhere(0));
        let said: Said = finish(&mut command).expect("orchctl starts").into();
        self.note_text(&said.all());
        said
    }

    /// A fresh deploy token for `ispyb`, which is one of the values that must lie nowhere.
    ///
    /// # Errors
    /// It is not made.
    pub fn deploy_token(&self, name: &str, more: &[&str]) -> Result<String> {
        let text = deploy_token(self.cluster, name, more)?;
        plant_deploy_token(&mut self.held(), &text.parse()?);
        Ok(text)
    }

    /// Joins one more node by hand.
    ///
    /// # Errors
    /// It is refused.
    pub fn join(&self, name: &str) -> Result<NodePapers> {
        let leader = self.cluster.address(self.cluster.leader()?);
        join(&leader, &self.cast.join_token, name)
    }

    /// What one value that must lie nowhere is planted with.
    pub fn plant(&self, what: &'static str, value: &[u8]) {
        self.held().plant(what, value);
    }

    /// All that is on record.
    ///
    /// # Errors
    /// No leader answers.
    pub fn records(&self) -> Result<Vec<Record>> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let after = records.last().map_or(0, |record| record.number);
            let Response::Audit(page) = self.admin(&Request::GetAudit { after })? else { bail!("no audit") };
            if page.records.is_empty() {
                return Ok(records);
            }
            records.extend(page.records);
        }
    }

    /// The same with a text that has no other shape.
    pub fn plant_text(&self, what: &'static str, text: &str) {
        self.held().plant_text(what, text);
    }

    /// What the admin's orchctl has to do.
    ///
    /// # Errors
    /// It does not.
    pub fn done(&self, args: &[&str]) -> Result<()> {
        let said = self.say(args);
        ensure!(said.code == 0, "{args:?}: {said:?}");
        Ok(())
    }

    /// Notes an answer, which is looked through in the end.
    ///
    /// # Errors
    /// As it came.
    pub fn heard(&self, outcome: Result<Reply>) -> Result<Reply> {
        self.note(&outcome);
        outcome
    }

    /// Looks for the planted values: in the managers' directories and logs, and in everything that was answered.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn search(&self) -> Result<(Search, usize)> {
        let export = self.path("audit.jsonl");
        self.cluster.ctl().ok(&["audit", "export", &export.to_string_lossy()])?;
        let canaries = self.held();
        let mut search = Search::default();
        canaries.look_below(&mut search, self.place.path(), &|_| false)?;
        search_managers(self.cluster, &canaries, &mut search)?;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        canaries.look(&mut search, "answers", &heard);
        Ok((search, canaries.count()))
    }

    fn note(&self, reply: &Result<Reply>) {
        let bytes = match reply {
            // Shown this once, to who made it.
            Ok(Reply { response: Response::Token { .. }, .. }) => return,
            Ok(reply) => codec::encode(reply).to_vec(),
            Err(error) => format!("{error:?}").into_bytes(),
        };
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
    }

    /// Notes what a program said.
    pub fn note_text(&self, text: &str) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(text.as_bytes());
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Canaries> {
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `ispyb` on `n1`, `shop` on `n2`.
    fn wait_placed(&self) -> Result<()> {
        for (talker, service) in self.talkers.iter().zip(["ispyb", "shop"]) {
            talker.hear(&format!("assignment of {service}"), |message| match message {
                ManagerMessage::Assign(set) => {
                    set.upsert.iter().any(|assignment| assignment.service_name == service).then_some(())
                }
                _ => None,
            })?;
        }
        Ok(())
    }
}

/// Looks for planted values in what managers leave on disks: their directories but for their own keys, and their logs.
///
/// # Errors
/// A file cannot be read.
pub fn search_managers(cluster: &Cluster, canaries: &Canaries, search: &mut Search) -> Result<()> {
    let own_key = |path: &Path| path.file_name().is_some_and(|name| name == "key.pem");
    for manager in cluster.managers() {
        canaries.look_below(search, manager.dir(), &own_key)?;
        canaries.look(search, &format!("log of {}", manager.name()), manager.log_text().as_bytes());
    }
    Ok(())
}
