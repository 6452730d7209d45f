//! Text that must never be seen: secrets, assertions, tokens.
//!
//! Never printed: `Debug` is redacted, there is no `Display`, and the text is wiped when dropped.

use secrecy::{ExposeSecret, SecretString};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SecretString);

        impl $name {
            /// Takes the text over; surrounding white space (a file's last newline) is no part of it.
            pub fn new(text: &str) -> Self {
                Self(SecretString::from(text.trim()))
            }

            /// The text, for the one place that puts it on the wire.
            pub fn expose(&self) -> &str {
                self.0.expose_secret()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}

secret!(
    /// A client secret's value.
    ClientSecret
);
secret!(
    /// A bearer token for one tenant and one resource.
    AccessToken
);
secret!(
    /// A signed JWT that stands in for the client secret.
    ClientAssertion
);
secret!(
    /// An authorization code: good once, for about ten minutes (entra.md §4).
    AuthorizationCode
);
secret!(
    /// The PKCE verifier of one flow: 43 characters (RFC 7636).
    CodeVerifier
);

secret!(
    /// What App Service wants to see before it hands out a managed identity's token.
    IdentityHeader
);

secret!(
    /// The shared secret that Microsoft echoes in `Webhook-AuthID`: the only proof that a notification is genuine.
    WebhookAuthId
);

impl WebhookAuthId {
    /// Whether `given` is this secret, in a time that depends on its length only.
    pub fn matches(&self, given: &[u8]) -> bool {
        let expected = self.expose().as_bytes();
        let mut difference = u8::from(expected.len() != given.len());
        for (position, byte) in given.iter().enumerate() {
            let against = expected.get(position).or(expected.first()).copied().unwrap_or_default();
            difference |= std::hint::black_box(byte ^ against);
        }
        std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_redacted() {
        let token = AccessToken::new("eyJ0eXAi\n");
        assert_eq!(format!("{token:?}"), "AccessToken(redacted)");
        assert_eq!(token.expose(), "eyJ0eXAi");
    }

    #[test]
    fn a_webhooks_auth_id_matches_itself_and_nothing_else() {
        let auth_id = WebhookAuthId::new("o365-activity-0001");
        assert!(auth_id.matches(b"o365-activity-0001"));
        for other in ["", "o", "o365-activity-0002", "o365-activity-000", "o365-activity-00011"] {
            assert!(!auth_id.matches(other.as_bytes()), "{other}");
        }
        assert!(!WebhookAuthId::new("").matches(b"x"));
    }
}
