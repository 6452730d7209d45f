//! Tenants, their subscriptions, and what stands in the way of either.

use engine::hindrance::GapCause;
use engine::model::{CommitNumber, Problem, Subscription, Tenant, TenantState};
use engine::tile::Grid;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::fault::{Done, Fault};
use super::hindrances::{self, Kind};
use super::rows::{
    counted, ensure_feed, feed_number, known, lock_tenant, parsed, problem, state, tenant_id, tenant_number, time,
    time_if_any,
};
use super::session::Session;
use crate::LedgerError;
use crate::values::{TENANT_STATES, message, ms, plain, tenant_state};

const TENANT: &str = "SELECT id, label, state, added_at, collect_from, last_commit, revision,
    problem_kind, problem_message, problem_since, problem_next FROM tenant";

pub(super) async fn add(
    session: &Session<'_>,
    id: TenantId,
    label: &str,
    collect_from: Timestamp,
    now: Timestamp,
) -> Done<bool> {
    let label = plain(label);
    let Some(there) = locked(session, id).await? else {
        let revision = next_revision(session).await?;
        let added = session
            .run(
                "INSERT INTO tenant (id, label, state, added_at, collect_from, revision, lease_epoch)
                 SELECT $1, $2, 0, $3, $4, $5, purged_epoch FROM revision WHERE single = 1 ON CONFLICT (id) DO NOTHING",
                &[id.as_uuid(), &label, &ms(now), &ms(Grid::HOUR.floor(collect_from)), &revision],
            )
            .await?;
        // Somebody else added it at the same moment: then it is there by now.
        return if added == 1 { Ok(true) } else { Err(Fault::Again) };
    };
    if there.state != TenantState::Removed {
        return Ok(false);
    }
    let revision = next_revision(session).await?;
    session
        .run(
            "UPDATE tenant SET state = 0, revision = $2, label = CASE $3 WHEN '' THEN label ELSE $3 END WHERE id = $1",
            &[id.as_uuid(), &revision, &label],
        )
        .await?;
    hindrances::note(session, (tenant_number(session, id).await?, None), Kind::State, None, now).await?;
    Ok(true)
}

pub(super) async fn one(session: &Session<'_>, id: TenantId) -> Done<Option<Tenant>> {
    let row = session.maybe(&format!("{TENANT} WHERE id = $1"), &[id.as_uuid()]).await?;
    row.as_ref().map(tenant_row).transpose()
}

/// The same, and nobody else writes anything of it before the transaction's end.
pub(super) async fn locked(session: &Session<'_>, id: TenantId) -> Done<Option<Tenant>> {
    let row = session.maybe(&format!("{TENANT} WHERE id = $1 FOR NO KEY UPDATE"), &[id.as_uuid()]).await?;
    row.as_ref().map(tenant_row).transpose()
}

pub(super) async fn since(session: &Session<'_>, revision: u64) -> Done<(u64, Vec<Tenant>)> {
    let greatest = counted(&session.one("SELECT greatest FROM revision WHERE single = 1", &[]).await?, 0)?;
    // Greater than any revision: nothing has changed since.
    let Ok(after) = i64::try_from(revision) else { return Ok((greatest, Vec::new())) };
    let rows = session.rows(&format!("{TENANT} WHERE revision > $1 ORDER BY revision"), &[&after]).await?;
    Ok((greatest, rows.iter().map(tenant_row).collect::<Done<_>>()?))
}

pub(super) async fn set_state(session: &Session<'_>, id: TenantId, new: TenantState, now: Timestamp) -> Done<bool> {
    let Some(there) = locked(session, id).await? else { return Ok(false) };
    if there.state != new {
        let revision = next_revision(session).await?;
        session
            .run(
                "UPDATE tenant SET state = $2, revision = $3 WHERE id = $1",
                &[id.as_uuid(), &state(tenant_state(new)), &revision],
            )
            .await?;
        let cause = GapCause::of_state(new).map(|cause| (cause.as_str(), now));
        hindrances::note(session, (tenant_number(session, id).await?, None), Kind::State, cause, now).await?;
    }
    Ok(true)
}

pub(super) async fn purge(session: &Session<'_>, id: TenantId) -> Done<()> {
    let tenant = locked(session, id).await?.ok_or(LedgerError::UnknownTenant { tenant: id })?;
    if tenant.state != TenantState::Removed {
        return Err(LedgerError::NotRemoved { tenant: id }.into());
    }
    super::leases::drop_tenant(session, id).await?;
    let epoch: i64 = session.one("SELECT lease_epoch FROM tenant WHERE id = $1", &[id.as_uuid()]).await?.try_get(0)?;
    // Everything else hangs on this row and goes with it: for a tenant of years that takes its time.
    session.batch("SET LOCAL statement_timeout = 0").await?;
    session.run("DELETE FROM tenant WHERE id = $1", &[id.as_uuid()]).await?;
    // But for who came from it, which may be there before the tenant is.
    session.run("DELETE FROM consent_visit WHERE tenant = $1", &[id.as_uuid()]).await?;
    // Last: everybody who adds or changes a tenant needs this row.
    session.run("UPDATE revision SET purged_epoch = greatest(purged_epoch, $1) WHERE single = 1", &[&epoch]).await?;
    Ok(())
}

pub(super) async fn set_problem(
    session: &Session<'_>,
    id: TenantId,
    content_type: Option<&ContentType>,
    new: Option<&Problem>,
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let cause = new.map(|new| (new.kind.as_str(), new.since));
    let kind = new.map(|new| new.kind.as_str());
    let text = new.map(|new| message(&new.message));
    let since = new.map(|new| ms(new.since));
    let next = new.and_then(|new| new.next_attempt_at).map(ms);
    let Some(content_type) = content_type else {
        // A repetition changes nothing, and wakes nobody who watches the revision.
        let same = session
            .maybe(
                "SELECT 1 FROM tenant WHERE tenant = $1 AND problem_kind IS NOT DISTINCT FROM $2
                 AND problem_message IS NOT DISTINCT FROM $3 AND problem_since IS NOT DISTINCT FROM $4
                 AND problem_next IS NOT DISTINCT FROM $5",
                &[&tenant, &kind, &text, &since, &next],
            )
            .await?;
        hindrances::note(session, (tenant, None), Kind::Problem, cause, now).await?;
        if same.is_none() {
            let revision = next_revision(session).await?;
            session
                .run(
                    "UPDATE tenant SET problem_kind = $2, problem_message = $3, problem_since = $4, problem_next = $5,
                     revision = $6 WHERE tenant = $1",
                    &[&tenant, &kind, &text, &since, &next, &revision],
                )
                .await?;
        }
        return Ok(());
    };
    let feed = match (feed_number(session, tenant, content_type).await?, new) {
        (Some(feed), _) => feed,
        (None, Some(new)) => ensure_feed(session, tenant, content_type, new.since).await?,
        (None, None) => return Ok(()),
    };
    hindrances::note(session, (tenant, Some(feed)), Kind::Problem, cause, now).await?;
    session
        .run(
            "UPDATE feed SET problem_kind = $2, problem_message = $3, problem_since = $4, problem_next = $5
             WHERE feed = $1",
            &[&feed, &kind, &text, &since, &next],
        )
        .await?;
    Ok(())
}

pub(super) async fn subscriptions(session: &Session<'_>, id: TenantId) -> Done<Vec<Subscription>> {
    let tenant = tenant_number(session, id).await?;
    // A feed that is known from its contents alone has no subscription that anybody has seen.
    let rows = session
        .rows(
            "SELECT name, enabled, listed_at, start_requested_at,
                    problem_kind, problem_message, problem_since, problem_next
             FROM feed JOIN content_type USING (type) WHERE tenant = $1
             AND (listed_at IS NOT NULL OR start_requested_at IS NOT NULL OR problem_kind IS NOT NULL) ORDER BY type",
            &[&tenant],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Subscription {
                content_type: parsed(row, 0)?,
                enabled: row.try_get(1)?,
                listed_at: time_if_any(row, 2)?,
                start_requested_at: time_if_any(row, 3)?,
                problem: problem(row, 4)?,
            })
        })
        .collect()
}

pub(super) async fn subscriptions_listed(
    session: &Session<'_>,
    id: TenantId,
    listed: &[(ContentType, Option<bool>)],
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    for (content_type, _) in listed.iter().filter(|(_, enabled)| *enabled == Some(true)) {
        let feed = ensure_feed(session, tenant, content_type, now).await?;
        hindrances::enabled(session, tenant, feed, now).await?;
    }
    session.run("UPDATE feed SET enabled = false, listed_at = $2 WHERE tenant = $1", &[&tenant, &ms(now)]).await?;
    for (content_type, enabled) in listed {
        let feed = ensure_feed(session, tenant, content_type, now).await?;
        session
            .run("UPDATE feed SET enabled = $2, listed_at = $3 WHERE feed = $1", &[&feed, enabled, &ms(now)])
            .await?;
    }
    Ok(())
}

pub(super) async fn start_requested(
    session: &Session<'_>,
    id: TenantId,
    content_type: &ContentType,
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let feed = ensure_feed(session, tenant, content_type, now).await?;
    session.run("UPDATE feed SET start_requested_at = $2 WHERE feed = $1", &[&feed, &ms(now)]).await?;
    Ok(())
}

/// The next revision, which nobody else can take, nor see a later one, before this transaction has ended. Taken after the
/// tenant's lock, by everybody.
async fn next_revision(session: &Session<'_>) -> Done<i64> {
    let row =
        session.one("UPDATE revision SET greatest = greatest + 1 WHERE single = 1 RETURNING greatest", &[]).await?;
    Ok(row.try_get(0)?)
}

fn tenant_row(row: &Row) -> Done<Tenant> {
    Ok(Tenant {
        id: tenant_id(row, 0)?,
        label: row.try_get(1)?,
        state: known(row, 2, &TENANT_STATES)?,
        added_at: time(row, 3)?,
        collect_from: time(row, 4)?,
        last_commit: CommitNumber(counted(row, 5)?),
        revision: counted(row, 6)?,
        problem: problem(row, 7)?,
    })
}
