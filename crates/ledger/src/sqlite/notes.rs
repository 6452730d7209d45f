//! What coverage notes beside completeness: what keeps failing, what silence is usual, what listing again has cost; and the
//! second chance of what was given up.

use engine::model::{FailingContent, FeedNotes, Gap, LossKind, Relisting};
use engine::silence::{HOURS, Heard, Rhythm, hour_of};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::contents;
use super::fault::Done;
use super::rows::{counted, ensure_feed, known, parsed, sql, tenant_number, time, time_if_any};
use crate::values::{count, ms};

pub(super) fn failing(connection: &Connection, id: TenantId, limit: u32) -> Done<Vec<FailingContent>> {
    let tenant = tenant_number(connection, id)?;
    let mut all = Vec::new();
    for feed in feeds(connection, tenant)? {
        let left = i64::from(limit) - i64::try_from(all.len()).unwrap_or(i64::MAX);
        if left <= 0 {
            break;
        }
        let mut statement = sql(
            connection,
            "SELECT t.name, c.id, p.created, p.expires, p.attempts, p.failure, p.next_attempt_at
             FROM pending AS p CROSS JOIN content AS c USING (content) CROSS JOIN feed AS f ON f.feed = p.feed
             CROSS JOIN content_type AS t USING (type)
             WHERE p.feed = ?1 AND p.failure_number IS NOT NULL ORDER BY p.failure_number DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![feed, left], |row| {
            Ok(FailingContent {
                content_type: parsed(row, 0)?,
                content_id: row.get(1)?,
                created: time(row, 2)?,
                expires: time(row, 3)?,
                attempts: row.get(4)?,
                failure: row.get(5)?,
                next_attempt_at: time(row, 6)?,
            })
        })?;
        for row in rows {
            all.push(row?);
        }
    }
    Ok(all)
}

fn feeds(connection: &Connection, tenant: i64) -> Done<Vec<i64>> {
    let mut statement = sql(connection, "SELECT feed FROM feed WHERE tenant = ?1 ORDER BY type")?;
    let feeds = statement.query_map([tenant], |row| row.get(0))?;
    Ok(feeds.collect::<Result<_, _>>()?)
}

pub(super) fn relisted(
    connection: &Connection,
    id: TenantId,
    content_type: &ContentType,
    requests: u64,
    found: u64,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    let feed = ensure_feed(connection, tenant, content_type, now)?;
    sql(
        connection,
        "UPDATE feed SET relistings = relistings + 1, relisting_requests = relisting_requests + ?2,
         relisting_found = relisting_found + ?3 WHERE feed = ?1",
    )?
    .execute(params![feed, count(requests), count(found)])?;
    Ok(())
}

pub(super) fn retry_lost(connection: &Connection, id: TenantId, now: Timestamp) -> Done<u64> {
    let tenant = tenant_number(connection, id)?;
    let lost: Vec<(i64, i64, LossKind)> = sql(
        connection,
        "SELECT c.content, c.feed, l.kind FROM loss AS l CROSS JOIN content AS c USING (content)
         WHERE l.tenant = ?1 AND l.kind IN (1, 2) AND l.uri <> '' AND c.expires > ?2 ORDER BY l.lost_at",
    )?
    .query_map(params![tenant, ms(now)], |row| Ok((row.get(0)?, row.get(1)?, known(row, 2, &LossKind::ALL)?)))?
    .collect::<Result<_, _>>()?;
    for (row, feed, kind) in &lost {
        contents::second_chance(connection, tenant, *feed, *row, *kind, now)?;
    }
    Ok(lost.len() as u64)
}

/// A content that is new was created at this time. What claims to be from another week teaches nothing.
pub(super) fn hear(connection: &Connection, feed: i64, created: Timestamp, now: Timestamp) -> Done<()> {
    if (now - created).num_days().abs() > 8 {
        return Ok(());
    }
    sql(
        connection,
        "INSERT INTO heard (feed, hour, first, last) VALUES (?1, ?2, ?3, ?3)
         ON CONFLICT (feed, hour) DO UPDATE SET first = min(first, ?3), last = max(last, ?3)",
    )?
    .execute(params![feed, ms(hour_of(created)), ms(created)])?;
    Ok(())
}

/// Learns what has been listed completely, and forgets the hours it came from.
pub(super) fn learn(connection: &Connection, feed: i64, gaps: &[Gap], listed_through: Timestamp) -> Done<()> {
    let (mut rhythm, heard) = (rhythm(connection, feed)?, heard(connection, feed)?);
    let before = rhythm.clone();
    rhythm.learn(&heard, gaps, listed_through);
    if rhythm == before {
        return Ok(());
    }
    let longest: Vec<u8> = rhythm.longest.iter().flat_map(|minutes| minutes.to_le_bytes()).collect();
    sql(
        connection,
        "INSERT INTO rhythm (feed, longest, hours, through, last) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (feed) DO UPDATE SET longest = ?2, hours = ?3, through = ?4, last = ?5",
    )?
    .execute(params![feed, longest, rhythm.hours, rhythm.through.map(ms), rhythm.last.map(ms)])?;
    sql(connection, "DELETE FROM heard WHERE feed = ?1 AND hour < ?2")?
        .execute(params![feed, rhythm.through.map_or(i64::MIN, ms)])?;
    Ok(())
}

fn rhythm(connection: &Connection, feed: i64) -> Done<Rhythm> {
    let rhythm = sql(connection, "SELECT longest, hours, through, last FROM rhythm WHERE feed = ?1")?
        .query_row([feed], rhythm_row)
        .optional()?;
    Ok(rhythm.unwrap_or_default())
}

fn rhythm_row(row: &Row<'_>) -> rusqlite::Result<Rhythm> {
    let bytes: Vec<u8> = row.get(0)?;
    let mut longest = [0; HOURS];
    if bytes.len() != 2 * HOURS {
        return Err(rusqlite::Error::InvalidColumnType(0, "longest".to_owned(), Type::Blob));
    }
    for (slot, pair) in longest.iter_mut().zip(bytes.chunks_exact(2)) {
        *slot = pair.iter().rev().fold(0, |number, byte| number << 8 | u16::from(*byte));
    }
    Ok(Rhythm { longest, hours: row.get(1)?, through: time_if_any(row, 2)?, last: time_if_any(row, 3)? })
}

fn heard(connection: &Connection, feed: i64) -> Done<Vec<Heard>> {
    let mut statement = sql(connection, "SELECT first, last FROM heard WHERE feed = ?1 ORDER BY hour")?;
    let heard = statement.query_map([feed], |row| Ok(Heard { first: time(row, 0)?, last: time(row, 1)? }))?;
    Ok(heard.collect::<Result<_, _>>()?)
}

/// The notes of one feed that was listed through `listed_through`.
pub(super) fn of_feed(
    connection: &Connection,
    feed: i64,
    content_type: ContentType,
    listed_through: Option<Timestamp>,
) -> Done<FeedNotes> {
    let newest = sql(connection, "SELECT last FROM heard WHERE feed = ?1 ORDER BY hour DESC LIMIT 1")?
        .query_row([feed], |row| time(row, 0))
        .optional()?;
    let relisting =
        sql(connection, "SELECT relistings, relisting_requests, relisting_found FROM feed WHERE feed = ?1")?
            .query_row([feed], |row| {
                Ok(Relisting { listings: counted(row, 0)?, requests: counted(row, 1)?, found: counted(row, 2)? })
            })?;
    let rhythm = rhythm(connection, feed)?;
    let silence = listed_through.and_then(|through| rhythm.judge(newest, through));
    Ok(FeedNotes { content_type, silence, relisting })
}
