//! What stood in the way, spell by spell, and when a collector was at work: what the causes of gaps are told from.
//!
//! Never more than so many spells of a tenant, the latest: who looks for the cause of an older gap is told that it was not
//! recorded. What the spells mean is the engine's to say (`engine::hindrance`).

use engine::hindrance::{AT_WORK_JOINED, GapCause, HINDRANCE_JOINED, Hindrance, History};
use engine::model::Gap;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Done;
use super::rows::{feed_number, parsed, sql, tenant_number, time, time_if_any};
use crate::values::ms;

/// Spells that are kept of one tenant. A throttled tenant makes a few a day.
const KEPT_OF_TENANT: i64 = 1000;

/// Spells of work that are kept. Each is one run of the collector without an interruption.
const KEPT_AT_WORK: i64 = 1000;

/// Of what kind a hindrance is; one of each can stand in one feed's or tenant's way at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    State = 0,
    Problem = 1,
    Unkept = 2,
}

/// Notes that from `since` on this stands in the way, or, from `now` on, nothing of this kind does.
pub(super) fn note(
    connection: &Connection,
    (tenant, feed): (i64, Option<i64>),
    kind: Kind,
    cause: Option<(&str, Timestamp)>,
    now: Timestamp,
) -> Done<()> {
    let open = sql(
        connection,
        "SELECT hindrance, cause FROM hindrance WHERE tenant = ?1 AND feed IS ?2 AND kind = ?3 AND until IS NULL
         ORDER BY since DESC LIMIT 1",
    )?
    .query_row(params![tenant, feed, kind as i64], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
    .optional()?;
    if let Some((row, standing)) = open {
        if cause.is_some_and(|(cause, _)| cause == standing) {
            return Ok(());
        }
        // A clock that was set back must not end it before it began.
        sql(connection, "UPDATE hindrance SET until = max(since, ?2) WHERE hindrance = ?1")?
            .execute(params![row, ms(now)])?;
    }
    let Some((cause, since)) = cause else { return Ok(()) };
    let joined = now.checked_sub_signed(HINDRANCE_JOINED).unwrap_or(now);
    let again = sql(
        connection,
        "UPDATE hindrance SET until = NULL WHERE hindrance = (
           SELECT hindrance FROM hindrance WHERE tenant = ?1 AND feed IS ?2 AND kind = ?3 ORDER BY since DESC LIMIT 1
         ) AND cause = ?4 AND until >= ?5",
    )?
    .execute(params![tenant, feed, kind as i64, cause, ms(joined)])?;
    if again == 0 {
        insert(connection, (tenant, feed), kind, cause, (since.min(now), None))?;
    }
    Ok(())
}

fn insert(
    connection: &Connection,
    (tenant, feed): (i64, Option<i64>),
    kind: Kind,
    cause: &str,
    (since, until): (Timestamp, Option<Timestamp>),
) -> Done<()> {
    sql(connection, "INSERT INTO hindrance (tenant, feed, kind, cause, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![tenant, feed, kind as i64, cause, ms(since), until.map(ms)])?;
    // The oldest goes, once there are too many.
    sql(
        connection,
        "DELETE FROM hindrance WHERE hindrance IN (
           SELECT hindrance FROM hindrance WHERE tenant = ?1 ORDER BY since DESC LIMIT -1 OFFSET ?2
         )",
    )?
    .execute(params![tenant, KEPT_OF_TENANT])?;
    Ok(())
}

/// A subscription is listed as enabled that was not before, or had never been: until it was started, nothing was kept.
pub(super) fn enabled(connection: &Connection, tenant: i64, feed: i64, now: Timestamp) -> Done<()> {
    let (was_enabled, enabled_at, asked, first_seen) = sql(
        connection,
        "SELECT enabled, max(coalesce(enabled_at, listed), coalesce(listed, enabled_at)), start_requested_at, first_seen_at
         FROM (SELECT *, (SELECT max(listed_at) FROM tile WHERE tile.feed = feed.feed) AS listed FROM feed WHERE feed = ?1)",
    )?
    .query_row([feed], |row| {
        Ok((row.get::<_, Option<bool>>(0)?, time_if_any(row, 1)?, time_if_any(row, 2)?, time(row, 3)?))
    })?;
    sql(connection, "UPDATE feed SET enabled_at = ?2 WHERE feed = ?1")?.execute(params![feed, ms(now)])?;
    if was_enabled == Some(true) {
        return Ok(());
    }
    // Without a start of ours it was somebody else's, and who knows since when.
    let Some(until) = asked.filter(|asked| enabled_at.is_none_or(|seen| *asked > seen)) else { return Ok(()) };
    let (cause, since) = match enabled_at {
        Some(seen) => (GapCause::SubscriptionStopped, seen),
        None => (GapCause::BeforeSubscription, offered_from(connection, tenant, first_seen)?),
    };
    if since < until {
        insert(connection, (tenant, Some(feed)), Kind::Unkept, cause.as_str(), (since, Some(until)))?;
    }
    Ok(())
}

/// Where the tenant's collection of a feed that was first seen at this time is to begin.
fn offered_from(connection: &Connection, tenant: i64, first_seen: Timestamp) -> Done<Timestamp> {
    let collect_from = sql(connection, "SELECT collect_from FROM tenant WHERE tenant = ?1")?
        .query_row([tenant], |row| time(row, 0))?;
    let evidence = engine::coverage::Evidence {
        collect_from,
        first_seen_at: first_seen,
        began: None,
        settled_through: None,
        tiles: &[],
        oldest_unarchived: None,
    };
    Ok(evidence.from())
}

/// The service says that it has been enabled all along.
pub(super) fn seen_enabled(
    connection: &Connection,
    id: TenantId,
    content_type: &ContentType,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    let Some(feed) = feed_number(connection, tenant, content_type)? else { return Ok(()) };
    sql(connection, "UPDATE feed SET enabled = 1, enabled_at = ?2 WHERE feed = ?1")?.execute(params![feed, ms(now)])?;
    Ok(())
}

/// Something came that was created in a time of which nothing was thought to be kept: that time is shorter.
pub(super) fn shorten_unkept(connection: &Connection, feed: i64, created: Timestamp) -> Done<()> {
    // What there was no subscription for ends with the first that is there; after a stop, it begins with the last.
    let before = GapCause::BeforeSubscription.as_str();
    sql(
        connection,
        "UPDATE hindrance SET until = iif(cause = ?3, ?2, until), since = iif(cause = ?3, since, ?2 + 1)
         WHERE feed = ?1 AND kind = 2 AND since <= ?2 AND until > ?2",
    )?
    .execute(params![feed, ms(created), before])?;
    Ok(())
}

/// A collector is at work.
pub(super) fn at_work(connection: &Connection, now: Timestamp) -> Done<()> {
    let last = sql(connection, "SELECT since, until FROM at_work ORDER BY since DESC LIMIT 1")?
        .query_row([], |row| Ok((time(row, 0)?, time(row, 1)?)))
        .optional()?;
    let goes_on = last.filter(|(since, until)| *since <= now && now - *until <= AT_WORK_JOINED);
    if let Some((since, until)) = goes_on {
        // A clock that was far ahead has claimed what has not been yet.
        let until = if until - now > AT_WORK_JOINED { now } else { until.max(now) };
        sql(connection, "UPDATE at_work SET until = ?2 WHERE since = ?1")?.execute(params![ms(since), ms(until)])?;
        return Ok(());
    }
    // What would be after today was written by a clock that was ahead.
    sql(connection, "DELETE FROM at_work WHERE since >= ?1")?.execute([ms(now)])?;
    sql(connection, "INSERT INTO at_work (since, until) VALUES (?1, ?1)")?.execute([ms(now)])?;
    sql(
        connection,
        "DELETE FROM at_work WHERE since < (SELECT since FROM at_work ORDER BY since DESC LIMIT 1 OFFSET ?1)",
    )?
    .execute([KEPT_AT_WORK - 1])?;
    Ok(())
}

/// What is known of each feed, in the order of coverage.
pub(super) fn history(connection: &Connection, id: TenantId) -> Done<Vec<(ContentType, History)>> {
    let tenant = tenant_number(connection, id)?;
    let mut statement = sql(connection, "SELECT since, until FROM at_work ORDER BY since")?;
    let spells = statement.query_map([], |row| Ok(Gap { start: time(row, 0)?, until: time(row, 1)? }))?;
    let at_work: Vec<Gap> = spells.collect::<Result<_, _>>()?;
    let mut statement =
        sql(connection, "SELECT feed, cause, since, until FROM hindrance WHERE tenant = ?1 ORDER BY since")?;
    let rows = statement.query_map([tenant], |row| {
        let hindrance = Hindrance {
            // A word of a later version is something that stood in the way, whatever it was.
            cause: row.get::<_, String>(1)?.parse().unwrap_or(GapCause::NotRecorded),
            since: time(row, 2)?,
            until: time_if_any(row, 3)?,
        };
        Ok((row.get::<_, Option<i64>>(0)?, hindrance))
    })?;
    let all: Vec<(Option<i64>, Hindrance)> = rows.collect::<Result<_, _>>()?;
    let mut statement = sql(
        connection,
        "SELECT feed, name FROM feed CROSS JOIN content_type USING (type) WHERE tenant = ?1 ORDER BY type",
    )?;
    let feeds = statement.query_map([tenant], |row| Ok((row.get::<_, i64>(0)?, parsed(row, 1)?)))?;
    let mut history = Vec::new();
    for feed in feeds {
        let (number, content_type) = feed?;
        let hindrances = all.iter().filter(|(feed, _)| feed.is_none_or(|feed| feed == number));
        let hindrances = hindrances.map(|(_, hindrance)| *hindrance).collect();
        history.push((content_type, History { hindrances, at_work: at_work.clone() }));
    }
    Ok(history)
}
