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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_redacted() {
        let token = AccessToken::new("eyJ0eXAi\n");
        assert_eq!(format!("{token:?}"), "AccessToken(redacted)");
        assert_eq!(token.expose(), "eyJ0eXAi");
    }
}
