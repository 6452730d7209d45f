//! Counts requests by operation, tenant and status, for tests that assert on the calls made.
//!
//! Never grows with the number of requests: one counter for each combination there is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use protocol::ids::TenantId;
use serde::Serialize;

use crate::faults::Operation;

/// How often something was asked for with one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestCount {
    /// As fault plans write it.
    pub operation: &'static str,
    /// The tenant of the path, when it is a GUID of a known tenant.
    pub tenant: Option<TenantId>,
    /// The status answered; 0 when the connection was cut instead.
    pub status: u16,
    /// How often.
    pub count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    counts: Mutex<BTreeMap<Combination, u64>>,
}

/// Operation, tenant, status.
type Combination = (Operation, Option<TenantId>, u16);

/// Combinations counted. Made-up tenants beyond it are counted together.
const COMBINATIONS_MAX: usize = 1 << 20;

impl Stats {
    pub(crate) fn count(&self, operation: Operation, tenant: Option<TenantId>, status: u16, cut: bool) {
        let status = if cut { 0 } else { status };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenant.filter(|tenant| {
            counts.len() < COMBINATIONS_MAX || counts.contains_key(&(operation, Some(*tenant), status))
        });
        *counts.entry((operation, tenant, status)).or_default() += 1;
    }

    pub(crate) fn all(&self) -> Vec<RequestCount> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = counts.iter().map(|((operation, tenant, status), count)| RequestCount {
            operation: operation.as_str(),
            tenant: *tenant,
            status: *status,
            count: *count,
        });
        entries.collect()
    }

    pub(crate) fn clear(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
