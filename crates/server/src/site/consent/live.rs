//! The page of a tenant that has consented: whether its permission has arrived, whether its audit logs are switched on, and
//! how many records there are.
//!
//! Never shows another tenant's numbers, nor anything of a problem but what the customer can mend.

use engine::model::TenantState;
use engine::problem::ProblemKind;
use ledger::LedgerError;
use protocol::consent::ConsentFault;
use protocol::ids::{ContentType, TenantId};

use super::browser::Secret;
use super::desk::{Desk, Ended, Progress};
use super::pages::{Live, LiveCounts};

pub(super) async fn live(desk: &Desk, browser: Option<&Secret>, tenant: TenantId) -> Result<Live, Ended> {
    match desk.progress(browser, tenant).await? {
        Progress::Waiting(fault) => Ok(waiting(tenant, fault)),
        Progress::Connected => Ok(connected(desk, tenant).await?),
    }
}

fn waiting(tenant: TenantId, fault: ConsentFault) -> Live {
    let now = match fault {
        ConsentFault::MicrosoftDown => "Microsoft's sign-in service does not answer at the moment. It is asked again.",
        ConsentFault::Busy => "Microsoft asks us to wait a little. It is asked again.",
        _ => "Waiting for the permission to arrive.",
    };
    Live {
        heading: "Almost done",
        explanation: "Microsoft has taken your consent and is passing the permission on, which can take some minutes. Leave \
            this page open: it goes on by itself.",
        state: "waiting",
        now: now.to_owned(),
        counts: None,
        trouble: None,
        tenant,
        goes_on: true,
    }
}

async fn connected(desk: &Desk, id: TenantId) -> Result<Live, LedgerError> {
    let tenant = desk.ledger().tenant(id).await?;
    let Some(tenant) = tenant.filter(|tenant| tenant.state != TenantState::Removed) else { return Ok(gone(id)) };
    let coverage = desk.ledger().coverage(id).await?;
    let known = desk.ledger().subscriptions(id).await?;
    let wanted = &desk.reception.settings().collect.content_types;
    // One that Microsoft lists without saying how it is delivers all the same.
    let is_on = |content_type: &ContentType| {
        let mut of_type = known.iter().filter(|known| known.content_type == *content_type);
        of_type.any(|known| known.enabled == Some(true) || known.enabled.is_none() && known.listed_at.is_some())
    };
    let counts = LiveCounts {
        records: coverage.iter().map(|row| row.records.saturating_sub(row.duplicates)).sum(),
        pending: coverage.iter().map(|row| row.pending).sum(),
        subscriptions: wanted.iter().filter(|content_type| is_on(content_type)).count(),
        wanted: wanted.len(),
    };
    let problem = desk
        .reception
        .board()
        .tenant(id)
        .and_then(|line| line.problem.clone().or_else(|| line.type_problems.values().next().cloned()));
    let problem = problem.or(tenant.problem);
    let trouble = problem.and_then(|problem| for_customer(&problem.kind));
    let (state, now) = match counts {
        _ if tenant.state == TenantState::Paused => {
            ("paused", "Collection is paused by whoever runs this service.".to_owned())
        }
        LiveCounts { records: 0, subscriptions: 0, .. } => {
            ("starting", "Switching on the audit logs at Microsoft.".to_owned())
        }
        LiveCounts { records: 0, .. } => (
            "started",
            "The audit logs are switched on. Where they were off before, Microsoft can take some hours to deliver the first \
             records."
                .to_owned(),
        ),
        LiveCounts { records, .. } => ("collecting", format!("Audit records are arriving: {records} so far.")),
    };
    Ok(Live {
        heading: "Your organization is connected",
        explanation: "Collection of its audit records has begun. You can close this page: collection goes on without it.",
        state,
        now,
        counts: Some(counts),
        trouble,
        tenant: id,
        goes_on: true,
    })
}

fn gone(tenant: TenantId) -> Live {
    Live {
        heading: "Your organization is not connected any more",
        explanation: "Whoever runs this service has removed it. Its audit records are not collected.",
        state: "removed",
        now: "Nothing is collected.".to_owned(),
        counts: None,
        trouble: None,
        tenant,
        goes_on: false,
    }
}

/// What the customer's admin can mend, and nothing else: the rest is the operator's, and said to the operator.
fn for_customer(kind: &str) -> Option<String> {
    let kind = ProblemKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    match kind {
        ProblemKind::Admin(step) => Some(step.to_string()),
        _ => None,
    }
}
