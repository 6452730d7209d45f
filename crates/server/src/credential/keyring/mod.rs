//! The app's credentials side by side: which is used, which has been refused or has expired, and what has changed on disk.
//!
//! Never loses a credential that works for one that cannot be read: a new file that is half-written or broken is reported,
//! and the old key goes on. Never says the same thing twice: a refusal, a broken file and each threshold of an expiry are
//! told once, and once more when they are over. Files are looked at whenever a token is asked for, and every few seconds.

mod identity;
mod status;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::credential::expiry_warning;
use protocol::entra::AppStep;
use protocol::ids::ClientId;
use protocol::time::Timestamp;
use protocol::token::GrantCredential;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use self::identity::Identity;
pub use self::status::CredentialStatus;
use super::CredentialError;
use super::source::{Credential, Material, Stamp, read_assertion};
use crate::clock::ServerClock;
use crate::collector::Board;
use crate::metrics::Metrics;
use crate::transport::Transport;

/// How often files are looked at when nobody asks for a token. More often: nothing gained, a rollover takes minutes anyway.
/// Seldom: a new file's mistake is noticed late.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// What the keyring works with.
pub(crate) struct KeyringParts {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Arc<ServerClock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Board,
    /// The audience that managed identities are asked for.
    pub(crate) audience: &'static str,
}

/// What a proof is for.
pub(crate) struct Asked<'a> {
    pub(crate) client_id: ClientId,
    /// The token endpoint.
    pub(crate) audience: &'a Url,
    /// What the server's clock shows, as far as we know.
    pub(crate) now: Timestamp,
}

/// What proves the app with this credential, read and asked for anew: for a check-up, which keeps nothing.
pub(crate) async fn prove_once(
    credential: &Credential,
    transport: &dyn Transport,
    exchange: &'static str,
    asked: &Asked<'_>,
) -> Result<GrantCredential, NoProof> {
    if let Credential::ManagedIdentity { endpoint, name } = credential {
        let assertion = identity::ask_once(transport, exchange, asked.now, endpoint, name.as_ref()).await?;
        return Ok(GrantCredential::Assertion(assertion));
    }
    let read = credential.read().and_then(|material| sign(credential, &material, asked));
    read.map_err(|error| unusable(&error, 0))
}

fn unusable(error: &CredentialError, generation: u64) -> NoProof {
    NoProof::Unusable { step: error.step(), reason: error.to_string(), generation }
}

/// The proof that lies in what was read, or in a federated token's file now.
fn sign(source: &Credential, material: &Material, asked: &Asked<'_>) -> Result<GrantCredential, CredentialError> {
    Ok(match (material, source) {
        (Material::Secret(secret), _) => GrantCredential::Secret(secret.clone()),
        (Material::Certificate(certificate), _) => {
            certificate.check_validity(asked.now)?;
            let assertion = certificate.assertion(asked.client_id, asked.audience, Uuid::new_v4(), asked.now);
            GrantCredential::Assertion(assertion)
        }
        (Material::Fresh, Credential::Federated { token_file }) => {
            GrantCredential::Assertion(read_assertion(token_file, asked.now)?)
        }
        (Material::Fresh, _) => return Err(CredentialError::NoAssertion { path: source.place().into() }),
    })
}

/// All credentials of the app, in the order of the configuration.
pub(crate) struct Keyring {
    entries: Vec<Entry>,
    parts: KeyringParts,
    /// The one that Entra accepted last; none has this number before the first.
    in_use: AtomicUsize,
}

struct Entry {
    source: Credential,
    state: Mutex<State>,
    identity: Identity,
}

struct State {
    /// What works, as far as we know; `None` before anything could be read.
    material: Option<Material>,
    /// Counts what was read, so that a refusal of an older one is not held against the newer.
    generation: u64,
    /// The files as they were when they were last read, whatever came of it.
    stamp: Option<Stamp>,
    /// Why the files as they are now cannot be used.
    unreadable: Option<String>,
    refused: Option<Refused>,
    /// The threshold last told of its expiry, in days; 0 when it is over.
    told_days: Option<i64>,
}

struct Refused {
    until: Instant,
    step: AppStep,
    reason: String,
}

/// What a token request is signed with.
pub(crate) struct Proof {
    pub(crate) credential: GrantCredential,
    pub(crate) generation: u64,
}

/// Why a credential cannot be used now.
pub(crate) enum NoProof {
    /// Somebody has to do something.
    Unusable { step: AppStep, reason: String, generation: u64 },
    /// It passes by itself: the identity's endpoint does not answer.
    Passing { reason: String },
}

/// What a refusal meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credential rests.
    Noted,
    /// It has been replaced meanwhile: the new one may be tried at once.
    Outdated,
}

impl Keyring {
    /// Reads every credential once. One that cannot be read is reported and passed over.
    pub(crate) fn open(credentials: &[Credential], parts: KeyringParts) -> Self {
        let entry = |source: &Credential| Entry {
            source: source.clone(),
            state: Mutex::new(State {
                material: None,
                generation: 0,
                stamp: None,
                unreadable: None,
                refused: None,
                told_days: None,
            }),
            identity: Identity::default(),
        };
        let entries = credentials.iter().map(entry).collect();
        let keyring = Self { entries, parts, in_use: AtomicUsize::new(usize::MAX) };
        keyring.look();
        keyring
    }

    /// Looks at the files every few seconds, for as long as it is polled.
    pub(crate) async fn watch(&self) -> Infallible {
        if self.entries.iter().all(|entry| entry.source.stamp().is_of_nothing()) {
            // Nothing can change.
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look();
        }
    }

    /// Reads what has changed, and tells of what expires.
    pub(crate) fn look(&self) {
        for number in 0..self.entries.len() {
            self.look_at(number);
        }
        self.publish();
    }

    /// The credentials worth trying, in order; all that could be read when none is.
    pub(crate) fn usable(&self) -> Vec<usize> {
        let now = Instant::now();
        let time = self.parts.clock.now();
        let readable: Vec<usize> = (0..self.entries.len())
            .filter(|number| self.state_of(*number).is_some_and(|state| state.material.is_some()))
            .collect();
        let fits = |number: &usize| {
            self.state_of(*number).is_some_and(|state| {
                let rests = state.refused.as_ref().is_some_and(|refused| now < refused.until);
                let valid = match &state.material {
                    Some(Material::Certificate(certificate)) => certificate.check_validity(time).is_ok(),
                    Some(Material::Secret(_) | Material::Fresh) => true,
                    None => false,
                };
                !rests && valid
            })
        };
        let usable: Vec<usize> = readable.iter().copied().filter(fits).collect();
        if usable.is_empty() { readable } else { usable }
    }

    /// What proves the app with this credential, to the token endpoint `audience`.
    pub(crate) async fn proof(&self, number: usize, client_id: ClientId, audience: &Url) -> Result<Proof, NoProof> {
        let gone = |generation, reason: Option<String>| NoProof::Unusable {
            step: AppStep::CheckCredential,
            reason: reason.unwrap_or_else(|| "it could not be read".to_owned()),
            generation,
        };
        let entry = self.entries.get(number).ok_or_else(|| gone(0, None))?;
        if self.look_at(number) {
            self.publish();
        }
        let (material, generation, unreadable) = {
            let state = entry.lock();
            (state.material.clone(), state.generation, state.unreadable.clone())
        };
        let asked = Asked { client_id, audience, now: self.parts.clock.now() };
        let credential = match (material, &entry.source) {
            (Some(Material::Fresh), Credential::ManagedIdentity { endpoint, name }) => GrantCredential::Assertion(
                entry.identity.assertion(&self.parts, endpoint, name.as_ref(), generation).await?,
            ),
            (Some(material), source) => {
                sign(source, &material, &asked).map_err(|error| unusable(&error, generation))?
            }
            (None, _) => return Err(gone(generation, unreadable)),
        };
        Ok(Proof { credential, generation })
    }

    /// Entra refused it, or it could not be used: it rests while there are others. Told once, until it is accepted again.
    pub(crate) fn refused(&self, number: usize, generation: u64, step: AppStep, reason: &str) -> Refusal {
        let Some(entry) = self.entries.get(number) else { return Refusal::Noted };
        // A rollover may be under way: the new file counts, not what was signed with the old one.
        self.look_at(number);
        entry.identity.forget();
        let is_news = {
            let mut state = entry.lock();
            if state.generation != generation {
                return Refusal::Outdated;
            }
            let until = Instant::now() + engine::token::REFUSED_CREDENTIAL_REST;
            let before = state.refused.replace(Refused { until, step, reason: reason.to_owned() });
            before.is_none()
        };
        if is_news {
            self.parts.metrics.error("credential_refused");
            if self.entries.len() > 1 {
                tracing::warn!(
                    credential = number,
                    kind = entry.source.kind(),
                    place = entry.source.place(),
                    reason,
                    remedy = step.remedy(),
                    "a credential is refused; the next one is used"
                );
            }
        }
        self.publish();
        Refusal::Noted
    }

    /// Entra accepted it.
    pub(crate) fn accepted(&self, number: usize) {
        let Some(entry) = self.entries.get(number) else { return };
        let was_refused = entry.lock().refused.take().is_some();
        let before = self.in_use.swap(number, Ordering::Relaxed);
        if before == number && !was_refused {
            return;
        }
        if was_refused {
            tracing::info!(credential = number, place = entry.source.place(), "the credential is accepted again");
        } else if before != usize::MAX {
            tracing::info!(credential = number, place = entry.source.place(), "this credential is used now");
        }
        self.publish();
    }

    /// Reads one credential if its files have changed, and tells of its expiry. Says whether anything is new.
    fn look_at(&self, number: usize) -> bool {
        let Some(entry) = self.entries.get(number) else { return false };
        let stamp = entry.source.stamp();
        let mut state = entry.lock();
        let mut is_new = false;
        if state.stamp.as_ref() != Some(&stamp) {
            is_new = true;
            // Taken before the reading: what is written while we read is read again at the next look.
            state.stamp = Some(stamp);
            entry.take_over(number, &mut state, self.parts.clock.now());
        }
        is_new | entry.tell_expiry(number, &mut state, self.parts.clock.now())
    }

    fn state_of(&self, number: usize) -> Option<MutexGuard<'_, State>> {
        self.entries.get(number).map(Entry::lock)
    }
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files as they are now. What cannot be used does not replace what can.
    fn take_over(&self, number: usize, state: &mut State, now: Timestamp) {
        let place = self.source.place();
        let read = self.source.read().and_then(|material| match (&material, &state.material) {
            // One that is not valid yet, or any more, is no reason to give up one that is.
            (Material::Certificate(new), Some(Material::Certificate(old))) if old.check_validity(now).is_ok() => {
                new.check_validity(now).map(|()| material)
            }
            _ => Ok(material),
        });
        match read {
            Ok(material) => {
                if state.material.is_some() {
                    let summary = self.source.summary(&material);
                    tracing::info!(
                        credential = number,
                        place,
                        thumbprint = summary.thumbprint,
                        expires = summary.expires.map(|expires| expires.to_string()),
                        "the credential's file has changed: what is in it now is used from here on"
                    );
                }
                state.material = Some(material);
                state.generation += 1;
                (state.unreadable, state.refused, state.told_days) = (None, None, None);
            }
            Err(error) => {
                let reason = error.to_string();
                if state.unreadable.as_ref() != Some(&reason) {
                    if state.material.is_some() {
                        tracing::warn!(
                            credential = number,
                            error = reason,
                            "a credential's file has changed and cannot be used; the one read before is used on"
                        );
                    } else {
                        tracing::warn!(credential = number, error = reason, "a credential cannot be used");
                    }
                }
                state.unreadable = Some(reason);
            }
        }
    }

    /// Tells of an expiry that has come near, once for each threshold.
    fn tell_expiry(&self, number: usize, state: &mut State, now: Timestamp) -> bool {
        let Some(Material::Certificate(certificate)) = &state.material else { return false };
        let (expires, left) = (certificate.not_after(), certificate.not_after() - now);
        let (path, thumbprint) = (certificate.path().display().to_string(), certificate.details().sha1_hex());
        if now > expires {
            if state.told_days == Some(0) {
                return false;
            }
            state.told_days = Some(0);
            tracing::warn!(credential = number, path, %expires, thumbprint, "the app's certificate has expired and is not used any more");
            return true;
        }
        let Some(days) = expiry_warning(left, state.told_days) else { return false };
        state.told_days = Some(days);
        tracing::warn!(
            credential = number,
            path,
            %expires,
            days_left = left.num_days(),
            thumbprint,
            "the app's certificate expires soon: make a new one with `tenantry certificate new`, upload it to the app registration beside the old one, then put it in the old one's place or configure both"
        );
        true
    }
}
