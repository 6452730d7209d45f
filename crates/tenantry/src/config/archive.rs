//! `[archive]`: where the archive lies and how a store is reached.
//!
//! Never takes a key, token or password: those come from the variables that the store's own tools read, or from a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use server::archive::{ArchiveOptions, RemoteOptions, StoreKind, StoreUrl};
use server::private_file;
use server::settings::TableSettings;

use super::units::{format_size, parse_size};
use super::values::{Reader, scheme};
use super::{Config, ConfigError, format_duration};

/// Bytes of local copies of a remote archive, unless the file says otherwise.
const CACHE_BYTES: u64 = 4 << 30;
/// Less would be fetched again and again: the largest segment has a quarter of it.
const CACHE_BYTES_MIN: u64 = 1 << 30;

/// A file of credentials has a few lines.
const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;

/// A shorter query than this may be under way on a snapshot.
const SNAPSHOTS_KEPT_MIN: Duration = Duration::from_secs(10 * 60);
/// Files that were merged away for longer than this take more room than the archive.
const SNAPSHOTS_KEPT_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Publications whose entries stay in a log. More: listing it takes a minute. Fewer: a day at an entry a second is not possible.
const PUBLICATIONS_KEPT_MAX: u32 = 100_000;

/// The families of variables that stores are set up with.
const FAMILIES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// A key that is handed to a store, and the setting it is in each of them that knows it.
struct PassedOn {
    key: &'static str,
    s3: Option<&'static str>,
    azure: Option<&'static str>,
    google: Option<&'static str>,
}

impl PassedOn {
    const fn new(
        key: &'static str,
        s3: Option<&'static str>,
        azure: Option<&'static str>,
        google: Option<&'static str>,
    ) -> Self {
        Self { key, s3, azure, google }
    }

    fn name_in(&self, kind: StoreKind) -> Option<&'static str> {
        match kind {
            StoreKind::S3 => self.s3,
            StoreKind::Azure => self.azure,
            StoreKind::Google => self.google,
        }
    }
}

const PASSED_ON: [PassedOn; 6] = [
    PassedOn::new(
        "archive.endpoint",
        Some("AWS_ENDPOINT_URL"),
        Some("AZURE_STORAGE_ENDPOINT"),
        Some("GOOGLE_BASE_URL"),
    ),
    PassedOn::new("archive.region", Some("AWS_REGION"), None, None),
    PassedOn::new("archive.account", None, Some("AZURE_STORAGE_ACCOUNT_NAME"), None),
    PassedOn::new("archive.encryption", Some("AWS_SERVER_SIDE_ENCRYPTION"), None, None),
    PassedOn::new("archive.kms_key", Some("AWS_SSE_KMS_KEY_ID"), None, None),
    PassedOn::new("archive.encryption_scope", None, Some("AZURE_STORAGE_ENCRYPTION_SCOPE"), None),
];

/// What S3 is asked to encrypt with: keys of its own, of its key management (once or twice), or one that comes with each
/// request.
const ENCRYPTIONS: [&str; 4] = ["AES256", "aws:kms", "aws:kms:dsse", "sse-c"];
/// The setting of the last one's key: 32 bytes in base64.
const CUSTOMER_KEY: &str = "AWS_SSE_CUSTOMER_KEY_BASE64";

/// An archive in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteConfig {
    pub(crate) url: StoreUrl,
    pub(crate) cache_bytes: u64,
    /// The keys of the file that the store is given, with what they are called there.
    pub(crate) passed_on: Vec<(&'static str, &'static str, String)>,
    pub(crate) credentials_file: Option<PathBuf>,
    /// Where the key is that S3 is given with each request.
    pub(crate) encryption_key_file: Option<PathBuf>,
    /// What the environment has for stores. Never shown.
    variables: Vec<(String, Hidden)>,
}

/// A value that may be a secret.
#[derive(Clone, PartialEq, Eq)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// The variables of the environment that are for stores.
pub(super) fn of_stores(variables: &[(String, String)]) -> Vec<(String, String)> {
    let ours = variables.iter().filter_map(|(name, value)| match name.as_str() {
        // As App Service calls it.
        "IDENTITY_ENDPOINT" => Some(("AZURE_IDENTITY_ENDPOINT".to_owned(), value.clone())),
        name => FAMILIES.iter().any(|family| name.starts_with(family)).then(|| (name.to_owned(), value.clone())),
    });
    ours.collect()
}

/// Where the archive lies: its folder (a remote one's local one), and its store.
pub(super) fn archive(
    reader: &Reader<'_>,
    data_dir: &Path,
    variables: Vec<(String, String)>,
) -> Result<(PathBuf, Option<RemoteConfig>), ConfigError> {
    let Some(text) = reader.text("archive.url")? else {
        refuse_keys_of_stores(reader)?;
        return Ok((data_dir.join("archive"), None));
    };
    if let Some(path) = text.strip_prefix("file:") {
        if path.is_empty() {
            return Err(reader.invalid("archive.url", "names no folder: write file:FOLDER".to_owned()));
        }
        refuse_keys_of_stores(reader)?;
        let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        return Ok((reader.resolve("archive.url", path), None));
    }
    let url: StoreUrl = text.parse().map_err(|error| {
        // Not the text itself, which may hold a password.
        reader.invalid("archive.url", format!("is {:?}; {error}", scheme(&text)))
    })?;
    let cache_bytes = match reader.text("archive.cache_bytes")? {
        None => CACHE_BYTES,
        Some(text) => parse_size(&text).filter(|bytes| *bytes >= CACHE_BYTES_MIN).ok_or_else(|| {
            reader.invalid("archive.cache_bytes", format!("must be a size of 1GiB or more, such as 4GiB, not {text:?}"))
        })?,
    };
    let mut passed_on = Vec::new();
    for passed in PASSED_ON {
        let key = passed.key;
        let Some(value) = reader.text(key)? else { continue };
        let name = passed.name_in(url.kind());
        let name = name.ok_or_else(|| reader.invalid(key, format!("means nothing to {url}: take it out")))?;
        if key == "archive.endpoint" && !(value.starts_with("https://") || value.starts_with("http://")) {
            return Err(reader.invalid(key, format!("must be a URL that begins with https://, not {value:?}")));
        }
        passed_on.push((key, name, value));
    }
    let credentials_file = reader.path("archive.credentials_file")?;
    let encryption_key_file = reader.path("archive.encryption_key_file")?;
    // The key may come with the credentials, which are read when the archive is opened.
    let may_have_key = credentials_file.is_some() || variables.iter().any(|(name, _)| name == CUSTOMER_KEY);
    check_encryption(reader, &url, encryption_key_file.is_some(), may_have_key)?;
    let variables = variables.into_iter().map(|(name, value)| (name, Hidden(value))).collect();
    let remote = RemoteConfig { url, cache_bytes, passed_on, credentials_file, encryption_key_file, variables };
    Ok((data_dir.join("archive-workspace"), Some(remote)))
}

/// What is asked for together must make sense together: a store would refuse it, or worse, pass over it.
fn check_encryption(
    reader: &Reader<'_>,
    url: &StoreUrl,
    has_file: bool,
    may_have_key: bool,
) -> Result<(), ConfigError> {
    let encryption = reader.text("archive.encryption")?;
    let encryption = encryption.as_deref();
    if let Some(other) = encryption.filter(|name| !ENCRYPTIONS.contains(name)) {
        let known = ENCRYPTIONS.join(", ");
        return Err(reader.invalid("archive.encryption", format!("must be one of {known}, not {other:?}")));
    }
    if has_file && url.kind() != StoreKind::S3 {
        return Err(reader.invalid("archive.encryption_key_file", format!("means nothing to {url}: take it out")));
    }
    if has_file && encryption != Some("sse-c") {
        let problem = "is for archive.encryption = \"sse-c\": set that, or take it out".to_owned();
        return Err(reader.invalid("archive.encryption_key_file", problem));
    }
    if encryption == Some("sse-c") && !has_file && !may_have_key {
        let problem = "is \"sse-c\" and there is no key: name its file as archive.encryption_key_file".to_owned();
        return Err(reader.invalid("archive.encryption", problem));
    }
    if reader.text("archive.kms_key")?.is_some() && !encryption.is_some_and(|name| name.starts_with("aws:kms")) {
        let problem =
            "is for archive.encryption = \"aws:kms\" or \"aws:kms:dsse\": set that, or take it out".to_owned();
        return Err(reader.invalid("archive.kms_key", problem));
    }
    Ok(())
}

/// Whether the archive is published as tables, and how.
pub(super) fn tables(reader: &Reader<'_>) -> Result<Option<TableSettings>, ConfigError> {
    let kept = reader.duration("archive.snapshots_kept", SNAPSHOTS_KEPT_MIN..=SNAPSHOTS_KEPT_MAX)?;
    let interval = reader.duration("archive.publish_interval", Duration::from_secs(1)..=Duration::from_secs(3600))?;
    match reader.text("archive.tables")?.as_deref() {
        Some("delta") => {
            let TableSettings { kept: day, interval: minute } = TableSettings::DEFAULT;
            let tables = TableSettings { kept: kept.unwrap_or(day), interval: interval.unwrap_or(minute) };
            if tables.kept > tables.interval * PUBLICATIONS_KEPT_MAX {
                let problem = format!(
                    "must be at most {PUBLICATIONS_KEPT_MAX} times archive.publish_interval: a log's files are listed when \
                     its tenant is taken over"
                );
                return Err(reader.invalid("archive.snapshots_kept", problem));
            }
            return Ok(Some(tables));
        }
        None | Some("none") => {}
        Some(other) => {
            return Err(reader.invalid("archive.tables", format!("must be \"delta\" or \"none\", not {other:?}")));
        }
    }
    for (key, value) in [("archive.snapshots_kept", kept), ("archive.publish_interval", interval)] {
        if value.is_some() {
            return Err(reader.invalid(key, "is for an archive with tables: set archive.tables = \"delta\"".to_owned()));
        }
    }
    Ok(None)
}

/// What is in effect, key by key.
pub(super) fn in_effect(config: &Config) -> Vec<(String, String)> {
    let mut rows = vec![
        ("archive.url", config.archive_url()),
        ("archive.retention", config.retention.map_or("none".to_owned(), format_duration)),
        ("archive.tables", config.tables.map_or("none", |_| "delta").to_owned()),
    ];
    if let Some(tables) = config.tables {
        rows.push(("archive.snapshots_kept", format_duration(tables.kept)));
        rows.push(("archive.publish_interval", format_duration(tables.interval)));
    }
    if let Some(remote) = &config.remote {
        rows.push(("archive.cache_bytes", format_size(remote.cache_bytes)));
        rows.extend(remote.passed_on.iter().map(|(key, _, value)| (*key, value.clone())));
        let files = [
            ("archive.credentials_file", &remote.credentials_file),
            ("archive.encryption_key_file", &remote.encryption_key_file),
        ];
        rows.extend(files.iter().filter_map(|(key, path)| Some((*key, path.as_ref()?.display().to_string()))));
    }
    rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn refuse_keys_of_stores(reader: &Reader<'_>) -> Result<(), ConfigError> {
    let others = ["archive.cache_bytes", "archive.credentials_file", "archive.encryption_key_file"];
    for key in PASSED_ON.iter().map(|passed| passed.key).chain(others) {
        if reader.text(key)?.is_some() {
            return Err(reader.invalid(key, "is for an archive in a store: set archive.url to one".to_owned()));
        }
    }
    Ok(())
}

impl RemoteConfig {
    /// What the archive is opened with; reads the files of the credentials and of the key.
    ///
    /// # Errors
    /// A sentence without any value of the file.
    pub(crate) fn options(&self, workspace: &Path) -> Result<ArchiveOptions, String> {
        let mut settings: Vec<(String, String)> =
            self.variables.iter().map(|(name, Hidden(value))| (name.clone(), value.clone())).collect();
        if let Some(path) = &self.credentials_file {
            let bytes = private_file::read(path, CREDENTIALS_BYTES_MAX)
                .map_err(|error| format!("archive.credentials_file: {error}"))?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| format!("archive.credentials_file {} is no text: correct its path", path.display()))?;
            settings.extend(parse_credentials(path, text)?);
        }
        if let Some(path) = &self.encryption_key_file {
            settings.push((CUSTOMER_KEY.to_owned(), customer_key(path)?));
        }
        settings.extend(self.passed_on.iter().map(|(_, name, value)| ((*name).to_owned(), value.clone())));
        let remote = RemoteOptions { cache_bytes: self.cache_bytes, ..RemoteOptions::new(self.url.clone(), settings) };
        Ok(ArchiveOptions::remote(workspace, remote))
    }
}

/// A key of 256 bits in base64, checked and as S3 wants it.
fn customer_key(path: &Path) -> Result<String, String> {
    let bytes = private_file::read(path, CREDENTIALS_BYTES_MAX)
        .map_err(|error| format!("archive.encryption_key_file: {error}"))?;
    let key = bytes.trim_ascii();
    match STANDARD.decode(key) {
        Ok(key) if key.len() == 32 => Ok(STANDARD.encode(key)),
        _ => Err(format!(
            "archive.encryption_key_file {} is no key of 32 bytes in base64: make one with `openssl rand -base64 32`",
            path.display()
        )),
    }
}

/// Lines of `NAME=value`, as for the environment; empty ones and those that begin with `#` say nothing.
fn parse_credentials(path: &Path, text: &str) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let setting = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let known = setting.filter(|(name, _)| FAMILIES.iter().any(|family| name.starts_with(family)));
        let Some((name, value)) = known else {
            return Err(format!(
                "line {number} of archive.credentials_file {} is not NAME=value with a name that begins with AWS_, AZURE_ or \
                 GOOGLE_",
                path.display()
            ));
        };
        settings.push((name.to_owned(), value.trim_matches('"').to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customers_key_has_32_bytes_in_base64_and_is_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.key");
        let write = |text: &str| {
            drop(std::fs::remove_file(&path));
            private_file::create(&path, text.as_bytes()).unwrap();
        };
        let key = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=";
        write(&format!("{key}\n"));
        assert_eq!(customer_key(&path).unwrap(), key);
        for other in ["", "hunter2hunter2hunter2hunter2hunt", "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bg=="] {
            write(other);
            let told = customer_key(&path).unwrap_err();
            assert!(told.contains("openssl rand") && (other.is_empty() || !told.contains(other)), "{told}");
        }
    }

    #[test]
    fn a_file_of_credentials_reads_like_an_environment_and_its_mistakes_show_no_value() {
        let path = Path::new("store.env");
        let read =
            parse_credentials(path, "# ours\nAWS_ACCESS_KEY_ID=AKIA\n\nAWS_SECRET_ACCESS_KEY = \"a=b\"\n").unwrap();
        assert_eq!(read[0], ("AWS_ACCESS_KEY_ID".to_owned(), "AKIA".to_owned()));
        assert_eq!(read[1], ("AWS_SECRET_ACCESS_KEY".to_owned(), "a=b".to_owned()));
        for text in ["hunter2", "PASSWORD=hunter2"] {
            let told = parse_credentials(path, text).unwrap_err();
            assert!(told.contains("line 1") && !told.contains("hunter2"), "{told}");
        }
    }
}
