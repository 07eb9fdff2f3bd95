//! Who there is in the world that the matrix speaks of, and how they came: every user, node and token, each with what proves it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use manager_core::matrix;
use model::access::{UserRole, UserSpec};
use model::id::{ClusterId, NodeId};
use model::identity::{CertName, Identity, JoinRole, Role};
use model::node::{NodeClass, NodeSpec};
use model::request::{JoinRequest, NodeChange, Request, Response};
use model::sealed::Clear;
use model::time::WallTime;
use pki::{ClusterCa, DeployToken, JoinToken, KeyAndCsr};
use rpc::tls::{CertReloader, ClientTls, Credentials};

use super::answer::{Answer, Verdict};
use super::canaries::{self, Canaries};
use super::node::facts;
use super::relay::Relay;
use super::site::{CALL, REPOSITORY};
use crate::client::{Client, block_on};
use crate::cluster::{Cluster, PATIENCE};

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

/// What the context of `init` says.
pub(super) struct Home {
    pub authority: String,
    pub id: ClusterId,
    pub first: Papers,
}

impl Home {
    pub fn of(context: &Path) -> Result<Home> {
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

    pub fn tls(&self, papers: &Papers) -> Result<ClientTls> {
        tls(&self.authority, papers)
    }

    pub fn client(&self, papers: &Papers, address: &str) -> Result<Client> {
        let tls = self.tls(papers)?;
        Ok(block_on(async { Client::with(address, tls) }))
    }
}

/// How somebody with these papers dials.
pub(super) fn tls(authority: &str, papers: &Papers) -> Result<ClientTls> {
    let credentials = Credentials::from_pem(&papers.certificate, authority, &papers.key)?;
    Ok(ClientTls::mutual(authority, CertReloader::new(credentials))?)
}

/// Makes the world.
pub(super) struct Maker<'a> {
    pub cluster: &'a Cluster,
    pub home: &'a Home,
    pub admin: &'a Client,
    pub leader: &'a str,
}

impl Maker<'_> {
    pub fn cast(&self, canaries: &mut Canaries) -> Result<Cast> {
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
        canaries.plant("registry login", login.as_bytes());
        canaries.plant_text("authority's key", "-----BEGIN PRIVATE KEY-----");
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
pub(super) fn join(leader: &str, token: &JoinToken, name: &str) -> Result<NodePapers> {
    let pair = KeyAndCsr::generate()?;
    let request = Request::Join(Box::new(JoinRequest {
        role: token.role(),
        token: token.id(),
        secret: token.secret().to_vec(),
        csr: pair.csr_pem.clone(),
        facts: facts(name),
        key: None,
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

/// The text of a fresh deploy token for `ispyb`.
pub(super) fn deploy_token(cluster: &Cluster, name: &str, more: &[&str]) -> Result<String> {
    let args = ["deploy-token", "create", "--quiet", name, "--service", "ispyb", "--image", REPOSITORY];
    cluster.ctl().ok(&[&args[..], more].concat())
}

/// Its secret must lie nowhere.
pub(super) fn plant_deploy_token(canaries: &mut Canaries, token: &DeployToken) {
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
