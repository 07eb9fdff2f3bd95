//! Docker Engines: what a test may do to one, and where to get one.
//!
//! [`HostEngine`] is a host's: containerd and dockerd with directories of their own, to be killed, frozen and
//! restarted. [`Engine`] is any engine behind a socket. The `docker` client is driven as a program, so that what the
//! tests see does not pass through the library that the agent uses.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{call, run};
use crate::hosts::host::Place;
use crate::packages;
use crate::process::{Process, tail};
use crate::wait;

/// Where an installed engine listens.
const SYSTEM_SOCKET: &str = "/var/run/docker.sock";
/// An engine starts in under two seconds; a loaded machine with several at once takes longer.
const START: Duration = Duration::from_secs(60);
/// An idle engine answers a ping in a millisecond.
const PING: Duration = Duration::from_secs(1);
/// dockerd gives its containers 15 s to stop.
const STOP: Duration = Duration::from_secs(40);

/// An engine behind a socket.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The engine that listens on `socket`, whether it answers or not.
    pub fn at(socket: impl Into<PathBuf>) -> Engine {
        Engine { socket: socket.into() }
    }

    /// Its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket as the daemons' configuration writes it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The `docker` client for this engine.
    pub fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.url()]).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command
    }

    /// Runs `docker ARGS` and returns its stdout.
    ///
    /// # Errors
    /// The client fails; the message holds what it said.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        run(self.client().args(args))
    }

    /// Runs `docker ARGS` and splits its stdout into lines.
    ///
    /// # Errors
    /// As [`Engine::docker`].
    pub fn lines(&self, args: &[&str]) -> Result<Vec<String>> {
        Ok(self.docker(args)?.lines().map(str::to_owned).collect())
    }

    /// One value out of `docker inspect` by a Go template.
    ///
    /// # Errors
    /// There is no such object.
    pub fn inspect(&self, object: &str, template: &str) -> Result<String> {
        self.docker(&["inspect", "--format", template, object])
    }

    /// The container's address on its engine's own bridge.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub fn address(&self, container: &str) -> Result<std::net::Ipv4Addr> {
        let address = self.inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
        address.parse().with_context(|| format!("{container} has no address ({address:?})"))
    }

    /// Whether it answers a ping within a second.
    pub fn answers(&self) -> bool {
        self.ask("/_ping").is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
    }

    /// The body of the answer to a GET of its API; a tenth of what the client costs.
    ///
    /// # Errors
    /// It does not answer within a second, or refuses.
    pub fn get(&self, path: &str) -> Result<String> {
        let answer = self.ask(path)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        if !head.starts_with("HTTP/1.0 200") {
            bail!("{path}: {}", head.lines().next().unwrap_or_default());
        }
        Ok(body.to_owned())
    }

    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PING))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Loads an archive of images.
    ///
    /// # Errors
    /// The archive is damaged or the disk full.
    pub fn load(&self, archive: &Path) -> Result<()> {
        run(self.client().arg("load").arg("--input").arg(archive)).map(drop)
    }
}

/// A host's engine: two daemons, which live and die apart as they do where systemd starts them.
#[derive(Debug)]
pub struct HostEngine {
    place: Arc<Place>,
    engine: Engine,
    daemons: Mutex<Daemons>,
}

#[derive(Debug, Default)]
struct Daemons {
    containerd: Option<Process>,
    dockerd: Option<Process>,
}

impl std::ops::Deref for HostEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl HostEngine {
    pub(crate) fn new(place: Arc<Place>) -> HostEngine {
        let engine = Engine::at(place.run.join("docker.sock"));
        HostEngine { place, engine, daemons: Mutex::default() }
    }

    /// Starts what does not run of the two daemons, and waits until the engine answers.
    ///
    /// # Errors
    /// A daemon ends or stays silent; the message holds its log.
    pub fn start(&self) -> Result<()> {
        let mut daemons = self.held();
        let running =
            |daemon: &Option<Process>| daemon.as_ref().is_some_and(|daemon| daemon.exited().is_none());
        if !running(&daemons.containerd) {
            daemons.containerd = Some(self.start_containerd()?);
        }
        if !running(&daemons.dockerd) {
            daemons.dockerd = Some(self.start_dockerd()?);
        }
        Ok(())
    }

    /// SIGTERM to dockerd, as `systemctl stop docker` does: containers stop too. containerd stays.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&self) -> Result<()> {
        self.dockerd(|dockerd| dockerd.terminate(STOP).map(drop))
    }

    /// SIGKILL to dockerd: containers go on without it.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<()> {
        self.dockerd(Process::kill)
    }

    /// Stops and starts dockerd.
    ///
    /// # Errors
    /// As [`HostEngine::stop`] and [`HostEngine::start`].
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// SIGSTOP to dockerd: its socket accepts and nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.dockerd(Process::freeze)
    }

    /// SIGCONT to dockerd.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.dockerd(Process::thaw)
    }

    /// SIGKILL to containerd: its shims and the containers go on, dockerd does not come far.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_containerd(&self) -> Result<()> {
        self.containerd(Process::kill)
    }

    /// SIGSTOP to containerd.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze_containerd(&self) -> Result<()> {
        self.containerd(Process::freeze)
    }

    /// SIGCONT to containerd.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw_containerd(&self) -> Result<()> {
        self.containerd(Process::thaw)
    }

    /// Kills both daemons, when their host goes.
    pub(crate) fn forget(&self) {
        *self.held() = Daemons::default();
    }

    fn dockerd<T>(&self, act: impl FnOnce(&Process) -> Result<T>) -> Result<T> {
        act(self.held().dockerd.as_ref().context("the engine was never started")?)
    }

    fn containerd<T>(&self, act: impl FnOnce(&Process) -> Result<T>) -> Result<T> {
        act(self.held().containerd.as_ref().context("the engine was never started")?)
    }

    fn start_containerd(&self) -> Result<Process> {
        let socket = self.containerd_socket();
        let mut command = self.place.command("containerd");
        command.arg("--root").arg(self.place.disk.join("containerd"));
        command.arg("--state").arg(self.place.run.join("containerd")).arg("--address").arg(&socket);
        let containerd = Process::spawn_entered("containerd", &self.place.logs, command)?;
        wait_up(&containerd, || UnixStream::connect(&socket).is_ok())?;
        Ok(containerd)
    }

    fn start_dockerd(&self) -> Result<Process> {
        let Place { disk, run, number, unique, switch, .. } = &*self.place;
        let config = run.join("daemon.json");
        // A file of its own, or dockerd would read the machine's.
        std::fs::write(&config, format!("{{\"insecure-registries\": [\"{switch}/32\"]}}"))?;
        // dockerd believes its pid file, and pids on a host that has just booted repeat.
        drop(std::fs::remove_file(run.join("dockerd.pid")));
        let mut command = self.place.command("dockerd");
        command.arg("--config-file").arg(config).arg("--pidfile").arg(run.join("dockerd.pid"));
        command.arg("--data-root").arg(disk.join("docker")).arg("--exec-root").arg(run.join("docker"));
        command.args(["--host", &self.engine.url()]).arg("--containerd").arg(self.containerd_socket());
        command.args([
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
            "--cgroup-parent",
            &format!("/{unique}"),
        ]);
        command.arg(format!("--bip=10.78.{number}.1/24"));
        command.arg(format!("--default-address-pool=base=10.79.{}.0/21,size=26", (number - 1) * 8));
        let dockerd = Process::spawn_entered("dockerd", &self.place.logs, command)?;
        wait_up(&dockerd, || self.engine.answers())?;
        Ok(dockerd)
    }

    fn containerd_socket(&self) -> PathBuf {
        self.place.run.join("containerd.sock")
    }

    fn held(&self) -> MutexGuard<'_, Daemons> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_up(daemon: &Process, mut answers: impl FnMut() -> bool) -> Result<()> {
    let answered = wait::until(&format!("{} to answer", daemon.name()), START, || {
        answers().then_some(true).or_else(|| daemon.exited().map(|_| false))
    });
    if !matches!(answered, Ok(true)) {
        bail!("{} does not come up:\n{}", daemon.name(), tail(&daemon.log_text(), 20));
    }
    Ok(())
}

/// The machine's own engine: the one that answers on the usual socket, or else one that is installed and started now.
/// It is left running; nothing but images named `orch/*` and containers with a test's labels is put into it.
///
/// # Errors
/// None answers, and this process is not root or the engine does not start.
pub fn system() -> Result<Engine> {
    let engine = Engine::at(SYSTEM_SOCKET);
    if packages::present("docker") && engine.answers() {
        return Ok(engine);
    }
    packages::ensure(&packages::ENGINE)?;
    if Path::new("/run/systemd/system").is_dir() {
        call("systemctl", &["start", "docker"])?;
    } else {
        start_plain_daemon()?;
    }
    wait::until_true("the machine's engine to answer", START, || engine.answers())?;
    Ok(engine)
}

fn start_plain_daemon() -> Result<()> {
    let log = std::fs::File::options().create(true).append(true).open("/var/log/dockerd.log")?;
    // Its own process group and no pipe: it outlives this process, and a pipe that nobody reads would stop it.
    Command::new("dockerd")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("dockerd")?;
    Ok(())
}
