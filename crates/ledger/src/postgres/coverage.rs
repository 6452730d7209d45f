//! Tiles, and what they and the sums say about completeness.
//!
//! Never counts contents: the sums are kept as things happen. What the tiles prove is the engine's to say.

use engine::coverage::Evidence;
use engine::model::{Coverage, FeedNotes, Gap, LossKind, Problem, Tile};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use tokio_postgres::Row;

use super::fault::Done;
use super::rows::{
    counted, ensure_feed, feed_number, lock_tenant, parsed, problem, small, tenant_number, time, time_if_any,
};
use super::session::Session;
use crate::LedgerError;
use crate::values::{count, ms};

pub(super) async fn tiles(session: &Session<'_>, id: TenantId, content_type: &ContentType) -> Done<Vec<Tile>> {
    let tenant = tenant_number(session, id).await?;
    match feed_number(session, tenant, content_type).await? {
        Some(feed) => tiles_of(session, feed).await,
        None => Ok(Vec::new()),
    }
}

async fn tiles_of(session: &Session<'_>, feed: i64) -> Done<Vec<Tile>> {
    let rows = session
        .rows(
            "SELECT start, until, listed_until, listed_at, closed_listings, next_listing_at, late_contents
             FROM tile WHERE feed = $1 ORDER BY start",
            &[&feed],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Tile {
                start: time(row, 0)?,
                until: time(row, 1)?,
                listed_until: time_if_any(row, 2)?,
                listed_at: time_if_any(row, 3)?,
                closed_listings: small(row, 4)?,
                next_listing_at: time_if_any(row, 5)?,
                late_contents: counted(row, 6)?,
            })
        })
        .collect()
}

pub(super) async fn tile_listed(
    session: &Session<'_>,
    id: TenantId,
    content_type: &ContentType,
    tile: &Tile,
) -> Done<()> {
    let tenant = lock_tenant(session, id).await?;
    let malformed = |problem| LedgerError::MalformedTile {
        tenant: id,
        content_type: content_type.clone(),
        start: tile.start,
        problem,
    };
    if tile.start >= tile.until {
        return Err(malformed("it ends before it starts").into());
    }
    if tile.listed_until.is_some_and(|listed| listed < tile.start || listed > tile.until) {
        return Err(malformed("it is listed through a time outside of it").into());
    }
    let feed = ensure_feed(session, tenant, content_type, tile.listed_at.unwrap_or(tile.start)).await?;
    make_room(session, id, content_type, feed, tile).await?;
    session
        .run(
            "INSERT INTO tile (feed, start, until, listed_until, listed_at, closed_listings, next_listing_at, late_contents)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (feed, start) DO UPDATE SET until = $3, listed_until = $4, listed_at = $5, closed_listings = $6,
             next_listing_at = $7, late_contents = $8",
            &[
                &feed,
                &ms(tile.start),
                &ms(tile.until),
                &tile.listed_until.map(ms),
                &tile.listed_at.map(ms),
                &i64::from(tile.closed_listings),
                &tile.next_listing_at.map(ms),
                &count(tile.late_contents),
            ],
        )
        .await?;
    session
        .run(
            "UPDATE feed SET began = CASE WHEN settled_through IS NULL THEN least(began, $2) ELSE began END,
               first_seen_at = least(first_seen_at, $3)
             WHERE feed = $1 AND ((settled_through IS NULL AND (began IS NULL OR began > $2)) OR first_seen_at > $3)",
            &[&feed, &ms(tile.start), &tile.listed_at.map(ms)],
        )
        .await?;
    Ok(())
}

/// Refuses a tile that overlaps another. One that begins where an earlier one has been listed to, or later, cuts that one
/// short instead: it was left behind half listed, and has fallen out of the feed's reach since.
async fn make_room(
    session: &Session<'_>,
    id: TenantId,
    content_type: &ContentType,
    feed: i64,
    tile: &Tile,
) -> Done<()> {
    // Tiles do not overlap, so only the last one that starts before this one's end can be in the way.
    let neighbour = session
        .maybe(
            "SELECT start, until, listed_until FROM tile WHERE feed = $1 AND start < $3 AND start <> $2
             ORDER BY start DESC LIMIT 1",
            &[&feed, &ms(tile.start), &ms(tile.until)],
        )
        .await?;
    let Some(neighbour) = neighbour else { return Ok(()) };
    let (other, until, listed) = (time(&neighbour, 0)?, time(&neighbour, 1)?, time_if_any(&neighbour, 2)?);
    if until <= tile.start {
        return Ok(());
    }
    if other > tile.start || listed.is_some_and(|listed| listed > tile.start) {
        let content_type = content_type.clone();
        return Err(LedgerError::OverlappingTile { tenant: id, content_type, start: tile.start, other }.into());
    }
    session
        .run("UPDATE tile SET until = $3 WHERE feed = $1 AND start = $2", &[&feed, &ms(other), &ms(tile.start)])
        .await?;
    Ok(())
}

/// A feed's row, as far as coverage needs it.
struct Feed {
    feed: i64,
    first_seen_at: Timestamp,
    began: Option<Timestamp>,
    settled_through: Option<Timestamp>,
    /// Everything but what the tiles and the pending contents say.
    sums: Coverage,
}

impl Feed {
    fn evidence<'a>(&self, collect_from: Timestamp, tiles: &'a [Tile]) -> Evidence<'a> {
        Evidence {
            collect_from,
            first_seen_at: self.first_seen_at,
            began: self.began,
            settled_through: self.settled_through,
            tiles,
            oldest_unarchived: None,
        }
    }
}

pub(super) async fn coverage(session: &Session<'_>, id: TenantId) -> Done<Vec<Coverage>> {
    let tenant = tenant_number(session, id).await?;
    let row = session
        .one(
            "SELECT collect_from, problem_kind, problem_message, problem_since, problem_next FROM tenant WHERE tenant = $1",
            &[&tenant],
        )
        .await?;
    let (collect_from, tenant_problem) = (time(&row, 0)?, problem(&row, 1)?);
    let mut all = Vec::new();
    for feed in feeds(session, id, tenant).await? {
        all.push(feed_coverage(session, feed, collect_from, tenant_problem.as_ref()).await?);
    }
    Ok(all)
}

async fn feed_coverage(
    session: &Session<'_>,
    feed: Feed,
    collect_from: Timestamp,
    tenant_problem: Option<&Problem>,
) -> Done<Coverage> {
    let tiles = tiles_of(session, feed.feed).await?;
    let mut evidence = feed.evidence(collect_from, &tiles);
    let from = evidence.from();
    evidence.oldest_unarchived = session
        .maybe(
            "SELECT created FROM pending WHERE feed = $1 AND created >= $2 ORDER BY created LIMIT 1",
            &[&feed.feed, &ms(from)],
        )
        .await?
        .map(|row| time(&row, 0))
        .transpose()?;
    let last_failure = session
        .maybe(
            "SELECT failure FROM pending WHERE feed = $1 AND failure_number IS NOT NULL
             ORDER BY failure_number DESC LIMIT 1",
            &[&feed.feed],
        )
        .await?
        .map(|row| row.try_get(0))
        .transpose()?;
    let assessment = evidence.assess();
    let mut gaps = gaps_of(session, feed.feed).await?;
    for gap in assessment.gaps {
        match gaps.last_mut() {
            // The end of one that is written down in part.
            Some(last) if last.until == gap.start => last.until = gap.until,
            _ => gaps.push(gap),
        }
    }
    let most = usize::try_from(Coverage::GAPS_MAX).unwrap_or(usize::MAX);
    let excess = gaps.len().saturating_sub(most);
    gaps.drain(..excess);
    let problem = tenant_problem.cloned().or(feed.sums.problem);
    Ok(Coverage { from, complete_through: assessment.complete_through, gaps, last_failure, problem, ..feed.sums })
}

async fn gaps_of(session: &Session<'_>, feed: i64) -> Done<Vec<Gap>> {
    let rows = session
        .rows(
            "SELECT start, until FROM gap WHERE feed = $1 ORDER BY start DESC LIMIT $2",
            &[&feed, &i64::from(Coverage::GAPS_MAX)],
        )
        .await?;
    rows.iter().rev().map(|row| Ok(Gap { start: time(row, 0)?, until: time(row, 1)? })).collect()
}

async fn feeds(session: &Session<'_>, id: TenantId, tenant: i64) -> Done<Vec<Feed>> {
    let rows = session
        .rows(
            "SELECT feed, name, first_seen_at, began, settled_through, archived, pending, failing, records, duplicates,
                    variants, quarantined, lost_expired, lost_missing, lost_unreadable, lost_refused_url,
                    problem_kind, problem_message, problem_since, problem_next
             FROM feed JOIN content_type USING (type) WHERE tenant = $1 ORDER BY type",
            &[&tenant],
        )
        .await?;
    rows.iter().map(|row| feed_row(row, id)).collect()
}

fn feed_row(row: &Row, id: TenantId) -> Done<Feed> {
    let mut lost = Vec::new();
    for (kind, column) in LossKind::ALL.into_iter().zip(12..) {
        let contents = counted(row, column)?;
        if contents > 0 {
            lost.push((kind, contents));
        }
    }
    let first_seen_at = time(row, 2)?;
    Ok(Feed {
        feed: row.try_get(0)?,
        first_seen_at,
        began: time_if_any(row, 3)?,
        settled_through: time_if_any(row, 4)?,
        sums: Coverage {
            tenant: id,
            content_type: parsed(row, 1)?,
            from: first_seen_at,
            complete_through: None,
            gaps: Vec::new(),
            archived: counted(row, 5)?,
            pending: counted(row, 6)?,
            failing: counted(row, 7)?,
            last_failure: None,
            lost,
            records: counted(row, 8)?,
            duplicates: counted(row, 9)?,
            variants: counted(row, 10)?,
            quarantined: counted(row, 11)?,
            problem: problem(row, 16)?,
        },
    })
}

pub(super) async fn fold(session: &Session<'_>, id: TenantId, before: Timestamp, limit: u32) -> Done<u64> {
    let tenant = lock_tenant(session, id).await?;
    let collect_from = collect_from(session, tenant).await?;
    let mut folded = 0;
    for feed in feeds(session, id, tenant).await? {
        settle(session, &feed, collect_from, before).await?;
        if let Some(through) = listed_through(session, &feed, collect_from).await? {
            super::notes::learn(session, feed.feed, &gaps_of(session, feed.feed).await?, through).await?;
        }
        let left = u64::from(limit).saturating_sub(folded);
        // Its sums stay in the feed's row; the row of the content itself has nothing more to say.
        folded += session
            .run(
                "DELETE FROM content WHERE content = ANY(ARRAY(
                   SELECT content FROM content WHERE feed = $1 AND state = 1 AND expires < $2 ORDER BY expires LIMIT $3))",
                &[&feed.feed, &ms(before), &count(left)],
            )
            .await?;
    }
    Ok(folded)
}

async fn collect_from(session: &Session<'_>, tenant: i64) -> Done<Timestamp> {
    time(&session.one("SELECT collect_from FROM tenant WHERE tenant = $1", &[&tenant]).await?, 0)
}

/// Through when a feed was listed, whatever waits to be fetched.
async fn listed_through(session: &Session<'_>, feed: &Feed, collect_from: Timestamp) -> Done<Option<Timestamp>> {
    let tiles = tiles_of(session, feed.feed).await?;
    Ok(feed.evidence(collect_from, &tiles).assess().complete_through)
}

pub(super) async fn notes(session: &Session<'_>, id: TenantId) -> Done<Vec<FeedNotes>> {
    let tenant = tenant_number(session, id).await?;
    let collect_from = collect_from(session, tenant).await?;
    let mut all = Vec::new();
    for feed in feeds(session, id, tenant).await? {
        let through = listed_through(session, &feed, collect_from).await?;
        all.push(super::notes::of_feed(session, feed.feed, feed.sums.content_type.clone(), through).await?);
    }
    Ok(all)
}

async fn settle(session: &Session<'_>, feed: &Feed, collect_from: Timestamp, before: Timestamp) -> Done<()> {
    let tiles = tiles_of(session, feed.feed).await?;
    let Some(settlement) = feed.evidence(collect_from, &tiles).settle(before) else { return Ok(()) };
    for gap in &settlement.gaps {
        add_gap(session, feed.feed, gap).await?;
    }
    let starts: Vec<i64> = settlement.tiles.iter().copied().map(ms).collect();
    session.run("DELETE FROM tile WHERE feed = $1 AND start = ANY($2)", &[&feed.feed, &starts]).await?;
    session.run("UPDATE feed SET settled_through = $2 WHERE feed = $1", &[&feed.feed, &ms(settlement.through)]).await?;
    Ok(())
}

/// An outage that lasts while the ledger is folded day by day is one gap, not many.
async fn add_gap(session: &Session<'_>, feed: i64, gap: &Gap) -> Done<()> {
    let last =
        session.maybe("SELECT start, until FROM gap WHERE feed = $1 ORDER BY start DESC LIMIT 1", &[&feed]).await?;
    let start = match last {
        Some(row) if time(&row, 1)? == gap.start => row.try_get(0)?,
        _ => ms(gap.start),
    };
    session
        .run(
            "INSERT INTO gap (feed, start, until) VALUES ($1, $2, $3) ON CONFLICT (feed, start) DO UPDATE SET until = $3",
            &[&feed, &start, &ms(gap.until)],
        )
        .await?;
    Ok(())
}
