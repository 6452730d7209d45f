//! What stood in the way, spell by spell, and when a collector was at work: what the causes of gaps are told from.
//!
//! Never more than so many spells of a tenant, the latest: who looks for the cause of an older gap is told that it was not
//! recorded. What the spells mean is the engine's to say (`engine::hindrance`).

use engine::hindrance::{AT_WORK_JOINED, GapCause, HINDRANCE_JOINED, Hindrance, History};
use engine::model::Gap;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use super::fault::Done;
use super::rows::{feed_number, lock_tenant, parsed, tenant_number, time, time_if_any};
use super::schema;
use super::session::Session;
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

/// Notes that from `since` on this stands in the way, or, from `now` on, nothing of this kind does. The tenant is locked.
pub(super) async fn note(
    session: &Session<'_>,
    (tenant, feed): (i64, Option<i64>),
    kind: Kind,
    cause: Option<(&str, Timestamp)>,
    now: Timestamp,
) -> Done<()> {
    let open = session
        .maybe(
            "SELECT hindrance, cause FROM hindrance
             WHERE tenant = $1 AND feed IS NOT DISTINCT FROM $2 AND kind = $3 AND until IS NULL
             ORDER BY since DESC, hindrance DESC LIMIT 1",
            &[&tenant, &feed, &(kind as i16)],
        )
        .await?;
    if let Some(open) = open {
        let (row, standing): (i64, String) = (open.try_get(0)?, open.try_get(1)?);
        if cause.is_some_and(|(cause, _)| cause == standing) {
            return Ok(());
        }
        // A clock that was set back must not end it before it began.
        session.run("UPDATE hindrance SET until = greatest(since, $2) WHERE hindrance = $1", &[&row, &ms(now)]).await?;
    }
    let Some((cause, since)) = cause else { return Ok(()) };
    let joined = now.checked_sub_signed(HINDRANCE_JOINED).unwrap_or(now);
    let again = session
        .run(
            "UPDATE hindrance SET until = NULL WHERE hindrance = (
               SELECT hindrance FROM hindrance WHERE tenant = $1 AND feed IS NOT DISTINCT FROM $2 AND kind = $3
               ORDER BY since DESC, hindrance DESC LIMIT 1
             ) AND cause = $4 AND until >= $5",
            &[&tenant, &feed, &(kind as i16), &cause, &ms(joined)],
        )
        .await?;
    if again == 0 {
        insert(session, (tenant, feed), kind, cause, (since.min(now), None)).await?;
    }
    Ok(())
}

async fn insert(
    session: &Session<'_>,
    (tenant, feed): (i64, Option<i64>),
    kind: Kind,
    cause: &str,
    (since, until): (Timestamp, Option<Timestamp>),
) -> Done<()> {
    session
        .run(
            "INSERT INTO hindrance (tenant, feed, kind, cause, since, until) VALUES ($1, $2, $3, $4, $5, $6)",
            &[&tenant, &feed, &(kind as i16), &cause, &ms(since), &until.map(ms)],
        )
        .await?;
    // The oldest goes, once there are too many.
    session
        .run(
            "DELETE FROM hindrance WHERE hindrance = ANY(ARRAY(
               SELECT hindrance FROM hindrance WHERE tenant = $1 ORDER BY since DESC, hindrance DESC OFFSET $2))",
            &[&tenant, &KEPT_OF_TENANT],
        )
        .await?;
    Ok(())
}

/// A subscription is listed as enabled that was not before, or had never been: until it was started, nothing was kept.
pub(super) async fn enabled(session: &Session<'_>, tenant: i64, feed: i64, now: Timestamp) -> Done<()> {
    let row = session
        .one(
            "SELECT enabled, greatest(enabled_at, (SELECT max(listed_at) FROM tile WHERE tile.feed = f.feed)),
                    start_requested_at, first_seen_at FROM feed AS f WHERE feed = $1",
            &[&feed],
        )
        .await?;
    let was_enabled: Option<bool> = row.try_get(0)?;
    let (enabled_at, asked, first_seen) = (time_if_any(&row, 1)?, time_if_any(&row, 2)?, time(&row, 3)?);
    session.run("UPDATE feed SET enabled_at = $2 WHERE feed = $1", &[&feed, &ms(now)]).await?;
    if was_enabled == Some(true) {
        return Ok(());
    }
    // Without a start of ours it was somebody else's, and who knows since when.
    let Some(until) = asked.filter(|asked| enabled_at.is_none_or(|seen| *asked > seen)) else { return Ok(()) };
    let (cause, since) = match enabled_at {
        Some(seen) => (GapCause::SubscriptionStopped, seen),
        None => (GapCause::BeforeSubscription, offered_from(session, tenant, first_seen).await?),
    };
    if since < until {
        insert(session, (tenant, Some(feed)), Kind::Unkept, cause.as_str(), (since, Some(until))).await?;
    }
    Ok(())
}

/// Where the tenant's collection of a feed that was first seen at this time is to begin.
async fn offered_from(session: &Session<'_>, tenant: i64, first_seen: Timestamp) -> Done<Timestamp> {
    let row = session.one("SELECT collect_from FROM tenant WHERE tenant = $1", &[&tenant]).await?;
    let evidence = engine::coverage::Evidence {
        collect_from: time(&row, 0)?,
        first_seen_at: first_seen,
        began: None,
        settled_through: None,
        tiles: &[],
        oldest_unarchived: None,
    };
    Ok(evidence.from())
}

/// The service says that it has been enabled all along.
pub(super) async fn seen_enabled(
    session: &Session<'_>,
    id: TenantId,
    content_type: &ContentType,
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let Some(feed) = feed_number(session, tenant, content_type).await? else { return Ok(()) };
    session.run("UPDATE feed SET enabled = true, enabled_at = $2 WHERE feed = $1", &[&feed, &ms(now)]).await?;
    Ok(())
}

/// Contents came that were created in a time of which nothing was thought to be kept: that time is shorter.
pub(super) async fn shorten_unkept(session: &Session<'_>, feed: i64, created: &[i64]) -> Done<()> {
    // What there was no subscription for ends with the first that is there; after a stop, it begins with the last.
    let before = GapCause::BeforeSubscription.as_str();
    session
        .run(
            "UPDATE hindrance AS h SET until = CASE WHEN h.cause = $3 THEN k.first ELSE h.until END,
             since = CASE WHEN h.cause = $3 THEN h.since ELSE k.last + 1 END
             FROM (SELECT u.hindrance, min(c.created) AS first, max(c.created) AS last
                   FROM hindrance AS u JOIN unnest($2::bigint[]) AS c (created)
                   ON u.since <= c.created AND u.until > c.created
                   WHERE u.feed = $1 AND u.kind = 2 GROUP BY u.hindrance) AS k
             WHERE h.hindrance = k.hindrance",
            &[&feed, &created, &before],
        )
        .await?;
    Ok(())
}

/// A collector is at work.
pub(super) async fn at_work(session: &Session<'_>, now: Timestamp) -> Done<()> {
    session.rows("SELECT pg_advisory_xact_lock($1, hashtext('at_work'))", &[&schema::LOCKS]).await?;
    let last = session.maybe("SELECT since, until FROM at_work ORDER BY since DESC LIMIT 1", &[]).await?;
    let last = last.map(|row| Done::Ok((time(&row, 0)?, time(&row, 1)?))).transpose()?;
    let goes_on = last.filter(|(since, until)| *since <= now && now - *until <= AT_WORK_JOINED);
    if let Some((since, until)) = goes_on {
        // A clock that was far ahead has claimed what has not been yet.
        let until = if until - now > AT_WORK_JOINED { now } else { until.max(now) };
        session.run("UPDATE at_work SET until = $2 WHERE since = $1", &[&ms(since), &ms(until)]).await?;
        return Ok(());
    }
    // What would be after today was written by a clock that was ahead.
    session.run("DELETE FROM at_work WHERE since >= $1", &[&ms(now)]).await?;
    session.run("INSERT INTO at_work (since, until) VALUES ($1, $1)", &[&ms(now)]).await?;
    session
        .run(
            "DELETE FROM at_work WHERE since < (SELECT since FROM at_work ORDER BY since DESC LIMIT 1 OFFSET $1)",
            &[&(KEPT_AT_WORK - 1)],
        )
        .await?;
    Ok(())
}

/// What is known of each feed, in the order of coverage.
pub(super) async fn history(session: &Session<'_>, id: TenantId) -> Done<Vec<(ContentType, History)>> {
    let tenant = tenant_number(session, id).await?;
    let mut at_work = Vec::new();
    for row in session.rows("SELECT since, until FROM at_work ORDER BY since", &[]).await? {
        at_work.push(Gap { start: time(&row, 0)?, until: time(&row, 1)? });
    }
    let rows = session
        .rows("SELECT feed, cause, since, until FROM hindrance WHERE tenant = $1 ORDER BY since, hindrance", &[&tenant])
        .await?;
    let mut all: Vec<(Option<i64>, Hindrance)> = Vec::new();
    for row in &rows {
        let hindrance = Hindrance {
            // A word of a later version is something that stood in the way, whatever it was.
            cause: row.try_get::<_, &str>(1)?.parse().unwrap_or(GapCause::NotRecorded),
            since: time(row, 2)?,
            until: time_if_any(row, 3)?,
        };
        all.push((row.try_get(0)?, hindrance));
    }
    let feeds = session
        .rows("SELECT feed, name FROM feed JOIN content_type USING (type) WHERE tenant = $1 ORDER BY type", &[&tenant])
        .await?;
    let mut history = Vec::new();
    for row in &feeds {
        let number: i64 = row.try_get(0)?;
        let hindrances = all.iter().filter(|(feed, _)| feed.is_none_or(|feed| feed == number));
        let hindrances = hindrances.map(|(_, hindrance)| *hindrance).collect();
        history.push((parsed(row, 1)?, History { hindrances, at_work: at_work.clone() }));
    }
    Ok(history)
}
