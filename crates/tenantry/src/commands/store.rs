//! How commands open what is on disk, and how the rooms' errors become exit codes.
//!
//! Never creates anything for a command that only reads.

use std::path::Path;
use std::sync::Arc;

use server::archive::{Archive, ArchiveError, ArchiveOptions, refuse_new_ledger};
use server::belonging;
use server::collector::Sharing;
use server::credential::{CertificateFiles, CredentialError, CredentialSummary, Password};
use server::engine::model::{Tenant, TenantState};
use server::instance::{InstanceError, InstanceLock};
use server::ledger::postgres::{ClaimError, PgOptions, PgPassword};
use server::ledger::{Ledger, LedgerError, Location, OpenLedger};
use server::protocol::ids::TenantId;
use server::protocol::secret::{ClientSecret, IdentityHeader};
use server::protocol::time::Timestamp;
use server::protocol::token::IMDS_ROOT;
use server::safe::{Safe, SafeError};
use server::settings::{
    AppSettings, AssertionAlgorithm, CollectSettings, Credential, IdentityEndpoint, Limits, Settings,
};
use server::vault::{KeySource, Vault, Zeroizing};
use url::Url;

use crate::config::{
    Config, CredentialSource, KEY_VARIABLE, LEDGER_PASSWORD_VARIABLE, LedgerConfig, PasswordSource, is_of_this_machine,
};
use crate::exit::{Code, Failure};

/// The moment a command runs at.
pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// What the collector runs on. At least one credential can be used; one beside it that cannot is warned of when the
/// collector opens, and taken up when it is mended.
pub(crate) fn settings(config: &Config) -> Result<Settings, Failure> {
    let settings = unchecked_settings(config)?;
    let checked = check_credentials(&settings);
    match checked.into_iter().collect::<Result<Vec<_>, _>>() {
        Err(error) if settings.app.credentials.iter().all(|credential| credential.check(now()).is_err()) => {
            Err(Failure::from_chain(Code::Config, &error))
        }
        _ => Ok(settings),
    }
}

/// The same, whatever state the credentials are in.
pub(crate) fn unchecked_settings(config: &Config) -> Result<Settings, Failure> {
    let app = config.app()?;
    let credentials =
        app.credentials.iter().map(|source| credential(source, app.assertion)).collect::<Result<Vec<_>, Failure>>()?;
    Ok(Settings {
        data_dir: config.data_dir.clone(),
        app: AppSettings {
            client_id: app.client_id,
            publisher_id: app.publisher_id,
            credentials,
            token_endpoint: app.token_endpoint,
        },
        cloud: config.cloud.clone(),
        collect: CollectSettings {
            content_types: config.collect.content_types.clone(),
            poll_interval: config.collect.poll_interval,
            quiet_poll_interval: config.collect.quiet_poll_interval,
            commit_interval: config.collect.commit_interval,
            requests_per_minute: config.collect.requests_per_minute,
            tile: config.collect.tile,
        },
        retention: config.retention,
        tables: config.tables,
        limits: Limits { record_bytes: config.collect.largest_record_mib << 20, ..Limits::default() },
    })
}

/// What a credential's description points to. Files are read by the keyring, variables here: they do not change.
pub(crate) fn credential(source: &CredentialSource, algorithm: AssertionAlgorithm) -> Result<Credential, Failure> {
    Ok(match source {
        CredentialSource::SecretVariable(name) => {
            let text = variable(name, "a client secret")?;
            if text.trim().is_empty() || text.trim().chars().any(char::is_control) {
                return Err(Failure::new(
                    Code::Config,
                    format!("the variable {name} holds no client secret: it must be one line of text"),
                ));
            }
            Credential::Secret(ClientSecret::new(&text))
        }
        CredentialSource::SecretFile(path) => Credential::SecretFile(path.clone()),
        CredentialSource::Certificate { path, key_path, password } => {
            let password = match password {
                None => None,
                Some(PasswordSource::File(path)) => Some(Password::File(path.clone())),
                Some(PasswordSource::Variable(name)) => Some(Password::text(&variable(name, "a key's password")?)),
            };
            let files = CertificateFiles { path: path.clone(), key_path: key_path.clone(), password };
            Credential::Certificate(files, algorithm)
        }
        CredentialSource::Federated { token_file } => {
            let missing = || {
                Failure::new(
                    Code::Config,
                    "the federated credential names no file: set token_file under [[app.credential]], or the variable AZURE_FEDERATED_TOKEN_FILE",
                )
            };
            Credential::Federated { token_file: CredentialSource::token_file(token_file.as_ref()).ok_or_else(missing)? }
        }
        CredentialSource::ManagedIdentity { imds, name } => {
            Credential::ManagedIdentity { endpoint: identity_endpoint(imds.as_ref())?, name: name.clone() }
        }
    })
}

fn variable(name: &str, what: &str) -> Result<String, Failure> {
    std::env::var(name)
        .map_err(|_| Failure::new(Code::Config, format!("the variable {name}, which is to hold {what}, is not set")))
}

/// App Service's endpoint where its variables are set, else the machine's metadata service.
fn identity_endpoint(imds: Option<&Url>) -> Result<IdentityEndpoint, Failure> {
    if let Some(root) = imds {
        return Ok(IdentityEndpoint::Imds(root.clone()));
    }
    let (endpoint, header) = (std::env::var("IDENTITY_ENDPOINT"), std::env::var("IDENTITY_HEADER"));
    if endpoint.is_ok() && header.is_err() && std::env::var_os("IMDS_ENDPOINT").is_some() {
        // Azure Arc-enabled servers are recognised by these two. Their identity is system-assigned, which Entra ID does not
        // take as a federated credential (entra.md §5.4).
        return Err(Failure::new(
            Code::Config,
            "this is an Azure Arc-enabled server: its managed identity is system-assigned, and Entra ID takes only \
             user-assigned ones as an app's credential; use kind = \"certificate\" here",
        ));
    }
    let (Ok(endpoint), Ok(header)) = (endpoint, header) else {
        let root = Url::parse(IMDS_ROOT).expect("the documented address is a URL");
        return Ok(IdentityEndpoint::Imds(root));
    };
    match Url::parse(&endpoint) {
        Ok(endpoint) if endpoint.scheme() == "https" || is_of_this_machine(&endpoint) => {
            Ok(IdentityEndpoint::AppService { endpoint, header: IdentityHeader::new(&header) })
        }
        _ => Err(Failure::new(
            Code::Config,
            "the variable IDENTITY_ENDPOINT is no URL of this machine: App Service sets it; unset it elsewhere",
        )),
    }
}

/// Every credential with what can be said of it, or why it cannot be used.
pub(crate) fn check_credentials(settings: &Settings) -> Vec<Result<CredentialSummary, CredentialError>> {
    settings.app.credentials.iter().map(|credential| credential.check(now())).collect()
}

/// Where the keys come from that seal what is secret in the ledger: the variable, if it is set, or the file.
pub(crate) fn key_source(config: &Config) -> KeySource {
    match std::env::var(KEY_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => {
            KeySource::Variable { name: KEY_VARIABLE.to_owned(), text: Zeroizing::new(text) }
        }
        _ => KeySource::File(config.key_file.clone()),
    }
}

/// What the ledger keeps sealed, with the keys to it; a key file is made when it is not there.
pub(crate) fn safe(config: &Config, ledger: Arc<dyn Ledger>) -> Result<Safe, Failure> {
    let vault = Vault::load(key_source(config)).map_err(|error| Failure::from_chain(Code::Config, &error))?;
    Ok(Safe::new(Arc::new(vault), ledger))
}

/// A safe's error with its exit code.
pub(crate) fn safe_failure(error: SafeError) -> Failure {
    let code = match &error {
        SafeError::Ledger(_) | SafeError::Contested { .. } | SafeError::Lock { .. } => Code::Storage,
        SafeError::Busy { .. } => Code::Busy,
        SafeError::Vault { .. } | SafeError::Keys(_) => Code::Config,
    };
    Failure::from_chain(code, &error)
}

/// Where the ledger is, and what opens it.
pub(crate) fn location(config: &Config) -> Location {
    match &config.ledger {
        LedgerConfig::File(path) => Location::File(path.clone()),
        LedgerConfig::Database { address, password_file, lease_time } => {
            let password = ledger_password(password_file.as_deref());
            // What a worker that was stopped had locked is free before its lease has ended.
            let silence_max = PgOptions::SILENCE_MAX.min(*lease_time / 2);
            Location::Database(Box::new(PgOptions { password, silence_max, ..PgOptions::at(address.clone()) }))
        }
    }
}

/// The password of a ledger's database: the variable's, if it is set, or the file's.
pub(crate) fn ledger_password(file: Option<&Path>) -> Option<PgPassword> {
    match std::env::var(LEDGER_PASSWORD_VARIABLE) {
        Ok(text) if !text.is_empty() => Some(PgPassword::text(text)),
        _ => file.map(|path| PgPassword::File(path.to_owned())),
    }
}

/// The ledger for writing; made when it is not there, unless there is an archive that it should know.
pub(crate) fn open_ledger(config: &Config) -> Result<Arc<dyn Ledger>, Failure> {
    open_any_ledger(config).map(|ledger| ledger.shared())
}

/// The same, as what it is.
pub(crate) fn open_any_ledger(config: &Config) -> Result<OpenLedger, Failure> {
    let location = location(config);
    if let Some(folder) = location.file().and_then(|path| path.parent()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure::new(
                Code::Storage,
                format!(
                    "cannot make the folder {}: {error}; choose another with --data-dir or mend its permissions",
                    folder.display()
                ),
            )
        })?;
    }
    let is_new = match location.file() {
        Some(path) => std::fs::metadata(path).map_or(0, |file| file.len()) == 0,
        None => matches!(location.open_read_only(), Err(LedgerError::Missing { .. })),
    };
    if is_new {
        refuse_new_ledger(&archive_options(config)?).map_err(|error| not_of_this_archive(config, &error))?;
    }
    location.open().map(|ledger| ledger.acting_as(&operator_name())).map_err(ledger_failure)
}

/// How a process comes by the tenants of a shared ledger; `None` for an embedded one, which has one collector.
pub(crate) fn sharing(config: &Config, ledger: &OpenLedger) -> Option<Sharing> {
    let LedgerConfig::Database { lease_time, .. } = &config.ledger else { return None };
    Some(Sharing::new(ledger.workers(), worker_name(), *lease_time))
}

/// As people tell this process from others.
pub(crate) fn worker_name() -> String {
    format!("{}, process {}", machine_name(), std::process::id())
}

/// Who gives a command, as the environment says: what the log of activity calls whoever is not a collector.
fn operator_name() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let user: String = user.trim().chars().filter(|c| !c.is_control()).take(100).collect();
    let user = if user.is_empty() { "unnamed user" } else { user.as_str() };
    format!("{user} on {}", machine_name())
}

fn machine_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host: String = host.unwrap_or_default().trim().chars().filter(|c| !c.is_control()).take(100).collect();
    if host.is_empty() { "unnamed machine".to_owned() } else { host }
}

/// Whether there is a ledger to be read.
pub(crate) fn has_ledger(config: &Config) -> Result<bool, Failure> {
    let location = location(config);
    match location.file() {
        Some(path) => Ok(path.exists()),
        None => match location.open_read_only() {
            Ok(_) => Ok(true),
            Err(LedgerError::Missing { .. }) => Ok(false),
            Err(error) => Err(ledger_failure(error)),
        },
    }
}

/// The ledger for reading; a collector may run beside. A file that an earlier version wrote is brought up to date first; a
/// database, whose collector may be on another machine, is not.
pub(crate) fn open_ledger_read_only(config: &Config) -> Result<Arc<dyn Ledger>, Failure> {
    let location = location(config);
    let open = || location.open_read_only();
    let opened = match (open(), location.file()) {
        (Err(LedgerError::Missing { .. }), Some(path)) => {
            return Err(Failure::new(
                Code::Storage,
                format!(
                    "there is no ledger at {}: give the right --data-dir, or begin with `tenantry tenant add` or `tenantry demo`",
                    path.display()
                ),
            ));
        }
        // After an update of this program, unless an earlier one still collects into it.
        (Err(LedgerError::OlderVersion { .. }), Some(_))
            if lock(config).is_ok_and(|_lock| open_ledger(config).is_ok()) =>
        {
            open()
        }
        (opened, _) => opened,
    };
    opened.map(|ledger| ledger.shared()).map_err(ledger_failure)
}

/// The archive, for writing; one that is not this ledger's is refused.
pub(crate) async fn open_archive(config: &Config, ledger: &dyn Ledger) -> Result<Archive, Failure> {
    let archive = Archive::open(&archive_options(config)?).map_err(archive_failure)?;
    belonging::bind(ledger, &archive).await.map_err(|error| not_of_this_archive(config, &error))?;
    Ok(archive)
}

/// The archive, for reading; `None` for a folder that is not there, which has nothing in it. One that is not this ledger's
/// is refused.
pub(crate) async fn read_archive(config: &Config, ledger: &dyn Ledger) -> Result<Option<Archive>, Failure> {
    if config.remote.is_none() && !config.archive_root.exists() {
        return Ok(None);
    }
    let archive = Archive::open_read_only(&archive_options(config)?).map_err(archive_failure)?;
    belonging::check(ledger, &archive).await.map_err(|error| not_of_this_archive(config, &error))?;
    Ok(Some(archive))
}

/// What the archive is opened with.
pub(crate) fn archive_options(config: &Config) -> Result<ArchiveOptions, Failure> {
    match &config.remote {
        Some(remote) => remote.options(&config.archive_root).map_err(|problem| Failure::new(Code::Config, problem)),
        None => Ok(ArchiveOptions::at(&config.archive_root)),
    }
}

fn not_of_this_archive(config: &Config, error: &dyn std::error::Error) -> Failure {
    let failure = Failure::from_chain(Code::Storage, error);
    let location = location(config);
    let place = location.file().map_or_else(|| location.to_string(), |path| path.display().to_string());
    Failure::new(Code::Storage, format!("the ledger {place} cannot be used: {}", failure.message))
}

/// The place of the one collector of this data folder.
pub(crate) fn lock(config: &Config) -> Result<InstanceLock, Failure> {
    lock_folder(&config.data_dir)
}

/// The same of any folder.
pub(crate) fn lock_folder(folder: &Path) -> Result<InstanceLock, Failure> {
    InstanceLock::acquire(folder).map_err(|error| {
        let code = match error {
            InstanceError::Running { .. } => Code::Busy,
            InstanceError::Unwritable { .. } => Code::Storage,
        };
        Failure::from_chain(code, &error)
    })
}

/// The tenants named, all that are not removed when none is; an unknown one is refused.
pub(crate) async fn selected_tenants(ledger: &dyn Ledger, ids: &[TenantId]) -> Result<Vec<Tenant>, Failure> {
    let (_, tenants) = ledger.tenants_since(0).await.map_err(ledger_failure)?;
    if ids.is_empty() {
        return Ok(tenants.into_iter().filter(|tenant| tenant.state != TenantState::Removed).collect());
    }
    ids.iter()
        .map(|id| {
            tenants.iter().find(|tenant| tenant.id == *id).cloned().ok_or_else(|| {
                Failure::new(
                    Code::Usage,
                    format!("tenant {id} is not known here: `tenantry tenant list` shows those that are"),
                )
            })
        })
        .collect()
}

/// A ledger's error with its exit code.
pub(crate) fn ledger_failure(error: LedgerError) -> Failure {
    let code = match error {
        LedgerError::UnknownTenant { .. } | LedgerError::Held { .. } => Code::Usage,
        LedgerError::BeingPurged { .. } => Code::Incomplete,
        _ => Code::Storage,
    };
    Failure::from_chain(code, &error)
}

/// A claim's error with its exit code.
pub(crate) fn claim_failure(error: ClaimError) -> Failure {
    match error {
        ClaimError::Taken { .. } => Failure::from_chain(Code::Busy, &error),
        ClaimError::Ledger(error) => ledger_failure(error),
    }
}

/// An archive's error with its exit code.
pub(crate) fn archive_failure(error: ArchiveError) -> Failure {
    let code = if matches!(error, ArchiveError::Settings { .. }) { Code::Config } else { Code::Storage };
    Failure::from_chain(code, &error)
}
