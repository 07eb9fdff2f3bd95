//! A host: namespaces with a first process, an address on the switch, and an engine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::ground::Ground;
use super::namespace;
use super::switch::{Direction, Switch};
use crate::command::{call, run};
use crate::engine::HostEngine;
use crate::http::{self, Answer};
use crate::process::{Process, child_of};

/// The first process of a host, under `sh -c`. Arguments: the host's name and its directory.
///
/// A fresh sysfs, since Docker reads bridge attributes there, with the cgroup tree bound back into it; private
/// directories over those where the engine keeps sockets under a fixed path. Then it waits for its stdin to close, as
/// PID 1 reaping what its daemons leave. When it ends, the kernel kills everything on the host.
const INIT: &str = r#"
set -eu
hostname "$1"
mkdir -p "$2/cgroup"
mount --rbind /sys/fs/cgroup "$2/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$2/cgroup" /sys/fs/cgroup
for private in /run/docker /run/containerd; do
  mkdir -p $private
  mount -t tmpfs tmpfs $private
done
echo 1 > /proc/sys/net/ipv4/ip_forward
exec 3<&0
cat <&3 >/dev/null &
echo up
wait $!
"#;

/// How long [`Host::reaches`] waits. Namespaces on one machine answer within a millisecond.
const REACH: Duration = Duration::from_millis(500);

/// One host.
#[derive(Debug)]
pub struct Host {
    place: Arc<Place>,
    engine: HostEngine,
    switch: Switch,
}

/// What an engine and a process need to know of the host that they run on.
#[derive(Debug)]
pub struct Place {
    /// Short name, `h1`; its kernel's host name too.
    pub name: String,
    /// Unique name on the machine; its network namespace and control group.
    pub unique: String,
    /// From 1.
    pub number: usize,
    /// On the switch.
    pub address: Ipv4Addr,
    /// The switch's own, where the laboratory's plain registries are.
    pub switch: Ipv4Addr,
    /// What survives a power cut.
    pub disk: PathBuf,
    /// What does not.
    pub run: PathBuf,
    /// Where its daemons log.
    pub logs: PathBuf,
    init: Mutex<Option<Init>>,
}

#[derive(Debug)]
struct Init {
    outer: Child,
    pid: i32,
}

impl Host {
    /// Makes the namespaces, plugs the host in and boots it, without an engine yet.
    ///
    /// # Errors
    /// Not root, or a name is taken.
    pub(super) fn create(ground: &Ground, switch: &Switch, number: usize, address: Ipv4Addr) -> Result<Host> {
        let name = format!("h{number}");
        let unique = ground.name(&name);
        let dir = ground.dir().join(&name);
        let place = Place {
            disk: dir.join("disk"),
            run: dir.join("run"),
            logs: ground.logs().join(&name),
            name,
            unique,
            number,
            address,
            switch: switch.address(),
            init: Mutex::new(None),
        };
        for dir in [&place.disk, &place.logs] {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        place.wire(switch)?;
        let place = Arc::new(place);
        place.boot()?;
        let engine = HostEngine::new(Arc::clone(&place));
        Ok(Host { place, engine, switch: switch.clone() })
    }

    /// `h1`, `h2`, ...
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its address on the switch.
    pub fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    /// The name of its network namespace.
    pub fn namespace(&self) -> &str {
        &self.place.unique
    }

    /// A directory that survives [`Host::power_off`].
    pub fn disk(&self) -> &Path {
        &self.place.disk
    }

    /// Where its daemons log.
    pub fn logs(&self) -> &Path {
        &self.place.logs
    }

    /// Its engine.
    pub fn engine(&self) -> &HostEngine {
        &self.engine
    }

    /// A command that runs on this host: its network, its processes, its view of the mounts.
    ///
    /// # Panics
    /// The host is off.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.place.command(program)
    }

    /// Starts a daemon on this host; it ends with the host at the latest.
    ///
    /// # Errors
    /// As [`Process::spawn_entered`].
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        Process::spawn_entered(name, &self.place.logs, command)
    }

    /// Runs `work` on a thread whose sockets are this host's.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        namespace::within(&self.place.unique, work)
    }

    /// One HTTP request from this host.
    ///
    /// # Errors
    /// As [`http::get`].
    pub fn get(&self, address: impl Into<SocketAddr>, path: &str) -> Result<Answer> {
        let address = address.into();
        self.within(|| http::get(address, path, Duration::from_secs(5)))?
    }

    /// Whether a TCP connection from this host to `other` comes up.
    pub fn reaches(&self, other: &Host) -> bool {
        let there = IpAddr::V4(other.address());
        let Ok(Ok(listener)) = other.within(|| TcpListener::bind((there, 0))) else { return false };
        let Ok(address) = listener.local_addr() else { return false };
        self.within(|| TcpStream::connect_timeout(&address, REACH).is_ok()).unwrap_or(false)
    }

    /// Silence both ways; the host's own link stays up.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn cut(&self) -> Result<()> {
        self.switch.cut(self.place.number)
    }

    /// The cable is out: the host sees that its carrier is gone.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn unplug(&self) -> Result<()> {
        self.switch.unplug(self.place.number)
    }

    /// Silence in one direction.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn cut_one_way(&self, direction: Direction) -> Result<()> {
        self.switch.cut_one_way(self.place.number, direction)
    }

    /// Ends every TCP connection to a port of this host at its next packet, for as long as `work` runs.
    ///
    /// # Errors
    /// The kernel has no nftables, or `work` fails.
    pub fn resetting<T>(&self, port: u16, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let table = format!(
            "table inet resets {{\n chain input {{\n type filter hook input priority 0;\n \
             tcp dport {port} reject with tcp reset\n }}\n }}"
        );
        run(self.command("nft").arg(table))?;
        let done = work();
        run(self.command("nft").arg("delete table inet resets"))?;
        done
    }

    /// Sends new connections to `port` of this host to another port of it.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn redirect(&self, port: u16, to: u16) -> Result<()> {
        let table = format!(
            "table ip redirects {{\n chain prerouting {{\n type nat hook prerouting priority -100;\n \
             tcp dport {port} redirect to :{to}\n }}\n }}"
        );
        run(self.command("nft").arg(table)).map(drop)
    }

    /// Ends [`Host::redirect`].
    ///
    /// # Errors
    /// Nothing is redirected.
    pub fn end_redirect(&self) -> Result<()> {
        run(self.command("nft").arg("delete table ip redirects")).map(drop)
    }

    /// Ends every cut of this host.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn restore(&self) -> Result<()> {
        self.switch.restore(self.place.number)
    }

    /// Pulls the plug: every process of the host, containers included, dies at once without a word, and its cable is
    /// silent. The page cache survives, so this says nothing of a disk.
    ///
    /// # Errors
    /// The host is off already.
    pub fn power_off(&self) -> Result<()> {
        self.cut()?;
        self.place.halt()
    }

    /// Boots the host again with the disk that it had, without starting its engine or daemons.
    ///
    /// # Errors
    /// The host is on.
    pub fn power_on(&self) -> Result<()> {
        if self.place.held().is_some() {
            bail!("{} is on", self.name());
        }
        self.engine.forget();
        self.place.boot()?;
        self.restore()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.engine.forget();
        drop(self.place.halt());
    }
}

impl Place {
    /// A command that runs on this host.
    ///
    /// # Panics
    /// The host is off.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let pid = self.held().as_ref().map(|init| init.pid).expect("the host is on");
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--mount", "--uts", "--net", "--pid", "--"]).arg(program);
        command
    }

    fn wire(&self, switch: &Switch) -> Result<()> {
        let ip = |args: &[&str]| run(Command::new("ip").args(["-n", &self.unique]).args(args)).map(drop);
        call("ip", &["netns", "add", &self.unique])?;
        switch.plug(self.number, &self.unique)?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["addr", "add", &format!("{}/24", self.address), "dev", "eth0"])?;
        ip(&["link", "set", "eth0", "up"])
    }

    fn boot(&self) -> Result<()> {
        drop(std::fs::remove_dir_all(&self.run));
        std::fs::create_dir_all(&self.run)?;
        let log = File::options().create(true).append(true).open(self.logs.join("init.log"))?;
        let mut outer = Command::new("unshare")
            .args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["nsenter", &format!("--net=/run/netns/{}", self.unique), "sh", "-c", INIT, "init"])
            .arg(&self.name)
            .arg(&self.run)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("unshare")?;
        let mut first_line = String::new();
        BufReader::new(outer.stdout.take().expect("stdout is piped")).read_line(&mut first_line)?;
        let pid = i32::try_from(outer.id()).ok().and_then(child_of).filter(|_| first_line == "up\n");
        let Some(pid) = pid else {
            drop(outer.wait());
            bail!("{} does not boot:\n{}", self.name, std::fs::read_to_string(self.logs.join("init.log"))?);
        };
        *self.held() = Some(Init { outer, pid });
        Ok(())
    }

    fn halt(&self) -> Result<()> {
        let Some(mut init) = self.held().take() else { bail!("{} is off", self.name) };
        if let Some(pid) = Pid::from_raw(init.pid) {
            // Already dead is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
        init.outer.wait().map(drop).context("the host's first process")
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Init>> {
        self.init.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
