//! The configuration: what `tenantry.toml`, the environment and the flags say, made into what the program runs on.
//!
//! Never takes a secret from the file's text, and never starts anything: `config check` and `serve` call the same
//! [`Config::load`].

mod archive;
mod collect;
mod credential;
mod layers;
mod ledger;
mod schema;
mod units;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::engine::tile::Grid;
use server::ledger::postgres::PgAddress;
use server::protocol::cloud::Cloud;
use server::protocol::ids::{ClientId, ContentType, PublisherId, TenantId};
use server::settings::{AssertionAlgorithm, TableSettings, TokenEndpoint};
use server::site::PublicUrl;
use server::site::consent::ConsentMethod;
use server::tls::TlsFiles;

pub(crate) use archive::RemoteConfig;
pub(crate) use credential::{CredentialSource, PasswordSource, is_of_this_machine};
pub(crate) use layers::{Layers, Source};
pub(crate) use schema::{KEY_VARIABLE, LEDGER_PASSWORD_VARIABLE};
pub(crate) use units::{format_duration, parse_duration};

/// Why the configuration cannot be used. Each names the key, the place it was written and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}; give the right path with --config")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}{at} is no valid TOML: {message}", path = .path.display(), at = .line.map(|line| format!(", line {line},")).unwrap_or_default())]
    Toml { path: PathBuf, line: Option<usize>, message: String },
    #[error("unknown key {key} {place}{hint}", hint = .suggestion.as_ref().map(|key| format!(": did you mean {key}?")).unwrap_or_else(|| ": `tenantry config show` lists the known ones".to_owned()))]
    UnknownKey { key: String, place: String, suggestion: Option<String> },
    #[error(
        "{key} {place} holds a secret: secrets are read from a file (path = …, password_file = …), from a variable (env = …) \
         or from TENANTRY_APP__CLIENT_SECRET, the vault's keys from secrets.key_file or TENANTRY_SECRETS__KEY; take it out \
         of the file and renew it"
    )]
    SecretInFile { key: String, place: String },
    #[error("{key} {place} {problem}")]
    Invalid { key: String, place: String, problem: String },
    #[error("{key} is not set: {remedy}")]
    Missing { key: &'static str, remedy: &'static str },
}

/// Who we are to Entra ID; needed by what talks to Microsoft, and by nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppConfig {
    pub(crate) client_id: ClientId,
    pub(crate) publisher_id: PublisherId,
    pub(crate) credentials: Vec<CredentialSource>,
    pub(crate) token_endpoint: TokenEndpoint,
    pub(crate) assertion: AssertionAlgorithm,
}

/// Where the ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LedgerConfig {
    /// An embedded one in this file.
    File(PathBuf),
    /// A shared one. Its password comes from the variable, or else from the file; for so long a worker's word counts that it is
    /// alive.
    Database { address: PgAddress, password_file: Option<PathBuf>, lease_time: Duration },
}

/// How collection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CollectConfig {
    pub(crate) content_types: Vec<ContentType>,
    pub(crate) poll_interval: Duration,
    pub(crate) quiet_poll_interval: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) requests_per_minute: u32,
    /// In MiB. What is larger is kept whole in quarantine.
    pub(crate) largest_record_mib: usize,
    pub(crate) tile: Grid,
}

/// The part the internet may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) url: PublicUrl,
    /// Our own TLS; without it, whatever stands before the site has it.
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) consent: ConsentMethod,
    pub(crate) allowed_tenants: Option<Vec<TenantId>>,
    /// Nobody is let in whose administrator's role the sign-in does not tell.
    pub(crate) role_required: bool,
}

/// An output as described. This version delivers none of them yet; it says so when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputConfig {
    pub(crate) name: String,
    pub(crate) kind: String,
}

/// The validated configuration: no options left but those that mean something.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) ledger: LedgerConfig,
    /// The archive's folder, or a remote one's local one.
    pub(crate) archive_root: PathBuf,
    /// Where the archive lies, if that is no local folder.
    pub(crate) remote: Option<RemoteConfig>,
    pub(crate) retention: Option<Duration>,
    /// Whether the archive is published as tables, and how.
    pub(crate) tables: Option<TableSettings>,
    pub(crate) cloud: Cloud,
    pub(crate) collect: CollectConfig,
    pub(crate) public: Option<PublicConfig>,
    pub(crate) console_listen: SocketAddr,
    pub(crate) outputs: Vec<OutputConfig>,
    /// The vault's key file; a variable, when it is set, goes before it.
    pub(crate) key_file: PathBuf,
    app: Option<AppConfig>,
    layers: Layers,
}

impl Config {
    /// Whether several processes may collect with one ledger.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.ledger, LedgerConfig::Database { .. })
    }

    /// Reads the file (`--config`, else `TENANTRY_CONFIG`, else `tenantry.toml` here if there is one), lays the
    /// environment and the flags over it, and validates everything that is written anywhere.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the file's keys.
    pub(crate) fn load(
        file: Option<&Path>,
        data_dir: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: Vec<(String, String)> = variables.collect();
        let named = file.map(Path::to_owned).or_else(|| {
            variables.iter().find(|(name, _)| name == "TENANTRY_CONFIG").map(|(_, path)| PathBuf::from(path))
        });
        let path = match named {
            Some(path) => Some(path),
            None => Some(PathBuf::from("tenantry.toml")).filter(|path| path.exists()),
        };
        let mut layers = match path {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Layers::from_file(&path, &text)?
            }
            None => Layers::default(),
        };
        let has_secret = variables.iter().any(|(name, value)| name == schema::SECRET_VARIABLE && !value.is_empty());
        let of_stores = archive::of_stores(&variables);
        layers.overlay_environment(variables.into_iter())?;
        if let Some(data_dir) = data_dir {
            layers.overlay_flag("data_dir", "--data-dir", data_dir.display().to_string());
        }
        values::validate(layers, has_secret, of_stores)
    }

    /// Who we are to Entra ID.
    ///
    /// # Errors
    /// When the file has no `[app]`: whoever calls this is about to talk to Microsoft.
    pub(crate) fn app(&self) -> Result<&AppConfig, ConfigError> {
        self.app.as_ref().ok_or(ConfigError::Missing {
            key: "app.client_id",
            remedy: "write the application's client id under [app] in tenantry.toml, with publisher_id and a credential",
        })
    }

    /// Every key in force, its value, and where it was written (`None`: the default).
    pub(crate) fn effective(&self) -> Vec<(String, String, Option<Source>)> {
        values::effective(self, &self.layers)
    }

    /// What is configured and not carried out by this version, in the operator's words.
    pub(crate) fn not_carried_out(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for output in &self.outputs {
            notes.push(format!(
                "the output {} ({}) is configured, and this version delivers to none: records wait in the archive",
                output.name, output.kind
            ));
        }
        notes
    }

    /// Puts ledger and archive into a folder of their own, wherever the configuration had them.
    pub(crate) fn place_in(&mut self, folder: &Path) {
        self.data_dir = folder.to_owned();
        self.ledger = LedgerConfig::File(folder.join("ledger.db"));
        self.archive_root = folder.join("archive");
        self.remote = None;
        self.key_file = folder.join("secret.key");
    }

    /// Where the archive lies, as the file would say it.
    pub(crate) fn archive_url(&self) -> String {
        match &self.remote {
            Some(remote) => remote.url.to_string(),
            None => format!("file:{}", self.archive_root.display()),
        }
    }

    /// The file that was read, when there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.layers.file.as_deref()
    }
}
