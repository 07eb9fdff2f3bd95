//! The switch: a bridge in a namespace of its own, with a port a host. Links are cut here, so that neither end notices
//! anything but silence, as with a pulled cable on a far switch.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;

use super::namespace;
use crate::command::{call, run};

/// Which way frames of a port are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The host hears nothing; others hear it.
    ToHost,
    /// Others do not hear the host; it hears them.
    FromHost,
}

impl Direction {
    fn set(self) -> &'static str {
        match self {
            Direction::ToHost => "to_host",
            Direction::FromHost => "from_host",
        }
    }
}

/// Frames of a silenced port are dropped; the sets hold the ports' names.
const TABLE: &str = "
    set from_host { type ifname; }
    set to_host { type ifname; }
    chain frames {
        type filter hook forward priority 0;
        iifname @from_host drop
        oifname @to_host drop
    }";

/// A bridge and its ports.
#[derive(Debug, Clone)]
pub struct Switch {
    namespace: String,
    address: Ipv4Addr,
}

impl Switch {
    /// Makes the namespace and the bridge, which has `address` itself.
    ///
    /// # Errors
    /// Not root, or the kernel lacks bridges.
    pub fn create(namespace: &str, address: Ipv4Addr) -> Result<Switch> {
        call("ip", &["netns", "add", namespace])?;
        let switch = Switch { namespace: namespace.to_owned(), address };
        switch.ip(&["link", "add", "br0", "type", "bridge"])?;
        switch.ip(&["addr", "add", &format!("{address}/24"), "dev", "br0"])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        switch.ip(&["link", "set", "lo", "up"])?;
        switch.nft(&format!("table bridge cut {{ {TABLE}\n}}"))?;
        Ok(switch)
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its own address, which programs in its namespace use.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Plugs a cable into port `number`; its other end is `eth0` of `namespace`.
    ///
    /// # Errors
    /// The names are taken.
    pub fn plug(&self, number: usize, namespace: &str) -> Result<()> {
        let port = port(number);
        self.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
        self.ip(&["link", "set", &port, "master", "br0"])?;
        self.ip(&["link", "set", &port, "up"])
    }

    /// A command whose network is the switch's: it reaches every host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        command
    }

    /// Runs `work` on a thread whose sockets are the switch's: it reaches every host.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        namespace::within(&self.namespace, work)
    }

    /// Plugs this process's own network in, as the interface `name` with `address`. It goes with the switch.
    ///
    /// # Errors
    /// The name is taken.
    pub fn uplink(&self, name: &str, address: Ipv4Addr) -> Result<()> {
        let here = std::process::id().to_string();
        self.ip(&["link", "add", "uplink", "type", "veth", "peer", "name", name, "netns", &here])?;
        self.ip(&["link", "set", "uplink", "master", "br0"])?;
        self.ip(&["link", "set", "uplink", "up"])?;
        call("ip", &["addr", "add", &format!("{address}/24"), "dev", name])?;
        call("ip", &["link", "set", name, "up"]).map(drop)
    }

    /// Stops forwarding on a port, both ways. The host's own link stays up: it sees silence.
    ///
    /// # Errors
    /// There is no such port.
    pub fn cut(&self, number: usize) -> Result<()> {
        self.ip(&["link", "set", &port(number), "nomaster"])
    }

    /// Takes the cable out: the host sees its carrier go.
    ///
    /// # Errors
    /// There is no such port.
    pub fn unplug(&self, number: usize) -> Result<()> {
        self.ip(&["link", "set", &port(number), "down"])
    }

    /// Drops frames of a port in one direction only.
    ///
    /// # Errors
    /// The kernel has no nftables for bridges.
    pub fn cut_one_way(&self, number: usize, direction: Direction) -> Result<()> {
        self.nft(&format!("add element bridge cut {} {{ \"{}\" }}", direction.set(), port(number)))
    }

    /// Undoes every cut of a port; idempotent.
    ///
    /// # Errors
    /// There is no such port.
    pub fn restore(&self, number: usize) -> Result<()> {
        self.ip(&["link", "set", &port(number), "master", "br0"])?;
        self.ip(&["link", "set", &port(number), "up"])?;
        for direction in [Direction::ToHost, Direction::FromHost] {
            // Added before it is deleted, in one transaction: deleting what is absent is an error.
            let element = format!("element bridge cut {} {{ \"{}\" }}", direction.set(), port(number));
            self.nft(&format!("add {element}; delete {element}"))?;
        }
        Ok(())
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.namespace]).args(args)).map(drop)
    }

    fn nft(&self, rule: &str) -> Result<()> {
        run(Command::new("ip").args(["netns", "exec", &self.namespace, "nft", rule])).map(drop)
    }
}

fn port(number: usize) -> String {
    format!("p{number}")
}
