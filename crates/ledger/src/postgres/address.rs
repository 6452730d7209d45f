//! Where a database is and how it is spoken to: the URL, the password's source, and whether the line is encrypted.
//!
//! Never shows a password: not in `Debug`, not in an error. Never speaks in clear to another machine unless the URL says
//! so in so many words, and never encrypts without checking who is at the other end: that protects from nobody.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use url::Url;

/// Parameters of the URL that are passed on.
const PASSED_ON: [&str; 6] = ["host", "port", "user", "connect_timeout", "options", "target_session_attrs"];
/// Until a server has answered. Smaller: a busy one is given up. Larger: a dead one holds up every call that long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until sent bytes that nobody acknowledges mean that the server is gone.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The address of a database, without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PgAddress {
    /// Large, and rarely looked at.
    config: Box<Config>,
    encrypted: bool,
    root_certificate: Option<PathBuf>,
    shown: Arc<str>,
}

/// Why a URL is no address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgAddressError {
    /// It cannot be read at all.
    #[error("is no address of a PostgreSQL database ({0}): write postgres://USER@HOST/DATABASE")]
    Malformed(String),
    /// It lacks something.
    #[error("does not say which {0}: write postgres://USER@HOST/DATABASE")]
    Lacking(&'static str),
    /// It has a parameter that this program does not know.
    #[error(
        "has the parameter {0:?}: known are sslmode, sslrootcert, host, port, user, connect_timeout, options and target_session_attrs"
    )]
    UnknownParameter(String),
    /// It asks for an encryption that would protect from nobody.
    #[error(
        "has sslmode={0}: write verify-full (the same is meant by require), or disable for a server on this machine"
    )]
    SslMode(String),
}

/// Where the password comes from.
#[derive(Clone, Debug)]
pub enum PgPassword {
    /// It is this one.
    Text(SecretString),
    /// The first line of this file, read anew for each connection.
    File(PathBuf),
}

impl PgAddress {
    /// Reads a URL. A password in it is handed back beside the address, so that the caller can refuse it where it must not
    /// stand.
    ///
    /// # Errors
    /// When it is no such URL, names no user or database, or has a parameter that is unknown or unsafe.
    pub fn parse(text: &str) -> Result<(Self, Option<SecretString>), PgAddressError> {
        let malformed = |error: &dyn fmt::Display| PgAddressError::Malformed(error.to_string());
        let mut url = Url::parse(text).map_err(|error| malformed(&error))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(PgAddressError::Malformed(format!("its scheme is {}", url.scheme())));
        }
        let (mut mode, mut root_certificate, mut passed) = (None, None, Vec::new());
        for (name, value) in url.query_pairs() {
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root_certificate = Some(PathBuf::from(&*value)),
                name if PASSED_ON.contains(&name) => passed.push((name.to_owned(), value.into_owned())),
                name => return Err(PgAddressError::UnknownParameter(name.to_owned())),
            }
        }
        let query: Vec<String> = passed.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
        // The driver's message about a part it cannot read does not show that part.
        let mut config = Config::from_str(url.as_str()).map_err(|error| malformed(&error))?;
        let password =
            config.get_password().map(|password| SecretString::from(String::from_utf8_lossy(password).into_owned()));
        config.password("");
        if config.get_user().is_none_or(str::is_empty) {
            return Err(PgAddressError::Lacking("user"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(PgAddressError::Lacking("database"));
        }
        if config.get_hosts().is_empty() {
            return Err(PgAddressError::Lacking("host"));
        }
        let encrypted = match mode.as_deref() {
            Some("verify-full" | "require") => true,
            Some("disable") => false,
            Some(other) => return Err(PgAddressError::SslMode(other.to_owned())),
            None => !config.get_hosts().iter().all(is_of_this_machine),
        };
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.tcp_user_timeout(SILENCE_MAX).keepalives_idle(SILENCE_MAX).application_name("tenantry");
        let shown = shown(&config).into();
        Ok((Self { config: Box::new(config), encrypted, root_certificate, shown }, password))
    }

    /// The same with the certificates of this file in the place of the system's.
    #[must_use]
    pub fn with_root_certificate(mut self, path: Option<PathBuf>) -> Self {
        if path.is_some() {
            self.root_certificate = path;
        }
        self
    }

    /// Whether the line is encrypted, and the server's certificate checked.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The file with the certificates that are trusted, if it is not the system's.
    pub fn root_certificate(&self) -> Option<&Path> {
        self.root_certificate.as_deref()
    }

    pub(super) fn shown(&self) -> Arc<str> {
        self.shown.clone()
    }

    /// With the password, for connecting.
    pub(super) fn config(&self, password: Option<&SecretString>) -> Config {
        let mut config = Config::clone(&self.config);
        config.password(password.map_or("", |password| password.expose_secret()));
        config
    }
}

/// `user@host:port/database`, the way a person would write it.
fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("[{}]:{port}", path.display()),
            }
        })
        .collect();
    let (user, database) = (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
    format!("postgres://{user}@{}/{database}", hosts.join(","))
}

fn is_of_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let address = name.trim_start_matches('[').trim_end_matches(']');
            address == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// As the driver reads it: it knows no `+` for a space.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

impl PgPassword {
    /// This one.
    pub fn text(text: String) -> Self {
        Self::Text(SecretString::from(text))
    }

    /// The password as it is now.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn load(&self) -> Result<SecretString, std::io::Error> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = SecretString::from(std::fs::read_to_string(path)?);
                Ok(SecretString::from(text.expose_secret().lines().next().unwrap_or_default()))
            }
        }
    }
}

impl fmt::Display for PgAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PgAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgAddress")
            .field("shown", &self.shown)
            .field("encrypted", &self.encrypted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PgAddress, PgAddressError> {
        PgAddress::parse(text).map(|(address, _)| address)
    }

    #[test]
    fn an_address_is_shown_without_its_password_and_the_password_handed_back() {
        let (address, password) = PgAddress::parse("postgres://tenantry:s%40fe@db.example.com:6432/ledger").unwrap();
        assert_eq!(address.to_string(), "postgres://tenantry@db.example.com:6432/ledger");
        assert_eq!(password.unwrap().expose_secret(), "s@fe");
        for text in [format!("{address:?}"), format!("{address}"), format!("{:?}", address.config(None))] {
            assert!(!text.contains("s@fe") && !text.contains("s%40fe"), "{text}");
        }
        assert_eq!(parse("postgresql://u@[::1]/d").unwrap().to_string(), "postgres://u@[::1]:5432/d");
        assert_eq!(parse("postgres:///d?host=/run/pg&user=u").unwrap().to_string(), "postgres://u@[/run/pg]:5432/d");
    }

    #[test]
    fn another_machine_is_spoken_to_encrypted_unless_the_address_says_otherwise() {
        for (text, encrypted) in [
            ("postgres://u@db.example.com/d", true),
            ("postgres://u@localhost.example.com/d", true),
            ("postgres://u@10.0.0.7/d", true),
            ("postgres://u@localhost/d", false),
            ("postgres://u@127.0.0.2/d", false),
            ("postgres://u@[::1]/d", false),
            ("postgres:///d?host=/run/postgresql&user=u", false),
            ("postgres://u@10.0.0.7/d?sslmode=disable", false),
            ("postgres://u@localhost/d?sslmode=require", true),
            ("postgres://u@localhost/d?sslmode=verify-full", true),
        ] {
            assert_eq!(parse(text).unwrap().is_encrypted(), encrypted, "{text}");
        }
        for mode in ["prefer", "allow", "verify-ca", "on"] {
            let error = parse(&format!("postgres://u@h/d?sslmode={mode}")).unwrap_err();
            assert_eq!(error, PgAddressError::SslMode(mode.to_owned()));
        }
    }

    #[test]
    fn what_is_lacking_or_unknown_is_named() {
        for (text, words) in [
            ("sqlite:x", "scheme"),
            ("postgres://h/d", "which user"),
            ("postgres://u@h", "which database"),
            ("postgres://u@h/", "which database"),
            ("postgres:///d?user=u", "which host"),
            ("postgres://u@h/d?sslkey=x", "\"sslkey\""),
            ("postgres://u:secret@h:port/d", "postgres://USER@HOST/DATABASE"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_file_gives_its_first_line_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let password = PgPassword::File(path.clone());
        assert!(password.load().is_err());
        for text in ["one", "two"] {
            std::fs::write(&path, format!("{text}\n")).unwrap();
            assert_eq!(password.load().unwrap().expose_secret(), text);
        }
    }
}
