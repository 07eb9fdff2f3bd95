//! A real image registry (Debian's docker-registry) in a laboratory: with or without a login, TLS of an authority that nobody
//! knows, its access log, and ways to hurt it.
//!
//! ```no_run
//! use tests::{image::{MIMIC_1, MIMIC_2}, registry::{Plan, Registry}};
//! # let lab = tests::hosts::Lab::start(1)?;
//! let registry = Registry::start(&lab, &Plan { login: Some(("ci", "secret")), ..Plan::default() })?;
//! registry.push(lab.host(0).engine(), MIMIC_1, "mx/web:prod")?;
//! println!("{}", registry.image("mx/web:prod")); // 10.77.0.253:5000/mx/web:prod
//! registry.push(lab.host(0).engine(), MIMIC_2, "mx/web:prod")?; // the tag moves
//! registry.stop()?;
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! Images come in by a back door: a second process on the same storage, plain and without a login. So a test can fill a
//! registry that is down, and the engine that pushes needs to trust nobody.
//!
//! It listens on the switch, which every engine of a laboratory takes plain HTTP from, or on one of the hosts
//! ([`Place::Host`]), which no engine trusts: there it needs TLS, or engines refuse it.

pub mod cosign;
pub mod sigstore;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::call;
use crate::engine::Engine;
use crate::hosts::Lab;
use crate::hosts::namespace;
use crate::packages;
use crate::process::{Process, tail};
use crate::wait;

/// The port of the first registry; each further one of this process has the one after it.
const PORT: u16 = 5000;
/// Ports of back doors.
const BACK_DOOR: u16 = 5500;
/// It starts within a second on an idle machine.
const START: Duration = Duration::from_secs(30);

/// Where a registry listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// On the switch: engines take plain HTTP from there.
    #[default]
    Switch,
    /// On host number so much, from 0: engines want TLS of an authority that they know.
    Host(usize),
}

/// What to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// Where.
    pub place: Place,
    /// A name and password that it asks for.
    pub login: Option<(&'static str, &'static str)>,
    /// TLS, with a certificate of an authority of its own: [`Registry::authority`].
    pub tls: bool,
}

/// A registry. It and what it stores go with the laboratory.
#[derive(Debug)]
pub struct Registry {
    seat: Seat,
    door: Door,
    back_door: Door,
    authority: Option<PathBuf>,
    dir: PathBuf,
    name: String,
    process: Mutex<Option<Process>>,
    _back: Process,
}

/// Where its processes run.
#[derive(Debug, Clone)]
struct Seat {
    namespace: String,
    logs: PathBuf,
}

/// One listener.
#[derive(Debug, Clone)]
struct Door {
    address: SocketAddr,
    config: PathBuf,
}

impl Registry {
    /// Starts one, and waits until it listens.
    ///
    /// # Errors
    /// A package cannot be installed, or it does not come up; the message holds the end of its log.
    ///
    /// # Panics
    /// There is no such host.
    pub fn start(lab: &Lab, plan: &Plan) -> Result<Registry> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        packages::ensure(&packages::REGISTRY)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("registry-{number}");
        let dir = lab.dir().join(&name);
        fs::create_dir_all(&dir)?;
        let at_switch = Seat { namespace: lab.switch().namespace().to_owned(), logs: lab.logs() };
        let (seat, host) = match plan.place {
            Place::Switch => (at_switch.clone(), lab.switch().address()),
            Place::Host(index) => {
                let host = lab.host(index);
                (Seat { namespace: host.namespace().to_owned(), logs: lab.logs() }, host.address())
            }
        };
        let door = Door { address: (host, PORT + number).into(), config: dir.join("config.yml") };
        let back_door = Door {
            address: (lab.switch().address(), BACK_DOOR + number).into(),
            config: dir.join("back-door.yml"),
        };
        let authority = if plan.tls { Some(certify(&dir, host)?) } else { None };
        fs::write(&door.config, config(&dir, &door, plan))?;
        fs::write(&back_door.config, config(&dir, &back_door, &Plan::default()))?;
        if let Some((user, password)) = plan.login {
            fs::write(dir.join("logins"), hashed(user, password)?)?;
        }
        let back = at_switch.serve(&format!("{name}-back-door"), &back_door)?;
        let registry =
            Registry { seat, door, back_door, authority, dir, name, process: Mutex::default(), _back: back };
        registry.restart()?;
        Ok(registry)
    }

    /// `HOST:PORT`, as images name it.
    pub fn address(&self) -> String {
        self.door.address.to_string()
    }

    /// The whole name of an image in it: `mx/web:1` is `10.77.0.253:5000/mx/web:1`.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.door.address)
    }

    /// The file with the certificate of the authority that vouches for it.
    ///
    /// # Panics
    /// It speaks no TLS.
    pub fn authority(&self) -> &Path {
        self.authority.as_deref().expect("a plan with TLS")
    }

    /// Puts an image that `engine` has into the registry as `name`, such as `mx/web:prod`, and returns its digest
    /// (`sha256:…`). The engine keeps no trace of it.
    ///
    /// # Errors
    /// The engine does not have it.
    pub fn push(&self, engine: &Engine, image: &str, name: &str) -> Result<String> {
        let there = format!("{}/{name}", self.back_door.address);
        engine.docker(&["tag", image, &there])?;
        let said = engine.docker(&["push", &there])?;
        engine.docker(&["rmi", &there])?;
        let digest = said.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest.map(str::to_owned).with_context(|| format!("no digest in {said:?}"))
    }

    /// From now on it asks for this login only.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_login(&self, user: &str, password: &str) -> Result<()> {
        // It looks at the file's time of change, in seconds.
        let file = self.dir.join("logins");
        let before = fs::metadata(&file)?.modified()?;
        fs::write(&file, hashed(user, password)?)?;
        let handle = fs::File::options().write(true).open(&file)?;
        Ok(handle.set_modified(before + Duration::from_secs(2))?)
    }

    /// How many requests it has answered whose line of the access log contains `text`, such as
    /// `/v2/mx/web/manifests/prod`.
    pub fn asked(&self, text: &str) -> usize {
        let log = self.held().as_ref().map(Process::log_text).unwrap_or_default();
        log.lines().filter(|line| !line.starts_with("time=") && line.contains(text)).count()
    }

    /// Ends it: connections are refused.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self) -> Result<()> {
        self.held().as_ref().map_or(Ok(()), Process::kill)
    }

    /// Starts it again, with what it stored.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart(&self) -> Result<()> {
        let mut held = self.held();
        *held = None;
        *held = Some(self.seat.serve(&self.name, &self.door)?);
        Ok(())
    }

    /// Its processes stop: connections are taken and nothing is said.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.held().as_ref().context("it does not run")?.freeze()
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.held().as_ref().context("it does not run")?.thaw()
    }

    fn held(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn serve(&self, name: &str, door: &Door) -> Result<Process> {
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--");
        command.arg("docker-registry").arg("serve").arg(&door.config);
        let process = Process::spawn(name, &self.logs, command)?;
        let listens = || {
            let connect = || TcpStream::connect_timeout(&door.address, Duration::from_millis(500)).is_ok();
            let up = namespace::within(&self.namespace, connect).unwrap_or(false);
            up.then_some(true).or_else(|| process.exited().map(|_| false))
        };
        match wait::until(&format!("{name} to listen"), START, listens) {
            Ok(true) => Ok(process),
            _ => anyhow::bail!("{name} does not come up:\n{}", tail(&process.log_text(), 20)),
        }
    }
}

fn config(dir: &Path, door: &Door, plan: &Plan) -> String {
    let dir = dir.display();
    let tls = if plan.tls {
        format!("\n  tls:\n    certificate: {dir}/certificate.pem\n    key: {dir}/key.pem")
    } else {
        String::new()
    };
    let auth = if plan.login.is_some() {
        format!("auth:\n  htpasswd:\n    realm: laboratory\n    path: {dir}/logins\n")
    } else {
        String::new()
    };
    format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {dir}/storage\n  \
         delete:\n    enabled: true\nhttp:\n  addr: {}{tls}\n{auth}",
        door.address
    )
}

/// A line of an htpasswd file; the registry takes bcrypt only, and this is its cheapest.
fn hashed(user: &str, password: &str) -> Result<String> {
    call("htpasswd", &["-nbBC", "4", user, password]).map(|line| format!("{}\n", line.trim()))
}

/// Makes an authority and a certificate for `host`; the path of the authority's certificate.
pub(crate) fn certify(dir: &Path, host: Ipv4Addr) -> Result<PathBuf> {
    let authority_key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::default();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "The laboratory's registries");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.key_usages =
        vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::DigitalSignature];
    let certificate = authority.self_signed(&authority_key)?;
    let file = dir.join("authority.pem");
    fs::write(&file, certificate.pem())?;
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec![host.to_string()])?.signed_by(&key, &issuer)?;
    fs::write(dir.join("certificate.pem"), leaf.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    Ok(file)
}
