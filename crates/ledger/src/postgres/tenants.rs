//! Tenants, their subscriptions, and what stands in the way of either.

use engine::evidence::{ActivityKind, Hold};
use engine::hindrance::GapCause;
use engine::lease::Epoch;
use engine::model::{CommitNumber, Problem, Subscription, Tenant, TenantState};
use engine::tile::Grid;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use serde_json::json;
use tokio_postgres::Row;

use super::evidence;
use super::fault::{Done, Fault};
use super::hindrances::{self, Kind};
use super::rows::{
    counted, ensure_feed, feed_number, known, lock_tenant, parsed, problem, state, tenant_id, tenant_number, time,
    time_if_any,
};
use super::session::Session;
use crate::LedgerError;
use crate::values::{TENANT_STATES, activity_of, message, ms, plain, tenant_state};

const TENANT: &str = "SELECT id, label, state, added_at, collect_from, last_commit, revision,
    problem_kind, problem_message, problem_since, problem_next, held_at, held_by, held_reason, lease_epoch FROM tenant";

pub(super) async fn add(
    session: &Session<'_>,
    actor: &str,
    id: TenantId,
    label: &str,
    collect_from: Timestamp,
    now: Timestamp,
) -> Done<bool> {
    let label = plain(label);
    let added = async |came_back: bool| {
        let details = json!({ "came_back": came_back });
        evidence::note(session, actor, ActivityKind::TenantAdded, Some(id), &details, now).await
    };
    let Some(there) = locked(session, id).await? else {
        if evidence::is_being_purged(session, id).await? {
            return Err(LedgerError::BeingPurged { tenant: id }.into());
        }
        // Under an epoch that was never given: of what it was, somebody may still be writing or removing files.
        let revision = next_revision(session).await?;
        let rows = session
            .run(
                "INSERT INTO tenant (id, label, state, added_at, collect_from, revision, lease_epoch)
                 SELECT $1, $2, 0, $3, $4, $5,
                        greatest(purged_epoch, (SELECT through + 1 FROM purge WHERE id = $1))
                 FROM revision WHERE single = 1 ON CONFLICT (id) DO NOTHING",
                &[id.as_uuid(), &label, &ms(now), &ms(Grid::HOUR.floor(collect_from)), &revision],
            )
            .await?;
        // Somebody else added it at the same moment: then it is there by now.
        if rows != 1 {
            return Err(Fault::Again);
        }
        added(false).await?;
        return Ok(true);
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
    added(true).await?;
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

pub(super) async fn set_state(
    session: &Session<'_>,
    actor: &str,
    id: TenantId,
    new: TenantState,
    now: Timestamp,
) -> Done<bool> {
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
        evidence::note(session, actor, activity_of(new), Some(id), &json!({}), now).await?;
    }
    Ok(true)
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
pub(super) async fn next_revision(session: &Session<'_>) -> Done<i64> {
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
        hold: hold(row, 11)?,
        epoch: Epoch(counted(row, 14)?),
    })
}

/// Three columns from `first` on.
fn hold(row: &Row, first: usize) -> Done<Option<Hold>> {
    let Some(since) = time_if_any(row, first)? else { return Ok(None) };
    Ok(Some(Hold { since, by: row.try_get(first + 1)?, reason: row.try_get(first + 2)? }))
}
