//! The world that the matrix speaks of, in a running cluster, with somebody for each part.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use manager_core::matrix;
use model::access::{UserRole, UserSpec};
use model::audit::Record;
use model::id::{ClusterId, NodeId};
use model::identity::{CertName, Identity, JoinRole, Role};
use model::node::{NodeClass, NodeSpec};
use model::request::{JoinRequest, NodeChange, Reply, Request, Response};
use model::sealed::Clear;
use model::time::WallTime;
use pki::{ClusterCa, DeployToken, JoinToken, KeyAndCsr};
use proto::codec;
use rpc::tls::{CertReloader, ClientTls, Credentials};

use super::answer::{Answer, Verdict};
use super::canaries::{self, Canaries, Search};
use super::node::{Talker, facts};
use super::relay::Relay;
use crate::client::{Client, block_on};
use crate::cluster::ctl::Said;
use crate::cluster::{Cluster, PATIENCE};
use crate::command::finish;

/// What one call may take.
pub const CALL: Duration = Duration::from_secs(30);
/// What a deploy token is for.
pub const REPOSITORY: &str = "registry.example/mx/ispyb";

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Papers {
    pub certificate: String,
    pub key: String,
}

/// A node of the cast.
#[derive(Debug, Clone)]
pub struct NodePapers {
    pub id: NodeId,
    pub papers: Papers,
}

/// Who there is.
#[derive(Debug)]
pub struct Cast {
    /// The certificate of `init`.
    pub first: Papers,
    pub admin: Papers,
    pub operator: Papers,
    pub team: Papers,
    pub beamline: Papers,
    pub viewer: Papers,
    pub removed: Papers,
    pub disabled: Papers,
    pub expired: Papers,
    /// Says that it is an admin of this cluster, and an authority of the same name signed it.
    pub forged: Papers,
    pub manager: Papers,
    pub n1: NodePapers,
    pub n2: NodePapers,
    pub removed_node: NodePapers,
    /// Texts of tokens.
    pub deploy_token: String,
    pub expired_deploy_token: String,
    pub join_token: JoinToken,
}

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
                model::session::ManagerMessage::Assign(set) => {
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

/// What the context of `init` says.
struct Home {
    authority: String,
    id: ClusterId,
    first: Papers,
}

impl Home {
    fn of(context: &Path) -> Result<Home> {
        let file: toml::Table = toml::from_str(&std::fs::read_to_string(context)?)?;
        let entry = file["context"].get(0).context("a context")?;
        let text = |key: &str| {
            entry
                .get(key)
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
                .with_context(|| format!("no {key}"))
        };
        let id: ClusterId = text("cluster")?.parse()?;
        let first = Papers { certificate: text("certificate")?, key: text("key")? };
        Ok(Home { authority: text("ca")?, id, first })
    }

    fn tls(&self, papers: &Papers) -> Result<ClientTls> {
        tls(&self.authority, papers)
    }

    fn client(&self, papers: &Papers, address: &str) -> Result<Client> {
        let tls = self.tls(papers)?;
        Ok(block_on(async { Client::with(address, tls) }))
    }
}

fn tls(authority: &str, papers: &Papers) -> Result<ClientTls> {
    let credentials = Credentials::from_pem(&papers.certificate, authority, &papers.key)?;
    Ok(ClientTls::mutual(authority, CertReloader::new(credentials))?)
}

/// Makes the world.
struct Maker<'a> {
    cluster: &'a Cluster,
    home: &'a Home,
    admin: &'a Client,
    leader: &'a str,
}

impl Maker<'_> {
    fn cast(&self, canaries: &mut Canaries) -> Result<Cast> {
        let join_token = self.join_token(canaries)?;
        let node = |name: &str| join(self.leader, &join_token, name);
        let (n1, n2, removed_node) = (node("n1")?, node("n2")?, node("n3")?);
        let label = NodeChange { set_labels: vec![("line".into(), "id23".into())], ..NodeChange::default() };
        self.done(&Request::UpdateNode { node: "n1".into(), change: label })?;
        self.done(&Request::RemoveNode { node: "n3".into(), force: true })?;
        self.objects(canaries)?;
        let expired_deploy_token = deploy_token(self.cluster, "short", &["--ttl", "1s"])?;
        let deploy_token = deploy_token(self.cluster, "ci", &["--allow", "deploy,rollback,status,logs"])?;
        plant_deploy_token(canaries, &deploy_token.parse()?);
        let expired = self.user("late", UserRole::Viewer, Duration::from_secs(1))?;
        let day = Duration::from_secs(24 * 3600);
        let user = |name: &str, role: &str| {
            let role: UserRole = role.parse()?;
            self.user(name, role, day)
        };
        let cast = Cast {
            first: self.home.first.clone(),
            admin: user("root", "admin")?,
            operator: user("ops", "operator")?,
            team: user("ann", "team:app=mx")?,
            beamline: user("bob", "beamline:line=id23")?,
            viewer: user("viewer", "viewer")?,
            removed: user("gone", "admin")?,
            disabled: user("away", "admin")?,
            expired,
            forged: self.forged()?,
            manager: self.manager()?,
            n1,
            n2,
            removed_node,
            deploy_token,
            expired_deploy_token,
            join_token,
        };
        plant_key(canaries, &cast.admin.key)?;
        self.done(&Request::RemoveUser("gone".into()))?;
        let disabled = model::access::UserChange { disabled: Some(true), ..Default::default() };
        self.done(&Request::UpdateUser { user: "away".into(), change: disabled })?;
        self.wait_expired(&cast.expired)?;
        Ok(cast)
    }

    fn done(&self, request: &Request) -> Result<Response> {
        let done = block_on(self.admin.call(request, CALL));
        Ok(done.with_context(|| format!("{request:?}"))?.response)
    }

    fn join_token(&self, canaries: &mut Canaries) -> Result<JoinToken> {
        // Workstations: their silence means something only after half a minute.
        let node_spec = NodeSpec { class: NodeClass::Workstation, ..NodeSpec::default() };
        let ttl = Duration::from_secs(3600);
        let request = Request::CreateToken { role: JoinRole::Agent, ttl, uses: 1_000, node_spec };
        let Response::Token { text, .. } = self.done(&request)? else { bail!("no token") };
        let token: JoinToken = text.parse()?;
        canaries.plant("join token", token.secret());
        Ok(token)
    }

    /// Services, secrets, a config, a registry, a cron, freezes: with values that must lie nowhere.
    fn objects(&self, canaries: &mut Canaries) -> Result<()> {
        let ctl = self.cluster.ctl();
        for (name, app) in [("ispyb", "mx"), ("shop", "shop")] {
            let value = canaries::fresh()?;
            canaries.plant("secret", value.as_bytes());
            self.done(&Request::CreateItem {
                spec: matrix::secret(name, app),
                value: Clear::new(value.into_bytes()),
            })?;
        }
        let value = canaries::fresh()?;
        canaries.plant("config", value.as_bytes());
        let text = format!("{value} {{{{ secret \"ispyb\" }}}}");
        let said = ctl.say_to(&["config", "create", "--template", "app.conf", "-"], &text);
        ensure!(said.code == 0, "{}", said.all());
        let login = canaries::fresh()?;
        canaries.plant(canaries::REGISTRY_LOGIN, login.as_bytes());
        canaries.plant_text(canaries::AUTHORITY_KEY, "-----BEGIN PRIVATE KEY-----");
        let set =
            ["registry", "set", "registry.invalid", "--username", "ci", "--password-stdin", "--no-check"];
        let said = ctl.say_to(&set, &login);
        ensure!(said.code == 0, "{}", said.all());
        let control = canaries::fresh()?;
        canaries.plant_text(canaries::CONTROL, &control);
        for (name, app, node, more) in [
            ("ispyb", "app=mx", "n1", &["--config", "app.conf,target=/etc/app.conf"][..]),
            ("shop", "app=shop", "n2", &[][..]),
        ] {
            let (label, on) = (format!("control={control}"), format!("node.hostname=={node}"));
            let create = ["service", "create", "--name", name, "--label", app, "--label", &label];
            let rest = ["--replicas", "1", "--constraint", &on, "--secret", name, "--detach"];
            ctl.ok(&[&create[..], &rest, more, &[matrix::IMAGE]].concat())?;
        }
        self.done(&Request::SetCron(matrix::cron("mx")))?;
        self.done(&Request::SetFreeze(matrix::freeze("beam", &[("line", "id23")])))?;
        self.done(&Request::SetFreeze(matrix::freeze("machine", &[])))?;
        Ok(())
    }

    fn user(&self, name: &str, role: UserRole, life: Duration) -> Result<Papers> {
        self.done(&Request::CreateUser(UserSpec { name: name.into(), roles: vec![role], life }))?;
        let pair = KeyAndCsr::generate()?;
        let request = Request::CertifyUser { user: name.into(), csr: pair.csr_pem.clone() };
        let Response::Joined { certificate, .. } = self.done(&request)? else { bail!("no certificate") };
        Ok(Papers { certificate, key: pair.key_pem() })
    }

    /// An authority of the same cluster, but another key.
    fn forged(&self) -> Result<Papers> {
        let now = WallTime(u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_micros())?);
        let authority = ClusterCa::generate(self.home.id, now)?;
        let identity = Identity::Operator { name: "admin".into(), role: Role::Admin };
        let name = CertName { cluster: self.home.id, identity };
        let pair = KeyAndCsr::generate()?;
        let life = Duration::from_secs(3600);
        let certificate = authority.issue(pair.csr_pem.as_bytes(), &name, life, now, 7)?;
        Ok(Papers { certificate, key: pair.key_pem() })
    }

    /// The papers of manager 1, as they lie on its disk.
    fn manager(&self) -> Result<Papers> {
        let dir = self.cluster.manager(0).dir();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).with_context(|| name.to_owned());
        Ok(Papers { certificate: read("certificate.pem")?, key: read("key.pem")? })
    }

    fn wait_expired(&self, papers: &Papers) -> Result<()> {
        let relay = Relay::start(self.leader)?;
        let tls = self.home.tls(papers)?;
        self.cluster.ask("a certificate to expire", PATIENCE, || {
            let client = block_on(async { Client::with(&relay.address(), tls.clone()) });
            let answer = Answer::of(&block_on(client.call(&Request::Whoami, CALL)));
            (answer.verdict == Verdict::NoHandshake).then_some(())
        })
    }
}

/// Joins a node by hand.
///
/// # Errors
/// It is refused.
fn join(leader: &str, token: &JoinToken, name: &str) -> Result<NodePapers> {
    let pair = KeyAndCsr::generate()?;
    let request = Request::Join(Box::new(JoinRequest {
        role: token.role(),
        token: token.id(),
        secret: token.secret().to_vec(),
        csr: pair.csr_pem.clone(),
        facts: facts(name),
        address: String::new(),
    }));
    let pinned = ClientTls::pinned(*token.fingerprint().as_bytes())?;
    let client = block_on(async { Client::with(leader, pinned) });
    match block_on(client.call(&request, CALL))?.response {
        Response::Joined { certificate, node: Some(id), .. } => {
            Ok(NodePapers { id, papers: Papers { certificate, key: pair.key_pem() } })
        }
        _ => bail!("no answer to a join"),
    }
}

fn deploy_token(cluster: &Cluster, name: &str, more: &[&str]) -> Result<String> {
    let args = ["deploy-token", "create", "--quiet", name, "--service", "ispyb", "--image", REPOSITORY];
    cluster.ctl().ok(&[&args[..], more].concat())
}

fn plant_deploy_token(canaries: &mut Canaries, token: &DeployToken) {
    let text = token.reveal();
    let secret = text.split('-').nth(3).expect("a token's text holds its secret in hex");
    canaries.plant_text("deploy token", secret);
}

/// The private part of a key in PEM: as bytes in every shape, and a line of the text.
fn plant_key(canaries: &mut Canaries, pem: &str) -> Result<()> {
    use base64::Engine as _;
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(lines.concat())?;
    // PKCS #8 of P-256: the number follows a head of 36 bytes.
    canaries.plant("user's key", der.get(36..68).context("a key of P-256")?);
    Ok(())
}
