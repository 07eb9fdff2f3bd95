//! `orch-manager recover`: a cluster of one from a survivor's disk.
//!
//! The new log is written beside the old one and takes its place by renames; a crash in between leaves something that
//! `recover` can be run on again. The old log is kept.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use model::identity::{CertName, Identity};
use pki::{ClusterCa, KeyAndCsr, PrivateKey};

use crate::{
    config::with_port,
    core_loop::{CERTIFICATE_LIFE, now},
    dir::{DataDir, Identity as MemberIdentity, Pems},
    entropy, storage, unlock,
};

/// Serial numbers of certificates made here: far above those that the log counts, apart from those of init.
const FIRST_SERIAL: u64 = (1 << 62) + (1 << 32);

/// Recovers and says what to do next.
pub fn recover(root: &Path, address: Option<&str>) -> Result<()> {
    let dir = DataDir::new(root);
    let identity = dir.identity()?;
    let address = address.map_or(identity.address.clone(), with_port);
    let (wal, old) = storage::open(&dir.raft(), false, 0)?;
    drop(wal);
    let ring = unlock::keyring_of_stopped(&dir)?;
    let wall = now(std::time::Instant::now()).wall;
    let recovery = manager_core::recover(&old, &address, wall)
        .with_context(|| format!("nothing can be recovered from {}", dir.raft().display()))?;

    let fresh = root.join("raft.recovered");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    fs::create_dir(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    storage::write_first(&fresh, recovery.recovered, entropy::number()?)?;

    let Some(cluster) = recovery.state.cluster() else { bail!("the recovered state has no cluster") };
    let key = manager_core::authority_key(cluster, &ring)
        .context("the authority's key does not open, and without it nobody can be admitted")?;
    let ca = ClusterCa::from_pem(&cluster.authority.certificate, std::str::from_utf8(key.reveal())?)?;
    let key = KeyAndCsr::for_key(PrivateKey::from_pem(&dir.pems()?.key)?)?;
    let name = CertName { cluster: cluster.id, identity: Identity::Manager(recovery.member) };
    let serial = FIRST_SERIAL + recovery.member.0;
    let certificate = ca.issue(key.csr_pem.as_bytes(), &name, CERTIFICATE_LIFE, wall, serial)?;

    let kept = root.join(format!("raft.before-{}", recovery.member));
    fs::rename(dir.raft(), &kept).with_context(|| format!("cannot rename {}", dir.raft().display()))?;
    fs::rename(&fresh, dir.raft()).with_context(|| format!("cannot rename {}", fresh.display()))?;
    dir.write_pems(&Pems { authority: cluster.authority.bundle(), certificate, key: key.key_pem() })?;
    dir.write_identity(&MemberIdentity::new(
        cluster.id,
        recovery.member,
        &identity.name,
        &address,
        Vec::new(),
    ))?;
    println!(
        "Manager {} was recovered as {}, the only member of cluster {}.",
        identity.member, recovery.member, cluster.id
    );
    println!("The old log is kept in {}. Start it:\n", kept.display());
    println!("    orch-manager run --dir {}\n", root.display());
    println!(
        "Then join new managers (`orchctl token create --role manager`); never start the old ones again with their data."
    );
    Ok(())
}
