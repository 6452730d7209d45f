//! Contents on their way: listed, tried, given up. What becomes of the rest is a commit's business.
//!
//! A page of a listing costs a handful of statements, however many contents it names.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::TimeDelta;
use engine::model::{ContentState, Listed, Loss, LossKind, LostContent, Pending, RefusedEntry};
use engine::silence::hour_of;
use protocol::activity::RETENTION;
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::fault::{Done, Fault};
use super::rows::{
    ensure_feed, feed_number, known, lock_tenant, parsed, small, state as state_number, tenant_number, time,
};
use super::session::Session;
use crate::LedgerError;
use crate::values::{CONTENT_STATES, content_key, count, loss_kind, message, ms, plain};

/// Contents that expire within this span come before all others.
const URGENT: TimeDelta = TimeDelta::days(1);
/// What claims to be from another week teaches nothing of a feed's rhythm.
const HEARD_DAYS: i64 = 8;

pub(super) async fn listed(session: &Session<'_>, id: TenantId, contents: &[Listed], now: Timestamp) -> Done<u64> {
    let tenant = lock_tenant(session, id).await?;
    let mut feeds: Vec<(&ContentType, Vec<&Listed>)> = Vec::new();
    for content in contents {
        match feeds.iter_mut().find(|(content_type, _)| **content_type == content.content_type) {
            Some((_, of_type)) => of_type.push(content),
            None => feeds.push((&content.content_type, vec![content])),
        }
    }
    let mut new = 0;
    for (content_type, contents) in feeds {
        let feed = ensure_feed(session, tenant, content_type, now).await?;
        new += list(session, tenant, feed, &contents, now).await?;
    }
    Ok(new)
}

/// How many of these contents of one feed were new.
async fn list(session: &Session<'_>, tenant: i64, feed: i64, contents: &[&Listed], now: Timestamp) -> Done<u64> {
    let keys: Vec<[u8; 16]> = contents.iter().map(|content| content_key(content.content_id.as_str())).collect();
    // Nearly all that is listed is known, as every listing begins at its tile's start: that costs this and no more.
    let wanted: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let rows = session
        .rows("SELECT key, content, state FROM content WHERE feed = $1 AND key = ANY($2)", &[&feed, &wanted])
        .await?;
    let mut found: HashMap<Vec<u8>, (i64, ContentState)> = HashMap::new();
    for row in rows {
        found.insert(row.try_get(0)?, (row.try_get(1)?, known(&row, 2, &CONTENT_STATES)?));
    }
    let (mut new, mut waiting) = (Vec::new(), Vec::new());
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for (key, content) in wanted.iter().zip(contents) {
        match found.get(*key) {
            Some((_, ContentState::Archived)) => {}
            Some((row, ContentState::Listed)) => waiting.push((*row, *content)),
            Some((row, ContentState::Lost)) => {
                revive(session, tenant, feed, *row, content, now).await?;
            }
            // A page that names a new one twice names it once.
            None if seen.insert(*key) => new.push((*key, *content)),
            None => {}
        }
    }
    correct_urls(session, &waiting, now).await?;
    insert(session, tenant, feed, &new, now).await?;
    hear(session, feed, &new, now).await?;
    if !new.is_empty() {
        let created: Vec<i64> = new.iter().map(|(_, content)| ms(content.created)).collect();
        super::hindrances::shorten_unkept(session, feed, &created).await?;
    }
    Ok(new.len() as u64)
}

async fn insert(session: &Session<'_>, tenant: i64, feed: i64, new: &[(&[u8], &Listed)], now: Timestamp) -> Done<()> {
    if new.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = new.iter().map(|(key, _)| *key).collect();
    let ids: Vec<&str> = new.iter().map(|(_, content)| content.content_id.as_str()).collect();
    let uris: Vec<&str> = new.iter().map(|(_, content)| content.content_uri.as_str()).collect();
    let created: Vec<i64> = new.iter().map(|(_, content)| ms(content.created)).collect();
    let expires: Vec<i64> = new.iter().map(|(_, content)| ms(content.expires)).collect();
    session
        .run(
            "WITH listed AS (
               SELECT * FROM unnest($3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bigint[])
               WITH ORDINALITY AS l (key, id, uri, created, expires, place)
             ), added AS (
               INSERT INTO content (feed, key, id, state, created, expires)
               SELECT $2, key, id, 0, created, expires FROM listed ORDER BY place
               RETURNING content, key, created, expires
             )
             INSERT INTO pending (content, tenant, feed, uri, created, expires, seen_at, attempts, next_attempt_at)
             SELECT a.content, $1, $2, l.uri, a.created, a.expires, $8, 0, $8 FROM added AS a JOIN listed AS l USING (key)",
            &[&tenant, &feed, &keys, &ids, &uris, &created, &expires, &ms(now)],
        )
        .await?;
    session.run("UPDATE feed SET pending = pending + $2 WHERE feed = $1", &[&feed, &count(new.len() as u64)]).await?;
    Ok(())
}

/// New contents were created at these times.
async fn hear(session: &Session<'_>, feed: i64, new: &[(&[u8], &Listed)], now: Timestamp) -> Done<()> {
    let mut heard: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (_, content) in new {
        if (now - content.created).num_days().abs() > HEARD_DAYS {
            continue;
        }
        let created = ms(content.created);
        let hour = heard.entry(ms(hour_of(content.created))).or_insert((created, created));
        *hour = (hour.0.min(created), hour.1.max(created));
    }
    if heard.is_empty() {
        return Ok(());
    }
    let hours: Vec<i64> = heard.keys().copied().collect();
    let first: Vec<i64> = heard.values().map(|(first, _)| *first).collect();
    let last: Vec<i64> = heard.values().map(|(_, last)| *last).collect();
    session
        .run(
            "INSERT INTO heard (feed, hour, first, last)
             SELECT $1, h, f, l FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS n (h, f, l)
             ON CONFLICT (feed, hour) DO UPDATE
             SET first = least(heard.first, excluded.first), last = greatest(heard.last, excluded.last)",
            &[&feed, &hours, &first, &last],
        )
        .await?;
    Ok(())
}

/// Contents that wait after a failure take the latest URL, if that is another one, and are tried at once.
async fn correct_urls(session: &Session<'_>, waiting: &[(i64, &Listed)], now: Timestamp) -> Done<()> {
    let mut left: Vec<(i64, &str)> =
        waiting.iter().map(|(row, content)| (*row, content.content_uri.as_str())).collect();
    // One statement changes a row once: what a page names twice is for a second round.
    while !left.is_empty() {
        let mut seen = HashSet::new();
        let (round, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|(row, _)| seen.insert(*row));
        let rows: Vec<i64> = round.iter().map(|(row, _)| *row).collect();
        let uris: Vec<&str> = round.iter().map(|(_, uri)| *uri).collect();
        session
            .run(
                "UPDATE pending AS p SET uri = n.uri, next_attempt_at = least(p.next_attempt_at, $3)
                 FROM unnest($1::bigint[], $2::text[]) AS n (content, uri)
                 WHERE p.content = n.content AND p.attempts > 0 AND p.uri <> n.uri",
                &[&rows, &uris, &ms(now)],
            )
            .await?;
        left = rest;
    }
    Ok(())
}

/// Lets a lost content wait again when there is reason for hope.
async fn revive(session: &Session<'_>, tenant: i64, feed: i64, row: i64, content: &Listed, now: Timestamp) -> Done<()> {
    let lost = session
        .maybe(
            "SELECT kind, uri = '', uri <> $3 FROM loss JOIN content USING (content) WHERE content = $1 AND expires > $2",
            &[&row, &ms(now), &content.content_uri.as_str()],
        )
        .await?;
    let Some(lost) = lost else { return Ok(()) };
    let kind = known(&lost, 0, &LossKind::ALL)?;
    let hope = match kind {
        LossKind::Missing => true,
        LossKind::RefusedUrl => lost.try_get(2)?,
        // It was the entry of the listing that could not be read, not a blob.
        LossKind::Expired | LossKind::Unreadable => lost.try_get(1)?,
    };
    if !hope {
        return Ok(());
    }
    wait_again(session, tenant, feed, row, kind, Some(content.content_uri.as_str()), now).await
}

/// Lets a lost content wait again, by the URL given or the one it was lost with.
pub(super) async fn wait_again(
    session: &Session<'_>,
    tenant: i64,
    feed: i64,
    row: i64,
    kind: LossKind,
    uri: Option<&str>,
    now: Timestamp,
) -> Done<()> {
    session
        .run(
            "INSERT INTO pending (content, tenant, feed, uri, created, expires, seen_at, attempts, next_attempt_at)
             SELECT c.content, $2, c.feed, coalesce($3, l.uri), c.created, c.expires, $4, 0, $4
             FROM loss AS l JOIN content AS c USING (content) WHERE l.content = $1",
            &[&row, &tenant, &uri, &ms(now)],
        )
        .await?;
    session.run("DELETE FROM loss WHERE content = $1", &[&row]).await?;
    session.run("UPDATE content SET state = 0 WHERE content = $1", &[&row]).await?;
    session.run("UPDATE feed SET pending = pending + 1 WHERE feed = $1", &[&feed]).await?;
    count_loss(session, feed, kind, -1).await
}

pub(super) async fn pending(
    session: &Session<'_>,
    id: TenantId,
    now: Timestamp,
    limit: u32,
    in_flight: &[i64],
) -> Done<Vec<Pending>> {
    // The few that are asked for are chosen by one index alone; only for them is anything else looked up.
    const CHOSEN: &str =
        "SELECT p.content, t.name, c.id, p.uri, p.created, p.expires, p.seen_at, p.attempts, p.next_attempt_at
         FROM (SELECT * FROM pending WHERE tenant = $1 AND next_attempt_at <= $3 AND content <> ALL($4) AND";
    const BESIDE: &str = "AS p JOIN content AS c USING (content) JOIN feed AS f ON f.feed = p.feed
         JOIN content_type AS t USING (type) ORDER BY";
    let tenant = tenant_number(session, id).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let soon = ms(now + URGENT);
    let mut found = Vec::new();
    for (which, order, outside) in [
        ("expires <= $2", "expires, content", "p.expires, p.content"),
        ("expires > $2", "expires DESC, content DESC", "p.expires DESC, p.content DESC"),
    ] {
        let left = count(limit.saturating_sub(found.len()) as u64);
        if left == 0 {
            break;
        }
        let text = format!("{CHOSEN} {which} ORDER BY {order} LIMIT $5) {BESIDE} {outside}");
        let rows = session.rows(&text, &[&tenant, &soon, &ms(now), &in_flight, &left]).await?;
        for row in rows {
            found.push(pending_row(&row)?);
        }
    }
    Ok(found)
}

pub(super) async fn next_attempt_at(session: &Session<'_>, id: TenantId) -> Done<Option<Timestamp>> {
    let tenant = tenant_number(session, id).await?;
    let row = session
        .maybe("SELECT next_attempt_at FROM pending WHERE tenant = $1 ORDER BY next_attempt_at LIMIT 1", &[&tenant])
        .await?;
    row.map(|row| time(&row, 0)).transpose()
}

pub(super) async fn failed(
    session: &Session<'_>,
    id: TenantId,
    row: i64,
    text: &str,
    next_attempt_at: Timestamp,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let found = session
        .maybe("SELECT feed, attempts FROM pending WHERE content = $1 AND tenant = $2", &[&row, &tenant])
        .await?
        .ok_or(LedgerError::NotListed { tenant: id, row })?;
    let (feed, attempts): (i64, i64) = (found.try_get(0)?, found.try_get(1)?);
    let number: i64 = session
        .one(
            "UPDATE feed SET failures = failures + 1, failing = failing + $2 WHERE feed = $1 RETURNING failures",
            &[&feed, &i64::from(attempts == 0)],
        )
        .await?
        .try_get(0)?;
    session
        .run(
            "UPDATE pending SET attempts = attempts + 1, failure = $2, failure_number = $3, next_attempt_at = $4
             WHERE content = $1",
            &[&row, &message(text), &number, &ms(next_attempt_at)],
        )
        .await?;
    Ok(())
}

pub(super) async fn lost(session: &Session<'_>, id: TenantId, row: i64, loss: &Loss, now: Timestamp) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let ended = end(session, id, tenant, &[row]).await?;
    for ended in &ended {
        lose(session, tenant, ended, loss, now).await?;
    }
    Ok(())
}

/// Gives up a content that has ended.
pub(super) async fn lose(session: &Session<'_>, tenant: i64, ended: &Ended, loss: &Loss, now: Timestamp) -> Done<()> {
    session.run("UPDATE content SET state = 2 WHERE content = $1", &[&ended.row]).await?;
    session
        .run(
            "UPDATE feed SET pending = pending - 1, failing = failing - $2 WHERE feed = $1",
            &[&ended.feed, &i64::from(ended.failing)],
        )
        .await?;
    add_loss(session, tenant, ended.row, loss, &ended.uri, now).await?;
    count_loss(session, ended.feed, loss.kind, 1).await
}

async fn add_loss(session: &Session<'_>, tenant: i64, row: i64, loss: &Loss, uri: &str, now: Timestamp) -> Done<()> {
    session
        .run(
            "INSERT INTO loss (content, tenant, kind, message, uri, lost_at) VALUES ($1, $2, $3, $4, $5, $6)",
            &[&row, &tenant, &state_number(loss_kind(loss.kind)), &message(&loss.message), &uri, &ms(now)],
        )
        .await?;
    Ok(())
}

/// A content that waits no more. Its feed's sums are still to be corrected: one pending less, and one failing less if it
/// was.
pub(super) struct Ended {
    pub(super) row: i64,
    pub(super) feed: i64,
    pub(super) uri: String,
    /// Its last attempt had failed.
    pub(super) failing: bool,
}

/// Ends the waiting of contents, however it ends; in the order given. One that does not wait, or is named twice, is
/// refused.
pub(super) async fn end(session: &Session<'_>, id: TenantId, tenant: i64, rows: &[i64]) -> Done<Vec<Ended>> {
    let deleted = session
        .rows(
            "DELETE FROM pending WHERE content = ANY($1) AND tenant = $2 RETURNING content, feed, uri, attempts > 0",
            &[&rows, &tenant],
        )
        .await?;
    let mut ended: HashMap<i64, Ended> = HashMap::new();
    for row in deleted {
        let one = Ended { row: row.try_get(0)?, feed: row.try_get(1)?, uri: row.try_get(2)?, failing: row.try_get(3)? };
        ended.insert(one.row, one);
    }
    rows.iter()
        .map(|row| ended.remove(row).ok_or_else(|| Fault::Rule(LedgerError::NotListed { tenant: id, row: *row })))
        .collect()
}

async fn count_loss(session: &Session<'_>, feed: i64, kind: LossKind, by: i64) -> Done<()> {
    let statement = match kind {
        LossKind::Expired => "UPDATE feed SET lost_expired = lost_expired + $2 WHERE feed = $1",
        LossKind::Missing => "UPDATE feed SET lost_missing = lost_missing + $2 WHERE feed = $1",
        LossKind::Unreadable => "UPDATE feed SET lost_unreadable = lost_unreadable + $2 WHERE feed = $1",
        LossKind::RefusedUrl => "UPDATE feed SET lost_refused_url = lost_refused_url + $2 WHERE feed = $1",
    };
    session.run(statement, &[&feed, &by]).await?;
    Ok(())
}

pub(super) async fn losses(session: &Session<'_>, id: TenantId, limit: u32) -> Done<Vec<LostContent>> {
    let tenant = tenant_number(session, id).await?;
    let rows = session
        .rows(
            "SELECT t.name, c.id, c.created, c.expires, l.kind, l.message, l.lost_at
             FROM (SELECT * FROM loss WHERE tenant = $1 ORDER BY lost_at DESC, content DESC LIMIT $2) AS l
             JOIN content AS c USING (content) JOIN feed AS f ON f.feed = c.feed JOIN content_type AS t USING (type)
             ORDER BY l.lost_at DESC, l.content DESC",
            &[&tenant, &i64::from(limit)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(LostContent {
                content_type: parsed(row, 0)?,
                content_id: row.try_get(1)?,
                created: time(row, 2)?,
                expires: time(row, 3)?,
                loss: Loss { kind: known(row, 4, &LossKind::ALL)?, message: row.try_get(5)? },
                lost_at: time(row, 6)?,
            })
        })
        .collect()
}

pub(super) async fn refused(
    session: &Session<'_>,
    id: TenantId,
    entries: &[RefusedEntry],
    now: Timestamp,
) -> Done<u64> {
    let tenant = lock_tenant(session, id).await?;
    let retention = TimeDelta::from_std(RETENTION).unwrap_or(TimeDelta::MAX);
    let mut new = 0;
    for entry in entries {
        let feed = ensure_feed(session, tenant, &entry.content_type, now).await?;
        let name = match &entry.content_id {
            Some(content_id) => content_id.as_str().to_owned(),
            None => format!("entry {}", blake3::hash(entry.raw.as_bytes())),
        };
        let created = entry.created.unwrap_or(now);
        let expires = created.checked_add_signed(retention).unwrap_or(created);
        let row = session
            .maybe(
                "INSERT INTO content (feed, key, id, state, created, expires) VALUES ($1, $2, $3, 2, $4, $5)
                 ON CONFLICT (feed, key) DO NOTHING RETURNING content",
                &[&feed, &&content_key(&name)[..], &plain(&name), &ms(created), &ms(expires)],
            )
            .await?;
        let Some(row) = row else { continue };
        let text = format!("{}: {}", entry.loss.message, entry.raw);
        let loss = Loss { kind: entry.loss.kind, message: text };
        add_loss(session, tenant, row.try_get(0)?, &loss, "", now).await?;
        count_loss(session, feed, entry.loss.kind, 1).await?;
        new += 1;
    }
    Ok(new)
}

pub(super) async fn state(
    session: &Session<'_>,
    id: TenantId,
    content_type: &ContentType,
    content_id: &str,
) -> Done<Option<ContentState>> {
    let tenant = tenant_number(session, id).await?;
    let Some(feed) = feed_number(session, tenant, content_type).await? else { return Ok(None) };
    let row = session
        .maybe("SELECT state FROM content WHERE feed = $1 AND key = $2", &[&feed, &&content_key(content_id)[..]])
        .await?;
    row.map(|row| known(&row, 0, &CONTENT_STATES)).transpose()
}

fn pending_row(row: &Row) -> Done<Pending> {
    Ok(Pending {
        row: row.try_get(0)?,
        content: Listed {
            content_type: parsed(row, 1)?,
            content_id: parsed(row, 2)?,
            content_uri: parsed(row, 3)?,
            created: time(row, 4)?,
            expires: time(row, 5)?,
        },
        seen_at: time(row, 6)?,
        attempts: small(row, 7)?,
        next_attempt_at: time(row, 8)?,
    })
}
