//! A manager whose log is damaged or gone comes back by itself, from its peers.
//!
//! It must not vote or acknowledge under its Raft id any more: it may have promised what it no longer knows. But its
//! certificate is as good as before, and so it asks, under the old id, for a new one. The leader takes the old id out of
//! the state and admits the new one as a learner, in one entry; the group refuses whatever the old id might still say.
//! Then this manager starts with an empty log under the new id, gets a snapshot like any newcomer, and votes again.
//!
//! When no majority answers there is nobody to repair from, and it refuses to start with the commands that help. It never
//! goes on with what is left of a log.
//!
//! A crash at any point is resumed: before the answer is on disk, by asking again (the leader repeats the id that was
//! given out and not used); from then on, by [`finish`].

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use manager_core::replace::{Successor, may_pass};
use model::request::{ApiError, Reply, Request};
use pki::{KeyAndCsr, PrivateKey};
use rpc::tls::{CertReloader, ClientTls};

use crate::{
    client,
    dir::{DataDir, Identity, Pems, Replacement, Seed},
    entropy, storage,
};

/// How long the others get to form a majority: they may be booting after the same power cut. Whoever supervises this
/// process starts it again afterwards.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Gets this manager a new id and an empty log in place of a damaged one; returns who it is from now on.
///
/// # Errors
/// Nobody can admit it again; the message says what is damaged and which commands help.
pub async fn replace(
    dir: &DataDir,
    identity: &Identity,
    address: &str,
    damage: anyhow::Error,
) -> Result<Identity> {
    tracing::error!(
        error = format!("{damage:#}"),
        "the log cannot be used; asking the other managers for a new id"
    );
    let asked = ask(dir, identity, address).await;
    let replacement = asked.with_context(|| advice(dir.root(), &damage))?;
    dir.write_replacement(&replacement)?;
    finish(dir)?.context("the replacement was just written")
}

/// Does the rest of a replacement whose answer is on disk; `None` when there is none.
///
/// # Errors
/// A file cannot be written.
pub fn finish(dir: &DataDir) -> Result<Option<Identity>> {
    let Some(replacement) = dir.replacement()? else { return Ok(None) };
    let Replacement { identity, former, .. } = &replacement;
    let kept = set_aside(dir, *former)?;
    if !dir.raft().exists() {
        let fresh = dir.root().join("raft.fresh");
        remove(&fresh)?;
        fs::create_dir(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
        drop(storage::open(&fresh, true, entropy::number()?)?);
        fs::rename(&fresh, dir.raft()).with_context(|| format!("cannot rename {}", fresh.display()))?;
    }
    dir.write_pems(&replacement.pems())?;
    dir.write_identity(identity)?;
    dir.remove_replacement()?;
    tracing::warn!(
        former = %former,
        member = %identity.member,
        kept = %kept.display(),
        "this manager starts anew under another id; the damaged log is kept until the next replacement"
    );
    Ok(Some(replacement.identity))
}

/// Moves the damaged log out of the way, once, and removes those of earlier replacements.
fn set_aside(dir: &DataDir, former: model::id::MemberId) -> Result<PathBuf> {
    let kept = dir.root().join(format!("raft.damaged-{former}"));
    if kept.exists() {
        return Ok(kept);
    }
    for entry in fs::read_dir(dir.root())?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("raft.damaged-") {
            remove(&entry.path())?;
        }
    }
    if dir.raft().exists() {
        // It holds nothing, and the new log needs the room for its own.
        drop(fs::remove_file(dir.raft().join(wal::RESERVE_FILE)));
        fs::rename(dir.raft(), &kept).with_context(|| format!("cannot rename {}", dir.raft().display()))?;
    } else {
        fs::create_dir(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    }
    Ok(kept)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Asks the others until one has done it.
async fn ask(dir: &DataDir, identity: &Identity, address: &str) -> Result<Replacement> {
    let managers: Vec<String> = dir.peers(identity)?.into_iter().map(|peer| peer.address).collect();
    if managers.is_empty() {
        bail!("this manager knows of no other one");
    }
    let pems = dir.pems()?;
    let tls = ClientTls::mutual(&pems.authority, CertReloader::new(pems.credentials()?))?;
    let csr = KeyAndCsr::for_key(PrivateKey::from_pem(&pems.key)?)?.csr_pem;
    let request = Request::ReplaceMember { address: address.to_owned(), csr };
    let begun = Instant::now();
    loop {
        match client::call(&managers, &tls, &request).await {
            Ok(reply) => return answered(identity, &pems, address, reply),
            Err(error) if is_final(&error) || begun.elapsed() > PATIENCE => return Err(error),
            Err(error) => {
                tracing::info!(error = format!("{error:#}"), "no manager admits this one yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn answered(identity: &Identity, pems: &Pems, address: &str, reply: Reply) -> Result<Replacement> {
    let successor = Successor::from_answer(identity.member, reply.response);
    let Successor { member, certificate, seeds } = successor.context("an unexpected answer")?;
    let seeds = seeds.into_iter().map(|(member, address)| Seed { member, address }).collect();
    let new = Identity::new(identity.cluster, member, &identity.name, address, seeds);
    Ok(Replacement::new(identity.member, new, &Pems { certificate, ..pems.clone() }))
}

/// Whether asking again cannot help.
fn is_final(error: &anyhow::Error) -> bool {
    let refusal = error.chain().find_map(|cause| cause.downcast_ref::<ApiError>());
    refusal.is_some_and(|refusal| !may_pass(refusal))
}

fn advice(root: &Path, damage: &anyhow::Error) -> String {
    let dir = root.display();
    format!(
        "{damage:#}\n\
         This manager does not start on it, and no majority of the others admitted it again. What was acknowledged is safe \
         as long as a majority of the managers has it.\n  \
         What is damaged:                        orch-manager check --dir {dir}\n  \
         When the others run: start this one again, it comes back by itself. Or, by hand:\n                                          \
         orchctl manager remove NAME; orchctl token create --role manager;\n                                          \
         orch-manager join --dir EMPTY-DIR --manager OTHER --token TOKEN\n  \
         When no majority can run any more, on the one whose check finds most:\n                                          \
         orch-manager recover --others-are-gone --dir DIR\n  \
         When no manager has a whole log: restore one's data directory from a backup, then recover as above.\n\
         Why it was not admitted"
    )
}
