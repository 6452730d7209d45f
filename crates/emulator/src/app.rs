//! App registrations: what a publisher registered with Entra, and its credentials, changeable while the emulator runs.
//!
//! Never says what a customer consented to: that is the tenant's state, behind [`crate::entra::Directory`].
//! The login service reads this on every token request, so an added or removed credential acts at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use protocol::ids::{ClientId, TenantId};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

/// An app registration. Made with [`AppRegistration::new`], then changed field by field.
#[derive(Debug, Clone)]
pub struct AppRegistration {
    /// The application (client) id.
    pub client_id: ClientId,
    /// Shown on consent pages.
    pub display_name: String,
    /// The tenant it is registered in.
    pub home_tenant: TenantId,
    /// Other tenants may consent; otherwise `/common` is refused (50194).
    pub multitenant: bool,
    /// Disabled by its publisher: no tokens anywhere (7000112).
    pub disabled: bool,
    /// A public client: has no credentials and may show none (700025).
    pub public_client: bool,
    /// Secrets, any number side by side.
    pub secrets: Vec<AppSecret>,
    /// Certificates, any number side by side.
    pub certificates: Vec<AppCertificate>,
    /// Trusted outside issuers, at most [`AppRegistration::MAX_FEDERATED`] (entra.md §5.3).
    pub federated: Vec<FederatedCredential>,
    /// Reply URLs, compared as exact strings; only the port of a loopback one may differ.
    pub redirect_uris: Vec<String>,
    /// Application permissions (roles) it asks for, by name: what an administrator's consent grants.
    pub permissions: Vec<String>,
    /// Delegated permissions (scopes) it asks for, by name.
    pub delegated_permissions: Vec<String>,
    /// `groupMembershipClaims` is `DirectoryRole`: its id_tokens tell the account's roles in `wids`.
    pub directory_role_claims: bool,
}

impl AppRegistration {
    /// Federated credentials an app may have (entra.md §5.3).
    pub const MAX_FEDERATED: usize = 20;

    /// A multitenant app that asks for `ActivityFeed.Read` and `ActivityFeed.ReadDlp`, without credentials or reply URLs.
    pub fn new(client_id: ClientId, home_tenant: TenantId) -> Self {
        Self {
            client_id,
            display_name: "Audit collector".to_owned(),
            home_tenant,
            multitenant: true,
            disabled: false,
            public_client: false,
            secrets: Vec::new(),
            certificates: Vec::new(),
            federated: Vec::new(),
            redirect_uris: Vec::new(),
            permissions: vec!["ActivityFeed.Read".to_owned(), "ActivityFeed.ReadDlp".to_owned()],
            delegated_permissions: Vec::new(),
            directory_role_claims: false,
        }
    }

    /// The same with one more secret that never expires.
    #[must_use]
    pub fn with_secret(mut self, value: &str) -> Self {
        self.secrets.push(AppSecret::new(value, None));
        self
    }

    /// The same with one more certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: AppCertificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// The same with one more reply URL.
    #[must_use]
    pub fn with_redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }
}

/// A client secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AppSecret {
    /// The id of the secret, which people paste by mistake (7000215).
    pub key_id: Uuid,
    /// The secret itself.
    pub value: String,
    /// From this instant on it is refused (7000222); `None`: never.
    pub expires: Option<DateTime<Utc>>,
}

impl AppSecret {
    /// A secret; its key id follows from its value.
    pub fn new(value: &str, expires: Option<DateTime<Utc>>) -> Self {
        Self { key_id: crate::entra::derive_guid(&["secret", value]), value: value.to_owned(), expires }
    }
}

impl fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSecret")
            .field("key_id", &self.key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The public part of a certificate uploaded to an app registration.
#[derive(Clone, PartialEq, Eq)]
pub struct AppCertificate {
    /// The certificate.
    pub der: Vec<u8>,
    /// SHA-1 of the DER: header `x5t`, and the thumbprint the portal shows.
    pub sha1: [u8; 20],
    /// SHA-256 of the DER: header `x5t#S256`.
    pub sha256: [u8; 32],
    /// The RSA public key, PKCS#1 DER.
    pub public_key: Vec<u8>,
    /// Not valid before this instant.
    pub not_before: DateTime<Utc>,
    /// Not valid after this instant.
    pub not_after: DateTime<Utc>,
}

/// Why a certificate cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or no certificate in it.
    #[error("the text holds no PEM certificate")]
    NoCertificate,
    /// Not an X.509 certificate.
    #[error("the certificate cannot be read as X.509 DER")]
    Unreadable,
    /// Not RSA; Entra takes RSA keys only for client assertions (entra.md §2).
    #[error("the certificate's key is not RSA")]
    NotRsa,
    /// Shorter than 2048 bits.
    #[error("the certificate's RSA key has {bits} bits, and must have 2048 or more")]
    TooShort {
        /// The length of its modulus.
        bits: usize,
    },
    /// The registration is not there.
    #[error("no app is registered as {0}")]
    UnknownApp(ClientId),
}

impl AppCertificate {
    /// Reads a certificate from DER.
    ///
    /// # Errors
    /// When it is no X.509 certificate, or its key is not RSA of 2048 bits or more.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Unreadable)?;
        let key_info = certificate.public_key();
        let Ok(PublicKey::RSA(rsa)) = key_info.parsed() else { return Err(CertificateError::NotRsa) };
        let bits = rsa.key_size();
        if bits < 2048 {
            return Err(CertificateError::TooShort { bits });
        }
        let validity = certificate.validity();
        let instant = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(CertificateError::Unreadable);
        Ok(Self {
            der: der.to_vec(),
            sha1: sha1(der),
            sha256: sha256(der),
            public_key: key_info.subject_public_key.data.to_vec(),
            not_before: instant(validity.not_before.timestamp())?,
            not_after: instant(validity.not_after.timestamp())?,
        })
    }

    /// Reads the first certificate of a PEM text; a private key beside it is passed over.
    ///
    /// # Errors
    /// As [`AppCertificate::from_der`], and when there is no certificate.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        for block in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()) {
            let block = block.map_err(|_| CertificateError::NoCertificate)?;
            if block.label == "CERTIFICATE" {
                return Self::from_der(&block.contents);
            }
        }
        Err(CertificateError::NoCertificate)
    }

    /// The SHA-1 thumbprint in upper-case hex, as the portal shows it.
    pub fn thumbprint(&self) -> String {
        hex_upper(&self.sha1)
    }
}

impl fmt::Debug for AppCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppCertificate")
            .field("thumbprint", &self.thumbprint())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Trust in another issuer's tokens as client assertions. All three texts are compared exactly and with letter case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedCredential {
    /// The `iss` the assertion must have.
    pub issuer: String,
    /// The `sub` it must have.
    pub subject: String,
    /// The `aud` it must have, usually `api://AzureADTokenExchange`.
    pub audience: String,
    /// The issuer's keys; `None` for this emulator's own managed identities, which are signed with its own keys.
    pub jwks: Option<Vec<FederatedKey>>,
}

impl FederatedCredential {
    /// The audience of the worldwide cloud.
    pub const AUDIENCE: &'static str = "api://AzureADTokenExchange";
    /// Keys read of an issuer's set; Entra keeps the first 100 (entra.md §5.3).
    pub const MAX_KEYS: usize = 100;

    /// Trust in a user-assigned managed identity of this emulator.
    pub fn managed_identity(identity: &ManagedIdentity, login: &str) -> Self {
        Self {
            issuer: format!("{}/{}/v2.0", login.trim_end_matches('/'), identity.tenant),
            subject: identity.object_id.to_string(),
            audience: Self::AUDIENCE.to_owned(),
            jwks: None,
        }
    }
}

impl FederatedKey {
    /// The RSA keys of a published key set (RFC 7517), at most [`FederatedCredential::MAX_KEYS`]; what is no such key is
    /// passed over.
    pub fn of_set(jwks: &serde_json::Value) -> Vec<Self> {
        let keys = jwks.get("keys").and_then(serde_json::Value::as_array);
        keys.into_iter().flatten().filter_map(Self::of_jwk).take(FederatedCredential::MAX_KEYS).collect()
    }

    fn of_jwk(jwk: &serde_json::Value) -> Option<Self> {
        use base64::Engine as _;
        let text = |name: &str| jwk.get(name)?.as_str();
        let number = |name: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("kty") != Some("RSA") {
            return None;
        }
        Some(Self { kid: text("kid").unwrap_or_default().to_owned(), modulus: number("n")?, exponent: number("e")? })
    }
}

/// One RSA key of an outside issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedKey {
    /// The key's id, as the assertion's header names it.
    pub kid: String,
    /// The modulus, big-endian.
    pub modulus: Vec<u8>,
    /// The public exponent, big-endian.
    pub exponent: Vec<u8>,
}

/// An identity that a virtual machine gets tokens with from the metadata service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// Its client id.
    pub client_id: ClientId,
    /// Its object id: `oid` and `sub` of its tokens.
    pub object_id: Uuid,
    /// The one tenant it lives in.
    pub tenant: TenantId,
    /// Its Azure resource id, when it is user-assigned.
    pub resource_id: Option<String>,
}

/// All registrations. Shared by reference; every change acts on the next request.
#[derive(Debug, Default)]
pub struct AppRegistry {
    apps: RwLock<BTreeMap<ClientId, Arc<AppRegistration>>>,
    identities: RwLock<Vec<ManagedIdentity>>,
    identity_header: RwLock<Option<String>>,
}

impl AppRegistry {
    /// One without any app.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a registration, or replaces the one of the same client id.
    pub fn register(&self, app: AppRegistration) {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).insert(app.client_id, Arc::new(app));
    }

    /// Takes a registration away; `false` when there was none.
    pub fn remove(&self, client: ClientId) -> bool {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).remove(&client).is_some()
    }

    /// The registration of a client id, as it is now.
    pub fn app(&self, client: ClientId) -> Option<Arc<AppRegistration>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(&client).cloned()
    }

    /// Every registration, by client id.
    pub fn apps(&self) -> Vec<Arc<AppRegistration>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Changes a registration; `false` when there is none.
    pub fn update(&self, client: ClientId, change: impl FnOnce(&mut AppRegistration)) -> bool {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        let Some(app) = apps.get_mut(&client) else { return false };
        change(Arc::make_mut(app));
        true
    }

    /// Adds a secret; `false` when the app is not registered.
    pub fn add_secret(&self, client: ClientId, value: &str, expires: Option<DateTime<Utc>>) -> bool {
        self.update(client, |app| app.secrets.push(AppSecret::new(value, expires)))
    }

    /// Takes a secret away; `false` when the app has none of that value.
    pub fn remove_secret(&self, client: ClientId, value: &str) -> bool {
        let mut removed = false;
        self.update(client, |app| {
            let before = app.secrets.len();
            app.secrets.retain(|secret| secret.value != value);
            removed = app.secrets.len() < before;
        });
        removed
    }

    /// Adds a certificate; `false` when the app is not registered.
    pub fn add_certificate(&self, client: ClientId, certificate: AppCertificate) -> bool {
        self.update(client, |app| app.certificates.push(certificate))
    }

    /// Takes the certificate with this SHA-1 thumbprint (hex, any letter case) away; `false` when there is none.
    pub fn remove_certificate(&self, client: ClientId, thumbprint: &str) -> bool {
        let mut removed = false;
        self.update(client, |app| {
            let before = app.certificates.len();
            app.certificates.retain(|certificate| !certificate.thumbprint().eq_ignore_ascii_case(thumbprint));
            removed = app.certificates.len() < before;
        });
        removed
    }

    /// Adds a managed identity.
    pub fn add_managed_identity(&self, identity: ManagedIdentity) {
        self.identities.write().unwrap_or_else(PoisonError::into_inner).push(identity);
    }

    /// Opens App Service's identity endpoint to whoever sends this text: what it gives its own apps as `IDENTITY_HEADER`.
    pub fn open_app_service(&self, header: &str) {
        *self.identity_header.write().unwrap_or_else(PoisonError::into_inner) = Some(header.to_owned());
    }

    pub(crate) fn is_identity_header(&self, shown: &[u8]) -> bool {
        let header = self.identity_header.read().unwrap_or_else(PoisonError::into_inner);
        header.as_ref().is_some_and(|header| header.as_bytes() == shown)
    }

    /// Every managed identity, in the order they were added.
    pub fn managed_identities(&self) -> Vec<ManagedIdentity> {
        self.identities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    out
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

pub(crate) fn hex_upper(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}
