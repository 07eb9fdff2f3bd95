//! `orch-manager init`: founds a cluster. When it returns, the authority, the first member and two join tokens are durable
//! in the log, and an admin's identity lies in a context file.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use manager_core::{Action, Bootstrap, Config, Entropy, Event, Knobs, Manager, Recovered};
use model::{
    cluster::{Authority, ClusterSettings},
    command::Answer,
    id::{ClusterId, MemberId, RequestId, TokenId},
    identity::{CertName, Identity, JoinRole, Role},
    node::NodeSpec,
    request::{Consistency, Request, Response},
    sealed::KeyId,
    time::Now,
};
use pki::{ClusterCa, KeyAndCsr};
use seal::{DataKey, Keyring};

use crate::{
    config::{listen_for, with_port},
    context::AdminContext,
    core_loop::{CERTIFICATE_LIFE, now},
    dir::{DataDir, Identity as MemberIdentity, Pems},
    entropy,
    keyring::{self, Found},
    storage::{self, WriteNow},
};

/// The admin's certificate: long enough for a small site to live with, renewed by `orch-manager admin`.
const ADMIN_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Join tokens made at init live so long.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// Serial numbers of the certificates made before the log exists: far above those that the log counts.
const FIRST_OFFLINE_SERIAL: u64 = 1 << 62;

/// What `init` is told.
pub struct InitArgs {
    /// The data directory.
    pub dir: PathBuf,
    /// The manager's name.
    pub name: String,
    /// `host:port` where others reach it.
    pub address: String,
    /// Where to listen, if not on every address.
    pub listen: Option<String>,
    /// Where to write the admin's context; `None` = into orchctl's own file.
    pub context_out: Option<PathBuf>,
}

/// Founds the cluster and says what to do next.
pub fn init(args: &InitArgs) -> Result<()> {
    let address = with_port(&args.address);
    let dir = DataDir::new(&args.dir);
    dir.create()?;
    let origin = std::time::Instant::now();
    let cluster = ClusterId(entropy::number()?);
    let member = MemberId(1);
    let ca = ClusterCa::generate(cluster, now(origin).wall)?;

    let manager_key = KeyAndCsr::generate()?;
    let certificate = issue(&ca, &manager_key, Identity::Manager(member), CERTIFICATE_LIFE, 0, now(origin))?;
    dir.write_pems(&Pems {
        authority: ca.certificate_pem().to_owned(),
        certificate,
        key: manager_key.key_pem(),
    })?;
    if let Some(listen) = &args.listen {
        let text = format!("listen = \"{}\"\n", with_port(listen));
        crate::dir::write_durably(&dir.root().join("manager.toml"), text.as_bytes(), 0o644)?;
    }

    let config = Config {
        member,
        cluster,
        name: args.name.clone(),
        address: address.clone(),
        version: crate::VERSION.to_owned(),
        rng_seed: entropy::number()?,
        seeds: Vec::new(),
        bootstrap: Some(Bootstrap {
            authority: Authority {
                certificate: ca.certificate_pem().to_owned(),
                key: ca.key_pem(),
                sealed: None,
                former: Vec::new(),
            },
            settings: ClusterSettings::default(),
        }),
        keyring: first_keyring(&dir)?,
        entropy: Entropy(entropy::bytes()?),
        knobs: Knobs::default(),
    };
    let tokens = found(&dir, config, origin)?;
    dir.write_identity(&MemberIdentity::new(cluster, member, &args.name, &address, Vec::new()))?;

    let admin_key = KeyAndCsr::generate()?;
    let admin = Identity::Operator { name: "admin".into(), role: Role::Admin };
    let admin_certificate = issue(&ca, &admin_key, admin, ADMIN_LIFE, 1, now(origin))?;
    let context = AdminContext {
        name: args.name.clone(),
        cluster,
        managers: vec![address.clone()],
        ca: ca.certificate_pem().to_owned(),
        certificate: admin_certificate,
        key: admin_key.key_pem(),
    };
    let context_file = context.write(args.context_out.as_deref())?;

    let token = |role: JoinRole, id| ca.join_token(role, id).reveal();
    println!("Cluster {cluster} is founded; its authority has the fingerprint {}.", ca.fingerprint());
    println!("The admin's identity is in {} (context \"{}\").\n", context_file.display(), args.name);
    println!("Start this manager:\n\n    orch-manager run --dir {}\n", args.dir.display());
    println!(
        "It listens on {}; others reach it at {address}.\n",
        args.listen.clone().unwrap_or_else(|| listen_for(&address))
    );
    println!("Join a node (this token works once, within an hour):\n");
    println!("    orch-agent join --manager {address} --token {}\n", token(JoinRole::Agent, tokens.agent));
    println!("Join another manager (three or five are right; likewise once, within an hour):\n");
    println!(
        "    orch-manager join --manager {address} --token {}\n",
        token(JoinRole::Manager, tokens.manager)
    );
    println!("More tokens: orchctl token create");
    Ok(())
}

/// The first data key, durable before anything is sealed with it: the authority's key never enters the log in clear.
fn first_keyring(dir: &DataDir) -> Result<Keyring> {
    let Found::Open(file, _) = keyring::find(dir)? else {
        bail!("{} has a keyring with a passphrase: it is another cluster's", dir.root().display());
    };
    let ring = Keyring::new([(KeyId(1), DataKey::new(entropy::bytes()?))]);
    file.keep(0, &ring)?;
    Ok(ring)
}

fn issue(
    ca: &ClusterCa,
    key: &KeyAndCsr,
    identity: Identity,
    life: Duration,
    nth: u64,
    now: Now,
) -> Result<String> {
    let name = CertName { cluster: ca.cluster(), identity };
    Ok(ca.issue(key.csr_pem.as_bytes(), &name, life, now.wall, FIRST_OFFLINE_SERIAL + nth)?)
}

struct Tokens {
    agent: TokenId,
    manager: TokenId,
}

/// Runs the core alone, with every write done on the spot, until the cluster and its first tokens are in the log.
fn found(dir: &DataDir, config: Config, origin: std::time::Instant) -> Result<Tokens> {
    let (wal, _) = storage::open(&dir.raft(), true, entropy::number()?)?;
    let manager = Manager::new(config, Recovered::default(), now(origin)).map_err(|e| anyhow!("{e}"))?;
    let mut founding = Founding { manager, log: WriteNow::new(wal), origin, answers: VecDeque::new() };
    founding.until(|f| f.leads())?;
    let agent = founding.token(1, JoinRole::Agent)?;
    let manager = founding.token(2, JoinRole::Manager)?;
    founding.log.finish()?;
    Ok(Tokens { agent, manager })
}

struct Founding {
    manager: Manager,
    log: WriteNow,
    origin: std::time::Instant,
    answers: VecDeque<Result<Response>>,
}

impl Founding {
    fn leads(&self) -> bool {
        self.manager.store().cluster().is_some()
    }

    fn token(&mut self, handle: u64, role: JoinRole) -> Result<TokenId> {
        let event = Event::Request {
            handle,
            identity: Identity::Operator { name: "init".into(), role: Role::Admin },
            request_id: Some(RequestId(entropy::number()?)),
            consistency: Consistency::Linearizable,
            deadline: None,
            request: Request::CreateToken { role, ttl: TOKEN_LIFE, uses: 1, node_spec: NodeSpec::default() },
            origin: Default::default(),
        };
        self.manager.handle_event(event, now(self.origin));
        self.until(|f| !f.answers.is_empty())?;
        match self.answers.pop_front().expect("waited for")? {
            Response::Changed { answer: Answer::Token { id, .. }, .. } => Ok(id),
            other => bail!("an unexpected answer to the first token: {other:?}"),
        }
    }

    /// Drives the core until `done`. It leads itself, so nothing but its own timers and disk is waited for.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            self.carry_out()?;
            if done(self) {
                return Ok(());
            }
            if std::time::Instant::now() > give_up {
                bail!("the first manager did not take the lead within 20 s: is the disk very slow?");
            }
            let deadline = self.manager.poll_timeout().context("the core waits for nothing")?;
            std::thread::sleep(deadline.since(now(self.origin).mono));
            self.manager.handle_timeout(now(self.origin));
        }
    }

    fn carry_out(&mut self) -> Result<()> {
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Persist(persist) => {
                    let sequence = persist.sequence;
                    self.log.persist(persist)?;
                    self.manager.handle_event(Event::Persisted { sequence }, now(self.origin));
                }
                Action::Reply { result, .. } => {
                    let answer = result.map(|reply| reply.response).map_err(anyhow::Error::from);
                    self.answers.push_back(answer);
                }
                Action::Halt { reason } | Action::Retire { reason } => bail!(reason),
                _ => {}
            }
        }
        Ok(())
    }
}
