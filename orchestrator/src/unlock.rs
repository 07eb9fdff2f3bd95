//! A manager that is locked with a passphrase: it waits, before it takes any part, until somebody types it.
//!
//! The passphrase comes over a socket in the data directory, which only the manager's own user can open. Nothing of it is kept but the
//! key that it becomes.

use std::{
    fs,
    io::{BufRead as _, IsTerminal as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use seal::Keyring;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};
use zeroize::Zeroizing;

use crate::{
    dir::DataDir,
    entropy,
    keyring::{self, Found, KeyFile, Lock, Locked, MIN_PASSPHRASE},
    storage,
};

const SOCKET: &str = "unlock.sock";
/// The longest passphrase.
const MAX_PASSPHRASE: u64 = 1024;
/// Whoever connects types it, or has typed it, within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keyring, as soon as it is unlocked.
///
/// # Errors
/// It cannot be read or opened.
pub async fn wait(dir: &DataDir) -> Result<(KeyFile, Keyring)> {
    match keyring::find(dir)? {
        Found::Open(file, ring) => Ok((file, ring)),
        Found::Locked(locked) => listen(dir, &locked).await,
    }
}

async fn listen(dir: &DataDir, locked: &Locked) -> Result<(KeyFile, Keyring)> {
    let path = dir.root().join(SOCKET);
    // One that a former life left; the log's lock says that nobody else listens.
    drop(fs::remove_file(&path));
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let what = format!("locked: orch-manager unlock --dir {}", dir.root().display());
    tracing::warn!("{what}");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&what)]);
    loop {
        let (mut stream, _) = listener.accept().await.context("the socket for the passphrase")?;
        let read = tokio::time::timeout(PATIENCE, line(&mut stream)).await;
        let Ok(Ok(passphrase)) = read else { continue };
        let opened = locked.unlock(&passphrase)?;
        let answer: &[u8] = if opened.is_some() { b"unlocked\n" } else { b"wrong\n" };
        drop(stream.write_all(answer).await);
        if let Some(opened) = opened {
            drop(fs::remove_file(&path));
            tracing::info!("unlocked");
            return Ok(opened);
        }
        tracing::warn!("a wrong passphrase was given");
    }
}

async fn line(stream: &mut UnixStream) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    BufReader::new(stream.take(MAX_PASSPHRASE)).read_until(b'\n', &mut line).await?;
    line.pop_if(|last| *last == b'\n');
    Ok(line)
}

/// `orch-manager unlock`
///
/// # Errors
/// Nothing waits for a passphrase there, or another one is right.
pub async fn unlock(root: &Path) -> Result<()> {
    let path = root.join(SOCKET);
    let mut stream = UnixStream::connect(&path).await.with_context(|| {
        format!("no manager in {} waits for a passphrase (cannot reach {})", root.display(), path.display())
    })?;
    let mut passphrase = ask("Passphrase: ")?;
    passphrase.push(b'\n');
    stream.write_all(&passphrase).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    ensure!(answer.trim() == "unlocked", "this is not the passphrase");
    println!("unlocked");
    Ok(())
}

/// `orch-manager lock`
///
/// # Errors
/// The manager runs, its keyring does not open, or a file cannot be written.
pub async fn relock(root: &Path, lock: Lock) -> Result<()> {
    let dir = DataDir::new(root);
    dir.identity()?;
    let (log, _) = storage::open(&dir.raft(), false, entropy::number()?).context("stop the manager first")?;
    let ring = keyring_of_stopped(&dir)?;
    let passphrase = (lock == Lock::Passphrase).then(new_passphrase).transpose()?;
    keyring::relock(&dir, &ring, lock, passphrase.as_ref().map(|passphrase| passphrase.as_slice()))?;
    drop(log);
    match lock {
        Lock::Passphrase => {
            println!("Locked. After each start: orch-manager unlock --dir {}", root.display())
        }
        Lock::Credential => println!("From now on the service manager's credential opens the keyring."),
        Lock::File => println!("From now on a new key file beside the keyring opens it."),
    }
    println!(
        "What opened it before may lie in backups of this directory: orchctl secret rotate-key makes that worthless."
    );
    Ok(())
}

/// The keyring of a manager that does not run; its passphrase is asked for.
///
/// # Errors
/// It does not open.
pub fn keyring_of_stopped(dir: &DataDir) -> Result<Keyring> {
    let (_, ring) = match keyring::find(dir)? {
        Found::Open(file, ring) => (file, ring),
        Found::Locked(locked) => {
            let passphrase = ask("Present passphrase: ")?;
            locked.unlock(&passphrase)?.context("this is not the passphrase")?
        }
    };
    Ok(ring)
}

fn new_passphrase() -> Result<Zeroizing<Vec<u8>>> {
    let passphrase = ask("New passphrase: ")?;
    ensure!(passphrase.len() >= MIN_PASSPHRASE, "a passphrase has {MIN_PASSPHRASE} letters at least");
    if std::io::stdin().is_terminal() && ask("Again: ")? != passphrase {
        bail!("these are two different passphrases");
    }
    Ok(passphrase)
}

/// A line from the terminal, which does not show it, or from standard input.
fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
    let stdin = std::io::stdin();
    let shown = stdin.is_terminal().then(|| tcgetattr(&stdin)).transpose()?;
    if let Some(shown) = &shown {
        eprint!("{prompt}");
        std::io::stderr().flush()?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    }
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        tcsetattr(&stdin, OptionalActions::Flush, shown)?;
        eprintln!();
    }
    read.context("cannot read the passphrase")?;
    let line = Zeroizing::new(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec());
    ensure!(!line.is_empty(), "there is no passphrase on standard input");
    Ok(line)
}
