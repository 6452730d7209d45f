//! How often each endpoint was asked and with what outcome: what a test of a client's economy looks at.
//!
//! Never grows with made-up tenants: one that does not exist counts as none.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use axum::response::Response;
use protocol::ids::TenantId;

use crate::entra::EntraState;
use crate::entra::directory::{EntraCall, EntraEndpoint};
use crate::tls::Cut;

/// How often an endpoint was asked with one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntraRequestCount {
    /// The endpoint.
    pub endpoint: EntraEndpoint,
    /// The tenant of the path; `None` for `common` and the like, and for one that does not exist.
    pub tenant: Option<TenantId>,
    /// The status answered; 0 when the connection was cut instead.
    pub status: u16,
    /// How often.
    pub count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<Key, u64>>);

/// Endpoint, tenant, status.
type Key = (EntraEndpoint, Option<TenantId>, u16);

impl Counts {
    pub(crate) fn all(&self) -> Vec<EntraRequestCount> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = counts.iter();
        entries
            .map(|(&(endpoint, tenant, status), &count)| EntraRequestCount { endpoint, tenant, status, count })
            .collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Counts an answer on its way out.
pub(crate) async fn count(State(state): State<EntraState>, response: Response) -> Response {
    if let Some(asked) = response.extensions().get::<EntraCall>() {
        let status = if response.extensions().get::<Cut>().is_some() { 0 } else { response.status().as_u16() };
        let mut counts = state.0.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((asked.endpoint, asked.tenant, status)).or_default() += 1;
    }
    response
}
