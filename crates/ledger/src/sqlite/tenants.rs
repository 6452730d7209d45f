//! Tenants, their subscriptions, and what stands in the way of either.

use engine::evidence::{ActivityKind, Hold};
use engine::hindrance::GapCause;
use engine::lease::Epoch;
use engine::model::{CommitNumber, Problem, Subscription, Tenant, TenantState};
use engine::tile::Grid;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::evidence;
use super::fault::Done;
use super::hindrances::{self, Kind};
use super::rows::{
    counted, ensure_feed, feed_number, known, parsed, problem, sql, tenant_id, tenant_number, time, time_if_any,
};
use crate::LedgerError;
use crate::values::{TENANT_STATES, activity_of, message, ms, plain, tenant_state};

const TENANT: &str = "SELECT id, label, state, added_at, collect_from, last_commit, revision,
    problem_kind, problem_message, problem_since, problem_next, held_at, held_by, held_reason, lease_epoch FROM tenant";

pub(super) fn add(
    connection: &Connection,
    actor: &str,
    id: TenantId,
    label: &str,
    collect_from: Timestamp,
    now: Timestamp,
) -> Done<bool> {
    let added = |came_back: bool| {
        let details = json!({ "came_back": came_back });
        evidence::note(connection, actor, ActivityKind::TenantAdded, Some(id), &details, now)
    };
    let Some(there) = one(connection, id)? else {
        if evidence::is_being_purged(connection, id)? {
            return Err(LedgerError::BeingPurged { tenant: id }.into());
        }
        let revision = next_revision(connection)?;
        // Under an epoch that was never given: of what it was, somebody may still be writing or removing files.
        sql(
            connection,
            "INSERT INTO tenant (id, label, state, added_at, collect_from, revision, lease_epoch)
             SELECT ?1, ?2, 0, ?3, ?4, ?5,
                    max(purged_epoch, coalesce((SELECT through + 1 FROM purge WHERE id = ?1), 0))
             FROM revision WHERE only = 1",
        )?
        .execute(params![
            id.as_uuid().as_bytes(),
            plain(label),
            ms(now),
            ms(Grid::HOUR.floor(collect_from)),
            revision
        ])?;
        added(false)?;
        return Ok(true);
    };
    if there.state != TenantState::Removed {
        return Ok(false);
    }
    let revision = next_revision(connection)?;
    sql(
        connection,
        "UPDATE tenant SET state = 0, revision = ?2, label = CASE ?3 WHEN '' THEN label ELSE ?3 END WHERE id = ?1",
    )?
    .execute(params![id.as_uuid().as_bytes(), revision, plain(label)])?;
    hindrances::note(connection, (tenant_number(connection, id)?, None), Kind::State, None, now)?;
    added(true)?;
    Ok(true)
}

pub(super) fn one(connection: &Connection, id: TenantId) -> Done<Option<Tenant>> {
    let tenant = sql(connection, &format!("{TENANT} WHERE id = ?1"))?
        .query_row([id.as_uuid().as_bytes()], tenant_row)
        .optional()?;
    Ok(tenant)
}

pub(super) fn since(connection: &Connection, revision: u64) -> Done<(u64, Vec<Tenant>)> {
    let greatest =
        sql(connection, "SELECT greatest FROM revision WHERE only = 1")?.query_row([], |row| counted(row, 0))?;
    // Greater than any revision: nothing has changed since.
    let Ok(after) = i64::try_from(revision) else { return Ok((greatest, Vec::new())) };
    let mut statement = sql(connection, &format!("{TENANT} WHERE revision > ?1 ORDER BY revision"))?;
    let tenants = statement.query_map([after], tenant_row)?.collect::<Result<_, _>>()?;
    Ok((greatest, tenants))
}

pub(super) fn set_state(
    connection: &Connection,
    actor: &str,
    id: TenantId,
    state: TenantState,
    now: Timestamp,
) -> Done<bool> {
    let Some(there) = one(connection, id)? else { return Ok(false) };
    if there.state != state {
        let revision = next_revision(connection)?;
        sql(connection, "UPDATE tenant SET state = ?2, revision = ?3 WHERE id = ?1")?.execute(params![
            id.as_uuid().as_bytes(),
            tenant_state(state),
            revision
        ])?;
        let cause = GapCause::of_state(state).map(|cause| (cause.as_str(), now));
        hindrances::note(connection, (tenant_number(connection, id)?, None), Kind::State, cause, now)?;
        evidence::note(connection, actor, activity_of(state), Some(id), &json!({}), now)?;
    }
    Ok(true)
}

pub(super) fn set_problem(
    connection: &Connection,
    id: TenantId,
    content_type: Option<&ContentType>,
    new: Option<&Problem>,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    let cause = new.map(|new| (new.kind.as_str(), new.since));
    let columns = new.map(|new| (new.kind.as_str(), message(&new.message), ms(new.since), new.next_attempt_at.map(ms)));
    let columns = columns.as_ref();
    let kind = columns.map(|new| new.0);
    let text = columns.map(|new| &new.1);
    let since = columns.map(|new| new.2);
    let next = columns.and_then(|new| new.3);
    let Some(content_type) = content_type else {
        // A repetition changes nothing, and wakes nobody who watches the revision.
        let same = sql(
            connection,
            "SELECT 1 FROM tenant WHERE tenant = ?1 AND problem_kind IS ?2 AND problem_message IS ?3
             AND problem_since IS ?4 AND problem_next IS ?5",
        )?
        .exists(params![tenant, kind, text, since, next])?;
        hindrances::note(connection, (tenant, None), Kind::Problem, cause, now)?;
        if !same {
            let revision = next_revision(connection)?;
            sql(
                connection,
                "UPDATE tenant SET problem_kind = ?2, problem_message = ?3, problem_since = ?4, problem_next = ?5,
                 revision = ?6 WHERE tenant = ?1",
            )?
            .execute(params![tenant, kind, text, since, next, revision])?;
        }
        return Ok(());
    };
    let feed = match (feed_number(connection, tenant, content_type)?, new) {
        (Some(feed), _) => feed,
        (None, Some(new)) => ensure_feed(connection, tenant, content_type, new.since)?,
        (None, None) => return Ok(()),
    };
    hindrances::note(connection, (tenant, Some(feed)), Kind::Problem, cause, now)?;
    sql(
        connection,
        "UPDATE feed SET problem_kind = ?2, problem_message = ?3, problem_since = ?4, problem_next = ?5
         WHERE feed = ?1",
    )?
    .execute(params![feed, kind, text, since, next])?;
    Ok(())
}

pub(super) fn subscriptions(connection: &Connection, id: TenantId) -> Done<Vec<Subscription>> {
    let tenant = tenant_number(connection, id)?;
    // A feed that is known from its contents alone has no subscription that anybody has seen.
    let mut statement = sql(
        connection,
        "SELECT name, enabled, listed_at, start_requested_at,
                problem_kind, problem_message, problem_since, problem_next
         FROM feed CROSS JOIN content_type USING (type) WHERE tenant = ?1
         AND (listed_at IS NOT NULL OR start_requested_at IS NOT NULL OR problem_kind IS NOT NULL) ORDER BY type",
    )?;
    let subscriptions = statement.query_map([tenant], |row| {
        Ok(Subscription {
            content_type: parsed(row, 0)?,
            enabled: row.get(1)?,
            listed_at: time_if_any(row, 2)?,
            start_requested_at: time_if_any(row, 3)?,
            problem: problem(row, 4)?,
        })
    })?;
    Ok(subscriptions.collect::<Result<_, _>>()?)
}

pub(super) fn subscriptions_listed(
    connection: &Connection,
    id: TenantId,
    listed: &[(ContentType, Option<bool>)],
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    for (content_type, _) in listed.iter().filter(|(_, enabled)| *enabled == Some(true)) {
        let feed = ensure_feed(connection, tenant, content_type, now)?;
        hindrances::enabled(connection, tenant, feed, now)?;
    }
    sql(connection, "UPDATE feed SET enabled = 0, listed_at = ?2 WHERE tenant = ?1")?
        .execute(params![tenant, ms(now)])?;
    for (content_type, enabled) in listed {
        let feed = ensure_feed(connection, tenant, content_type, now)?;
        sql(connection, "UPDATE feed SET enabled = ?2, listed_at = ?3 WHERE feed = ?1")?.execute(params![
            feed,
            enabled,
            ms(now)
        ])?;
    }
    Ok(())
}

pub(super) fn start_requested(
    connection: &Connection,
    id: TenantId,
    content_type: &ContentType,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    let feed = ensure_feed(connection, tenant, content_type, now)?;
    sql(connection, "UPDATE feed SET start_requested_at = ?2 WHERE feed = ?1")?.execute(params![feed, ms(now)])?;
    Ok(())
}

pub(super) fn next_revision(connection: &Connection) -> Done<i64> {
    let revision = sql(connection, "UPDATE revision SET greatest = greatest + 1 WHERE only = 1 RETURNING greatest")?
        .query_row([], |row| row.get(0))?;
    Ok(revision)
}

fn tenant_row(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    Ok(Tenant {
        id: tenant_id(row, 0)?,
        label: row.get(1)?,
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
fn hold(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Hold>> {
    let Some(since) = time_if_any(row, first)? else { return Ok(None) };
    Ok(Some(Hold { since, by: row.get(first + 1)?, reason: row.get(first + 2)? }))
}
