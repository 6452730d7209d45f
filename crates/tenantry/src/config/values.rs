//! From layered values to a validated [`Config`]: defaults, types, ranges, and paths made absolute to the file's folder.
//!
//! Never guesses: a value of the wrong kind or out of range is refused where it was written.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use server::engine::retention::RETENTION_MIN;
use server::protocol::cloud::{Cloud, CloudName, CustomCloud};
use server::protocol::ids::{ContentType, TenantId};
use server::settings::{AssertionAlgorithm, TokenEndpoint};
use server::site::consent::ConsentMethod;
use server::tls::TlsFiles;
use toml::Value;

use super::archive::{archive, in_effect, tables};
use super::collect::collect;
use super::credential::{credential, describe};
use super::layers::Entry;
use super::schema::SECRET_VARIABLE;
use super::{
    AppConfig, Config, ConfigError, CredentialSource, Layers, LedgerConfig, OutputConfig, PublicConfig, Source,
    format_duration, parse_duration,
};

const OUTPUT_KINDS: [&str; 9] =
    ["file", "stdout", "http", "splunk_hec", "elasticsearch", "kafka", "nats", "syslog", "otlp"];
const OUTPUT_FORMATS: [&str; 3] = ["raw", "ecs", "ocsf"];

/// Makes the configuration of what the layers say; `has_secret` tells that the secret's own variable is set, `variables` are
/// those of stores.
pub(super) fn validate(
    layers: Layers,
    has_secret: bool,
    variables: Vec<(String, String)>,
) -> Result<Config, ConfigError> {
    let reader = Reader { layers: &layers };
    // The default means what it would mean if the file said it.
    let beside = layers.file.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let data_dir = reader.path("data_dir")?.unwrap_or_else(|| beside.join("data"));
    let ledger = super::ledger::ledger(&reader, &data_dir)?;
    let (archive_root, remote) = archive(&reader, &data_dir, variables)?;
    let config = Config {
        tables: tables(&reader)?,
        retention: reader.duration("archive.retention", RETENTION_MIN..=Duration::from_secs(86_400 * 36_500))?,
        cloud: cloud(&reader)?,
        collect: collect(&reader)?,
        public: public(&reader)?,
        console_listen: reader.address("console.listen", 8366)?,
        outputs: outputs(&reader)?,
        key_file: reader.path("secrets.key_file")?.unwrap_or_else(|| data_dir.join("secret.key")),
        app: app(&reader, has_secret)?,
        data_dir,
        ledger,
        archive_root,
        remote,
        layers: Layers::default(),
    };
    Ok(Config { layers, ..config })
}

fn app(reader: &Reader<'_>, has_secret: bool) -> Result<Option<AppConfig>, ConfigError> {
    let client_id = reader.parsed("app.client_id")?;
    let publisher_id = reader.parsed("app.publisher_id")?;
    let token_endpoint = match reader.text("app.token_endpoint")?.as_deref() {
        None | Some("v2") => TokenEndpoint::V2,
        Some("v1") => TokenEndpoint::V1,
        Some(other) => return Err(reader.invalid("app.token_endpoint", format!("must be v1 or v2, not {other:?}"))),
    };
    let assertion = match reader.text("app.assertion")?.as_deref() {
        None | Some("RS256") => AssertionAlgorithm::Rs256,
        Some("PS256") => AssertionAlgorithm::Ps256,
        Some(other) => return Err(reader.invalid("app.assertion", format!("must be RS256 or PS256, not {other:?}"))),
    };
    let mut credentials = Vec::new();
    for index in reader.layers.indices("app.credential") {
        credentials.push(credential(reader, index)?);
    }
    if has_secret {
        credentials.push(CredentialSource::SecretVariable(SECRET_VARIABLE.to_owned()));
    }
    let (client_id, publisher_id) = match (client_id, publisher_id) {
        (None, None) if credentials.is_empty() => return Ok(None),
        (Some(client_id), Some(publisher_id)) => (client_id, publisher_id),
        (None, _) => {
            return Err(ConfigError::Missing {
                key: "app.client_id",
                remedy: "write the application (client) id of the app registration under [app]",
            });
        }
        (_, None) => {
            return Err(ConfigError::Missing {
                key: "app.publisher_id",
                remedy: "write the tenant id of the company that runs this program under [app]; throttling is counted against it",
            });
        }
    };
    if credentials.is_empty() {
        return Err(ConfigError::Missing {
            key: "app.credential",
            remedy: "add [[app.credential]] with kind and path, or set TENANTRY_APP__CLIENT_SECRET",
        });
    }
    Ok(Some(AppConfig { client_id, publisher_id, credentials, token_endpoint, assertion }))
}

fn cloud(reader: &Reader<'_>) -> Result<Cloud, ConfigError> {
    let name_text = reader.text("cloud.name")?.unwrap_or_else(|| "commercial".to_owned());
    let Some((_, name)) = CloudName::ALL.iter().find(|(known, _)| *known == name_text) else {
        let known: Vec<&str> = CloudName::ALL.iter().map(|(known, _)| *known).collect();
        return Err(reader.invalid("cloud.name", format!("must be one of {}, not {name_text:?}", known.join(", "))));
    };
    if let Some(cloud) = Cloud::preset(*name) {
        for key in ["cloud.login", "cloud.activity", "cloud.graph", "cloud.resource"] {
            if reader.layers.entry(key).is_some() {
                return Err(reader
                    .invalid(key, format!("is for cloud.name = \"custom\" only: the cloud {name_text} has its own")));
            }
        }
        return Ok(cloud);
    }
    let needed = |key: &'static str, text: Option<String>| {
        text.ok_or(ConfigError::Missing { key, remedy: "a custom cloud needs cloud.login and cloud.activity" })
    };
    let described = CustomCloud {
        login: needed("cloud.login", reader.text("cloud.login")?)?,
        activity: needed("cloud.activity", reader.text("cloud.activity")?)?,
        graph: reader.text("cloud.graph")?,
        resource: reader.text("cloud.resource")?,
    };
    Cloud::custom(&described).map_err(|error| ConfigError::Invalid {
        key: "cloud".to_owned(),
        place: reader.layers.place("cloud.activity"),
        problem: format!("cannot be used: {error}"),
    })
}

/// The public site is there when it has an address.
fn public(reader: &Reader<'_>) -> Result<Option<PublicConfig>, ConfigError> {
    let listen = reader.address("public.listen", 8365)?;
    let consent = match reader.text("public.consent")?.as_deref() {
        None | Some("v1") => ConsentMethod::V1,
        Some("v2") => ConsentMethod::V2,
        Some(other) => {
            return Err(reader.invalid(
                "public.consent",
                format!("must be v1 (authorize page) or v2 (admin consent and sign-in), not {other:?}"),
            ));
        }
    };
    let role_required = match reader.text("public.admin_role")?.as_deref() {
        None | Some("if_told") => false,
        Some("required") => true,
        Some(other) => {
            return Err(reader.invalid(
                "public.admin_role",
                format!(
                    "must be if_told (looked at when a sign-in tells it) or required (no consent without it), not {other:?}"
                ),
            ));
        }
    };
    let allowed_tenants = match reader.list("public.allowed_tenants")? {
        None => None,
        Some(texts) => {
            let parse = |text: &String| {
                let parsed = text.trim().parse::<TenantId>();
                parsed.map_err(|error| reader.invalid("public.allowed_tenants", format!("holds {text:?}: {error}")))
            };
            Some(texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
        }
    };
    if let Some(url) = reader.parsed("public.url")? {
        return Ok(Some(PublicConfig { listen, url, tls: tls(reader)?, consent, allowed_tenants, role_required }));
    }
    let others = ["public.listen", "public.consent", "public.allowed_tenants", "public.admin_role"];
    if others.iter().all(|key| reader.layers.entry(key).is_none()) {
        return Ok(None);
    }
    Err(ConfigError::Missing {
        key: "public.url",
        remedy: "write the address that browsers and Microsoft reach the public site by under [public], such as \
                 https://audit.example.com",
    })
}

/// Both files or neither.
fn tls(reader: &Reader<'_>) -> Result<Option<TlsFiles>, ConfigError> {
    match (reader.path("public.tls_certificate")?, reader.path("public.tls_key")?) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (Some(_), None) => Err(ConfigError::Missing {
            key: "public.tls_key",
            remedy: "name the file with the private key of public.tls_certificate",
        }),
        (None, Some(_)) => Err(ConfigError::Missing {
            key: "public.tls_certificate",
            remedy: "name the file with the certificate that public.tls_key belongs to",
        }),
    }
}

fn outputs(reader: &Reader<'_>) -> Result<Vec<OutputConfig>, ConfigError> {
    let mut outputs: Vec<OutputConfig> = Vec::new();
    for index in reader.layers.indices("output") {
        let key = |field: &str| format!("output.{index}.{field}");
        let one_of = |field: &str, known: &[&str]| -> Result<Option<String>, ConfigError> {
            let text = reader.text(&key(field))?;
            match text.as_deref() {
                Some(text) if !known.contains(&text) => {
                    Err(reader.invalid(&key(field), format!("must be one of {}, not {text:?}", known.join(", "))))
                }
                _ => Ok(text),
            }
        };
        let place = reader.layers.file.as_ref().map(|path| format!("in {}", path.display())).unwrap_or_default();
        let needed = |field: &str| ConfigError::Invalid {
            key: format!("output.{index}"),
            place: place.clone(),
            problem: format!("needs {field}"),
        };
        let name = reader.text(&key("name"))?.ok_or_else(|| needed("name"))?;
        let kind = one_of("kind", &OUTPUT_KINDS)?.ok_or_else(|| needed("kind"))?;
        one_of("format", &OUTPUT_FORMATS)?;
        if outputs.iter().any(|output| output.name == name) {
            return Err(reader.invalid(&key("name"), format!("is {name:?} twice: each output needs a name of its own")));
        }
        outputs.push(OutputConfig { name, kind });
    }
    Ok(outputs)
}

/// Every key in force, as `config show` prints it.
pub(super) fn effective(config: &Config, layers: &Layers) -> Vec<(String, String, Option<Source>)> {
    let cloud = &config.cloud;
    let content_types: Vec<&str> = config.collect.content_types.iter().map(ContentType::as_str).collect();
    let mut rows = vec![
        ("data_dir".to_owned(), config.data_dir.display().to_string()),
        ("cloud.name".to_owned(), cloud.name().as_str().to_owned()),
        ("cloud.login".to_owned(), cloud.login().to_owned()),
        ("cloud.resource".to_owned(), cloud.resource().to_owned()),
        ("cloud.graph".to_owned(), cloud.graph().to_owned()),
        ("collect.content_types".to_owned(), content_types.join(", ")),
        ("collect.poll_interval".to_owned(), format_duration(config.collect.poll_interval)),
        ("collect.quiet_poll_interval".to_owned(), format_duration(config.collect.quiet_poll_interval)),
        ("collect.commit_interval".to_owned(), format_duration(config.collect.commit_interval)),
        ("collect.requests_per_minute".to_owned(), config.collect.requests_per_minute.to_string()),
        ("collect.tile".to_owned(), format_duration(config.collect.tile.span())),
        ("collect.largest_record_mib".to_owned(), config.collect.largest_record_mib.to_string()),
        (
            "ledger.url".to_owned(),
            match &config.ledger {
                LedgerConfig::File(path) => format!("sqlite:{}", path.display()),
                LedgerConfig::Database { address, .. } => {
                    format!("{address}?sslmode={}", if address.is_encrypted() { "verify-full" } else { "disable" })
                }
            },
        ),
        ("console.listen".to_owned(), config.console_listen.to_string()),
        ("secrets.key_file".to_owned(), config.key_file.display().to_string()),
    ];
    if let LedgerConfig::Database { address, password_file, lease_time } = &config.ledger {
        rows.push(("ledger.lease_time".to_owned(), format_duration(*lease_time)));
        if let Some(path) = password_file {
            rows.push(("ledger.password_file".to_owned(), path.display().to_string()));
        }
        if let Some(path) = address.root_certificate() {
            rows.push(("ledger.root_certificate".to_owned(), path.display().to_string()));
        }
    }
    rows.extend(in_effect(config));
    match &config.public {
        None => rows.push(("public.url".to_owned(), "none".to_owned())),
        Some(public) => {
            rows.push(("public.listen".to_owned(), public.listen.to_string()));
            rows.push(("public.url".to_owned(), public.url.to_string()));
            if let Some(tls) = &public.tls {
                rows.push(("public.tls_certificate".to_owned(), tls.certificate.display().to_string()));
                rows.push(("public.tls_key".to_owned(), tls.key.display().to_string()));
            }
            let consent = if public.consent == ConsentMethod::V1 { "v1" } else { "v2" };
            rows.push(("public.consent".to_owned(), consent.to_owned()));
            let allowed = public.allowed_tenants.as_ref().map_or("any that is invited".to_owned(), |tenants| {
                tenants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            });
            rows.push(("public.allowed_tenants".to_owned(), allowed));
            let role = if public.role_required { "required" } else { "if_told" };
            rows.push(("public.admin_role".to_owned(), role.to_owned()));
        }
    }
    if let Some(app) = &config.app {
        rows.push(("app.client_id".to_owned(), app.client_id.to_string()));
        rows.push(("app.publisher_id".to_owned(), app.publisher_id.to_string()));
        let endpoint = if app.token_endpoint == TokenEndpoint::V1 { "v1" } else { "v2" };
        rows.push(("app.token_endpoint".to_owned(), endpoint.to_owned()));
        let assertion = if app.assertion == AssertionAlgorithm::Rs256 { "RS256" } else { "PS256" };
        rows.push(("app.assertion".to_owned(), assertion.to_owned()));
        for (index, credential) in app.credentials.iter().enumerate() {
            rows.push((format!("app.credential.{index}"), describe(credential)));
        }
    }
    for (index, output) in config.outputs.iter().enumerate() {
        rows.push((format!("output.{index}"), format!("{} ({})", output.name, output.kind)));
    }
    rows.into_iter()
        .map(|(key, value)| {
            let source = layers.entry(&key).map(|entry| entry.source.clone()).or_else(|| {
                let prefix = format!("{key}.");
                layers.entries().find(|(known, _)| known.starts_with(&prefix)).map(|(_, entry)| entry.source.clone())
            });
            (key, value, source)
        })
        .collect()
}

/// The part of a URL that tells its kind, without what may be a password behind it.
pub(super) fn scheme(url: &str) -> &str {
    url.split_once(':').map_or(url, |(scheme, _)| scheme)
}

pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
}

impl Reader<'_> {
    pub(super) fn invalid(&self, key: &str, problem: String) -> ConfigError {
        ConfigError::Invalid { key: key.to_owned(), place: self.layers.place(key), problem }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.layers.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => {
                Err(self.invalid(key, "must not be empty".to_owned()))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.invalid(key, format!("must be text in quotes, not {}", other.type_str()))),
        }
    }

    pub(super) fn integer(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        match self.layers.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(*number)),
            Some(other) => Err(self.invalid(key, format!("must be a whole number, not {}", other.type_str()))),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(Entry { value, .. }) = self.layers.entry(key) else { return Ok(None) };
        let wrong = || self.invalid(key, "must be a list of texts, such as [\"Audit.Exchange\"]".to_owned());
        let items = value.as_array().ok_or_else(wrong)?;
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn duration(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        if let Some(Value::Integer(number)) = self.layers.entry(key).map(|entry| &entry.value) {
            return Err(self.invalid(key, format!("must be text with a unit, such as \"{number}s\"")));
        }
        let Some(text) = self.text(key)? else { return Ok(None) };
        let duration = parse_duration(&text).ok_or_else(|| {
            self.invalid(key, format!("must be a duration such as 500ms, 60s, 15m, 2h or 7d, not {text:?}"))
        })?;
        if !range.contains(&duration) {
            let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
            return Err(self.invalid(key, format!("must lie between {low} and {high}, not {text:?}")));
        }
        Ok(Some(duration))
    }

    fn address(&self, key: &str, default_port: u16) -> Result<SocketAddr, ConfigError> {
        match self.text(key)? {
            None => Ok(SocketAddr::from(([127, 0, 0, 1], default_port))),
            Some(text) => text.parse().map_err(|_| {
                self.invalid(key, format!("must be an address and port such as 127.0.0.1:{default_port}, not {text:?}"))
            }),
        }
    }

    fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>, ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|error: T::Err| self.invalid(key, format!("is wrong: {error}")))
    }

    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text(key)?.map(|text| self.resolve(key, &text)))
    }

    /// A relative path means: beside the file when the file says it, here when a variable or flag does.
    pub(super) fn resolve(&self, key: &str, text: &str) -> PathBuf {
        let from_file = self.layers.entry(key).is_some_and(|entry| entry.source == Source::File);
        match self.layers.file.as_deref().and_then(Path::parent) {
            Some(folder) if from_file => folder.join(text),
            _ => PathBuf::from(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "[app]\nclient_id = 'a6099727-6b7b-482c-b509-1df309acc563'\npublisher_id = '46b472a7-c68e-4adf-8ade-3db49497518e'\n";

    fn load(text: &str) -> Result<Config, ConfigError> {
        validate(Layers::from_file(Path::new("etc/tenantry.toml"), text)?, false, Vec::new())
    }

    fn message(text: &str) -> String {
        load(text).unwrap_err().to_string()
    }

    #[test]
    fn defaults_need_no_file_at_all() {
        let config = validate(Layers::default(), false, Vec::new()).unwrap();
        assert_eq!(config.data_dir, Path::new("data"));
        assert_eq!(config.ledger, LedgerConfig::File("data/ledger.db".into()));
        assert_eq!(config.archive_root, Path::new("data/archive"));
        assert_eq!(config.collect.content_types.len(), 5);
        assert!(config.app().unwrap_err().to_string().contains("app.client_id"));
        assert_eq!(load("").unwrap().data_dir, Path::new("etc/data"));
    }

    #[test]
    fn the_documented_example_is_accepted() {
        let text = format!(
            "data_dir = 'data'\n{APP}[[app.credential]]\nkind = 'certificate'\npath = 'app.pem'\n\
             [cloud]\nname = 'commercial'\n[collect]\ncontent_types = ['Audit.AzureActiveDirectory', 'DLP.All']\n\
             poll_interval = '60s'\ncommit_interval = '5s'\nrequests_per_minute = 1500\n\
             [ledger]\nurl = 'sqlite:data/ledger.db'\n[archive]\nurl = 'file:data/archive'\nretention = '400d'\n\
             [public]\nlisten = '127.0.0.1:8365'\nurl = 'https://audit.example.com'\n[console]\nlisten = '127.0.0.1:8366'\n\
             [[output]]\nname = 'siem'\nkind = 'kafka'\nformat = 'raw'\n"
        );
        let config = load(&text).unwrap();
        assert_eq!(config.ledger, LedgerConfig::File("etc/data/ledger.db".into()));
        let credential = CredentialSource::Certificate { path: "etc/app.pem".into(), key_path: None, password: None };
        assert_eq!(config.app().unwrap().credentials, [credential]);
        assert_eq!(config.outputs.len(), 1);
        let notes = config.not_carried_out();
        assert!(notes.len() == 1 && notes[0].contains("siem (kafka)"), "{notes:?}");
        assert_eq!(config.retention, Some(Duration::from_secs(400 * 86_400)));
        assert_eq!(load("").unwrap().not_carried_out(), Vec::<String>::new());
    }

    #[test]
    fn relative_paths_of_flags_are_relative_to_here() {
        let mut layers = Layers::from_file(Path::new("etc/tenantry.toml"), "data_dir = 'data'").unwrap();
        layers.overlay_flag("data_dir", "--data-dir", "other".into());
        assert_eq!(validate(layers, false, Vec::new()).unwrap().ledger, LedgerConfig::File("other/ledger.db".into()));
    }

    #[test]
    fn wrong_values_name_the_key_the_place_and_the_remedy() {
        for (text, parts) in [
            ("[app]\nclient_id = 'contoso'", ["app.client_id in etc/tenantry.toml", "must be a GUID"]),
            ("[collect]\npoll_interval = 60", ["collect.poll_interval", "\"60s\""]),
            ("[collect]\npoll_interval = '60'", ["collect.poll_interval", "such as 500ms"]),
            ("[collect]\npoll_interval = '999ms'", ["collect.poll_interval", "between 1s and 1d"]),
            (
                "[collect]\npoll_interval = '5m'\nquiet_poll_interval = '1m'",
                ["collect.quiet_poll_interval", "collect.poll_interval, which is 5m"],
            ),
            ("[collect]\nrequests_per_minute = 9", ["collect.requests_per_minute", "10 to 60000"]),
            ("[collect]\nlargest_record_mib = 0", ["collect.largest_record_mib", "1 to 32"]),
            ("[collect]\nlargest_record_mib = 33", ["collect.largest_record_mib", "1 to 32"]),
            ("[collect]\ncontent_types = []", ["collect.content_types", "1 to 32"]),
            ("[cloud]\nname = 'comercial'", ["cloud.name", "commercial, gcc"]),
            ("[cloud]\nname = 'custom'", ["cloud.login is not set", "cloud.activity"]),
            ("[cloud]\nlogin = 'http://127.0.0.1'", ["cloud.login", "custom"]),
            ("[cloud]\nname='custom'\nlogin='http://10.0.0.1'\nactivity='http://127.0.0.1'", ["cloud.login", "https"]),
            ("[ledger]\nurl = 'mysql://host/db'", ["ledger.url", "sqlite:PATH"]),
            ("[ledger]\nurl = 'postgres://user:pw@host/db'", ["ledger.url", "ledger.password_file"]),
            ("[ledger]\nurl = 'postgres://user@host'", ["ledger.url", "which database"]),
            ("[ledger]\npassword_file = 'x'", ["ledger.password_file", "PostgreSQL only"]),
            ("[public]\nurl = 'http://audit.example.com'", ["public.url", "https://"]),
            ("[public]\nurl = 'https://audit.example.com/base'", ["public.url", "no user, path"]),
            ("[public]\nurl = 'https://a.example'\nconsent = 'v3'", ["public.consent", "v1 (authorize page)"]),
            ("[public]\nurl = 'https://a.example'\nallowed_tenants = ['contoso.com']", ["contoso.com", "GUID"]),
            ("[public]\nurl = 'https://a.example'\nadmin_role = 'yes'", ["public.admin_role", "required"]),
            ("[public]\nlisten = '0.0.0.0:443'", ["public.url is not set", "https://audit.example.com"]),
            (
                "[public]\nurl = 'https://a.example'\ntls_key = 'k'",
                ["public.tls_certificate is not set", "public.tls_key"],
            ),
            (
                "[public]\nurl = 'https://a.example'\ntls_certificate = 'c'",
                ["public.tls_key is not set", "private key"],
            ),
            ("[console]\nlisten = 'localhost'", ["console.listen", "127.0.0.1:8366"]),
            ("[[output]]\nname='a'\nkind='kafak'", ["output.0.kind", "kafka"]),
        ] {
            let message = message(text);
            for part in parts {
                assert!(message.contains(part), "{text}: {message}");
            }
            assert!(!message.contains("pw"), "{message}");
        }
    }

    #[test]
    fn silent_feeds_are_polled_after_five_intervals_or_an_hour_unless_told_otherwise() {
        for (text, seconds) in [
            ("", 300),
            ("[collect]\npoll_interval = '5s'", 25),
            ("[collect]\npoll_interval = '30m'", 3_600),
            ("[collect]\npoll_interval = '2h'", 7_200),
            ("[collect]\nquiet_poll_interval = '1m'", 60),
            ("[collect]\npoll_interval = '2h'\nquiet_poll_interval = '1d'", 86_400),
        ] {
            assert_eq!(load(text).unwrap().collect.quiet_poll_interval, Duration::from_secs(seconds), "{text}");
        }
    }

    #[test]
    fn both_sides_of_the_ranges() {
        for text in [
            "[collect]\nrequests_per_minute = 10",
            "[collect]\nlargest_record_mib = 1",
            "[collect]\nlargest_record_mib = 32",
            "[collect]\npoll_interval = '1s'",
            "[collect]\npoll_interval = '1d'",
        ] {
            assert!(load(text).is_ok(), "{text}");
        }
        assert!(load("[collect]\nrequests_per_minute = 60001").is_err());
        assert!(load("[collect]\npoll_interval = '86401s'").is_err());
    }

    #[test]
    fn an_app_without_a_credential_is_incomplete() {
        assert!(message(APP).contains("app.credential"));
        assert!(validate(Layers::from_file(Path::new("t.toml"), APP).unwrap(), true, Vec::new()).is_ok());
        let two = format!("{APP}[[app.credential]]\nkind='secret'\npath='x'\nenv='Y'");
        assert!(message(&two).contains("either path"));
    }
}
