//! `[[app.credential]]`: which kinds there are, what each needs, and how one is described without its secret.
//!
//! Never reads what a credential points to: the keyring does, when it is used and each time it changes.

use std::path::PathBuf;

use server::settings::IdentityName;
use url::{Host, Url};

use super::ConfigError;
use super::schema::password_variable;
use super::values::Reader;

/// Where Azure's workload identity webhook says that the token file is (entra.md §5.3).
const TOKEN_FILE_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";

const KINDS: &str = "certificate, secret, federated or managed_identity";

/// How a credential is described; the key material itself is read when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CredentialSource {
    /// A client secret in a file.
    SecretFile(PathBuf),
    /// A client secret in this environment variable.
    SecretVariable(String),
    /// A certificate and its private key in PEM, together or in two files.
    Certificate { path: PathBuf, key_path: Option<PathBuf>, password: Option<PasswordSource> },
    /// Another issuer's token in a file that the issuer renews; `None`: where Azure's variable says.
    Federated { token_file: Option<PathBuf> },
    /// An Azure managed identity; `imds` is the metadata service's root where it is not the usual one.
    ManagedIdentity { imds: Option<Url>, name: Option<IdentityName> },
}

/// Where the password of an encrypted key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    /// The first line of this file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
}

impl CredentialSource {
    /// The token file in force for a federated credential.
    pub(crate) fn token_file(configured: Option<&PathBuf>) -> Option<PathBuf> {
        configured.cloned().or_else(|| std::env::var_os(TOKEN_FILE_VARIABLE).map(PathBuf::from))
    }
}

pub(super) fn credential(reader: &Reader<'_>, index: usize) -> Result<CredentialSource, ConfigError> {
    let table = Table { reader, index };
    let source = match table.text("kind")?.as_deref() {
        Some("secret") => {
            table.allows(&["path", "env"])?;
            match (table.path("path")?, table.text("env")?) {
                (Some(path), None) => CredentialSource::SecretFile(path),
                (None, Some(variable)) => CredentialSource::SecretVariable(variable),
                _ => {
                    return Err(
                        table.wrong("needs either path (a file that holds the secret) or env (a variable that does)")
                    );
                }
            }
        }
        Some("certificate") => {
            table.allows(&["path", "key_path", "password_file"])?;
            let path = table.path("path")?.ok_or_else(|| {
                table.wrong("needs path: a PEM or PKCS#12 file with the private key and the certificate")
            })?;
            CredentialSource::Certificate { path, key_path: table.path("key_path")?, password: table.password()? }
        }
        Some("federated") => {
            table.allows(&["token_file"])?;
            CredentialSource::Federated { token_file: table.path("token_file")? }
        }
        Some("managed_identity") => {
            table.allows(&["client_id", "object_id", "resource_id", "imds"])?;
            CredentialSource::ManagedIdentity { imds: table.imds()?, name: table.identity()? }
        }
        Some(other) => return Err(reader.invalid(&table.key("kind"), format!("must be {KINDS}, not {other:?}"))),
        None => {
            return Err(ConfigError::Invalid {
                key: format!("app.credential.{index}"),
                place: String::new(),
                problem: format!("needs kind: {KINDS}"),
            });
        }
    };
    Ok(source)
}

pub(super) fn describe(credential: &CredentialSource) -> String {
    let encrypted = |password: &Option<PasswordSource>| match password {
        None => String::new(),
        Some(PasswordSource::File(path)) => format!(", its password in {}", path.display()),
        Some(PasswordSource::Variable(name)) => format!(", its password in the variable {name}"),
    };
    match credential {
        CredentialSource::SecretFile(path) => format!("secret from the file {}", path.display()),
        CredentialSource::SecretVariable(name) => format!("secret from the variable {name}"),
        CredentialSource::Certificate { path, key_path: None, password } => {
            format!("certificate {}{}", path.display(), encrypted(password))
        }
        CredentialSource::Certificate { path, key_path: Some(key), password } => {
            format!("certificate {} with the key {}{}", path.display(), key.display(), encrypted(password))
        }
        CredentialSource::Federated { token_file: Some(path) } => format!("federated token in {}", path.display()),
        CredentialSource::Federated { token_file: None } => {
            format!("federated token where the variable {TOKEN_FILE_VARIABLE} says")
        }
        CredentialSource::ManagedIdentity { name, .. } => match name {
            None => "managed identity of this machine".to_owned(),
            Some(IdentityName::ClientId(id) | IdentityName::ObjectId(id) | IdentityName::ResourceId(id)) => {
                format!("managed identity {id}")
            }
        },
    }
}

/// One `[[app.credential]]`.
struct Table<'a> {
    reader: &'a Reader<'a>,
    index: usize,
}

impl Table<'_> {
    fn key(&self, field: &str) -> String {
        format!("app.credential.{}.{field}", self.index)
    }

    fn text(&self, field: &str) -> Result<Option<String>, ConfigError> {
        self.reader.text(&self.key(field))
    }

    fn path(&self, field: &str) -> Result<Option<PathBuf>, ConfigError> {
        self.reader.path(&self.key(field))
    }

    fn wrong(&self, problem: &str) -> ConfigError {
        ConfigError::Invalid {
            key: format!("app.credential.{}", self.index),
            place: self.reader.layers.place(&self.key("kind")),
            problem: problem.to_owned(),
        }
    }

    /// A field of another kind is a mistake about which kind is meant.
    fn allows(&self, fields: &[&str]) -> Result<(), ConfigError> {
        let prefix = format!("app.credential.{}.", self.index);
        for (key, _) in self.reader.layers.entries() {
            if let Some(field) = key.strip_prefix(&prefix)
                && field != "kind"
                && !fields.contains(&field)
            {
                let problem = format!("does not belong to this kind of credential, which takes {}", fields.join(", "));
                return Err(self.reader.invalid(key, problem));
            }
        }
        Ok(())
    }

    fn password(&self) -> Result<Option<PasswordSource>, ConfigError> {
        let variable = password_variable(self.index);
        match (self.path("password_file")?, self.reader.layers.has_password(self.index)) {
            (Some(_), true) => {
                Err(self.wrong(&format!("has both password_file and the variable {variable}: keep one")))
            }
            (Some(path), false) => Ok(Some(PasswordSource::File(path))),
            (None, true) => Ok(Some(PasswordSource::Variable(variable))),
            (None, false) => Ok(None),
        }
    }

    fn identity(&self) -> Result<Option<IdentityName>, ConfigError> {
        let names = [
            self.text("client_id")?.map(IdentityName::ClientId),
            self.text("object_id")?.map(IdentityName::ObjectId),
            self.text("resource_id")?.map(IdentityName::ResourceId),
        ];
        let mut named = names.into_iter().flatten();
        match (named.next(), named.next()) {
            (name, None) => Ok(name),
            (_, Some(_)) => {
                Err(self.wrong("names its identity twice: give one of client_id, object_id and resource_id"))
            }
        }
    }

    fn imds(&self) -> Result<Option<Url>, ConfigError> {
        let Some(text) = self.text("imds")? else { return Ok(None) };
        let url = Url::parse(&text).ok().filter(|url| url.scheme() == "https" || is_of_this_machine(url));
        url.map(Some).ok_or_else(|| {
            let problem = format!("must be a URL of this machine such as http://127.0.0.1:7000, not {text:?}");
            self.reader.invalid(&self.key("imds"), problem)
        })
    }
}

/// Whether a plain-http URL stays on this machine: loopback, or the link-local addresses of metadata services.
pub(crate) fn is_of_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::values::validate;
    use super::super::{Config, Layers};
    use super::*;

    const APP: &str = "[app]\nclient_id = 'a6099727-6b7b-482c-b509-1df309acc563'\npublisher_id = '46b472a7-c68e-4adf-8ade-3db49497518e'\n[[app.credential]]\n";

    fn load(fields: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut layers = Layers::from_file(Path::new("etc/tenantry.toml"), &format!("{APP}{fields}"))?;
        layers.overlay_environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))?;
        validate(layers, false, Vec::new())
    }

    fn source(fields: &str, variables: &[(&str, &str)]) -> CredentialSource {
        load(fields, variables).unwrap().app().unwrap().credentials[0].clone()
    }

    #[test]
    fn every_kind_is_read_with_its_keys() {
        let certificate = |password| CredentialSource::Certificate {
            path: "etc/app.pem".into(),
            key_path: Some("etc/key.pem".into()),
            password,
        };
        let fields = "kind='certificate'\npath='app.pem'\nkey_path='key.pem'";
        assert_eq!(source(fields, &[]), certificate(None));
        let file = PasswordSource::File("etc/pw".into());
        assert_eq!(source(&format!("{fields}\npassword_file='pw'"), &[]), certificate(Some(file)));
        let name = "TENANTRY_APP__CREDENTIAL__0__PASSWORD";
        let variable = PasswordSource::Variable(name.into());
        assert_eq!(source(fields, &[(name, "hunter2")]), certificate(Some(variable)));
        let federated = CredentialSource::Federated { token_file: Some("/var/run/token".into()) };
        assert_eq!(source("kind='federated'\ntoken_file='/var/run/token'", &[]), federated);
        assert_eq!(source("kind='federated'", &[]), CredentialSource::Federated { token_file: None });
        let name = Some(IdentityName::ClientId("c".into()));
        let identity = CredentialSource::ManagedIdentity { imds: None, name };
        assert_eq!(source("kind='managed_identity'\nclient_id='c'", &[]), identity);
    }

    #[test]
    fn what_does_not_fit_its_kind_is_named_with_the_mend() {
        let password = [("TENANTRY_APP__CREDENTIAL__0__PASSWORD", "hunter2")];
        for (fields, variables, words) in [
            ("kind='certificate'", &[][..], "needs path"),
            ("kind='certificate'\npath='a'\nenv='B'", &[], "app.credential.0.env"),
            ("kind='certificate'\npath='a'\npassword_file='b'", &password, "keep one"),
            ("kind='secret'\npath='a'\ntoken_file='b'", &[], "which takes path, env"),
            ("kind='federated'\npath='a'", &[], "which takes token_file"),
            ("kind='managed_identity'\nclient_id='a'\nobject_id='b'", &[], "twice"),
            ("kind='managed_identity'\nimds='http://10.0.0.1'", &[], "of this machine"),
            ("kind='password'", &[], "certificate, secret, federated or managed_identity"),
            ("path='a'", &[], "needs kind"),
        ] {
            let message = load(fields, variables).unwrap_err().to_string();
            assert!(message.contains(words), "{fields}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_password_is_never_taken_from_the_file_nor_shown() {
        let message = load("kind='certificate'\npath='a'\npassword='hunter2'", &[]).unwrap_err().to_string();
        assert!(message.contains("holds a secret") && !message.contains("hunter2"), "{message}");
        let variables = [("TENANTRY_APP__CREDENTIAL__0__PASSWORD", "hunter2")];
        let config = load("kind='certificate'\npath='a'", &variables).unwrap();
        let shown = format!("{config:?} {:?}", config.effective());
        assert!(!shown.contains("hunter2") && shown.contains("its password in the variable"), "{shown}");
    }

    #[test]
    fn only_addresses_of_this_machine_may_be_asked_in_clear() {
        for (url, ours) in [
            ("http://169.254.169.254", true),
            ("http://127.0.0.1:7000", true),
            ("http://localhost:41741/msi/token", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_of_this_machine(&Url::parse(url).unwrap()), ours, "{url}");
        }
    }
}
