//! The federated identity credential of an app registration: whose tokens stand in for a secret (entra.md §5.3, §5.4).
//!
//! Never a token: issuer, subject and audience say whose are taken. Entra ID compares all three letter for letter, so that
//! nothing here is trimmed, folded or completed.
//!
//! Source: <https://learn.microsoft.com/en-us/graph/api/resources/federatedidentitycredential>

use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::cloud::Cloud;
use crate::ids::PublisherId;

/// The longest issuer, subject and audience that Graph takes.
const TEXT_MAX: usize = 600;
/// The shortest and the longest name (entra.md §5.3).
const NAME_LENGTHS: std::ops::RangeInclusive<usize> = 3..=120;

/// Whose tokens are taken as proof of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedIdentity {
    name: String,
    issuer: String,
    subject: String,
    audience: String,
    description: &'static str,
}

/// Why such a credential cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationFault {
    /// The issuer is no https URL: Entra ID could not read its keys.
    #[error("the issuer must be an https URL exactly as the tokens' iss says, without blanks around it, not {0:?}")]
    Issuer(String),
    /// The subject is empty, too long or framed by blanks.
    #[error(
        "the subject must be the tokens' sub exactly, 1 to {TEXT_MAX} characters without blanks around it, not {0:?}"
    )]
    Subject(String),
    /// The name is none that Entra ID takes.
    #[error(
        "the credential's name must have 3 to 120 letters, digits, - and _, and begin with a letter or digit, not {0:?}"
    )]
    Name(String),
}

impl FederatedIdentity {
    /// What an outside issuer's tokens say of themselves: a Kubernetes cluster's, GitHub's, a SPIFFE server's.
    ///
    /// # Errors
    /// When Entra ID would not take it.
    pub fn outside(cloud: &Cloud, name: &str, issuer: &str, subject: &str) -> Result<Self, FederationFault> {
        let is_url = Url::parse(issuer).is_ok_and(|url| url.scheme() == "https" && url.host().is_some());
        if !is_url || !is_plain(issuer) {
            return Err(FederationFault::Issuer(issuer.to_owned()));
        }
        if !is_plain(subject) {
            return Err(FederationFault::Subject(subject.to_owned()));
        }
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !first || !letters || !NAME_LENGTHS.contains(&name.len()) {
            return Err(FederationFault::Name(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audience: cloud.token_exchange_audience().to_owned(),
            description: "Tokens of an outside issuer that stand in for a secret",
        })
    }

    /// A user-assigned managed identity by its object (principal) id. It lives in the app's home tenant (entra.md §5.4).
    pub fn managed(cloud: &Cloud, home: PublisherId, object_id: Uuid) -> Self {
        Self {
            name: format!("managed-identity-{object_id}"),
            issuer: format!("{}/{home}/v2.0", cloud.login()),
            subject: object_id.to_string(),
            audience: cloud.token_exchange_audience().to_owned(),
            description: "An Azure managed identity that stands in for a secret",
        }
    }

    /// The `iss` of the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The `sub` of the tokens.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The `aud` of the tokens.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// What the registration calls it; cannot be changed afterwards.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As Microsoft Graph and the Azure CLI take it.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "issuer": self.issuer,
            "subject": self.subject,
            "audiences": [self.audience],
            "description": self.description,
        })
    }
}

fn is_plain(text: &str) -> bool {
    (1..=TEXT_MAX).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::CloudName;

    fn cloud(name: CloudName) -> Cloud {
        Cloud::preset(name).unwrap()
    }

    #[test]
    fn an_outside_issuer_is_registered_letter_for_letter() {
        let made = FederatedIdentity::outside(
            &cloud(CloudName::Commercial),
            "github-main",
            "https://token.actions.githubusercontent.com",
            "repo:Contoso/collector:ref:refs/heads/main",
        );
        let expected = json!({
            "name": "github-main",
            "issuer": "https://token.actions.githubusercontent.com",
            "subject": "repo:Contoso/collector:ref:refs/heads/main",
            "audiences": ["api://AzureADTokenExchange"],
            "description": "Tokens of an outside issuer that stand in for a secret",
        });
        assert_eq!(made.unwrap().to_json(), expected);
    }

    #[test]
    fn a_managed_identitys_issuer_is_its_tenants_in_its_cloud() {
        let home = "46b472a7-c68e-4adf-8ade-3db49497518e".parse().unwrap();
        for (name, issuer, audience) in [
            (CloudName::Commercial, "https://login.microsoftonline.com", "api://AzureADTokenExchange"),
            (CloudName::GccHigh, "https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"),
            (CloudName::China, "https://login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"),
        ] {
            let made = FederatedIdentity::managed(&cloud(name), home, Uuid::from_u128(5));
            assert_eq!(made.issuer(), format!("{issuer}/46b472a7-c68e-4adf-8ade-3db49497518e/v2.0"));
            assert_eq!((made.subject(), made.audience()), ("00000000-0000-0000-0000-000000000005", audience));
            assert!(NAME_LENGTHS.contains(&made.name().len()));
        }
    }

    #[test]
    fn what_entra_id_would_refuse_or_never_match_is_refused_here() {
        let cloud = cloud(CloudName::Commercial);
        let outside = |name: &str, issuer: &str, subject: &str| {
            FederatedIdentity::outside(&cloud, name, issuer, subject).map(|made| made.issuer)
        };
        let (name, issuer, subject) = ("k8s", "https://oidc.example/id", "system:serviceaccount:audit:tenantry");
        assert_eq!(outside(name, issuer, subject).as_deref(), Ok(issuer));
        for issuer in ["", "oidc.example", "http://oidc.example", " https://oidc.example", "https://oidc.example\n"] {
            assert_eq!(outside(name, issuer, subject), Err(FederationFault::Issuer(issuer.to_owned())));
        }
        for subject in ["", " a", "a ", &"s".repeat(601)] {
            assert_eq!(outside(name, issuer, subject), Err(FederationFault::Subject(subject.to_owned())));
        }
        assert!(outside(name, issuer, &"s".repeat(600)).is_ok());
        for name in ["", "ab", "-abc", "a b c", "grün", &"n".repeat(121)] {
            assert_eq!(outside(name, issuer, subject), Err(FederationFault::Name(name.to_owned())));
        }
        assert!(outside(&"n".repeat(120), issuer, subject).is_ok());
    }
}
