//! The emulator's own certificate authority, and the server certificates it signs for Microsoft's names.
//!
//! Never for use outside a test network: whoever trusts this CA trusts whoever holds its key to be login.microsoftonline.com.
//! It is made at the first start and may be kept in a folder, so that a trust store needs to be told about it once.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use protocol::cloud::{Cloud, CloudName};
use protocol::ids::TenantId;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::entra::ENVIRONMENTS;

/// The CA certificate's file in a kept folder.
const CERTIFICATE_FILE: &str = "ca.pem";
/// The CA key's file in a kept folder; readable by its owner only.
const KEY_FILE: &str = "ca-key.pem";

/// Days a CA is valid: long enough for a developer's trust store.
const AUTHORITY_DAYS: u64 = 3650;
/// Days a server certificate is valid: 398 is the most that strict clients accept. It is made anew at every start.
const SERVER_DAYS: u64 = 397;

/// Why a certificate could not be made, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate library refused.
    #[error("the certificate for {what} could not be made")]
    Certificate {
        /// The certificate's owner.
        what: String,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// A file of the CA folder could not be read or written.
    #[error("{} could not be {action}: choose another folder, or let this user into it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The CA folder holds something that is no CA.
    #[error("{} holds no usable CA; remove {CERTIFICATE_FILE} and {KEY_FILE} there to have a new one made", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
    },
    /// The TLS library refused the certificate.
    #[error("the server certificate cannot be used")]
    Rustls(#[source] rustls::Error),
}

/// A CA of this emulator.
pub struct CertificateAuthority {
    certificate_pem: String,
    key: KeyPair,
}

impl CertificateAuthority {
    /// Makes one.
    ///
    /// # Errors
    /// When the library cannot.
    pub fn generate() -> Result<Self, TlsError> {
        let wrap = |source| TlsError::Certificate { what: "the CA".to_owned(), source };
        let key = KeyPair::generate().map_err(wrap)?;
        let mut params = params(Vec::new(), "Tenantry emulator CA (test only)", AUTHORITY_DAYS).map_err(wrap)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(wrap)?;
        Ok(Self { certificate_pem: certificate.pem(), key })
    }

    /// The one kept in `folder`, or a new one that is then kept there. A CA that has expired is replaced.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or holds files that are no CA.
    pub fn load_or_create(folder: &Path) -> Result<Self, TlsError> {
        if let Some(kept) = Self::load(folder)? {
            return Ok(kept);
        }
        let made = Self::generate()?;
        made.write_to(folder, true)?;
        Ok(made)
    }

    fn load(folder: &Path) -> Result<Option<Self>, TlsError> {
        let (Some(certificate_pem), Some(key_pem)) = (read(folder, CERTIFICATE_FILE)?, read(folder, KEY_FILE)?) else {
            return Ok(None);
        };
        let unusable = || TlsError::Folder { folder: folder.to_owned() };
        let key = KeyPair::from_pem(&key_pem).map_err(|_| unusable())?;
        let block = x509_parser::pem::Pem::iter_from_buffer(certificate_pem.as_bytes())
            .find_map(Result::ok)
            .ok_or_else(unusable)?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| unusable())?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() || !certificate.is_ca() {
            return Err(unusable());
        }
        if !certificate.validity().is_valid() {
            return Ok(None);
        }
        Ok(Some(Self { certificate_pem, key }))
    }

    /// Writes `ca.pem`, and `ca-key.pem` beside it when asked, into `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, folder: &Path, with_key: bool) -> Result<PathBuf, TlsError> {
        let written = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { path, action: "written", source }
        };
        std::fs::create_dir_all(folder).map_err(written(folder))?;
        if with_key {
            let path = folder.join(KEY_FILE);
            write_private(&path, &self.key.serialize_pem()).map_err(written(&path))?;
        }
        let path = folder.join(CERTIFICATE_FILE);
        std::fs::write(&path, &self.certificate_pem).map_err(written(&path))?;
        Ok(path)
    }

    /// The CA certificate, PEM: what a client's trust store must hold.
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a server certificate for `names` (host names and IP addresses) and an acceptor that uses it, for HTTP/1.1
    /// and HTTP/2.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn acceptor(&self, names: &[String]) -> Result<TlsAcceptor, TlsError> {
        let what = || names.first().cloned().unwrap_or_else(|| "no name".to_owned());
        let wrap = |source| TlsError::Certificate { what: what(), source };
        let key = KeyPair::generate().map_err(wrap)?;
        let mut params = params(names.to_vec(), "Tenantry emulator (test only)", SERVER_DAYS).map_err(wrap)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key).map_err(wrap)?;
        let certificate = params.signed_by(&key, &issuer).map_err(wrap)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // The provider is named: two are compiled into the program, and rustls refuses to guess between them.
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(TlsError::Rustls)?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(TlsError::Rustls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// This machine's names, and every login, Management API and Graph host of every cloud (entra.md §1).
pub fn default_names() -> Vec<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().collect();
    for environment in ENVIRONMENTS {
        names.extend(environment.aliases.iter().map(|&alias| alias.to_owned()));
    }
    let any_tenant = TenantId::from_uuid(uuid::Uuid::nil());
    for cloud in CloudName::ALL.into_iter().filter_map(|(_, name)| Cloud::preset(name)) {
        for url in [cloud.login(), cloud.graph(), &cloud.feed_root(any_tenant)] {
            names.extend(url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)));
        }
    }
    names.into_iter().collect()
}

fn params(names: Vec<String>, common_name: &str, days: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // The system's clock and not the emulator's: clients check certificates by theirs. A day earlier, for slow clocks.
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    params.not_before = (now - day).into();
    params.not_after = (now + day * u32::try_from(days).unwrap_or(u32::MAX)).into();
    Ok(params)
}

fn read(folder: &Path, name: &str) -> Result<Option<String>, TlsError> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::File { path, action: "read", source }),
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
