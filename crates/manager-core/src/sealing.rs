//! Logins of registries, passwords of accounts that search directories, and the authority's key: sealed before they enter the log,
//! opened where they are used.
//!
//! What to seal, and with what, is decided when it is proposed; applying it moves bytes. A state of a version before 0.2 has logins of
//! registries and the authority's key in clear: whoever leads seals them, one entry each, as soon as there is a data key and every
//! manager can read such an entry.

use model::{
    cluster::Cluster,
    command::Command,
    login::{LoginMethod, LoginMethodSpec, Password},
    registry::{Login, LoginKind, RegistrySpec, SealedLogin},
    request::{ApiError, ErrorCode},
    sealed::{Clear, KeyId, LoginAt, Sealed},
};
use seal::{Keyring, Of, Place, SealError};

use crate::{Manager, config::Bootstrap};

/// The key of a cluster's authority, PEM.
///
/// # Errors
/// The data key that it is sealed with is not in the keyring.
pub fn authority_key(cluster: &Cluster, ring: &Keyring) -> Result<Clear, SealError> {
    let authority = &cluster.authority;
    match &authority.sealed {
        Some(sealed) => ring.open(&authority_place(cluster.id, &authority.certificate), sealed),
        None => Ok(Clear::new(authority.key.clone())),
    }
}

fn without_key(what: &str, error: SealError) -> ApiError {
    let waits = "it asks the other managers for it; `orchctl secret keys` says what it waits for";
    ApiError::new(ErrorCode::Unavailable, format!("{what}: {error}; {waits}"))
}

fn authority_place(cluster: model::id::ClusterId, certificate: &str) -> Place<'_> {
    Place { cluster, of: Of::Authority { certificate } }
}

impl Manager {
    /// The key of the cluster's authority, PEM: to sign certificates with.
    ///
    /// # Errors
    /// Unavailable: there is no cluster yet, or this manager does not have the data key yet.
    pub fn authority_key(&self) -> Result<Clear, ApiError> {
        let none = || ApiError::new(ErrorCode::Unavailable, "there is no cluster yet");
        let cluster = self.store.cluster().ok_or_else(none)?;
        let lacking =
            |error| without_key("the authority's key cannot be opened, so that nothing is issued", error);
        authority_key(cluster, self.keys.ring()).map_err(lacking)
    }

    /// The first entry of a cluster. Its authority's key is sealed if the shell keeps a data key already.
    pub(crate) fn founding(&mut self, bootstrap: Bootstrap) -> Command {
        let Bootstrap { mut authority, settings } = bootstrap;
        let (cluster, first, nonce) = (self.config.cluster, KeyId(1), self.keys.nonce());
        let place = authority_place(cluster, &authority.certificate);
        let sealed = self.keys.ring().seal(first, nonce, &place, authority.key.as_bytes()).ok();
        let data_key =
            sealed.as_ref().and_then(|_| self.keys.ring().get(first)).map(seal::DataKey::fingerprint);
        if sealed.is_some() {
            (authority.key, authority.sealed) = (String::new(), sealed);
        }
        let (name, address) = (self.config.name.clone(), self.config.address.clone());
        Command::Bootstrap { cluster, settings, authority, name, address, data_key }
    }

    /// The key of an authority that is to take the present one's place.
    pub(crate) fn seal_authority(&mut self, certificate: &str, key: &Clear) -> Result<Sealed, ApiError> {
        let (active, cluster, nonce) = (self.active_key()?, self.config.cluster, self.keys.nonce());
        let sealed =
            self.keys.ring().seal(active, nonce, &authority_place(cluster, certificate), key.reveal());
        sealed.map_err(|error| without_key("the authority's key cannot be sealed", error))
    }

    /// A registry as it enters the log. The login that it has already stays as it is sealed.
    pub(crate) fn registry(&mut self, mut spec: RegistrySpec) -> Result<Command, ApiError> {
        self.same_versions("a registry")?;
        if let Some(login) = spec.login.take() {
            let known = self.store.registries().iter().find(|known| known.spec.host == spec.host);
            let known =
                known.filter(|known| self.login(&known.spec).is_ok_and(|kept| kept.as_ref() == Some(&login)));
            spec.sealed = match known.and_then(|known| known.spec.sealed.clone()) {
                Some(sealed) => Some(sealed),
                None => Some(self.sealed_login(&spec.host, &login)?),
            };
        }
        Ok(Command::SetRegistry(spec))
    }

    fn sealed_login(&mut self, host: &str, login: &Login) -> Result<SealedLogin, ApiError> {
        let active = self.active_key()?;
        let value = self.seal_login(active, host, login);
        let value = value.map_err(|error| without_key("the login cannot be sealed", error))?;
        Ok(SealedLogin { kind: login.kind(), value })
    }

    fn seal_login(&mut self, key: KeyId, host: &str, login: &Login) -> Result<Sealed, SealError> {
        let (nonce, kind) = (self.keys.nonce(), login.kind());
        let place = self.login_place(host, &kind);
        self.keys.ring().seal(key, nonce, &place, login.secret().reveal().as_bytes())
    }

    fn login_place<'a>(&self, host: &'a str, kind: &'a LoginKind) -> Place<'a> {
        Place { cluster: self.config.cluster, of: Of::Login { host, kind } }
    }

    /// The login at a registry, in clear.
    ///
    /// # Errors
    /// This manager does not have the data key.
    pub(crate) fn login(&self, spec: &RegistrySpec) -> Result<Option<Login>, SealError> {
        let Some(SealedLogin { kind, value }) = &spec.sealed else { return Ok(spec.login.clone()) };
        let secret = self.keys.ring().open(&self.login_place(&spec.host, kind), value)?;
        kind.with(&secret).map(Some).ok_or(SealError::Altered(value.key))
    }

    /// The declaration with the login in clear, for a question to the registry.
    ///
    /// # Errors
    /// This manager does not have the data key.
    pub(crate) fn opened(&self, spec: &RegistrySpec) -> Result<RegistrySpec, SealError> {
        Ok(RegistrySpec { login: self.login(spec)?, sealed: None, ..spec.clone() })
    }

    /// A login method as it enters the log. The password that its account has already stays as it is sealed.
    pub(crate) fn login_method(
        &mut self,
        spec: Box<LoginMethodSpec>,
        password: Option<Password>,
    ) -> Result<Command, ApiError> {
        self.same_versions("a login method")?;
        let password = password.map(|password| self.sealed_account(&spec, &password)).transpose()?;
        Ok(Command::SetLoginMethod { spec, password })
    }

    fn sealed_account(&mut self, spec: &LoginMethodSpec, password: &Password) -> Result<Sealed, ApiError> {
        let known = self.store.login_method(&spec.name).and_then(|known| known.password.clone());
        // For another account or directory it does not open: there it is sealed anew.
        let is_same = |sealed: &Sealed| self.open_account(spec, sealed).is_ok_and(|kept| kept == *password);
        if let Some(known) = known.filter(is_same) {
            return Ok(known);
        }
        let active = self.active_key()?;
        let sealed = self.seal_account(active, spec, password);
        sealed.map_err(|error| without_key("the account's password cannot be sealed", error))
    }

    fn seal_account(
        &mut self,
        key: KeyId,
        spec: &LoginMethodSpec,
        password: &Password,
    ) -> Result<Sealed, SealError> {
        let nonce = self.keys.nonce();
        self.keys.ring().seal(key, nonce, &self.account_place(spec), password.reveal().as_bytes())
    }

    fn open_account(&self, spec: &LoginMethodSpec, sealed: &Sealed) -> Result<Password, SealError> {
        let password = self.keys.ring().open(&self.account_place(spec), sealed)?;
        let text = std::str::from_utf8(password.reveal());
        text.map(Password::new).map_err(|_| SealError::Altered(sealed.key))
    }

    fn account_place<'a>(&self, spec: &'a LoginMethodSpec) -> Place<'a> {
        let (url, name) = spec.account().unwrap_or_default();
        Place { cluster: self.config.cluster, of: Of::Account { method: &spec.name, url, name } }
    }

    /// The password of the account that searches a login method's directory, in clear.
    ///
    /// # Errors
    /// This manager does not have the data key: nobody can be judged.
    pub(crate) fn searcher(&self, method: &LoginMethod) -> Result<Option<Password>, ApiError> {
        self.account_password(method).map_err(|error| {
            let name = &method.spec.name;
            let what = format!(
                "login method \"{name}\" cannot judge anybody, its account's password cannot be opened"
            );
            without_key(&what, error)
        })
    }

    fn account_password(&self, method: &LoginMethod) -> Result<Option<Password>, SealError> {
        method.password.as_ref().map(|sealed| self.open_account(&method.spec, sealed)).transpose()
    }

    /// One login, or the authority's key, sealed with the active key where it is not.
    pub(crate) fn reseal_other(&mut self, active: KeyId) -> Option<Command> {
        let behind = |spec: &RegistrySpec| spec.login_key().is_some_and(|with| with != Some(active));
        let registry = self.store.registries().iter().find(|registry| behind(&registry.spec)).cloned();
        if let Some(registry) = registry {
            let from = registry.spec.login_key()?;
            let login = self.login(&registry.spec).ok()??;
            let value = self.seal_login(active, &registry.spec.host, &login).ok()?;
            let at = LoginAt::Registry(registry.spec.host);
            return Some(Command::ResealLogin { at, set: registry.set, from, value });
        }
        let behind = |method: &&LoginMethod| method.key().is_some_and(|with| with != active);
        if let Some(method) = self.store.login_methods().iter().find(behind).cloned() {
            let password = self.account_password(&method).ok()??;
            let value = self.seal_account(active, &method.spec, &password).ok()?;
            let (set, from) = (method.set, method.key());
            return Some(Command::ResealLogin { at: LoginAt::Directory(method.spec.name), set, from, value });
        }
        self.reseal_authority(active)
    }

    fn reseal_authority(&mut self, active: KeyId) -> Option<Command> {
        let cluster = self.store.cluster()?;
        let from = cluster.authority.sealed.as_ref().map(|sealed| sealed.key);
        if from == Some(active) {
            return None;
        }
        let (id, certificate) = (cluster.id, cluster.authority.certificate.clone());
        let key = authority_key(cluster, self.keys.ring()).ok()?;
        let nonce = self.keys.nonce();
        let value =
            self.keys.ring().seal(active, nonce, &authority_place(id, &certificate), key.reveal()).ok()?;
        Some(Command::ResealAuthority { from, value })
    }
}
