//! From settings to a store that can be asked.
//!
//! Never speaks plain http to anybody but this machine, whatever the settings say, and never leaves certificates unchecked.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::SpawnedReqwestConnector;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use tokio::runtime::Handle;
use url::{Host, Url};

use super::scope::{self, Scoped};
use crate::ArchiveError;
use crate::remote_options::{RemoteOptions, StoreKind};

/// How long one connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take with its whole body. A part of an upload has 8 MiB; a download that takes longer goes on
/// where it broke off.
const REQUEST: Duration = Duration::from_secs(60);

/// The store whose root is the archive's.
pub(super) fn connect(options: &RemoteOptions, threads: &Handle) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    let store: Arc<dyn ObjectStore> = match options.url.kind() {
        StoreKind::S3 => s3(options, threads)?,
        StoreKind::Azure => azure(options, threads)?,
        StoreKind::Google => google(options, threads)?,
    };
    if options.url.prefix().is_empty() {
        return Ok(store);
    }
    let prefix = Path::parse(options.url.prefix()).map_err(|error| refused(&error.to_string()))?;
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

fn s3(options: &RemoteOptions, threads: &Handle) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    let settings = settings::<AmazonS3ConfigKey>(options, "aws_");
    let endpoint = |key: &_| matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint);
    let client = client(settings.iter().filter(|(key, _)| endpoint(key)).map(|(_, value)| value.as_str()))?;
    let mut builder = AmazonS3Builder::new()
        .with_http_connector(SpawnedReqwestConnector::new(threads.clone()))
        .with_client_options(client)
        .with_retry(retry(options));
    for (key, value) in settings {
        let ours =
            matches!(key, AmazonS3ConfigKey::Bucket) || matches!(&key, AmazonS3ConfigKey::Client(key) if is_ours(key));
        builder = if ours { builder } else { builder.with_config(key, value) };
    }
    built(options, builder.with_bucket_name(options.url.bucket()).build())
}

fn azure(options: &RemoteOptions, threads: &Handle) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    let settings = settings::<AzureConfigKey>(options, "azure_");
    let endpoint = |key: &_| *key == AzureConfigKey::Endpoint;
    let client = client(settings.iter().filter(|(key, _)| endpoint(key)).map(|(_, value)| value.as_str()))?;
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(client).with_retry(retry(options));
    let connector = SpawnedReqwestConnector::new(threads.clone());
    let named = options.settings.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(scope::SETTING));
    builder = match named.map(|(_, scope)| scope.as_str()).filter(|scope| !scope.is_empty()) {
        None => builder.with_http_connector(connector),
        Some(_) if settings.iter().any(|(key, _)| *key == AzureConfigKey::AccessKey) => {
            return Err(refused(
                "what an account's key signs has no room for an encryption scope: use an identity or a SAS, or make the scope \
                 the container's default",
            ));
        }
        Some(named) => {
            let scoped = Scoped::new(connector, named);
            builder.with_http_connector(
                scoped.ok_or_else(|| {
                    refused("the encryption scope is none: such a name has 3 to 63 letters and digits")
                })?,
            )
        }
    };
    for (key, value) in settings {
        // The emulator is reached by its endpoint like any other store; that switch would allow plain http to anybody.
        let ours = matches!(key, AzureConfigKey::ContainerName | AzureConfigKey::UseEmulator)
            || matches!(&key, AzureConfigKey::Client(key) if is_ours(key));
        builder = if ours { builder } else { builder.with_config(key, value) };
    }
    built(options, builder.with_container_name(options.url.bucket()).build())
}

fn google(options: &RemoteOptions, threads: &Handle) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    let settings = settings::<GoogleConfigKey>(options, "google_");
    let endpoint = |key: &_| *key == GoogleConfigKey::BaseUrl;
    let client = client(settings.iter().filter(|(key, _)| endpoint(key)).map(|(_, value)| value.as_str()))?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_http_connector(SpawnedReqwestConnector::new(threads.clone()))
        .with_client_options(client)
        .with_retry(retry(options));
    for (key, value) in settings {
        let ours =
            matches!(key, GoogleConfigKey::Bucket) || matches!(&key, GoogleConfigKey::Client(key) if is_ours(key));
        builder = if ours { builder } else { builder.with_config(key, value) };
    }
    built(options, builder.with_bucket_name(options.url.bucket()).build())
}

/// The settings that this store knows; others, as of the makers' other tools, are no concern of ours.
fn settings<K: std::str::FromStr>(options: &RemoteOptions, family: &str) -> Vec<(K, String)> {
    let named = options.settings.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let named = named.filter(|(name, value)| name.starts_with(family) && !value.is_empty());
    named.filter_map(|(name, value)| Some((name.parse().ok()?, value.clone()))).collect()
}

/// What no setting decides.
fn is_ours(key: &ClientConfigKey) -> bool {
    matches!(key, ClientConfigKey::AllowHttp | ClientConfigKey::AllowInvalidCertificates)
}

/// Plain http is allowed when every endpoint that is named is this machine's own.
fn client<'a>(endpoints: impl Iterator<Item = &'a str>) -> Result<ClientOptions, ArchiveError> {
    let mut plain = false;
    for endpoint in endpoints {
        let url = Url::parse(endpoint).map_err(|_| refused("the store's endpoint is no URL"))?;
        plain |= match (url.scheme(), url.host()) {
            ("https", Some(_)) => false,
            ("http", Some(host)) if is_this_machine(&host) => true,
            ("http", _) => {
                let problem = "the store's endpoint is plain http, which only this machine itself may be asked with";
                return Err(refused(problem));
            }
            _ => return Err(refused("the store's endpoint is no https URL")),
        };
    }
    Ok(ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST).with_allow_http(plain))
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn retry(options: &RemoteOptions) -> RetryConfig {
    let init_backoff = Duration::from_millis(200);
    let backoff = BackoffConfig { init_backoff, max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: 10, retry_timeout: options.retry_for }
}

fn built<T: ObjectStore>(
    options: &RemoteOptions,
    store: object_store::Result<T>,
) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(refused(&without_secrets(options, error.to_string()))),
    }
}

/// A client's words about its settings, without any setting's value and without what it quotes: of a key that is put where a
/// path is wanted, or the other way round, it tells the whole.
fn without_secrets(options: &RemoteOptions, mut text: String) -> String {
    let mut values: Vec<&str> = options.settings.iter().map(|(_, value)| value.as_str()).collect();
    values.retain(|value| !value.is_empty());
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    for value in values {
        text = text.replace(value, "…");
    }
    if let (Some(from), Some(to)) = (text.find('"'), text.rfind('"')) {
        text.replace_range(from..=to, "…");
    }
    text
}

fn refused(problem: &str) -> ArchiveError {
    ArchiveError::Settings { problem: format!("the archive's store cannot be set up: {problem}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_put_in_the_wrong_place_is_not_printed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let key = r#""-----BEGIN PRIVATE KEY-----\nhunter2\n""#;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key).unwrap();
        for (name, value) in [
            ("GOOGLE_SERVICE_ACCOUNT", format!(r#"{{"private_key": {key}}}"#)),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", key.to_owned()),
            ("GOOGLE_SERVICE_ACCOUNT", file.path().display().to_string()),
        ] {
            let options = RemoteOptions::new("gs://audit".parse().unwrap(), vec![(name.to_owned(), value)]);
            let told = connect(&options, runtime.handle()).unwrap_err().to_string();
            assert!(told.contains("service account") && !told.contains("hunter2"), "{name}: {told}");
        }
    }

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for endpoint in
            ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000/account", "https://x.example"]
        {
            assert!(client([endpoint].into_iter()).is_ok(), "{endpoint}");
        }
        for endpoint in ["http://10.0.0.1", "http://store.example", "http://localhost.example", "ftp://127.0.0.1", "x"]
        {
            assert!(client([endpoint].into_iter()).is_err(), "{endpoint}");
        }
        assert!(client(["http://127.0.0.1:1", "http://store.example"].into_iter()).is_err(), "one of two");
    }
}
