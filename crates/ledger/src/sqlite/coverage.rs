//! Tiles, and what they and the sums say about completeness.
//!
//! Never counts contents: the sums are kept as things happen. What the tiles prove is the engine's to say.

use engine::coverage::Evidence;
use engine::model::{Coverage, FeedNotes, Gap, LossKind, Problem, Tile};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Done;
use super::rows::{counted, ensure_feed, feed_number, parsed, problem, sql, tenant_number, time, time_if_any};
use crate::LedgerError;
use crate::values::ms;

pub(super) fn tiles(connection: &Connection, id: TenantId, content_type: &ContentType) -> Done<Vec<Tile>> {
    let tenant = tenant_number(connection, id)?;
    match feed_number(connection, tenant, content_type)? {
        Some(feed) => tiles_of(connection, feed),
        None => Ok(Vec::new()),
    }
}

fn tiles_of(connection: &Connection, feed: i64) -> Done<Vec<Tile>> {
    let mut statement = sql(
        connection,
        "SELECT start, until, listed_until, listed_at, closed_listings, next_listing_at, late_contents
         FROM tile WHERE feed = ?1 ORDER BY start",
    )?;
    let tiles = statement.query_map([feed], |row| {
        Ok(Tile {
            start: time(row, 0)?,
            until: time(row, 1)?,
            listed_until: time_if_any(row, 2)?,
            listed_at: time_if_any(row, 3)?,
            closed_listings: row.get(4)?,
            next_listing_at: time_if_any(row, 5)?,
            late_contents: counted(row, 6)?,
        })
    })?;
    Ok(tiles.collect::<Result<_, _>>()?)
}

pub(super) fn tile_listed(connection: &Connection, id: TenantId, content_type: &ContentType, tile: &Tile) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
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
    let feed = ensure_feed(connection, tenant, content_type, tile.listed_at.unwrap_or(tile.start))?;
    make_room(connection, id, content_type, feed, tile)?;
    sql(
        connection,
        "INSERT INTO tile (feed, start, until, listed_until, listed_at, closed_listings, next_listing_at, late_contents)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (feed, start) DO UPDATE SET until = ?3, listed_until = ?4, listed_at = ?5, closed_listings = ?6,
         next_listing_at = ?7, late_contents = ?8",
    )?
    .execute(params![
        feed,
        ms(tile.start),
        ms(tile.until),
        tile.listed_until.map(ms),
        tile.listed_at.map(ms),
        tile.closed_listings,
        tile.next_listing_at.map(ms),
        crate::values::count(tile.late_contents),
    ])?;
    sql(
        connection,
        "UPDATE feed SET began = CASE WHEN settled_through IS NULL THEN min(coalesce(began, ?2), ?2) ELSE began END,
           first_seen_at = min(first_seen_at, coalesce(?3, first_seen_at))
         WHERE feed = ?1 AND ((settled_through IS NULL AND (began IS NULL OR began > ?2)) OR first_seen_at > ?3)",
    )?
    .execute(params![feed, ms(tile.start), tile.listed_at.map(ms)])?;
    Ok(())
}

/// Refuses a tile that overlaps another. One that begins where an earlier one has been listed to, or later, cuts that one
/// short instead: it was left behind half listed, and has fallen out of the feed's reach since.
fn make_room(connection: &Connection, id: TenantId, content_type: &ContentType, feed: i64, tile: &Tile) -> Done<()> {
    // Tiles do not overlap, so only the last one that starts before this one's end can be in the way.
    let neighbour = sql(
        connection,
        "SELECT start, until, listed_until FROM tile WHERE feed = ?1 AND start < ?3 AND start <> ?2
         ORDER BY start DESC LIMIT 1",
    )?
    .query_row(params![feed, ms(tile.start), ms(tile.until)], |row| {
        Ok((time(row, 0)?, time(row, 1)?, time_if_any(row, 2)?))
    })
    .optional()?;
    let Some((other, _, listed)) = neighbour.filter(|(_, until, _)| *until > tile.start) else {
        return Ok(());
    };
    if other > tile.start || listed.is_some_and(|listed| listed > tile.start) {
        let content_type = content_type.clone();
        return Err(LedgerError::OverlappingTile { tenant: id, content_type, start: tile.start, other }.into());
    }
    sql(connection, "UPDATE tile SET until = ?3 WHERE feed = ?1 AND start = ?2")?.execute(params![
        feed,
        ms(other),
        ms(tile.start)
    ])?;
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

pub(super) fn coverage(connection: &Connection, id: TenantId) -> Done<Vec<Coverage>> {
    let tenant = tenant_number(connection, id)?;
    let (collect_from, tenant_problem) = sql(
        connection,
        "SELECT collect_from, problem_kind, problem_message, problem_since, problem_next FROM tenant WHERE tenant = ?1",
    )?
    .query_row([tenant], |row| Ok((time(row, 0)?, problem(row, 1)?)))?;
    let mut all = Vec::new();
    for feed in feeds(connection, id, tenant)? {
        all.push(feed_coverage(connection, feed, collect_from, tenant_problem.as_ref())?);
    }
    Ok(all)
}

fn feed_coverage(
    connection: &Connection,
    feed: Feed,
    collect_from: Timestamp,
    tenant_problem: Option<&Problem>,
) -> Done<Coverage> {
    let tiles = tiles_of(connection, feed.feed)?;
    let mut evidence = feed.evidence(collect_from, &tiles);
    let from = evidence.from();
    evidence.oldest_unarchived =
        sql(connection, "SELECT created FROM pending WHERE feed = ?1 AND created >= ?2 ORDER BY created LIMIT 1")?
            .query_row(params![feed.feed, ms(from)], |row| time(row, 0))
            .optional()?;
    let last_failure = sql(
        connection,
        "SELECT failure FROM pending WHERE feed = ?1 AND failure_number IS NOT NULL
         ORDER BY failure_number DESC LIMIT 1",
    )?
    .query_row([feed.feed], |row| row.get(0))
    .optional()?;
    let assessment = evidence.assess();
    let mut gaps = gaps_of(connection, feed.feed)?;
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

fn gaps_of(connection: &Connection, feed: i64) -> Done<Vec<Gap>> {
    let mut statement = sql(connection, "SELECT start, until FROM gap WHERE feed = ?1 ORDER BY start DESC LIMIT ?2")?;
    let gaps = statement
        .query_map(params![feed, Coverage::GAPS_MAX], |row| Ok(Gap { start: time(row, 0)?, until: time(row, 1)? }))?;
    let mut gaps: Vec<Gap> = gaps.collect::<Result<_, _>>()?;
    gaps.reverse();
    Ok(gaps)
}

fn feeds(connection: &Connection, id: TenantId, tenant: i64) -> Done<Vec<Feed>> {
    let mut statement = sql(
        connection,
        "SELECT feed, name, first_seen_at, began, settled_through, archived, pending, failing, records, duplicates,
                variants, quarantined, lost_expired, lost_missing, lost_unreadable, lost_refused_url,
                problem_kind, problem_message, problem_since, problem_next
         FROM feed CROSS JOIN content_type USING (type) WHERE tenant = ?1 ORDER BY type",
    )?;
    let feeds = statement.query_map([tenant], |row| feed_row(row, id))?;
    Ok(feeds.collect::<Result<_, _>>()?)
}

fn feed_row(row: &Row<'_>, id: TenantId) -> rusqlite::Result<Feed> {
    let mut lost = Vec::new();
    for (kind, column) in LossKind::ALL.into_iter().zip(12..) {
        let contents = counted(row, column)?;
        if contents > 0 {
            lost.push((kind, contents));
        }
    }
    let first_seen_at = time(row, 2)?;
    Ok(Feed {
        feed: row.get(0)?,
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

pub(super) fn fold(connection: &Connection, id: TenantId, before: Timestamp, limit: u32) -> Done<u64> {
    let tenant = tenant_number(connection, id)?;
    let collect_from = sql(connection, "SELECT collect_from FROM tenant WHERE tenant = ?1")?
        .query_row([tenant], |row| time(row, 0))?;
    let mut folded = 0;
    for feed in feeds(connection, id, tenant)? {
        settle(connection, &feed, collect_from, before)?;
        if let Some(through) = listed_through(connection, &feed, collect_from)? {
            super::notes::learn(connection, feed.feed, &gaps_of(connection, feed.feed)?, through)?;
        }
        let left = u64::from(limit).saturating_sub(folded);
        // Its sums stay in the feed's row; the row of the content itself has nothing more to say.
        let deleted = sql(
            connection,
            "DELETE FROM content WHERE content IN
             (SELECT content FROM content WHERE feed = ?1 AND state = 1 AND expires < ?2 LIMIT ?3)",
        )?
        .execute(params![feed.feed, ms(before), crate::values::count(left)])?;
        folded += u64::try_from(deleted).unwrap_or(0);
    }
    Ok(folded)
}

/// Through when a feed was listed, whatever waits to be fetched.
fn listed_through(connection: &Connection, feed: &Feed, collect_from: Timestamp) -> Done<Option<Timestamp>> {
    let tiles = tiles_of(connection, feed.feed)?;
    Ok(feed.evidence(collect_from, &tiles).assess().complete_through)
}

pub(super) fn notes(connection: &Connection, id: TenantId) -> Done<Vec<FeedNotes>> {
    let tenant = tenant_number(connection, id)?;
    let collect_from = sql(connection, "SELECT collect_from FROM tenant WHERE tenant = ?1")?
        .query_row([tenant], |row| time(row, 0))?;
    let mut all = Vec::new();
    for feed in feeds(connection, id, tenant)? {
        let through = listed_through(connection, &feed, collect_from)?;
        all.push(super::notes::of_feed(connection, feed.feed, feed.sums.content_type.clone(), through)?);
    }
    Ok(all)
}

fn settle(connection: &Connection, feed: &Feed, collect_from: Timestamp, before: Timestamp) -> Done<()> {
    let tiles = tiles_of(connection, feed.feed)?;
    let Some(settlement) = feed.evidence(collect_from, &tiles).settle(before) else { return Ok(()) };
    for gap in &settlement.gaps {
        add_gap(connection, feed.feed, gap)?;
    }
    for start in &settlement.tiles {
        sql(connection, "DELETE FROM tile WHERE feed = ?1 AND start = ?2")?.execute(params![feed.feed, ms(*start)])?;
    }
    sql(connection, "UPDATE feed SET settled_through = ?2 WHERE feed = ?1")?
        .execute(params![feed.feed, ms(settlement.through)])?;
    Ok(())
}

/// An outage that lasts while the ledger is folded day by day is one gap, not many.
fn add_gap(connection: &Connection, feed: i64, gap: &Gap) -> Done<()> {
    let last = sql(connection, "SELECT start, until FROM gap WHERE feed = ?1 ORDER BY start DESC LIMIT 1")?
        .query_row([feed], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let start = match last {
        Some((start, until)) if until == ms(gap.start) => start,
        _ => ms(gap.start),
    };
    sql(
        connection,
        "INSERT INTO gap (feed, start, until) VALUES (?1, ?2, ?3) ON CONFLICT (feed, start) DO UPDATE SET until = ?3",
    )?
    .execute(params![feed, start, ms(gap.until)])?;
    Ok(())
}
