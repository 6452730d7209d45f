//! What stands in a tenant's way, as the ledger and the board show it; written when it changes, and only then.
//!
//! Never an alarm for a hiccup: what passes by itself is shown once it has lasted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::model::{Problem, Subscription, Tenant};
use engine::problem::ProblemKind;
use ledger::{Ledger, LedgerError};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use super::progress::Board;

/// Failures in a row after which a trouble that may pass by itself is shown.
const SHOWN_AFTER: u32 = 3;

/// A next attempt that moves by less than this is not worth a write.
const NEXT_ATTEMPT_MOVED: Duration = Duration::from_secs(5 * 60);

/// The problems of one tenant.
#[derive(Debug, Default)]
pub(super) struct Book {
    tenant: Option<Problem>,
    types: BTreeMap<ContentType, Problem>,
}

/// Whether `failures` in a row make this worth showing.
pub(super) fn is_shown(kind: ProblemKind, failures: u32) -> bool {
    failures >= SHOWN_AFTER || !(kind.passes_by_itself() || kind == ProblemKind::Unreachable)
}

impl Book {
    /// What the ledger has.
    pub(super) fn read(&mut self, tenant: &Tenant, subscriptions: &[Subscription], board: &Board) {
        self.tenant = tenant.problem.clone();
        self.types = subscriptions
            .iter()
            .filter_map(|subscription| Some((subscription.content_type.clone(), subscription.problem.clone()?)))
            .collect();
        board.update(tenant.id, |line| {
            line.problem = self.tenant.clone();
            line.type_problems = self.types.clone();
        });
    }

    /// What stands there now: of the tenant, or of one of its content types.
    pub(super) fn find(&self, content_type: Option<&ContentType>) -> Option<&Problem> {
        match content_type {
            None => self.tenant.as_ref(),
            Some(content_type) => self.types.get(content_type),
        }
    }

    /// Writes a problem down, or that there is none any more.
    pub(super) async fn write(
        &mut self,
        ledger: &Arc<dyn Ledger>,
        board: &Board,
        tenant: TenantId,
        content_type: Option<&ContentType>,
        problem: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        if !differs(self.find(content_type), problem.as_ref()) {
            return Ok(());
        }
        ledger.set_problem(tenant, content_type.cloned(), problem.clone(), now).await?;
        match (&problem, content_type) {
            (Some(problem), content_type) => {
                let content_type = content_type.map(ToString::to_string);
                let (kind, text) = (&problem.kind, &problem.message);
                // What stands in everybody's way was said once, for all of them.
                if board.snapshot_problem().is_some_and(|everybodys| everybodys.kind == *kind) {
                    tracing::debug!(%tenant, content_type, kind, problem = text, "something stands in everybody's way");
                } else {
                    tracing::warn!(%tenant, content_type, kind, problem = text, "something stands in the way");
                }
            }
            (None, content_type) => {
                let content_type = content_type.map(ToString::to_string);
                tracing::info!(%tenant, content_type, "nothing stands in the way any more");
            }
        }
        match (content_type, problem) {
            (None, problem) => self.tenant = problem,
            (Some(content_type), Some(problem)) => {
                self.types.insert(content_type.clone(), problem);
            }
            (Some(content_type), None) => {
                self.types.remove(content_type);
            }
        }
        board.update(tenant, |line| {
            line.problem = self.tenant.clone();
            line.type_problems = self.types.clone();
        });
        Ok(())
    }
}

fn differs(before: Option<&Problem>, after: Option<&Problem>) -> bool {
    match (before, after) {
        (None, None) => false,
        (Some(before), Some(after)) => {
            before.kind != after.kind
                || before.message != after.message
                || match (before.next_attempt_at, after.next_attempt_at) {
                    (Some(before), Some(after)) => {
                        (after - before).abs().to_std().is_ok_and(|moved| moved >= NEXT_ATTEMPT_MOVED)
                    }
                    (before, after) => before != after,
                }
        }
        _ => true,
    }
}
