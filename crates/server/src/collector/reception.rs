//! What the public site has of a collector: its tokens, its ledger, and a way to say that a tenant has arrived.
//!
//! Never collects anything itself: whoever arrives is in the ledger first, and then its worker is woken like any other.

use std::sync::Arc;

use ledger::Ledger;
use protocol::ids::TenantId;
use tokio::sync::mpsc;

use super::context::Context;
use super::progress::Board;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::tokens::TokenManager;

/// A collector as the public site sees it.
#[derive(Clone)]
pub struct Reception {
    context: Arc<Context>,
    wakes: mpsc::Sender<TenantId>,
}

impl Reception {
    pub(super) fn new(context: Arc<Context>, wakes: mpsc::Sender<TenantId>) -> Self {
        Self { context, wakes }
    }

    /// A tenant has consented, for the first time or anew: whatever was known to be in its way is looked at again at once.
    pub(crate) fn welcome(&self, tenant: TenantId) {
        self.context.requests.tokens.forget(tenant);
        self.context.renew(tenant);
        // A hint: when there are too many of them, the ledger's changed row is found within seconds.
        let _ = self.wakes.try_send(tenant);
    }

    pub(crate) fn tokens(&self) -> &TokenManager {
        &self.context.requests.tokens
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    pub(crate) fn ledger(&self) -> &dyn Ledger {
        &*self.context.ledger
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.context.clock
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.context.settings
    }

    pub(crate) fn board(&self) -> &Board {
        &self.context.board
    }
}

impl std::fmt::Debug for Reception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reception(…)")
    }
}
