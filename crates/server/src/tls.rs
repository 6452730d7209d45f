//! TLS for the public site: certificate and key from files, read again when they change.
//!
//! Never stops serving because a renewal was half written: what cannot be used is named in the log, and the last pair that
//! could is kept. Connections that are open keep the certificate they began with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

use crate::private_file::{self, PrivateFileError};

/// How often the files are looked at, at most: a look is two calls of the file system, made when somebody connects.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// More than any chain or key.
const FILE_MAX: u64 = 1 << 20;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the site's certificate first, then those that lead to a root.
    pub certificate: PathBuf,
    /// PEM: its private key, readable by its owner alone.
    pub key: PathBuf,
}

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate cannot be read.
    #[error("cannot read the certificate {}; correct public.tls_certificate", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no certificate in the file.
    #[error("{} holds no certificate in PEM; correct public.tls_certificate", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The key cannot be read.
    #[error("the key of the public site cannot be read; correct public.tls_key")]
    Key(#[from] PrivateFileError),
    /// There is no key in the file.
    #[error("{} holds no private key in PEM that is not encrypted; correct public.tls_key", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// The two do not belong together, or are of a kind that cannot be used.
    #[error("{} and {} cannot be used together; take both from the same renewal", certificate.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The pair in use.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    /// What the files looked like when they were last read, whatever came of it.
    stamp: [Option<Stamp>; 2],
    looked_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be used as they are.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let stamp = stamp(&files);
        let config = read(&files)?;
        Ok(Self { files, state: Mutex::new(State { config, stamp, looked_at: Instant::now() }) })
    }

    /// What the next connection is served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() >= LOOK_EVERY {
            state.looked_at = Instant::now();
            let stamp = stamp(&self.files);
            if stamp != state.stamp {
                // The stamp first: what is bad is named once, and read again when it changes once more.
                state.stamp = stamp;
                match read(&self.files) {
                    Ok(config) => {
                        tracing::info!(certificate = %self.files.certificate.display(), "the site's certificate was renewed");
                        state.config = config;
                    }
                    Err(error) => {
                        let error = crate::chain(&error);
                        tracing::error!(error, "the site's new certificate cannot be used; the old one stays");
                    }
                }
            }
        }
        Arc::clone(&state.config)
    }
}

fn stamp(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some(Stamp { modified: found.modified().ok(), length: found.len() })
    })
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = read_chain(&files.certificate)?;
    let key = private_file::read(&files.key, FILE_MAX)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey { path: files.key.clone() })?;
    let mismatch =
        |source| TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(mismatch)?;
    // As the listener serves nothing else.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Certificate { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        certificate: String,
        key: String,
        der: CertificateDer<'static>,
    }

    fn pair() -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
    }

    fn write(files: &TlsFiles, pair: &Pair, modified: u64) {
        for (path, text) in [(&files.certificate, &pair.certificate), (&files.key, &pair.key)] {
            std::fs::write(path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + modified);
            std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
            #[cfg(unix)]
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
    }

    fn files(folder: &tempfile::TempDir) -> TlsFiles {
        TlsFiles { certificate: folder.path().join("site.pem"), key: folder.path().join("site.key") }
    }

    /// What a client that connects now is shown.
    async fn shown(tls: &Tls, trusted: &[&Pair]) -> CertificateDer<'static> {
        let mut roots = rustls::RootCertStore::empty();
        for pair in trusted {
            roots.add(pair.der.clone()).unwrap();
        }
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(16 << 10);
        let server = tokio_rustls::TlsAcceptor::from(tls.config());
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let client = tokio_rustls::TlsConnector::from(Arc::new(client));
        let (accepted, connected) = tokio::join!(server.accept(far), client.connect(name, near));
        accepted.unwrap();
        connected.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_pair_is_served_and_one_that_cannot_be_used_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (files, old, new, third) = (files(&folder), pair(), pair(), pair());
        let all = [&old, &new, &third];
        write(&files, &old, 0);
        let tls = Tls::open(files.clone()).unwrap();
        assert_eq!(shown(&tls, &all).await, old.der);
        write(&files, &new, 10);
        assert_eq!(shown(&tls, &all).await, old.der, "it is looked at every five seconds");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(shown(&tls, &all).await, new.der);
        // The key of one and the certificate of another, as in the middle of a renewal.
        std::fs::write(&files.certificate, &third.certificate).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(shown(&tls, &all).await, new.der);
        std::fs::remove_file(&files.key).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(shown(&tls, &all).await, new.der);
        write(&files, &third, 20);
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(shown(&tls, &all).await, third.der);
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_files_is_said_with_the_key_to_correct() {
        let folder = tempfile::tempdir().unwrap();
        let (files, one, other) = (files(&folder), pair(), pair());
        let said = |files: &TlsFiles| crate::chain(&Tls::open(files.clone()).unwrap_err());
        assert!(said(&files).contains("public.tls_certificate"), "{}", said(&files));
        write(&files, &one, 0);
        std::fs::write(&files.certificate, "no certificate").unwrap();
        assert!(said(&files).contains("holds no certificate"), "{}", said(&files));
        std::fs::write(&files.certificate, &other.certificate).unwrap();
        assert!(said(&files).contains("same renewal"), "{}", said(&files));
        std::fs::write(&files.key, "no key").unwrap();
        assert!(said(&files).contains("public.tls_key"), "{}", said(&files));
        std::fs::remove_file(&files.key).unwrap();
        assert!(said(&files).contains("public.tls_key"), "{}", said(&files));
    }
}
