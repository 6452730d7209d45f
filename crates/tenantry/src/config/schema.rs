//! Which keys `tenantry.toml` may have and what kind of value each takes; the one list that refusals, the environment
//! overlay and `config show` go by.
//!
//! Never reads a value: [`super::layers`] does, once the keys are known to be ours.

/// What a key holds, for reading it from an environment variable, where everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// Strings; comma-separated in a variable.
    List,
}

/// Every key that stands alone, dotted.
pub(crate) const KEYS: &[(&str, Kind)] = &[
    ("data_dir", Kind::Text),
    ("app.client_id", Kind::Text),
    ("app.publisher_id", Kind::Text),
    ("app.token_endpoint", Kind::Text),
    ("app.assertion", Kind::Text),
    ("cloud.name", Kind::Text),
    ("cloud.login", Kind::Text),
    ("cloud.activity", Kind::Text),
    ("cloud.graph", Kind::Text),
    ("cloud.resource", Kind::Text),
    ("collect.content_types", Kind::List),
    ("collect.poll_interval", Kind::Text),
    ("collect.quiet_poll_interval", Kind::Text),
    ("collect.commit_interval", Kind::Text),
    ("collect.requests_per_minute", Kind::Integer),
    ("collect.tile", Kind::Text),
    ("collect.largest_record_mib", Kind::Integer),
    ("ledger.url", Kind::Text),
    ("ledger.password_file", Kind::Text),
    ("ledger.root_certificate", Kind::Text),
    ("ledger.lease_time", Kind::Text),
    ("archive.url", Kind::Text),
    ("archive.retention", Kind::Text),
    ("archive.tables", Kind::Text),
    ("archive.snapshots_kept", Kind::Text),
    ("archive.publish_interval", Kind::Text),
    ("archive.cache_bytes", Kind::Text),
    ("archive.endpoint", Kind::Text),
    ("archive.region", Kind::Text),
    ("archive.account", Kind::Text),
    ("archive.encryption", Kind::Text),
    ("archive.kms_key", Kind::Text),
    ("archive.encryption_key_file", Kind::Text),
    ("archive.encryption_scope", Kind::Text),
    ("archive.credentials_file", Kind::Text),
    ("public.listen", Kind::Text),
    ("public.url", Kind::Text),
    ("public.tls_certificate", Kind::Text),
    ("public.tls_key", Kind::Text),
    ("public.consent", Kind::Text),
    ("public.allowed_tenants", Kind::List),
    ("public.admin_role", Kind::Text),
    ("console.listen", Kind::Text),
    ("secrets.key_file", Kind::Text),
];

/// The tables that may be repeated, and the keys of each; numbered from 0 in the environment.
pub(crate) const LISTS: &[(&str, &[(&str, Kind)])] = &[
    (
        "app.credential",
        &[
            ("kind", Kind::Text),
            ("path", Kind::Text),
            ("key_path", Kind::Text),
            ("password_file", Kind::Text),
            ("env", Kind::Text),
            ("token_file", Kind::Text),
            ("client_id", Kind::Text),
            ("object_id", Kind::Text),
            ("resource_id", Kind::Text),
            ("imds", Kind::Text),
        ],
    ),
    (
        "output",
        &[
            ("name", Kind::Text),
            ("kind", Kind::Text),
            ("format", Kind::Text),
            ("url", Kind::Text),
            ("path", Kind::Text),
            ("topic", Kind::Text),
        ],
    ),
];

/// The variable that gives a client secret without a file: it stands for a credential of kind `secret`.
pub(crate) const SECRET_VARIABLE: &str = "TENANTRY_APP__CLIENT_SECRET";

/// The variable that gives the vault's keys without a file: one, or several parted by commas, the first of which seals.
pub(crate) const KEY_VARIABLE: &str = "TENANTRY_SECRETS__KEY";

/// The variable that gives the password of a ledger's database without a file.
pub(crate) const LEDGER_PASSWORD_VARIABLE: &str = "TENANTRY_LEDGER__PASSWORD";

/// The variable that gives the password of the `index`-th credential's key.
pub(crate) fn password_variable(index: usize) -> String {
    format!("TENANTRY_APP__CREDENTIAL__{index}__PASSWORD")
}

/// Which credential's password a variable gives, if it is one of those.
pub(crate) fn password_of(variable: &str) -> Option<usize> {
    let index = variable.strip_prefix("TENANTRY_APP__CREDENTIAL__")?.strip_suffix("__PASSWORD")?.parse().ok()?;
    (password_variable(index) == variable).then_some(index)
}

/// The known key nearest to `unknown`, if one is near enough to be a slip of the hand.
pub(crate) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|key| (strsim::damerau_levenshtein(unknown, key), key))
        .min()
        .filter(|(distance, key)| *distance <= 2.max(key.len() / 3))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_nonsense_finds_none() {
        let known = || KEYS.iter().map(|(key, _)| *key);
        assert_eq!(nearest("app.clientid", known()), Some("app.client_id"));
        assert_eq!(nearest("collect.pol_interval", known()), Some("collect.poll_interval"));
        assert_eq!(nearest("zzz", known()), None);
    }
}
