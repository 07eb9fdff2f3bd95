//! The keyring on disk: the data keys, sealed with a key of this machine.
//!
//! ```text
//! DIR/keys.sealed         the data keys, and how they are opened
//! DIR/unlock-….key        by default, what opens them (0600)
//! ```
//!
//! What opens them is one of three. A key file beside them: whoever gets a copy of the log, a snapshot or a backup without that file reads
//! no secret, whoever gets the whole directory reads all. A credential that the service manager hands over (systemd's
//! `LoadCredentialEncrypted=orch-unlock:…`, which a TPM can guard). Or a passphrase that a person types at every start.
//!
//! A change of it survives a crash at each step: what opens the new file is durable before that takes the old one's place, and the old
//! one's is removed afterwards.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use model::sealed::KeyId;
use ring::hmac;
use seal::{DataKey, KEY_LEN, Keyring};
use serde::{Deserialize, Serialize};

use crate::{
    dir::{DataDir, write_durably},
    entropy,
};

/// The file's format; a newer one is refused.
const FORMAT: u32 = 1;
const FILE: &str = "keys.sealed";
/// The name of the credential that the service manager hands over.
const CREDENTIAL: &str = "orch-unlock";
/// A credential shorter than this could be guessed: it is no passphrase, nothing makes guessing slow.
const MIN_CREDENTIAL: usize = 32;
/// A passphrase shorter than this is refused.
pub const MIN_PASSPHRASE: usize = 12;
const CONTEXT: &[u8] = b"orch keyring 1";

/// How the keyring is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Unlock {
    /// With a key file of this name in the data directory.
    File(String),
    /// With what the service manager hands over.
    Credential,
    /// With a passphrase, stretched so.
    Passphrase(Stretch),
}

/// Argon2id's parameters: what a guess costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    salt: String,
    memory_kib: u32,
    rounds: u32,
    lanes: u32,
}

/// What a change of the lock asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// A new key file.
    File,
    /// The service manager's credential.
    Credential,
    /// A passphrase.
    Passphrase,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: u32,
    nonce: String,
    keys: String,
    unlock: Unlock,
}

/// The keyring's file, unlocked.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    unlock: Unlock,
    key: DataKey,
    /// The last write's number: an older one that comes late is left out.
    last: Mutex<u64>,
}

/// What was found.
pub enum Found {
    /// It is open.
    Open(KeyFile, Keyring),
    /// A person has to type a passphrase.
    Locked(Locked),
}

/// A keyring that waits for its passphrase.
pub struct Locked {
    path: PathBuf,
    sealed: Sealed,
    stretch: Stretch,
}

/// Looks at a manager's keyring; a new one is made for one that has none.
///
/// # Errors
/// It cannot be read, or what opens it is not there or is another's.
pub fn find(dir: &DataDir) -> Result<Found> {
    let path = dir.root().join(FILE);
    let Some(sealed) = read(&path)? else {
        let lock = if credential().is_some() { Lock::Credential } else { Lock::File };
        let file = KeyFile::make(dir, lock, None)?;
        return Ok(Found::Open(file, Keyring::default()));
    };
    let key = match &sealed.unlock {
        Unlock::Passphrase(stretch) => {
            let stretch = stretch.clone();
            return Ok(Found::Locked(Locked { path, sealed, stretch }));
        }
        Unlock::File(name) => read_key(&dir.root().join(name))?,
        Unlock::Credential => credential_key()?,
    };
    let ring = open(&sealed, &key).with_context(|| {
        format!(
            "{} does not open with {}: it is another's, or one of them is damaged",
            path.display(),
            sealed.unlock.words()
        )
    })?;
    let unlock = sealed.unlock;
    Ok(Found::Open(KeyFile { path, unlock, key, last: Mutex::new(0) }, ring))
}

impl Locked {
    /// Opens it; `None`: another passphrase is right.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<Option<(KeyFile, Keyring)>> {
        let key = self.stretch.key(passphrase)?;
        let Ok(ring) = open(&self.sealed, &key) else { return Ok(None) };
        let unlock = self.sealed.unlock.clone();
        Ok(Some((KeyFile { path: self.path.clone(), unlock, key, last: Mutex::new(0) }, ring)))
    }
}

impl KeyFile {
    fn make(dir: &DataDir, lock: Lock, passphrase: Option<&[u8]>) -> Result<Self> {
        let (unlock, key) = match lock {
            Lock::Credential => (Unlock::Credential, credential_key()?),
            Lock::File => {
                let name = format!("unlock-{:016x}.key", entropy::number()?);
                let key = entropy::bytes::<KEY_LEN>()?;
                write_durably(&dir.root().join(&name), BASE64.encode(key).as_bytes(), 0o600)?;
                (Unlock::File(name), DataKey::new(key))
            }
            Lock::Passphrase => {
                let stretch = Stretch::new()?;
                let key = stretch.key(passphrase.context("a passphrase is needed")?)?;
                (Unlock::Passphrase(stretch), key)
            }
        };
        Ok(Self { path: dir.root().join(FILE), unlock, key, last: Mutex::new(0) })
    }

    /// Writes the keyring durably, unless a later one was written. Safe to repeat.
    ///
    /// # Errors
    /// The disk fails; the former file is still there.
    pub fn keep(&self, sequence: u64, ring: &Keyring) -> Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence < *last {
            return Ok(());
        }
        let plain = zeroize::Zeroizing::new(encode(ring));
        let nonce = entropy::bytes::<12>()?;
        let sealed = Sealed {
            format: FORMAT,
            nonce: BASE64.encode(nonce),
            keys: BASE64.encode(self.key.seal(nonce, CONTEXT, &plain)),
            unlock: self.unlock.clone(),
        };
        let text = toml::to_string(&sealed).context("the keyring does not encode")?;
        write_durably(&self.path, text.as_bytes(), 0o600)?;
        *last = sequence;
        Ok(())
    }

    /// How it is opened, in words.
    pub fn words(&self) -> &'static str {
        self.unlock.words()
    }
}

impl Unlock {
    fn words(&self) -> &'static str {
        match self {
            Self::File(_) => "the key file beside it",
            Self::Credential => "the service manager's credential",
            Self::Passphrase(_) => "a passphrase",
        }
    }
}

/// Seals the keyring in another way from now on; the manager must not run. What opened it before is removed.
///
/// # Errors
/// A file cannot be written; the former way still opens it.
pub fn relock(dir: &DataDir, ring: &Keyring, lock: Lock, passphrase: Option<&[u8]>) -> Result<()> {
    let file = KeyFile::make(dir, lock, passphrase)?;
    file.keep(0, ring)?;
    let kept = match &file.unlock {
        Unlock::File(name) => Some(name.clone()),
        Unlock::Credential | Unlock::Passphrase(_) => None,
    };
    for entry in fs::read_dir(dir.root())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("unlock-") && name.ends_with(".key") && Some(&name) != kept.as_ref() {
            fs::remove_file(entry.path()).with_context(|| format!("cannot remove {name}"))?;
        }
    }
    fs::File::open(dir.root())?.sync_all().context("cannot sync the data directory")
}

impl Stretch {
    /// What OWASP asks of Argon2id, several times over: about a tenth of a second for each guess.
    fn new() -> Result<Self> {
        let salt = BASE64.encode(entropy::bytes::<16>()?);
        Ok(Self { salt, memory_kib: 64 << 10, rounds: 3, lanes: 1 })
    }

    fn key(&self, passphrase: &[u8]) -> Result<DataKey> {
        let salt = BASE64.decode(&self.salt).context("the salt is malformed")?;
        let params = Params::new(self.memory_kib, self.rounds, self.lanes, Some(KEY_LEN));
        let params = params.map_err(|error| anyhow::anyhow!("the passphrase's parameters: {error}"))?;
        let mut key = [0; KEY_LEN];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &salt, &mut key)
            .map_err(|error| anyhow::anyhow!("the passphrase cannot be stretched: {error}"))?;
        Ok(DataKey::new(key))
    }
}

fn read(path: &Path) -> Result<Option<Sealed>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let sealed: Sealed = toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?;
    let (shown, format) = (path.display(), sealed.format);
    ensure!(format <= FORMAT, "{shown} has format {format}; this program reads up to {FORMAT}: upgrade it");
    Ok(Some(sealed))
}

fn read_key(path: &Path) -> Result<DataKey> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read {}, which opens the keyring: bring it back from where it is kept, or remove {FILE}, and the other managers \
             give this one their keys",
            path.display()
        )
    })?;
    let bytes = zeroize::Zeroizing::new(BASE64.decode(text.trim()).unwrap_or_default());
    DataKey::from_slice(&bytes).with_context(|| format!("{} is no key", path.display()))
}

fn credential() -> Option<PathBuf> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|value| !value.is_empty())?;
    Some(PathBuf::from(directory).join(CREDENTIAL)).filter(|path| path.exists())
}

fn credential_key() -> Result<DataKey> {
    let path = credential().with_context(|| {
        format!("the keyring opens with the credential {CREDENTIAL}, and the service manager hands over none: see LoadCredential=")
    })?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = zeroize::Zeroizing::new(bytes);
    if bytes.len() < MIN_CREDENTIAL {
        bail!(
            "{} has {} bytes; a credential has {MIN_CREDENTIAL} random ones at least",
            path.display(),
            bytes.len()
        );
    }
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"orch unlock credential"), &bytes);
    DataKey::from_slice(tag.as_ref()).context("a tag has 32 bytes")
}

fn open(sealed: &Sealed, key: &DataKey) -> Result<Keyring> {
    let nonce: [u8; 12] = BASE64.decode(&sealed.nonce)?.try_into().ok().context("the nonce has 12 bytes")?;
    let plain = key.open(nonce, CONTEXT, BASE64.decode(&sealed.keys)?).context("it does not open")?;
    decode(&plain).context("it holds no keys")
}

/// Each key's number and bytes.
fn encode(ring: &Keyring) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, key) in ring.iter() {
        bytes.extend(id.0.to_be_bytes());
        bytes.extend(key.reveal());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Keyring> {
    let (records, rest) = bytes.as_chunks::<{ 8 + KEY_LEN }>();
    let record = |record: &[u8; 8 + KEY_LEN]| {
        let (id, key) = record.split_first_chunk::<8>()?;
        Some((KeyId(u64::from_be_bytes(*id)), DataKey::from_slice(key)?))
    };
    let keys: Option<Vec<_>> = records.iter().map(record).collect();
    keys.filter(|_| rest.is_empty()).map(Keyring::new)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ring() -> Keyring {
        Keyring::new([(KeyId(1), DataKey::new([1; 32])), (KeyId(2), DataKey::new([2; 32]))])
    }

    fn place() -> (tempfile::TempDir, DataDir) {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path());
        (place, dir)
    }

    fn opened(dir: &DataDir) -> (KeyFile, Keyring) {
        match find(dir).unwrap() {
            Found::Open(file, ring) => (file, ring),
            Found::Locked(_) => panic!("it is locked"),
        }
    }

    fn key_files(dir: &DataDir) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.root()).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "key")).collect()
    }

    #[test]
    fn a_keyring_opens_with_its_key_file_and_not_without() {
        let (_place, dir) = place();
        let (file, empty) = opened(&dir);
        assert!(empty.is_empty());
        file.keep(1, &ring()).unwrap();
        file.keep(0, &Keyring::default()).unwrap();
        assert_eq!(opened(&dir).1, ring(), "an older write that comes late is left out");
        let key = key_files(&dir).pop().unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&key).unwrap();
        let Err(refusal) = find(&dir) else { panic!("opened without its key") };
        assert!(format!("{refusal:#}").contains("which opens the keyring"), "{refusal:#}");
        fs::write(&key, BASE64.encode([7; 32])).unwrap();
        assert!(find(&dir).is_err(), "another key");
    }

    #[test]
    fn a_passphrase_takes_the_key_files_place_and_only_it_opens() {
        let (_place, dir) = place();
        let (file, _) = opened(&dir);
        file.keep(1, &ring()).unwrap();
        relock(&dir, &ring(), Lock::Passphrase, Some(b"correct horse battery")).unwrap();
        assert!(key_files(&dir).is_empty());
        let Found::Locked(locked) = find(&dir).unwrap() else { panic!("it is open") };
        assert!(locked.unlock(b"wrong horse battery").unwrap().is_none());
        let (file, found) = locked.unlock(b"correct horse battery").unwrap().unwrap();
        assert_eq!(found, ring());
        file.keep(5, &Keyring::default()).unwrap();
        relock(&dir, &ring(), Lock::File, None).unwrap();
        assert_eq!((opened(&dir).1, key_files(&dir).len()), (ring(), 1));
    }

    #[test]
    fn a_change_of_the_key_file_that_breaks_off_leaves_a_keyring_that_opens() {
        let (_place, dir) = place();
        let (file, _) = opened(&dir);
        file.keep(1, &ring()).unwrap();
        // It broke off after the new key file was written, and after the keyring was: nothing was removed.
        let next = KeyFile::make(&dir, Lock::File, None).unwrap();
        assert_eq!(opened(&dir).1, ring());
        next.keep(0, &ring()).unwrap();
        assert_eq!((opened(&dir).1, key_files(&dir).len()), (ring(), 2));
        relock(&dir, &ring(), Lock::File, None).unwrap();
        assert_eq!((opened(&dir).1, key_files(&dir).len()), (ring(), 1));
    }

    #[test]
    fn nothing_of_a_key_is_in_the_file() {
        let (_place, dir) = place();
        let (file, _) = opened(&dir);
        file.keep(1, &ring()).unwrap();
        let text = fs::read_to_string(dir.root().join(FILE)).unwrap();
        let keys: Sealed = toml::from_str(&text).unwrap();
        let bytes = BASE64.decode(keys.keys).unwrap();
        assert!(!bytes.windows(8).any(|window| window == [1; 8] || window == [2; 8]));
    }
}
