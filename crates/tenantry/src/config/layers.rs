//! Where each configured value comes from: the file, then the environment, then the command line, the later winning.
//!
//! Never interprets a value beyond its kind; an unknown key, in whichever layer, is refused with the nearest known one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::ConfigError;
use super::schema::{KEY_VARIABLE, KEYS, Kind, LEDGER_PASSWORD_VARIABLE, LISTS, SECRET_VARIABLE, nearest, password_of};

/// The variables that start like ours and are no configuration keys.
const OTHER_VARIABLES: [&str; 6] = [
    "TENANTRY_CONFIG",
    "TENANTRY_LOG",
    "TENANTRY_CERTIFICATE_PASSWORD",
    SECRET_VARIABLE,
    KEY_VARIABLE,
    LEDGER_PASSWORD_VARIABLE,
];

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the file.
    File,
    /// In this environment variable.
    Variable(String),
    /// On the command line, as this flag.
    Flag(&'static str),
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// All values by dotted key; repeated tables are numbered from 0: `app.credential.0.kind`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    entries: BTreeMap<String, Entry>,
    /// The credentials whose password a variable gives; the passwords themselves are not kept here.
    passwords: BTreeSet<usize>,
    /// The file, when there is one.
    pub(crate) file: Option<PathBuf>,
}

impl Layers {
    /// Reads a file's text. Keys are checked; values are not.
    pub(crate) fn from_file(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Toml {
            path: path.to_owned(),
            line: error.span().map(|span| text.get(..span.start).unwrap_or("").lines().count().max(1)),
            message: error.message().to_owned(),
        })?;
        let mut layers = Self { file: Some(path.to_owned()), ..Self::default() };
        layers.insert_table("", table)?;
        Ok(layers)
    }

    /// Lays the variables that start with `TENANTRY_` over what is there. `__` separates tables from keys.
    pub(crate) fn overlay_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("TENANTRY_") else { continue };
            if OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            if let Some(index) = password_of(&name) {
                self.passwords.insert(index);
                continue;
            }
            let key = rest.to_ascii_lowercase().replace("__", ".");
            let Some(kind) = kind_of(&key) else {
                // A variable of one word may be somebody else's (`TENANTRY_HOME`); one with a table's name in it is not.
                if key.contains('.') || nearest(&key, KEYS.iter().map(|(known, _)| *known)).is_some() {
                    return Err(unknown(&key, Source::Variable(name), self.file.as_deref()));
                }
                tracing::debug!(variable = name, "not a configuration key, left alone");
                continue;
            };
            let value = match kind {
                Kind::Text => Value::String(text),
                Kind::Integer => text.trim().parse().map(Value::Integer).map_err(|_| ConfigError::Invalid {
                    key: key.clone(),
                    place: format!("in the variable {name}"),
                    problem: format!("must be a whole number, not {text:?}"),
                })?,
                Kind::List => Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect()),
            };
            self.entries.insert(key, Entry { value, source: Source::Variable(name) });
        }
        Ok(())
    }

    /// Lays one flag's value over what is there.
    pub(crate) fn overlay_flag(&mut self, key: &str, flag: &'static str, value: String) {
        self.entries.insert(key.to_owned(), Entry { value: Value::String(value), source: Source::Flag(flag) });
    }

    /// Whether a variable gives the password of this credential's key.
    pub(crate) fn has_password(&self, index: usize) -> bool {
        self.passwords.contains(&index)
    }

    /// The entry of a dotted key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Every entry, by key.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// The numbers that occur in a repeated table, in order.
    pub(crate) fn indices(&self, list: &str) -> Vec<usize> {
        let prefix = format!("{list}.");
        let mut indices: Vec<usize> =
            self.entries.keys().filter_map(|key| key.strip_prefix(&prefix)?.split('.').next()?.parse().ok()).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// Where a key was written, in words: `in tenantry.toml`, `in the variable X`, `in the flag --x`.
    pub(crate) fn place(&self, key: &str) -> String {
        match self.entry(key) {
            Some(entry) => describe(&entry.source, self.file.as_deref()),
            None => "nowhere".to_owned(),
        }
    }

    fn insert_table(&mut self, prefix: &str, table: toml::Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(inner) if !is_known(&key) => {
                    let is_table = KEYS.iter().any(|(known, _)| known.starts_with(&format!("{key}.")))
                        || LISTS.iter().any(|(known, _)| known.starts_with(&format!("{key}.")));
                    if !is_table {
                        return Err(unknown(&key, Source::File, self.file.as_deref()));
                    }
                    self.insert_table(&key, inner)?;
                }
                Value::Array(items) if LISTS.iter().any(|(known, _)| *known == key) => {
                    self.insert_list(&key, items)?;
                }
                value => {
                    if !is_known(&key) {
                        return Err(unknown(&key, Source::File, self.file.as_deref()));
                    }
                    self.entries.insert(key, Entry { value, source: Source::File });
                }
            }
        }
        Ok(())
    }

    fn insert_list(&mut self, list: &str, items: Vec<Value>) -> Result<(), ConfigError> {
        for (index, item) in items.into_iter().enumerate() {
            let key = format!("{list}.{index}");
            let Value::Table(table) = item else {
                return Err(ConfigError::Invalid {
                    key,
                    place: describe(&Source::File, self.file.as_deref()),
                    problem: format!("must be a table: write [[{list}]]"),
                });
            };
            if table.is_empty() {
                return Err(ConfigError::Invalid {
                    key,
                    place: describe(&Source::File, self.file.as_deref()),
                    problem: "is empty".to_owned(),
                });
            }
            for (name, value) in table {
                let inner = format!("{key}.{name}");
                if kind_of(&inner).is_none() {
                    return Err(unknown(&inner, Source::File, self.file.as_deref()));
                }
                self.entries.insert(inner, Entry { value, source: Source::File });
            }
        }
        Ok(())
    }
}

fn is_known(key: &str) -> bool {
    KEYS.iter().any(|(known, _)| *known == key)
}

fn kind_of(key: &str) -> Option<Kind> {
    if let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) {
        return Some(*kind);
    }
    LISTS.iter().find_map(|(list, fields)| {
        let (index, field) = key.strip_prefix(list)?.strip_prefix('.')?.split_once('.')?;
        index.parse::<u16>().ok()?;
        fields.iter().find(|(known, _)| *known == field).map(|(_, kind)| *kind)
    })
}

fn unknown(key: &str, source: Source, file: Option<&Path>) -> ConfigError {
    let last = key.rsplit('.').next().unwrap_or(key);
    let place = describe(&source, file);
    let is_secret = ["secret", "client_secret", "password", "value"].contains(&last) || key == "secrets.key";
    if source == Source::File && is_secret {
        return ConfigError::SecretInFile { key: key.to_owned(), place };
    }
    let numbered = key.split('.').find(|part| part.parse::<u16>().is_ok()).unwrap_or("0").to_owned();
    let mut fields = Vec::new();
    for (list, known) in LISTS {
        fields.extend(known.iter().map(|(field, _)| format!("{list}.{numbered}.{field}")));
    }
    let tables = ["app", "cloud", "collect", "ledger", "archive", "public", "console", "secrets", "output"];
    let known = KEYS.iter().map(|(known, _)| *known).chain(fields.iter().map(String::as_str)).chain(tables);
    // A key in no table or in the wrong one, such as `client_id` at the top, is nearest to the key that ends like it.
    let of_name =
        |name: &str| KEYS.iter().map(|(known, _)| *known).find(|known| known.rsplit('.').next() == Some(name));
    let names = || KEYS.iter().filter_map(|(known, _)| known.rsplit('.').next());
    let suggestion =
        of_name(key).or_else(|| nearest(key, known)).or_else(|| of_name(nearest(last, names())?)).map(str::to_owned);
    ConfigError::UnknownKey { key: key.to_owned(), place, suggestion }
}

fn describe(source: &Source, file: Option<&Path>) -> String {
    match source {
        Source::File => match file {
            Some(path) => format!("in {}", path.display()),
            None => "in the configuration file".to_owned(),
        },
        Source::Variable(name) => format!("in the variable {name}"),
        Source::Flag(flag) => format!("in the flag {flag}"),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Layers, ConfigError> {
        Layers::from_file(Path::new("tenantry.toml"), text)
    }

    fn message(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        assert!(message("[app]\nclientid = 'x'").contains("did you mean app.client_id?"));
        assert!(message("client_id = 'x'").contains("did you mean app.client_id?"));
        assert!(message("[colect]\npoll_interval = '1s'").contains("did you mean collect?"));
        assert!(message("[[app.credential]]\nkindd = 'secret'").contains("did you mean app.credential.0.kind?"));
        assert!(message("polinterval = '5s'").contains("did you mean collect.poll_interval?"));
        assert!(message("[app]\ncontent_types = []").contains("did you mean collect.content_types?"));
        assert!(!message("[zzz]\nqqq = 1").contains("did you mean"));
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_not_repeated() {
        for (text, variable) in [
            ("[app]\nclient_secret = 'hunter2'", "TENANTRY_APP__CLIENT_SECRET"),
            ("[[app.credential]]\nkind='secret'\nsecret = 'hunter2'", "TENANTRY_APP__CLIENT_SECRET"),
            ("[secrets]\nkey = 'hunter2'", "TENANTRY_SECRETS__KEY"),
        ] {
            let message = message(text);
            assert!(message.contains(variable), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn broken_toml_is_named_with_its_line() {
        let message = message("data_dir = 'x'\n[app\n");
        assert!(message.contains("tenantry.toml") && message.contains("line 2"), "{message}");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_unknown_variables_are_refused() {
        let mut layers = read("data_dir = 'x'\n[collect]\nrequests_per_minute = 5").unwrap();
        let variables = [
            ("TENANTRY_DATA_DIR", "y"),
            ("TENANTRY_COLLECT__REQUESTS_PER_MINUTE", "7"),
            ("TENANTRY_COLLECT__CONTENT_TYPES", "Audit.Exchange, DLP.All"),
            ("TENANTRY_APP__CREDENTIAL__0__KIND", "secret"),
            ("TENANTRY_CONFIG", "ignored here"),
            ("TENANTRY_BIN", "somebody else's"),
            ("PATH", "ignored"),
        ];
        layers.overlay_environment(variables.iter().map(|(k, v)| ((*k).into(), (*v).into()))).unwrap();
        assert_eq!(layers.entry("data_dir").unwrap().value, Value::String("y".into()));
        assert_eq!(layers.entry("collect.requests_per_minute").unwrap().value, Value::Integer(7));
        assert_eq!(layers.entry("collect.content_types").unwrap().value.as_array().unwrap().len(), 2);
        assert_eq!(layers.indices("app.credential"), [0]);
        assert_eq!(layers.place("data_dir"), "in the variable TENANTRY_DATA_DIR");

        for (name, meant) in [("TENANTRY_DATADIR", "data_dir"), ("TENANTRY_APP__CLIENTID", "app.client_id")] {
            let error = layers.overlay_environment([(name.into(), "y".into())].into_iter()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(meant), "{error}");
        }
    }
}
