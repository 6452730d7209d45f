//! What coverage notes beside completeness: what keeps failing, what silence is usual, what listing again has cost; and the
//! second chance of what was given up.

use engine::model::{FailingContent, FeedNotes, Gap, LossKind, Relisting};
use engine::silence::{HOURS, Heard, Rhythm};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::contents;
use super::fault::{Done, Fault};
use super::rows::{counted, ensure_feed, known, lock_tenant, parsed, small, tenant_number, time, time_if_any};
use super::session::Session;
use crate::values::{count, ms};

pub(super) async fn failing(session: &Session<'_>, id: TenantId, limit: u32) -> Done<Vec<FailingContent>> {
    let tenant = tenant_number(session, id).await?;
    let mut all = Vec::new();
    for feed in session.rows("SELECT feed FROM feed WHERE tenant = $1 ORDER BY type", &[&tenant]).await? {
        let feed: i64 = feed.try_get(0)?;
        let left = i64::from(limit) - count(all.len() as u64);
        if left <= 0 {
            break;
        }
        let rows = session
            .rows(
                "SELECT t.name, c.id, p.created, p.expires, p.attempts, p.failure, p.next_attempt_at
                 FROM (SELECT * FROM pending WHERE feed = $1 AND failure_number IS NOT NULL
                       ORDER BY failure_number DESC LIMIT $2) AS p
                 JOIN content AS c USING (content) JOIN feed AS f ON f.feed = p.feed
                 JOIN content_type AS t USING (type) ORDER BY p.failure_number DESC",
                &[&feed, &left],
            )
            .await?;
        for row in &rows {
            all.push(FailingContent {
                content_type: parsed(row, 0)?,
                content_id: row.try_get(1)?,
                created: time(row, 2)?,
                expires: time(row, 3)?,
                attempts: small(row, 4)?,
                failure: row.try_get(5)?,
                next_attempt_at: time(row, 6)?,
            });
        }
    }
    Ok(all)
}

pub(super) async fn relisted(
    session: &Session<'_>,
    id: TenantId,
    content_type: &ContentType,
    requests: u64,
    found: u64,
    now: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let feed = ensure_feed(session, tenant, content_type, now).await?;
    session
        .run(
            "UPDATE feed SET relistings = relistings + 1, relisting_requests = relisting_requests + $2,
             relisting_found = relisting_found + $3 WHERE feed = $1",
            &[&feed, &count(requests), &count(found)],
        )
        .await?;
    Ok(())
}

pub(super) async fn retry_lost(session: &Session<'_>, id: TenantId, now: Timestamp) -> Done<u64> {
    let tenant = lock_tenant(session, id).await?;
    let lost = session
        .rows(
            "SELECT c.content, c.feed, l.kind FROM loss AS l JOIN content AS c USING (content)
             WHERE l.tenant = $1 AND l.kind IN (1, 2) AND l.uri <> '' AND c.expires > $2 ORDER BY l.lost_at, l.content",
            &[&tenant, &ms(now)],
        )
        .await?;
    for row in &lost {
        let kind = known(row, 2, &LossKind::ALL)?;
        contents::wait_again(session, tenant, row.try_get(1)?, row.try_get(0)?, kind, None, now).await?;
    }
    Ok(lost.len() as u64)
}

/// Learns what has been listed completely, and forgets the hours it came from.
pub(super) async fn learn(session: &Session<'_>, feed: i64, gaps: &[Gap], listed_through: Timestamp) -> Done<()> {
    let (mut rhythm, heard) = (rhythm(session, feed).await?, heard(session, feed).await?);
    let before = rhythm.clone();
    rhythm.learn(&heard, gaps, listed_through);
    if rhythm == before {
        return Ok(());
    }
    let longest: Vec<u8> = rhythm.longest.iter().flat_map(|minutes| minutes.to_le_bytes()).collect();
    session
        .run(
            "INSERT INTO rhythm (feed, longest, hours, through, last) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (feed) DO UPDATE SET longest = $2, hours = $3, through = $4, last = $5",
            &[&feed, &longest, &i64::from(rhythm.hours), &rhythm.through.map(ms), &rhythm.last.map(ms)],
        )
        .await?;
    session
        .run("DELETE FROM heard WHERE feed = $1 AND hour < $2", &[&feed, &rhythm.through.map_or(i64::MIN, ms)])
        .await?;
    Ok(())
}

async fn rhythm(session: &Session<'_>, feed: i64) -> Done<Rhythm> {
    let row = session.maybe("SELECT longest, hours, through, last FROM rhythm WHERE feed = $1", &[&feed]).await?;
    Ok(row.as_ref().map(rhythm_row).transpose()?.unwrap_or_default())
}

fn rhythm_row(row: &Row) -> Done<Rhythm> {
    let bytes: &[u8] = row.try_get(0)?;
    let mut longest = [0; HOURS];
    if bytes.len() != 2 * HOURS {
        return Err(Fault::Value(format!("a rhythm of {} bytes", bytes.len())));
    }
    for (slot, pair) in longest.iter_mut().zip(bytes.chunks_exact(2)) {
        *slot = pair.iter().rev().fold(0, |number, byte| number << 8 | u16::from(*byte));
    }
    Ok(Rhythm { longest, hours: small(row, 1)?, through: time_if_any(row, 2)?, last: time_if_any(row, 3)? })
}

async fn heard(session: &Session<'_>, feed: i64) -> Done<Vec<Heard>> {
    let rows = session.rows("SELECT first, last FROM heard WHERE feed = $1 ORDER BY hour", &[&feed]).await?;
    rows.iter().map(|row| Ok(Heard { first: time(row, 0)?, last: time(row, 1)? })).collect()
}

/// The notes of one feed that was listed through `listed_through`.
pub(super) async fn of_feed(
    session: &Session<'_>,
    feed: i64,
    content_type: ContentType,
    listed_through: Option<Timestamp>,
) -> Done<FeedNotes> {
    let newest = session
        .maybe("SELECT last FROM heard WHERE feed = $1 ORDER BY hour DESC LIMIT 1", &[&feed])
        .await?
        .map(|row| time(&row, 0))
        .transpose()?;
    let row = session
        .one("SELECT relistings, relisting_requests, relisting_found FROM feed WHERE feed = $1", &[&feed])
        .await?;
    let relisting = Relisting { listings: counted(&row, 0)?, requests: counted(&row, 1)?, found: counted(&row, 2)? };
    let silence = match listed_through {
        Some(through) => rhythm(session, feed).await?.judge(newest, through),
        None => None,
    };
    Ok(FeedNotes { content_type, silence, relisting })
}
