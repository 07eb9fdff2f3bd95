//! Seals values with the managers' data keys.
//!
//! ChaCha20-Poly1305 with a nonce that is drawn for each value, bound to what the value is of: a sealed value that is copied to another name,
//! version or cluster does not open there. In come keys, nonces and values; out go sealed values. Entropy is an argument. Not here: where a
//! keyring is kept (the daemon), how it reaches a manager (`manager-core`).

use std::{collections::BTreeMap, fmt};

use model::{
    id::ClusterId,
    item::ItemKind,
    registry::LoginKind,
    sealed::{Clear, KeyId, Sealed},
};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// A key. It leaves memory with its value, is never printed and never stored as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(Zeroizing<[u8; KEY_LEN]>);

impl DataKey {
    /// Takes the bytes of a key; all of them from a source of entropy.
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes a key's bytes; `None` when it is not so many.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }

    /// The bytes, for who hands the key on.
    pub fn reveal(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Tells it from any other key, and says nothing about it.
    pub fn fingerprint(&self) -> u64 {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let tag = hmac::sign(&key, b"orch data key fingerprint");
        let first = tag.as_ref().first_chunk::<8>().expect("a tag has 32 bytes");
        u64::from_be_bytes(*first)
    }

    /// Seals bytes. A nonce must not be used twice with one key: draw it.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], context: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(value.len() + CHACHA20_POLY1305.tag_len());
        bytes.extend_from_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.cipher()
            .seal_in_place_append_tag(nonce, Aad::from(context), &mut bytes)
            .expect("only values beyond 256 GiB cannot be sealed");
        bytes
    }

    /// Opens what was sealed with this key, this nonce and this context; `None` when it was not.
    pub fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        context: &[u8],
        mut sealed: Vec<u8>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.cipher().open_in_place(nonce, Aad::from(context), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(Zeroizing::new(sealed))
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*self.0).expect("a key of this cipher has 32 bytes");
        LessSafeKey::new(key)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The data keys that a manager has, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: BTreeMap<KeyId, DataKey>,
}

/// What a sealed value is of, and in which cluster. It opens as that and as nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// In which cluster.
    pub cluster: ClusterId,
    /// Of what.
    pub of: Of<'a>,
}

/// What a sealed value is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// A version of a secret or a config.
    Item {
        /// A secret or a config.
        kind: ItemKind,
        /// Its name.
        name: &'a str,
        /// Which version.
        version: u64,
    },
    /// The login at a registry.
    Login {
        /// Where.
        host: &'a str,
        /// As whom.
        kind: &'a LoginKind,
    },
    /// The key of the cluster's authority.
    Authority {
        /// Its certificate, PEM.
        certificate: &'a str,
    },
    /// The password of the account that searches a login method's directory.
    Account {
        /// Which login method.
        method: &'a str,
        /// Where the directory is.
        url: &'a str,
        /// The account's entry.
        name: &'a str,
    },
}

impl Place<'_> {
    fn context(&self) -> Vec<u8> {
        let cluster = self.cluster;
        let context = match self.of {
            Of::Item { kind, name, version } => format!("orch item 1|{cluster}|{kind}|{version}|{name}"),
            // No host, method and directory's URL has a bar in it: what follows them is the name's alone.
            Of::Login { host, kind: LoginKind::Password { username } } => {
                format!("orch login 1|{cluster}|{host}|password|{username}")
            }
            Of::Login { host, kind: LoginKind::Token } => format!("orch login 1|{cluster}|{host}|token"),
            Of::Authority { certificate } => format!("orch authority 1|{cluster}|{certificate}"),
            Of::Account { method, url, name } => format!("orch account 1|{cluster}|{method}|{url}|{name}"),
        };
        context.into_bytes()
    }
}

/// Why a value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not here.
    #[error("this manager does not have data key {0}")]
    NoKey(KeyId),
    /// It was altered, or sealed as something else.
    #[error("a value sealed with data key {0} does not open: it was altered, or is another's")]
    Altered(KeyId),
}

impl Keyring {
    /// A keyring with these keys.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, DataKey)>) -> Self {
        Self { keys: keys.into_iter().collect() }
    }

    /// Adds a key, in place of one of its number.
    pub fn insert(&mut self, id: KeyId, key: DataKey) {
        self.keys.insert(id, key);
    }

    /// Forgets those that are not wanted. Whether there were any.
    pub fn retain(&mut self, wanted: impl Fn(KeyId) -> bool) -> bool {
        let before = self.keys.len();
        self.keys.retain(|id, _| wanted(*id));
        self.keys.len() < before
    }

    /// A key.
    pub fn get(&self, id: KeyId) -> Option<&DataKey> {
        self.keys.get(&id)
    }

    /// All keys, by number.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, &DataKey)> {
        self.keys.iter().map(|(id, key)| (*id, key))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Seals a value.
    ///
    /// # Errors
    /// The key is not here.
    pub fn seal(
        &self,
        key: KeyId,
        nonce: [u8; NONCE_LEN],
        place: &Place<'_>,
        value: &[u8],
    ) -> Result<Sealed, SealError> {
        let bytes = self.get(key).ok_or(SealError::NoKey(key))?.seal(nonce, &place.context(), value);
        Ok(Sealed { key, nonce, bytes: bytes.into() })
    }

    /// Opens a value.
    ///
    /// # Errors
    /// The key is not here, or the value is not what it says.
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Clear, SealError> {
        let key = self.get(sealed.key).ok_or(SealError::NoKey(sealed.key))?;
        let opened = key.open(sealed.nonce, &place.context(), sealed.bytes.to_vec());
        let opened = opened.ok_or(SealError::Altered(sealed.key))?;
        Ok(Clear::new(opened.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Of<'_> = Of::Item { kind: ItemKind::Secret, name: "db", version: 3 };
    const PLACE: Place<'_> = Place { cluster: ClusterId(7), of: ITEM };

    fn ring() -> Keyring {
        Keyring::new([(KeyId(1), DataKey::new([1; 32])), (KeyId(2), DataKey::new([2; 32]))])
    }

    #[test]
    fn a_value_opens_with_its_key_as_what_it_was_sealed_as_and_as_nothing_else() {
        let sealed = ring().seal(KeyId(1), [9; 12], &PLACE, b"hunter2").unwrap();
        assert!(!sealed.bytes.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(ring().open(&PLACE, &sealed).unwrap().reveal(), b"hunter2");
        let login = LoginKind::Password { username: "db".into() };
        let elsewhere = [
            Place { cluster: ClusterId(8), ..PLACE },
            Place { of: Of::Item { kind: ItemKind::Config, name: "db", version: 3 }, ..PLACE },
            Place { of: Of::Item { kind: ItemKind::Secret, name: "other", version: 3 }, ..PLACE },
            Place { of: Of::Item { kind: ItemKind::Secret, name: "db", version: 4 }, ..PLACE },
            Place { of: Of::Login { host: "db", kind: &login }, ..PLACE },
            Place { of: Of::Authority { certificate: "db" }, ..PLACE },
            Place { of: Of::Account { method: "db", url: "db", name: "db" }, ..PLACE },
        ];
        for place in elsewhere {
            assert_eq!(ring().open(&place, &sealed), Err(SealError::Altered(KeyId(1))), "{place:?}");
        }
        let other = Sealed { key: KeyId(2), ..sealed.clone() };
        assert_eq!(ring().open(&PLACE, &other), Err(SealError::Altered(KeyId(2))));
        let unknown = Sealed { key: KeyId(3), ..sealed.clone() };
        assert_eq!(ring().open(&PLACE, &unknown), Err(SealError::NoKey(KeyId(3))));
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.to_vec();
            bytes[at] ^= 1;
            let altered = Sealed { bytes: bytes.into(), ..sealed.clone() };
            assert!(ring().open(&PLACE, &altered).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_login_opens_at_its_own_registry_for_its_own_name_only() {
        let ci = LoginKind::Password { username: "ci".into() };
        let place = |host, kind| Place { cluster: ClusterId(7), of: Of::Login { host, kind } };
        let sealed = ring().seal(KeyId(1), [9; 12], &place("r.example", &ci), b"hunter2").unwrap();
        assert_eq!(ring().open(&place("r.example", &ci), &sealed).unwrap().reveal(), b"hunter2");
        let other = LoginKind::Password { username: "root".into() };
        for elsewhere in
            [place("evil.example", &ci), place("r.example", &other), place("r.example", &LoginKind::Token)]
        {
            assert_eq!(ring().open(&elsewhere, &sealed), Err(SealError::Altered(KeyId(1))), "{elsewhere:?}");
        }
    }

    #[test]
    fn an_accounts_password_opens_for_its_own_method_directory_and_entry_only() {
        let place =
            |method, url, name| Place { cluster: ClusterId(7), of: Of::Account { method, url, name } };
        let own = place("ad", "ldaps://a.example", "cn=orch");
        let sealed = ring().seal(KeyId(1), [9; 12], &own, b"hunter2").unwrap();
        assert_eq!(ring().open(&own, &sealed).unwrap().reveal(), b"hunter2");
        for elsewhere in [
            place("ldap", "ldaps://a.example", "cn=orch"),
            place("ad", "ldaps://evil.example", "cn=orch"),
            place("ad", "ldaps://a.example", "cn=root"),
        ] {
            assert_eq!(ring().open(&elsewhere, &sealed), Err(SealError::Altered(KeyId(1))), "{elsewhere:?}");
        }
    }

    #[test]
    fn keys_are_told_apart_and_never_printed() {
        let [one, other] = [1, 2].map(|byte| DataKey::new([byte; 32]));
        assert_ne!(one.fingerprint(), other.fingerprint());
        let printed = format!("{:?}", Keyring::new([(KeyId(1), one)]));
        assert_eq!(printed, "Keyring { keys: {KeyId(1): <redacted>} }");
        assert!(DataKey::from_slice(&[0; 31]).is_none());
    }
}
