//! What is shown of the credentials: on the board, in the console's JSON, and in metrics.
//!
//! Never anything secret: places, digests of public certificates, and reasons.

use std::sync::atomic::Ordering;

use protocol::time::Timestamp;
use tokio::time::Instant;

use super::super::source::{CredentialSummary, Material};
use super::Keyring;

/// One credential of the app, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStatus {
    /// Its place in the configuration, from 0.
    pub number: usize,
    /// What it is and where it comes from.
    pub summary: CredentialSummary,
    /// Whether tokens are asked for with it at present.
    pub in_use: bool,
    /// `usable`, `refused`, `expired`, `not_yet_valid` or `unreadable`.
    pub state: &'static str,
    /// Why it is not usable, or why its new file is not; with the remedy.
    pub problem: Option<String>,
}

impl Keyring {
    /// Every credential, in order.
    pub(crate) fn statuses(&self) -> Vec<CredentialStatus> {
        (0..self.entries.len()).filter_map(|number| self.status(number)).collect()
    }

    fn status(&self, number: usize) -> Option<CredentialStatus> {
        let entry = self.entries.get(number)?;
        let state = entry.lock();
        let time = self.parts.clock.now();
        let outside = match &state.material {
            Some(Material::Certificate(certificate)) => certificate.check_validity(time).err(),
            _ => None,
        };
        let refused = state.refused.as_ref().filter(|refused| Instant::now() < refused.until);
        let (word, problem) = match (&state.material, outside, refused) {
            (None, _, _) => ("unreadable", state.unreadable.clone()),
            (_, Some(error), _) => {
                let is_over = matches!(error, super::CredentialError::Expired { .. });
                (if is_over { "expired" } else { "not_yet_valid" }, Some(error.to_string()))
            }
            (_, None, Some(refused)) => ("refused", Some(format!("{}: {}", refused.reason, refused.step.remedy()))),
            (_, None, None) => ("usable", state.unreadable.clone()),
        };
        let unread = Material::Fresh;
        let summary = entry.source.summary(state.material.as_ref().unwrap_or(&unread));
        let in_use = self.in_use.load(Ordering::Relaxed) == number;
        Some(CredentialStatus { number, summary, in_use, state: word, problem })
    }

    /// Shows how the credentials are now.
    pub(super) fn publish(&self) {
        let statuses = self.statuses();
        for status in &statuses {
            let expires = status.summary.expires.map(|expires: Timestamp| expires.timestamp());
            self.parts.metrics.credential(status.number, status.summary.kind, status.state == "usable", expires);
        }
        self.parts.board.set_credentials(statuses);
    }
}
