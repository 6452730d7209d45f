//! Whether an account may consent for its organization, as far as the tokens of its sign-in tell of its roles.
//!
//! Never a condition of consent: the claim is there only when the app's registration asks for it, and somebody whose right to
//! consent comes from a custom role has none of the roles below.
//!
//! Sources: <https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference> (`wids`: the role
//! template ids of the account's tenant-wide roles, with `groupMembershipClaims` `DirectoryRole` or `All` in the manifest);
//! <https://learn.microsoft.com/en-us/entra/identity/enterprise-apps/grant-admin-consent> (who may consent);
//! <https://learn.microsoft.com/en-us/entra/identity/role-based-access-control/permissions-reference> (the template ids).

use serde_json::{Map, Value};

/// The built-in roles that may consent, for a whole organization, to permissions of any API but Graph's application
/// permissions. This app asks for none of those.
const CONSENTING_ROLES: [&str; 4] = [
    // Global Administrator
    "62e90394-69f5-4237-9190-012177145e10",
    // Privileged Role Administrator
    "e8611ab8-c189-46e8-94e1-60213ab1f814",
    // Application Administrator
    "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3",
    // Cloud Application Administrator
    "158c047a-c907-4556-b7ef-446551a6b5f7",
];

/// More entries than this are not looked at.
const MAX_ROLES: usize = 256;

/// What the tokens say of the account's right to consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdminRole {
    /// It has one of the built-in roles that may.
    Held,
    /// Its roles are told, and none of them is one of those.
    NotHeld,
    /// They tell nothing of roles.
    Untold,
}

impl AdminRole {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NotHeld => "not_held",
            Self::Untold => "untold",
        }
    }

    /// By the claim `wids` of the tokens that prove one sign-in.
    pub(super) fn told_by<'c>(tokens: impl Iterator<Item = &'c Map<String, Value>>) -> Self {
        let mut told = Self::Untold;
        for claims in tokens {
            // A form that nobody has described tells nothing.
            let Some(roles) = claims.get("wids").and_then(Value::as_array) else { continue };
            let consents = |role: &str| CONSENTING_ROLES.iter().any(|known| known.eq_ignore_ascii_case(role));
            if roles.iter().take(MAX_ROLES).filter_map(Value::as_str).any(consents) {
                return Self::Held;
            }
            told = Self::NotHeld;
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_that_may_consent_are_told_from_all_others() {
        let told = |tokens: &[&str]| {
            let tokens: Vec<Map<String, Value>> =
                tokens.iter().map(|token| serde_json::from_str(token).unwrap()).collect();
            AdminRole::told_by(tokens.iter())
        };
        let global = r#"{"wids":["b79fbf4d-3ef9-4689-8143-76b194e85509","62E90394-69F5-4237-9190-012177145E10"]}"#;
        let reader = r#"{"wids":["5d6b6bb7-de71-4623-b4af-96380a352509"]}"#;
        for (tokens, expected) in [
            (vec![], AdminRole::Untold),
            (vec![r#"{"tid":"x"}"#], AdminRole::Untold),
            (vec![r#"{"wids":"62e90394-69f5-4237-9190-012177145e10"}"#], AdminRole::Untold),
            (vec![r#"{"wids":null}"#], AdminRole::Untold),
            (vec![r#"{"wids":[]}"#], AdminRole::NotHeld),
            (vec![r#"{"wids":[7,null]}"#], AdminRole::NotHeld),
            (vec![reader], AdminRole::NotHeld),
            (vec![global], AdminRole::Held),
            (vec![reader, global], AdminRole::Held),
            (vec![r#"{"tid":"x"}"#, reader], AdminRole::NotHeld),
        ] {
            assert_eq!(told(&tokens), expected, "{tokens:?}");
        }
        for role in CONSENTING_ROLES {
            assert_eq!(told(&[&format!(r#"{{"wids":["{role}"]}}"#)]), AdminRole::Held);
        }
    }
}
