//! Where a remote archive lies and how it is reached, as text that has been understood.
//!
//! Never prints a setting's value: keys and tokens are among them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::ArchiveError;

/// How long a request that fails is tried again before the archive counts as not there. Shorter: a store's hiccup ends a
/// commit, whose records are then fetched again. Longer: the operator learns of an outage later.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// `s3://bucket/prefix`: Amazon S3 and what speaks its protocol.
    S3,
    /// `az://container/prefix`: Azure Blob Storage.
    Azure,
    /// `gs://bucket/prefix`: Google Cloud Storage.
    Google,
}

/// The URL of a remote archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    kind: StoreKind,
    bucket: String,
    prefix: String,
}

impl StoreUrl {
    /// Of which kind the store is.
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The bucket, or container.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What all names in the bucket begin with, without slashes at its ends; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for StoreUrl {
    type Err = ArchiveError;

    fn from_str(text: &str) -> Result<Self, ArchiveError> {
        let refuse = |problem: &str| {
            Err(ArchiveError::Settings {
                problem: format!(
                    "{problem}: write s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX or file:FOLDER"
                ),
            })
        };
        let Some((scheme, rest)) = text.split_once("://") else { return refuse("this is no URL of a store") };
        let kind = match scheme {
            "s3" => StoreKind::S3,
            "az" => StoreKind::Azure,
            "gs" => StoreKind::Google,
            _ => return refuse("there is no such store"),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(fits) {
            return refuse("the bucket's name is missing, or has characters that none has");
        }
        let prefix = prefix.trim_end_matches('/');
        let plain = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(|c| fits(c) || c == '=');
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return refuse("the prefix may have letters, digits and - . _ = between single slashes");
        }
        Ok(Self { kind, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            StoreKind::S3 => "s3",
            StoreKind::Azure => "az",
            StoreKind::Google => "gs",
        };
        write!(f, "{scheme}://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// A remote archive's place and settings.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Where it lies.
    pub url: StoreUrl,
    /// Settings by the names that the makers' own tools give them (`AWS_REGION`, `AZURE_STORAGE_ACCOUNT_NAME`,
    /// `GOOGLE_APPLICATION_CREDENTIALS`, …); of two of one name the later counts. Those of other stores are passed over.
    pub settings: Vec<(String, String)>,
    /// Bytes of local disk for copies of what was written and read. Beyond it the least recently used go.
    pub cache_bytes: u64,
    /// How long a request that fails is tried again.
    pub retry_for: Duration,
}

impl RemoteOptions {
    /// With 4 GiB of local copies, each request tried again for half a minute.
    pub fn new(url: StoreUrl, settings: Vec<(String, String)>) -> Self {
        Self { url, settings, cache_bytes: 4 << 30, retry_for: RETRY_FOR }
    }
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
        let Self { url, cache_bytes, retry_for, .. } = self;
        write!(f, "RemoteOptions({url}, settings {names:?}, cache of {cache_bytes} bytes, tried for {retry_for:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_and_come_out_as_they_went_in() {
        for (text, kind, bucket, prefix) in [
            ("s3://audit", StoreKind::S3, "audit", ""),
            ("s3://audit/a/tenant=b", StoreKind::S3, "audit", "a/tenant=b"),
            ("az://audit-2/x", StoreKind::Azure, "audit-2", "x"),
            ("gs://audit.example.com/x_y", StoreKind::Google, "audit.example.com", "x_y"),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!((url.kind(), url.bucket(), url.prefix()), (kind, bucket, prefix));
            assert_eq!(url.to_string(), text);
        }
        assert_eq!("s3://audit/x/".parse::<StoreUrl>().unwrap().prefix(), "x");
    }

    #[test]
    fn what_is_no_place_of_an_archive_is_refused_with_what_to_write() {
        for text in [
            "",
            "data/archive",
            "https://audit.s3.amazonaws.com/",
            "s3://",
            "s3:///x",
            "s3://key:secret@audit/x",
            "s3://audit//x",
            "s3://audit/../x",
            "s3://audit/a b",
            "s3://audit?region=x",
            "az://audit/x#y",
        ] {
            let told = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(told.contains("s3://BUCKET/PREFIX") && !told.contains("secret"), "{text}: {told}");
        }
    }

    #[test]
    fn settings_are_never_printed() {
        let settings = vec![("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())];
        let told = format!("{:?}", RemoteOptions::new("s3://audit".parse().unwrap(), settings));
        assert!(told.contains("AWS_SECRET_ACCESS_KEY") && !told.contains("hunter2"), "{told}");
    }
}
