//! Commits and segments: the transactions that make records visible or merge their files.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use chrono::NaiveDate;
use engine::evidence::ActivityKind;
use engine::model::{Commit, CommitNumber, DamagedSegment, Expired, QuarantineRow, Retained, SegmentRow};
use engine::retention::Expiry;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde_json::json;

use super::fault::Done;
use super::rows::{counted, ensure_feed, parsed, sql, tenant_id, tenant_number, time};
use super::{contents, evidence};
use crate::LedgerError;
use crate::values::{Within, count, message, ms};

const SEGMENT: &str = "date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest";

pub(super) fn commit(connection: &Connection, commit: &Commit) -> Done<()> {
    let tenant = take_number(connection, commit.tenant, commit.number, commit.at)?;
    for content in &commit.contents {
        let ended = contents::end(connection, commit.tenant, tenant, content.row)?;
        sql(connection, "UPDATE content SET state = 1 WHERE content = ?1")?.execute([content.row])?;
        sql(
            connection,
            "UPDATE feed SET pending = pending - 1, failing = failing - ?2, archived = archived + 1,
             records = records + ?3, duplicates = duplicates + ?4, variants = variants + ?5 WHERE feed = ?1",
        )?
        .execute(params![
            ended.feed,
            ended.failing,
            count(content.records),
            count(content.duplicates),
            count(content.variants)
        ])?;
    }
    for (row, loss) in &commit.lost {
        contents::lost(connection, commit.tenant, *row, loss, commit.at)?;
    }
    for segment in &commit.segments {
        add_segment(connection, commit.tenant, tenant, commit.number, segment, ms(commit.at))?;
    }
    for row in &commit.quarantined {
        quarantine(connection, tenant, row, commit.at)?;
    }
    Ok(())
}

/// Checks that `number` is the tenant's next one, and makes it the last. Returns the tenant's own number.
fn take_number(connection: &Connection, id: TenantId, number: CommitNumber, at: Timestamp) -> Done<i64> {
    let tenant = tenant_number(connection, id)?;
    let last = sql(connection, "SELECT last_commit FROM tenant WHERE tenant = ?1")?
        .query_row([tenant], |row| counted(row, 0))?;
    let expected = CommitNumber(last.saturating_add(1));
    if number != expected {
        return Err(LedgerError::CommitOutOfOrder { tenant: id, given: number, expected }.into());
    }
    sql(connection, "UPDATE tenant SET last_commit = ?2, last_commit_at = ?3 WHERE tenant = ?1")?.execute(params![
        tenant,
        count(number.0),
        ms(at)
    ])?;
    Ok(tenant)
}

fn add_segment(
    connection: &Connection,
    id: TenantId,
    tenant: i64,
    number: CommitNumber,
    segment: &SegmentRow,
    stored_at: i64,
) -> Done<()> {
    let refused = |problem| LedgerError::SegmentRefused { tenant: id, segment: name(segment), problem };
    if segment.commit != number {
        return Err(refused("its name carries another commit's number").into());
    }
    let added = sql(
        connection,
        "INSERT INTO segment
           (tenant, date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest, stored_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (tenant, date, number, part) DO NOTHING",
    )?
    .execute(params![
        tenant,
        segment.date,
        count(number.0),
        count(segment.part),
        count(segment.rows),
        count(segment.bytes),
        segment.second_min,
        segment.second_max,
        count(segment.untimed_rows),
        segment.digest,
        stored_at,
    ])?;
    if added == 0 {
        return Err(refused("it is named twice").into());
    }
    Ok(())
}

fn quarantine(connection: &Connection, tenant: i64, row: &QuarantineRow, at: Timestamp) -> Done<()> {
    let feed = ensure_feed(connection, tenant, &row.content_type, at)?;
    // A path names its bytes: putting the same into quarantine again, after a fetch that broke off, adds nothing.
    let added = sql(
        connection,
        "INSERT INTO quarantine (tenant, path, feed, id, bytes, digest, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (tenant, path) DO NOTHING",
    )?
    .execute(params![
        tenant,
        row.path,
        feed,
        row.content_id.as_str(),
        count(row.bytes),
        row.digest,
        message(&row.reason)
    ])?;
    sql(connection, "UPDATE feed SET quarantined = quarantined + ?2 WHERE feed = ?1")?
        .execute(params![feed, count(u64::try_from(added).unwrap_or(0))])?;
    Ok(())
}

pub(super) fn quarantined(connection: &Connection, id: TenantId, limit: u32) -> Done<Vec<QuarantineRow>> {
    let tenant = tenant_number(connection, id)?;
    let mut statement = sql(
        connection,
        "SELECT t.name, q.id, q.path, q.bytes, q.digest, q.reason FROM quarantine AS q
         CROSS JOIN feed AS f USING (feed) CROSS JOIN content_type AS t USING (type)
         WHERE q.tenant = ?1 ORDER BY q.path LIMIT ?2",
    )?;
    let rows = statement.query_map(params![tenant, limit], |row| {
        Ok(QuarantineRow {
            content_type: parsed(row, 0)?,
            content_id: parsed(row, 1)?,
            path: row.get(2)?,
            bytes: counted(row, 3)?,
            digest: row.get(4)?,
            reason: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn segments(connection: &Connection, id: TenantId) -> Done<Vec<SegmentRow>> {
    let tenant = tenant_number(connection, id)?;
    let text = format!(
        "SELECT {SEGMENT} FROM segment WHERE tenant = ?1 AND obsolete_since IS NULL ORDER BY date, number, part"
    );
    let mut statement = sql(connection, &text)?;
    let segments = statement.query_map([tenant], |row| segment_row(row, 0))?.collect::<Result<_, _>>()?;
    Ok(segments)
}

pub(super) fn segments_within(
    connection: &Connection,
    tenants: Option<&BTreeSet<TenantId>>,
    seconds: Option<&RangeInclusive<i64>>,
) -> Done<Vec<(TenantId, Vec<SegmentRow>)>> {
    // The tenants first: of each, the dates are a range of the key.
    let mut text =
        format!("SELECT id, {SEGMENT} FROM tenant CROSS JOIN segment USING (tenant) WHERE obsolete_since IS NULL");
    let bounds = seconds.map(Within::of);
    let mut given: Vec<(&str, &dyn ToSql)> = Vec::new();
    if let Some(Within { dates, seconds }) = &bounds {
        text.push_str(" AND date BETWEEN :first_date AND :last_date AND second_max >= :first AND second_min <= :last");
        given.extend([(":first_date", &dates.0 as &dyn ToSql), (":last_date", &dates.1)]);
        given.extend([(":first", &seconds.0 as &dyn ToSql), (":last", &seconds.1)]);
    }
    let mut all: Vec<(TenantId, Vec<SegmentRow>)> = Vec::new();
    let mut ask = |text: &str, given: &[(&str, &dyn ToSql)]| -> Done<()> {
        let mut statement = sql(connection, text)?;
        let mut rows = statement.query(given)?;
        while let Some(row) = rows.next()? {
            let (id, segment) = (tenant_id(row, 0)?, segment_row(row, 1)?);
            match all.last_mut() {
                Some((tenant, segments)) if *tenant == id => segments.push(segment),
                _ => all.push((id, vec![segment])),
            }
        }
        Ok(())
    };
    let Some(tenants) = tenants else {
        ask(&format!("{text} ORDER BY tenant, date, number, part"), &given)?;
        return Ok(all);
    };
    text.push_str(" AND id = :id ORDER BY date, number, part");
    for id in tenants {
        let id = id.as_uuid().as_bytes();
        ask(&text, &[&given[..], &[(":id", &id as &dyn ToSql)]].concat())?;
    }
    Ok(all)
}

pub(super) fn replace_segments(
    connection: &Connection,
    id: TenantId,
    number: CommitNumber,
    removed: &[SegmentRow],
    added: &[SegmentRow],
    now: Timestamp,
) -> Done<()> {
    let tenant = take_number(connection, id, number, now)?;
    let mut stored_at = None;
    for segment in removed {
        let hidden: Option<i64> = sql(
            connection,
            "UPDATE segment SET obsolete_since = ?5
             WHERE tenant = ?1 AND date = ?2 AND number = ?3 AND part = ?4 AND obsolete_since IS NULL
             RETURNING stored_at",
        )?
        .query_row(params![tenant, segment.date, count(segment.commit.0), count(segment.part), ms(now)], |row| {
            row.get(0)
        })
        .optional()?;
        let Some(hidden) = hidden else {
            return Err(LedgerError::SegmentNotVisible { tenant: id, segment: name(segment) }.into());
        };
        stored_at = stored_at.max(Some(hidden));
    }
    for segment in added {
        add_segment(connection, id, tenant, number, segment, stored_at.unwrap_or_else(|| ms(now)))?;
    }
    Ok(())
}

pub(super) fn expire_segments(
    connection: &Connection,
    actor: &str,
    id: TenantId,
    expiry: &Expiry,
    now: Timestamp,
) -> Done<Expired> {
    let tenant = tenant_number(connection, id)?;
    if is_held(connection, tenant)? {
        return Ok(Expired::default());
    }
    let before = date_text(expiry.before);
    let mut expired = Expired::default();
    let (mut bytes, mut dates): (u64, BTreeSet<String>) = (0, BTreeSet::new());
    {
        let mut statement = sql(
            connection,
            "UPDATE segment SET obsolete_since = ?4, expired = 1
             WHERE tenant = ?1 AND date < ?2 AND stored_at < ?3 AND obsolete_since IS NULL RETURNING rows, bytes, date",
        )?;
        let mut rows = statement.query(params![tenant, before, ms(expiry.stored_before), ms(now)])?;
        while let Some(row) = rows.next()? {
            expired.segments += 1;
            expired.records = expired.records.saturating_add(counted(row, 0)?);
            bytes = bytes.saturating_add(counted(row, 1)?);
            dates.insert(row.get(2)?);
        }
    }
    if expired.segments > 0 {
        let details = json!({
            "from": dates.first(), "through": dates.last(), "segments": expired.segments, "records": expired.records,
            "bytes": bytes,
        });
        evidence::note(connection, actor, ActivityKind::Expired, Some(id), &details, now)?;
        sql(
            connection,
            "UPDATE tenant SET expired_segments = expired_segments + ?2, expired_records = expired_records + ?3,
             kept_since = max(coalesce(kept_since, ''), ?4) WHERE tenant = ?1",
        )?
        .execute(params![tenant, count(expired.segments), count(expired.records), before])?;
    }
    Ok(expired)
}

pub(super) fn retained(connection: &Connection, id: TenantId) -> Done<Retained> {
    let tenant = tenant_number(connection, id)?;
    let text = "SELECT kept_since, expired_segments, expired_records FROM tenant WHERE tenant = ?1";
    let retained = sql(connection, text)?.query_row([tenant], |row| {
        let kept_since: Option<String> = row.get(0)?;
        Ok(Retained {
            kept_since: kept_since.and_then(|date| date.parse().ok()),
            expired: Expired { segments: counted(row, 1)?, records: counted(row, 2)? },
        })
    })?;
    Ok(retained)
}

/// As segments' dates are written: in the order of time for the years that they can be of.
fn date_text(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

/// Whether nothing of it may be deleted.
fn is_held(connection: &Connection, tenant: i64) -> Done<bool> {
    Ok(sql(connection, "SELECT 1 FROM tenant WHERE tenant = ?1 AND held_at IS NOT NULL")?.exists([tenant])?)
}

pub(super) fn obsolete(connection: &Connection, id: TenantId) -> Done<Vec<(SegmentRow, Timestamp)>> {
    obsolete_but(connection, id, false)
}

pub(super) fn deletable(connection: &Connection, id: TenantId) -> Done<Vec<(SegmentRow, Timestamp)>> {
    let is_held = is_held(connection, tenant_number(connection, id)?)?;
    obsolete_but(connection, id, is_held)
}

/// What is obsolete, or only what merges have replaced.
fn obsolete_but(connection: &Connection, id: TenantId, merged_only: bool) -> Done<Vec<(SegmentRow, Timestamp)>> {
    let tenant = tenant_number(connection, id)?;
    let condition = if merged_only { "AND expired = 0" } else { "" };
    let text = format!(
        "SELECT {SEGMENT}, obsolete_since FROM segment WHERE tenant = ?1 AND obsolete_since IS NOT NULL {condition}
         ORDER BY obsolete_since, date, number, part"
    );
    let mut statement = sql(connection, &text)?;
    let segments = statement.query_map([tenant], |row| Ok((segment_row(row, 0)?, time(row, 9)?)))?;
    Ok(segments.collect::<Result<_, _>>()?)
}

pub(super) fn obsolete_deleted(connection: &Connection, id: TenantId, segments: &[SegmentRow]) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    for segment in segments {
        // A visible one is never forgotten, whatever the caller believes.
        sql(
            connection,
            "DELETE FROM segment
             WHERE tenant = ?1 AND date = ?2 AND number = ?3 AND part = ?4 AND obsolete_since IS NOT NULL",
        )?
        .execute(params![tenant, segment.date, count(segment.commit.0), count(segment.part)])?;
    }
    Ok(())
}

pub(super) fn set_segment_problem(
    connection: &Connection,
    id: TenantId,
    segment: &SegmentRow,
    problem: Option<&str>,
    now: Timestamp,
) -> Done<()> {
    let tenant = tenant_number(connection, id)?;
    sql(
        connection,
        "UPDATE segment SET damage = ?5, damaged_at = iif(?5 IS NULL, NULL, coalesce(damaged_at, ?6))
         WHERE tenant = ?1 AND date = ?2 AND number = ?3 AND part = ?4 AND obsolete_since IS NULL",
    )?
    .execute(params![
        tenant,
        segment.date,
        count(segment.commit.0),
        count(segment.part),
        problem.map(message),
        ms(now)
    ])?;
    Ok(())
}

pub(super) fn damaged_segments(connection: &Connection, id: TenantId) -> Done<Vec<DamagedSegment>> {
    let tenant = tenant_number(connection, id)?;
    let text = format!(
        "SELECT {SEGMENT}, damage, damaged_at FROM segment
         WHERE tenant = ?1 AND damage IS NOT NULL AND obsolete_since IS NULL ORDER BY date, number, part"
    );
    let mut statement = sql(connection, &text)?;
    let damaged = statement.query_map([tenant], |row| {
        Ok(DamagedSegment { segment: segment_row(row, 0)?, problem: row.get(9)?, found_at: time(row, 10)? })
    })?;
    Ok(damaged.collect::<Result<_, _>>()?)
}

/// Nine columns from `first` on.
fn segment_row(row: &Row<'_>, first: usize) -> rusqlite::Result<SegmentRow> {
    Ok(SegmentRow {
        date: row.get(first)?,
        commit: CommitNumber(counted(row, first + 1)?),
        part: counted(row, first + 2)?,
        rows: counted(row, first + 3)?,
        bytes: counted(row, first + 4)?,
        second_min: row.get(first + 5)?,
        second_max: row.get(first + 6)?,
        untimed_rows: counted(row, first + 7)?,
        digest: row.get(first + 8)?,
    })
}

fn name(segment: &SegmentRow) -> String {
    format!("{}/{}-{}", segment.date, segment.commit, segment.part)
}
