//! The kinds of identifier, one type each, so that a tenant id can never be passed for a client id.
//!
//! Never holds an invalid value: everything is made by `FromStr`/`TryFrom`, and unknown content types are kept, not refused.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Why a piece of text is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not a GUID.
    #[error("{what} must be a GUID such as 6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11, not {text:?}")]
    NotAGuid {
        /// The kind of identifier, as a person calls it.
        what: &'static str,
        /// What was given, cut to 64 characters.
        text: String,
    },
    /// The text is empty, too long, or holds characters the identifier cannot have.
    #[error("{what} {problem}: {text:?}")]
    Malformed {
        /// The kind of identifier, as a person calls it.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// What was given, cut to 64 characters.
        text: String,
    },
}

fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

macro_rules! guid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a GUID that is already known to be one.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The GUID itself.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Accepts any letter case and canonicalises to lower case with dashes.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let not_a_guid = || IdError::NotAGuid { what: $what, text: excerpt(text) };
                // Uuid also reads braces, URNs and undashed forms; Microsoft's URLs carry the dashed one only.
                if text.len() != 36 {
                    return Err(not_a_guid());
                }
                Uuid::try_parse(text).map(Self).map_err(|_| not_a_guid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.as_hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.as_hyphenated())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

guid_id!(
    /// A customer's directory in Entra ID: the unit of quota, isolation and storage. Printed in lower case.
    TenantId,
    "a tenant id"
);
guid_id!(
    /// The application (client) id of the app registration.
    ClientId,
    "a client id"
);
guid_id!(
    /// The tenant GUID of the company that wrote the client, sent as `PublisherIdentifier` on every request
    /// (activity-api.md §1); throttling is counted against it.
    PublisherId,
    "a publisher id"
);

/// One of the feed's content types, in Microsoft's spelling; one we do not know is kept as it came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentType {
    /// `Audit.AzureActiveDirectory`
    AzureActiveDirectory,
    /// `Audit.Exchange`
    Exchange,
    /// `Audit.SharePoint`, which also carries OneDrive.
    SharePoint,
    /// `Audit.General`: everything that has no type of its own.
    General,
    /// `DLP.All`
    DlpAll,
    /// A type Microsoft has added since; printable ASCII without spaces, at most 64 characters.
    Other(String),
}

impl ContentType {
    /// The five documented types, in the order the documentation lists them.
    pub const KNOWN: [ContentType; 5] =
        [Self::AzureActiveDirectory, Self::Exchange, Self::SharePoint, Self::General, Self::DlpAll];

    /// Microsoft's spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::Exchange => "Audit.Exchange",
            Self::SharePoint => "Audit.SharePoint",
            Self::General => "Audit.General",
            Self::DlpAll => "DLP.All",
            Self::Other(text) => text,
        }
    }
}

impl FromStr for ContentType {
    type Err = IdError;

    /// Compares without regard to letter case: the service has answered `Audit.Sharepoint` (activity-api.md §1).
    fn from_str(text: &str) -> Result<Self, IdError> {
        if let Some(known) = Self::KNOWN.iter().find(|known| known.as_str().eq_ignore_ascii_case(text)) {
            return Ok(known.clone());
        }
        let malformed = |problem| Err(IdError::Malformed { what: "a content type", problem, text: excerpt(text) });
        if text.is_empty() {
            return malformed("must not be empty");
        }
        if text.len() > 64 {
            return malformed("must have at most 64 characters");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return malformed("may hold letters, digits, '.', '_' and '-' only");
        }
        Ok(Self::Other(text.to_owned()))
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for ContentType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for ContentType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// The text as Microsoft gave it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let malformed = |problem| Err(IdError::Malformed { what: $what, problem, text: excerpt(text) });
                if text.is_empty() {
                    return malformed("must not be empty");
                }
                if text.len() > $max {
                    return malformed(concat!("must have at most ", stringify!($max), " bytes"));
                }
                if text.bytes().any(|byte| byte.is_ascii_control()) {
                    return malformed("must not hold control characters");
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// The feed's name for one blob. Opaque: stored and compared, never parsed for logic (activity-api.md §2.4).
    /// At most 2048 bytes.
    ContentId,
    "a content id",
    2048
);
text_id!(
    /// The absolute URL of one blob, verbatim. Attacker-shaped until [`crate::cloud::Cloud`] has checked it.
    /// At most 8192 bytes.
    ContentUri,
    "a content URI",
    8192
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_canonicalised_to_lower_case() {
        let id: TenantId = "6A1C4F0E-7C39-4F0B-9D6E-2F4F0E0C8A11".parse().unwrap();
        assert_eq!(id.to_string(), "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11");
    }

    #[test]
    fn a_malformed_guid_is_named_with_its_text() {
        for text in [
            "",
            "contoso.onmicrosoft.com",
            "{6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11}",
            "6a1c4f0e7c394f0b9d6e2f4f0e0c8a11",
        ] {
            let error = text.parse::<TenantId>().unwrap_err().to_string();
            assert!(error.starts_with("a tenant id must be a GUID"), "{error}");
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn content_types_are_read_in_any_letter_case_and_unknown_ones_are_kept() {
        assert_eq!("Audit.Sharepoint".parse(), Ok(ContentType::SharePoint));
        assert_eq!("dlp.all".parse(), Ok(ContentType::DlpAll));
        assert_eq!("Audit.Copilot".parse(), Ok(ContentType::Other("Audit.Copilot".into())));
        assert!("Audit/../x".parse::<ContentType>().is_err());
        assert!("x".repeat(64).parse::<ContentType>().is_ok());
        assert!("x".repeat(65).parse::<ContentType>().is_err());
    }

    #[test]
    fn content_ids_keep_their_dollars_and_refuse_control_characters() {
        let id: ContentId = "2017$2017$audit_sharepoint$Audit_SharePoint".parse().unwrap();
        assert_eq!(id.as_str(), "2017$2017$audit_sharepoint$Audit_SharePoint");
        assert!("a\nb".parse::<ContentId>().is_err());
        assert!("".parse::<ContentId>().is_err());
    }
}
