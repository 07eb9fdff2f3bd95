//! Debian packages that the laboratory installs on a machine that has only Rust.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::command::run;
use crate::require::is_root;

/// A program and the package that brings it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub program: &'static str,
    pub package: &'static str,
}

const fn wanted(program: &'static str, package: &'static str) -> Wanted {
    Wanted { program, package }
}

/// The engine. Newer releases of Debian ship the client apart from it, so it is named after the engine and installed
/// only when the engine's package did not bring it.
pub const ENGINE: [Wanted; 4] = [
    wanted("dockerd", "docker.io"),
    wanted("containerd", "containerd"),
    wanted("docker", "docker-cli"),
    wanted("iptables", "iptables"),
];

/// Links, namespaces and filters.
pub const NETWORK: [Wanted; 3] =
    [wanted("ip", "iproute2"), wanted("nft", "nftables"), wanted("nsenter", "util-linux")];

/// What reads systemd's units.
pub const UNITS: [Wanted; 1] = [wanted("systemd-analyze", "systemd")];

/// File systems on loop files, for the power-cut tests.
pub const DISKS: [Wanted; 1] = [wanted("mkfs.ext4", "e2fsprogs")];

/// A registry of images, and what makes its logins.
pub const REGISTRY: [Wanted; 2] =
    [wanted("docker-registry", "docker-registry"), wanted("htpasswd", "apache2-utils")];

/// A directory, and what changes it.
pub const DIRECTORY: [Wanted; 2] = [wanted("slapd", "slapd"), wanted("ldapmodify", "ldap-utils")];

/// Peers of the mesh and a load for all of them, for the benchmark.
pub const PROXIES: [Wanted; 3] =
    [wanted("haproxy", "haproxy"), wanted("nginx", "nginx-light"), wanted("wrk", "wrk")];

/// Where packages put programs; a user's PATH often lacks the sbin half.
const PLACES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// One installation at a time; a second one would find apt's lock held.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs what is missing of `wanted`, in order. Idempotent; without effect when nothing is missing.
///
/// # Errors
/// Something is missing and this process is not root, or apt-get fails; the message names the program.
pub fn ensure(wanted: &[Wanted]) -> Result<()> {
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut updated = false;
    for item in wanted {
        if present(item.program) {
            continue;
        }
        if !is_root() {
            bail!("{} is missing: apt-get install {}", item.program, item.package);
        }
        install(*item, &mut updated)?;
    }
    Ok(())
}

/// Whether a program is in one of the usual places or in PATH.
pub fn present(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    PLACES.into_iter().chain(path.split(':')).any(|place| Path::new(place).join(program).is_file())
}

fn install(item: Wanted, updated: &mut bool) -> Result<()> {
    if !*updated {
        run(&mut apt(&["update"])).context("cannot refresh the package lists")?;
        *updated = true;
    }
    run(&mut apt(&["install", "--yes", "--no-install-recommends", item.package]))
        .with_context(|| format!("cannot install {} for {}", item.package, item.program))?;
    if !present(item.program) {
        bail!("{} was installed and {} is still missing", item.package, item.program);
    }
    Ok(())
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "-o", "DPkg::Lock::Timeout=120"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Packages of servers start them; what is needed here is started here, where nobody else is.
        .env("SYSTEMD_OFFLINE", "1")
        .env("RUNLEVEL", "1");
    command
}
