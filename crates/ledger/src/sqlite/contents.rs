//! Contents on their way: listed, tried, given up. What becomes of the rest is a commit's business.

use std::collections::HashSet;

use chrono::TimeDelta;
use engine::model::{ContentState, Listed, Loss, LossKind, LostContent, Pending, RefusedEntry};
use protocol::activity::RETENTION;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::{Done, Fault};
use super::rows::{ensure_feed, feed_number, known, parsed, sql, tenant_number, time};
use crate::LedgerError;
use crate::values::{CONTENT_STATES, content_key, loss_kind, message, ms};

/// Contents that expire within this span come before all others.
const URGENT: TimeDelta = TimeDelta::days(1);

pub(super) fn listed(connection: &Connection, id: TenantId, contents: &[Listed], now: Timestamp) -> Done<u64> {
    let tenant = tenant_number(connection, id)?;
    let mut new = 0;
    let mut feed: Option<(&ContentType, i64)> = None;
    for content in contents {
        let number = match feed {
            Some((content_type, number)) if *content_type == content.content_type => number,
            _ => ensure_feed(connection, tenant, &content.content_type, now)?,
        };
        feed = Some((&content.content_type, number));
        new += u64::from(list(connection, tenant, number, content, now)?);
    }
    Ok(new)
}

/// Whether the content was new.
fn list(connection: &Connection, tenant: i64, feed: i64, content: &Listed, now: Timestamp) -> Done<bool> {
    let key = content_key(content.content_id.as_str());
    // Nearly all that is listed is known, as every listing begins at its tile's start: that costs this and no more.
    let found = sql(connection, "SELECT content, state FROM content WHERE feed = ?1 AND key = ?2")?
        .query_row(params![feed, key], |row| Ok((row.get::<_, i64>(0)?, known(row, 1, &CONTENT_STATES)?)))
        .optional()?;
    match found {
        Some((_, ContentState::Archived)) => Ok(false),
        Some((row, ContentState::Listed)) => correct_url(connection, row, content, now).map(|()| false),
        Some((row, ContentState::Lost)) => revive(connection, tenant, feed, row, content, now).map(|()| false),
        None => {
            let row = sql(
                connection,
                "INSERT INTO content (feed, key, id, state, created, expires) VALUES (?1, ?2, ?3, 0, ?4, ?5)",
            )?
            .insert(params![
                feed,
                key,
                content.content_id.as_str(),
                ms(content.created),
                ms(content.expires)
            ])?;
            super::notes::hear(connection, feed, content.created, now)?;
            super::hindrances::shorten_unkept(connection, feed, content.created)?;
            await_attempt(connection, tenant, feed, row, content, now).map(|()| true)
        }
    }
}

/// Lets a lost content wait again when there is reason for hope.
fn revive(connection: &Connection, tenant: i64, feed: i64, row: i64, content: &Listed, now: Timestamp) -> Done<()> {
    let lost = sql(
        connection,
        "SELECT kind, uri FROM loss CROSS JOIN content USING (content) WHERE content = ?1 AND expires > ?2",
    )?
    .query_row(params![row, ms(now)], |row| {
        let uri = row.get_ref(1)?.as_str()?;
        Ok((known(row, 0, &LossKind::ALL)?, uri.is_empty(), uri != content.content_uri.as_str()))
    })
    .optional()?;
    let Some((kind, without_url, other_url)) = lost else { return Ok(()) };
    let hope = match kind {
        LossKind::Missing => true,
        LossKind::RefusedUrl => other_url,
        // It was the entry of the listing that could not be read, not a blob.
        LossKind::Expired | LossKind::Unreadable => without_url,
    };
    if !hope {
        return Ok(());
    }
    sql(connection, "DELETE FROM loss WHERE content = ?1")?.execute([row])?;
    sql(connection, "UPDATE content SET state = 0 WHERE content = ?1")?.execute([row])?;
    count_loss(connection, feed, kind, -1)?;
    await_attempt(connection, tenant, feed, row, content, now)
}

/// Lets a lost content wait again, because somebody asked for it.
pub(super) fn second_chance(
    connection: &Connection,
    tenant: i64,
    feed: i64,
    row: i64,
    kind: LossKind,
    now: Timestamp,
) -> Done<()> {
    sql(
        connection,
        "INSERT INTO pending (content, tenant, feed, uri, created, expires, seen_at, attempts, next_attempt_at)
         SELECT c.content, ?2, c.feed, l.uri, c.created, c.expires, ?3, 0, ?3
         FROM loss AS l CROSS JOIN content AS c USING (content) WHERE l.content = ?1",
    )?
    .execute(params![row, tenant, ms(now)])?;
    sql(connection, "DELETE FROM loss WHERE content = ?1")?.execute([row])?;
    sql(connection, "UPDATE content SET state = 0 WHERE content = ?1")?.execute([row])?;
    sql(connection, "UPDATE feed SET pending = pending + 1 WHERE feed = ?1")?.execute([feed])?;
    count_loss(connection, feed, kind, -1)
}

/// A content that waits after a failure takes the latest URL, if that is another one, and is tried at once.
fn correct_url(connection: &Connection, row: i64, content: &Listed, now: Timestamp) -> Done<()> {
    sql(
        connection,
        "UPDATE pending SET uri = ?2, next_attempt_at = min(next_attempt_at, ?3)
         WHERE content = ?1 AND attempts > 0 AND uri <> ?2",
    )?
    .execute(params![row, content.content_uri.as_str(), ms(now)])?;
    Ok(())
}

fn await_attempt(
    connection: &Connection,
    tenant: i64,
    feed: i64,
    row: i64,
    content: &Listed,
    now: Timestamp,
) -> Done<()> {
    sql(
        connection,
        "INSERT INTO pending (content, tenant, feed, uri, created, expires, seen_at, attempts, next_attempt_at)
         SELECT content, ?2, feed, ?3, created, expires, ?4, 0, ?4 FROM content WHERE content = ?1",
    )?
    .execute(params![row, tenant, content.content_uri.as_str(), ms(now)])?;
    sql(connection, "UPDATE feed SET pending = pending + 1 WHERE feed = ?1")?.execute([feed])?;
    Ok(())
}

pub(super) fn pending(
    connection: &Connection,
    id: TenantId,
    now: Timestamp,
    limit: u32,
    in_flight: &[i64],
) -> Done<Vec<Pending>> {
    const COLUMNS: &str = "SELECT p.content, t.name, c.id, p.uri, p.created, p.expires, p.seen_at, p.attempts,
            p.next_attempt_at
         FROM pending AS p CROSS JOIN content AS c USING (content) CROSS JOIN feed AS f ON f.feed = p.feed
         CROSS JOIN content_type AS t USING (type)";
    let tenant = tenant_number(connection, id)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let in_flight: HashSet<i64> = in_flight.iter().copied().collect();
    let soon = ms(now + URGENT);
    let mut found = Vec::new();
    let orders = [
        "WHERE p.tenant = ?1 AND p.expires <= ?2 AND p.next_attempt_at <= ?3 ORDER BY p.expires, p.content",
        "WHERE p.tenant = ?1 AND p.expires > ?2 AND p.next_attempt_at <= ?3 ORDER BY p.expires DESC, p.content DESC",
    ];
    for order in orders {
        let mut statement = sql(connection, &format!("{COLUMNS} {order}"))?;
        let mut rows = statement.query(params![tenant, soon, ms(now)])?;
        // Stops reading as soon as there are enough: what waits behind them costs nothing.
        while found.len() < limit {
            let Some(row) = rows.next()? else { break };
            if !in_flight.contains(&row.get(0)?) {
                found.push(pending_row(row)?);
            }
        }
    }
    Ok(found)
}

pub(super) fn next_attempt_at(connection: &Connection, id: TenantId) -> Done<Option<Timestamp>> {
    let tenant = tenant_number(connection, id)?;
    let next =
        sql(connection, "SELECT next_attempt_at FROM pending WHERE tenant = ?1 ORDER BY next_attempt_at LIMIT 1")?
            .query_row([tenant], |row| time(row, 0))
            .optional()?;
    Ok(next)
}

pub(super) fn failed(
    connection: &Connection,
    id: TenantId,
    row: i64,
    text: &str,
    next_attempt_at: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    let (feed, attempts) = sql(connection, "SELECT feed, attempts FROM pending WHERE content = ?1 AND tenant = ?2")?
        .query_row(params![row, tenant], |found| Ok((found.get::<_, i64>(0)?, found.get::<_, i64>(1)?)))
        .optional()?
        .ok_or(LedgerError::NotListed { tenant: id, row })?;
    let number: i64 = sql(
        connection,
        "UPDATE feed SET failures = failures + 1, failing = failing + ?2 WHERE feed = ?1 RETURNING failures",
    )?
    .query_row(params![feed, i64::from(attempts == 0)], |row| row.get(0))?;
    sql(
        connection,
        "UPDATE pending SET attempts = attempts + 1, failure = ?2, failure_number = ?3, next_attempt_at = ?4
         WHERE content = ?1",
    )?
    .execute(params![row, message(text), number, ms(next_attempt_at)])?;
    Ok(())
}

pub(super) fn lost(connection: &Connection, id: TenantId, row: i64, loss: &Loss, now: Timestamp) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    let Ended { feed, uri, failing } = end(connection, id, tenant, row)?;
    sql(connection, "UPDATE content SET state = 2 WHERE content = ?1")?.execute([row])?;
    sql(connection, "UPDATE feed SET pending = pending - 1, failing = failing - ?2 WHERE feed = ?1")?
        .execute(params![feed, failing])?;
    add_loss(connection, tenant, row, loss, &uri, now)?;
    count_loss(connection, feed, loss.kind, 1)
}

fn add_loss(connection: &Connection, tenant: i64, row: i64, loss: &Loss, uri: &str, now: Timestamp) -> Done<()> {
    sql(connection, "INSERT INTO loss (content, tenant, kind, message, uri, lost_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![row, tenant, loss_kind(loss.kind), message(&loss.message), uri, ms(now)])?;
    Ok(())
}

/// A content that waits no more. Its feed's sums are still to be corrected: one pending less, and `failing` less.
pub(super) struct Ended {
    pub(super) feed: i64,
    pub(super) uri: String,
    /// 1 if its last attempt had failed, else 0.
    pub(super) failing: i64,
}

/// Ends the waiting of a content, however it ends.
pub(super) fn end(connection: &Connection, id: TenantId, tenant: i64, row: i64) -> Done<Ended> {
    let ended =
        sql(connection, "DELETE FROM pending WHERE content = ?1 AND tenant = ?2 RETURNING feed, uri, attempts > 0")?
            .query_row(params![row, tenant], |row| {
                Ok(Ended { feed: row.get(0)?, uri: row.get(1)?, failing: row.get(2)? })
            })
            .optional()?;
    Ok(ended.ok_or(LedgerError::NotListed { tenant: id, row })?)
}

fn count_loss(connection: &Connection, feed: i64, kind: LossKind, by: i64) -> Done<()> {
    let statement = match kind {
        LossKind::Expired => "UPDATE feed SET lost_expired = lost_expired + ?2 WHERE feed = ?1",
        LossKind::Missing => "UPDATE feed SET lost_missing = lost_missing + ?2 WHERE feed = ?1",
        LossKind::Unreadable => "UPDATE feed SET lost_unreadable = lost_unreadable + ?2 WHERE feed = ?1",
        LossKind::RefusedUrl => "UPDATE feed SET lost_refused_url = lost_refused_url + ?2 WHERE feed = ?1",
    };
    sql(connection, statement)?.execute(params![feed, by])?;
    Ok(())
}

pub(super) fn losses(connection: &Connection, id: TenantId, limit: u32) -> Done<Vec<LostContent>> {
    let tenant = tenant_number(connection, id)?;
    let mut statement = sql(
        connection,
        "SELECT t.name, c.id, c.created, c.expires, l.kind, l.message, l.lost_at
         FROM loss AS l CROSS JOIN content AS c USING (content) CROSS JOIN feed AS f ON f.feed = c.feed
         CROSS JOIN content_type AS t USING (type)
         WHERE l.tenant = ?1 ORDER BY l.lost_at DESC, l.content DESC LIMIT ?2",
    )?;
    let losses = statement.query_map(params![tenant, limit], |row| {
        Ok(LostContent {
            content_type: parsed(row, 0)?,
            content_id: row.get(1)?,
            created: time(row, 2)?,
            expires: time(row, 3)?,
            loss: Loss { kind: known(row, 4, &LossKind::ALL)?, message: row.get(5)? },
            lost_at: time(row, 6)?,
        })
    })?;
    Ok(losses.collect::<Result<_, _>>()?)
}

pub(super) fn refused(connection: &Connection, id: TenantId, entries: &[RefusedEntry], now: Timestamp) -> Done<u64> {
    let tenant = tenant_number(connection, id)?;
    let retention = TimeDelta::from_std(RETENTION).unwrap_or(TimeDelta::MAX);
    let mut new = 0;
    for entry in entries {
        let feed = ensure_feed(connection, tenant, &entry.content_type, now)?;
        let name = match &entry.content_id {
            Some(content_id) => content_id.as_str().to_owned(),
            None => format!("entry {}", blake3::hash(entry.raw.as_bytes())),
        };
        let created = entry.created.unwrap_or(now);
        let expires = created.checked_add_signed(retention).unwrap_or(created);
        let row = sql(
            connection,
            "INSERT INTO content (feed, key, id, state, created, expires) VALUES (?1, ?2, ?3, 2, ?4, ?5)
             ON CONFLICT (feed, key) DO NOTHING RETURNING content",
        )?
        .query_row(params![feed, content_key(&name), name, ms(created), ms(expires)], |row| row.get::<_, i64>(0))
        .optional()?;
        let Some(row) = row else { continue };
        let text = format!("{}: {}", entry.loss.message, entry.raw);
        add_loss(connection, tenant, row, &Loss { kind: entry.loss.kind, message: text }, "", now)?;
        count_loss(connection, feed, entry.loss.kind, 1)?;
        new += 1;
    }
    Ok(new)
}

pub(super) fn state(
    connection: &Connection,
    id: TenantId,
    content_type: &ContentType,
    content_id: &str,
) -> Done<Option<ContentState>> {
    let tenant = tenant_number(connection, id)?;
    let Some(feed) = feed_number(connection, tenant, content_type)? else { return Ok(None) };
    sql(connection, "SELECT state FROM content WHERE feed = ?1 AND key = ?2")?
        .query_row(params![feed, content_key(content_id)], |row| known(row, 0, &CONTENT_STATES))
        .optional()
        .map_err(Fault::from)
}

fn pending_row(row: &Row<'_>) -> rusqlite::Result<Pending> {
    Ok(Pending {
        row: row.get(0)?,
        content: content(row, 1)?,
        seen_at: time(row, 6)?,
        attempts: row.get(7)?,
        next_attempt_at: time(row, 8)?,
    })
}

/// Five columns from `first` on.
fn content(row: &Row<'_>, first: usize) -> rusqlite::Result<Listed> {
    Ok(Listed {
        content_type: parsed(row, first)?,
        content_id: parsed(row, first + 1)?,
        content_uri: parsed(row, first + 2)?,
        created: time(row, first + 3)?,
        expires: time(row, first + 4)?,
    })
}
