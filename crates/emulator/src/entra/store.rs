//! What the login service remembers between requests: authorization codes, refresh tokens, and assertions already used.
//!
//! Never grows without end: each store drops its oldest entry beyond its limit. Nothing here survives the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

use chrono::{DateTime, TimeDelta, Utc};
use protocol::ids::{ClientId, TenantId};

use crate::entra::directory::Account;

/// Codes remembered, redeemed ones included so that a second try gets 54005.
const MAX_CODES: usize = 10_000;
/// Refresh tokens remembered.
const MAX_REFRESH_TOKENS: usize = 50_000;
/// Assertions remembered; each stays until it has expired.
const MAX_ASSERTIONS: usize = 100_000;

/// Minutes a code lives (entra.md §4).
pub(crate) const CODE_MINUTES: i64 = 10;
/// Days a refresh token lives unused.
pub(crate) const REFRESH_DAYS: i64 = 90;

/// What a person and an app agreed on at the authorize endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Authorized {
    pub(crate) client: ClientId,
    pub(crate) tenant: TenantId,
    pub(crate) account: Account,
    /// v1: the resource, when the authorize request named one.
    pub(crate) resource: Option<String>,
    /// v2: the scopes as asked for.
    pub(crate) scopes: Vec<String>,
    pub(crate) nonce: Option<String>,
}

/// A code and what it is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) authorized: Authorized,
    /// The path segment it was acquired at ([`crate::entra::authority::Segment::key`]).
    pub(crate) segment: String,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) issued: DateTime<Utc>,
    pub(crate) redeemed: bool,
}

impl Code {
    pub(crate) fn expires(&self) -> DateTime<Utc> {
        self.issued + TimeDelta::minutes(CODE_MINUTES)
    }
}

/// A PKCE challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// base64url of the SHA-256 of the verifier.
    S256(String),
    /// The verifier itself.
    Plain(String),
}

/// A refresh token and what it is good for.
#[derive(Debug, Clone)]
pub(crate) struct Refresh {
    pub(crate) authorized: Authorized,
    pub(crate) issued: DateTime<Utc>,
    pub(crate) last_used: DateTime<Utc>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) codes: Bounded<String, Code>,
    pub(crate) refresh_tokens: Bounded<String, Refresh>,
    pub(crate) assertions: UsedAssertions,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            codes: Bounded::new(MAX_CODES),
            refresh_tokens: Bounded::new(MAX_REFRESH_TOKENS),
            assertions: UsedAssertions::default(),
        }
    }
}

/// A map that forgets its oldest entry when it is full.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
    limit: usize,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), limit }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V>
    where
        K: std::borrow::Borrow<str>,
    {
        self.entries.get_mut(key)
    }
}

/// Assertions seen, until they expire.
#[derive(Debug, Default)]
pub(crate) struct UsedAssertions {
    seen: HashMap<(ClientId, String), i64>,
    /// By expiry, so that the expired can be dropped without looking at the rest.
    by_expiry: BTreeMap<i64, Vec<(ClientId, String)>>,
}

impl UsedAssertions {
    /// Remembers an assertion by its id until `expires` (seconds since 1970); `false` when it was there already.
    pub(crate) fn insert(&mut self, client: ClientId, id: String, expires: i64, now: i64) -> bool {
        while let Some(entry) = self.by_expiry.first_entry() {
            if *entry.key() > now && self.seen.len() < MAX_ASSERTIONS {
                break;
            }
            for key in entry.remove() {
                self.seen.remove(&key);
            }
        }
        let key = (client, id);
        if self.seen.contains_key(&key) {
            return false;
        }
        self.by_expiry.entry(expires).or_default().push(key.clone());
        self.seen.insert(key, expires);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_forgets_the_oldest() {
        let mut map = Bounded::new(2);
        for key in ["a", "b", "b", "c"] {
            map.insert(key.to_owned(), ());
        }
        assert!(map.get_mut("a").is_none());
        assert!(map.get_mut("b").is_some() && map.get_mut("c").is_some());
    }

    #[test]
    fn an_assertion_is_remembered_until_it_expires_and_for_its_client_only() {
        let client: ClientId = "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap();
        let other: ClientId = "00000000-0000-0000-0000-000000000001".parse().unwrap();
        let mut used = UsedAssertions::default();
        assert!(used.insert(client, "x".into(), 100, 50));
        assert!(!used.insert(client, "x".into(), 100, 99));
        assert!(used.insert(other, "x".into(), 100, 99));
        assert!(used.insert(client, "x".into(), 200, 100));
        assert_eq!(used.seen.len(), 1);
    }
}
