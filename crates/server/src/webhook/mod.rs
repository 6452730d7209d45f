//! Webhooks: the address the service is told, the secret it shows in return, and the listener behind it.
//!
//! Never a second path for content: a notification becomes rows in the ledger, exactly as a listing does, and a wake-up of
//! the worker. And never the only path: what no notification tells of, polling finds.

mod gate;
mod listener;

use aws_lc_rs::{constant_time, digest, rand};
use engine::webhook::{AuthDigest, Webhook};
use protocol::cloud::Cloud;
use protocol::ids::TenantId;
use protocol::secret::WebhookAuthId;

use crate::site::PublicUrl;

pub use gate::GateLimits;
pub(crate) use gate::KnownPaths;
pub use listener::{WebhookParts, router};

/// Where the service reaches us: what the address of every webhook begins with. It exists only when the service would
/// accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookBase(String);

/// Why there can be no webhooks: polling does the work then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWebhooks {
    /// The service takes https only (AF20021).
    #[error("public.url is {url}, and Microsoft notifies https addresses only: polling works alone")]
    NotHttps {
        /// The URL.
        url: String,
    },
}

impl WebhookBase {
    /// Below the public site's address: https, or plain http on this machine when the cloud is on it too.
    ///
    /// # Errors
    /// When the service would refuse the address.
    pub fn new(site: &PublicUrl, cloud: &Cloud) -> Result<Self, NoWebhooks> {
        let is_cloud_here = cloud.feed_root(TenantId::from_uuid(uuid::Uuid::nil())).starts_with("http://");
        if !site.is_https() && !is_cloud_here {
            return Err(NoWebhooks::NotHttps { url: site.to_string() });
        }
        Ok(Self(site.page("/webhook/")))
    }

    /// What addresses begin with.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A fresh address with the key it is found by.
    pub(crate) fn fresh_place(&self) -> (String, [u8; 16]) {
        let name = random_hex::<16>();
        let key = path_key(&name);
        (format!("{}{name}", self.0), key)
    }
}

/// A fresh authentication id, and what the ledger keeps of it.
pub(crate) fn fresh_auth_id() -> (WebhookAuthId, AuthDigest) {
    let text = random_hex::<32>();
    (WebhookAuthId::new(&text), auth_digest(text.as_bytes()))
}

/// What the ledger keeps of an authentication id: 256 random bits need no salt and no slow hash.
pub(crate) fn auth_digest(auth_id: &[u8]) -> AuthDigest {
    let mut kept = [0; 32];
    kept.copy_from_slice(digest::digest(&digest::SHA256, auth_id).as_ref());
    kept
}

/// `text` without the last part of `address`, wherever and in whatever letter case it is repeated.
pub(crate) fn without_name(text: &str, address: &str) -> String {
    let name = address.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    // A change of case moves no byte.
    while let Some(at) = rest.to_ascii_lowercase().find(&name).filter(|_| !name.is_empty()) {
        let (before, from) = rest.split_at(at);
        clean.push_str(before);
        clean.push_str("(redacted)");
        rest = from.split_at(name.len()).1;
    }
    clean.push_str(rest);
    clean
}

/// What an address is found by. Looking a digest up tells nobody how near a guess was.
pub(crate) fn path_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(digest::digest(&digest::SHA256, name.as_bytes()).as_ref().split_at(16).0);
    key
}

/// Whether what a caller shows is the webhook's secret, in a time that does not depend on how much of it is right.
fn is_authentic(webhook: &Webhook, shown: &[u8]) -> bool {
    let shown = auth_digest(shown);
    let known = [webhook.accepted, webhook.offered];
    // Both are always compared.
    let matches = known.map(|known| {
        let (there, known) = (known.is_some(), known.unwrap_or_default());
        u8::from(constant_time::verify_slices_are_equal(&known, &shown).is_ok()) & u8::from(there)
    });
    matches.iter().fold(0, |any, one| any | one) == 1
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).expect("the system's random numbers never run out");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::webhook::WebhookState;
    use protocol::cloud::{CloudName, CustomCloud};
    use protocol::ids::ContentType;

    #[test]
    fn only_an_address_that_the_service_accepts_becomes_a_base() {
        let root = "http://127.0.0.1:7000".to_owned();
        let custom =
            Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None }).unwrap();
        let base = |url: &str, cloud: &Cloud| WebhookBase::new(&url.parse().unwrap(), cloud).ok();
        let commercial = Cloud::preset(CloudName::Commercial).unwrap();
        for cloud in [&commercial, &custom] {
            let found = base("https://audit.example.com", cloud).unwrap();
            assert_eq!(found.as_str(), "https://audit.example.com/webhook/");
        }
        for here in ["http://127.0.0.1:8365", "http://[::1]:8365", "http://localhost:8365"] {
            assert!(base(here, &custom).is_some(), "{here}");
            assert_eq!(base(here, &commercial), None, "{here}");
        }
    }

    #[test]
    fn a_secret_is_known_while_it_is_offered_and_after_it_was_taken_and_nothing_else_is() {
        let (old, accepted) = fresh_auth_id();
        let (new, offered) = fresh_auth_id();
        let webhook = |accepted, offered| Webhook {
            content_type: ContentType::General,
            path_key: [0; 16],
            address: String::new(),
            accepted,
            offered,
            state: WebhookState::Offered,
            since: protocol::time::parse_timestamp("2026-03-10T12:00:00Z").unwrap(),
            expires: None,
            failures: 0,
            drifts: 0,
            refusal: None,
            notified_at: None,
        };
        let known = |webhook: &Webhook, id: &WebhookAuthId| is_authentic(webhook, id.expose().as_bytes());
        let both = webhook(Some(accepted), Some(offered));
        assert!(known(&both, &old) && known(&both, &new));
        assert!(!known(&webhook(None, Some(offered)), &old) && !known(&webhook(Some(accepted), None), &new));
        let none = webhook(None, None);
        assert!(!known(&none, &old) && !is_authentic(&none, b""));
        // The digest itself is no key, and neither is what is nearly right.
        assert!(!is_authentic(&both, &accepted));
        assert!(!is_authentic(&both, &old.expose().as_bytes()[1..]));
        assert_ne!(old.expose(), new.expose());
        assert_eq!(old.expose().len(), 64);
    }

    #[test]
    fn the_name_in_an_address_is_taken_out_of_what_a_stranger_repeats() {
        let address = "https://audit.example.com/webhook/00ff00ff00ff00ff00ff00ff00ff00ff";
        for (text, clean) in [
            (
                format!("The webhook {address} is bad."),
                "The webhook https://audit.example.com/webhook/(redacted) is bad.",
            ),
            (format!("{0} and {0}", "00FF00ff00ff00ff00ff00ff00ff00ff"), "(redacted) and (redacted)"),
            ("00ff00ff00ff00ff00ff00ff00ff00f".to_owned(), "00ff00ff00ff00ff00ff00ff00ff00f"),
            ("ẞß é".to_owned(), "ẞß é"),
            (String::new(), ""),
        ] {
            assert_eq!(without_name(&text, address), clean);
        }
        assert_eq!(without_name("as it was", ""), "as it was");
    }
}
