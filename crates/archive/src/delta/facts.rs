//! What a segment's footer says of its records as a whole: the statistics a reader of the table rules files out by, and
//! whether it is a merge.
//!
//! Never reads a record, and never trusts a bound that is not one: what a footer does not say is left out.

use std::io::ErrorKind;

use chrono::{DateTime, SubsecRound, TimeDelta};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

use crate::segment::Segment;
use crate::{Archive, ArchiveError, disk};

/// The columns of which the least and the greatest value rule files out: times, what is the same for whole segments, and what
/// has few values. Of users and addresses a segment of some size has the whole range.
const COLUMNS: [&str; 7] =
    ["content_type", "creation_time", "record_type", "operation", "workload", "ingested_at", "commit"];

/// Bytes at a file's end that are fetched first; a footer is commonly smaller.
const TAIL_BYTES: u64 = 64 << 10;

/// What made a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A commit: its records are in no segment before it.
    Commit,
    /// A merge: its records came with commits before its own.
    Merge,
    /// Its footer does not say: it may be either.
    Unknown,
}

/// See the file's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// As Delta wants them: JSON text.
    pub(super) stats: Box<str>,
    /// The greatest commit number of its records.
    pub(super) newest_commit: Option<u64>,
}

impl Facts {
    /// What the segment is, by the commits its records came with.
    pub(super) fn origin(&self, segment: &Segment) -> Origin {
        match self.newest_commit {
            None => Origin::Unknown,
            Some(newest) if newest < segment.commit => Origin::Merge,
            Some(_) => Origin::Commit,
        }
    }

    /// What the ledger alone knows.
    pub(super) fn of_row(segment: &Segment) -> Self {
        let mut stats = Stats::default();
        stats.nulls("creation_time", segment.untimed_rows);
        if let (Some(min), Some(max)) = (segment.second_min, segment.second_max) {
            let bounds = (micros_of_second(min), micros_of_second(max).and_then(|max| max.checked_add(999_999)));
            stats.bounds("creation_time", bounds.0.and_then(time_down), bounds.1.and_then(time_up));
        }
        Self { stats: stats.text(segment.rows), newest_commit: None }
    }

    fn of_footer(footer: &ParquetMetaData, rows: u64) -> Self {
        let mut stats = Stats::default();
        let mut newest_commit = None;
        for name in COLUMNS {
            let Some(column) = Column::of(footer, name) else { continue };
            if let Some(nulls) = column.nulls {
                stats.nulls(name, nulls);
            }
            match (column.min, column.max) {
                (Some(Bound::Number(min)), Some(Bound::Number(max))) if is_time(name) => {
                    stats.bounds(name, time_down(min), time_up(max));
                }
                (Some(min), Some(max)) => {
                    if let (Bound::Number(max), "commit") = (&max, name) {
                        newest_commit = u64::try_from(*max).ok();
                    }
                    stats.bounds(name, min.json(), max.json());
                }
                _ => {}
            }
        }
        Self { stats: stats.text(rows), newest_commit }
    }
}

/// What the segment's file says; `None` when it is not there or has no footer, which is for a verification to tell.
///
/// # Errors
///
/// When the file could not be reached: what it says then is not known yet, and nothing is to be guessed from that.
pub(super) fn of(archive: &Archive, segment: &Segment) -> Result<Option<Facts>, ArchiveError> {
    let footer = footer(archive, segment)?;
    if footer.is_none() {
        tracing::debug!(segment = %segment.path().display(), "published without statistics");
    }
    Ok(footer.map(|footer| Facts::of_footer(&footer, segment.rows)))
}

fn footer(archive: &Archive, segment: &Segment) -> Result<Option<ParquetMetaData>, ArchiveError> {
    let path = archive.segment_path(segment);
    let reader = || ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
    let failed = match disk::open(&path) {
        Ok(file) if file.metadata().is_ok_and(|file| file.len() == segment.bytes) => {
            match reader().parse_and_finish(&file) {
                Ok(footer) => return Ok(Some(footer)),
                Err(ParquetError::External(inner)) => inner.downcast::<std::io::Error>().ok().map(|error| *error),
                Err(_) => None,
            }
        }
        Ok(_) => None,
        Err(error) => Some(error),
    };
    // Where there is a store, what lies here is a copy, and as good as none.
    if archive.workspace().is_none()
        && let Some(error) = failed
        && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof)
    {
        return Err(ArchiveError::io("read", &path)(error));
    }
    let Some(workspace) = archive.workspace() else { return Ok(None) };
    let (depot, name) = (workspace.depot(), segment.name());
    let mut tail = TAIL_BYTES.min(segment.bytes);
    // The first time says how long it is, should it be longer.
    for _ in 0..2 {
        let bytes = match depot.read_range(&name, segment.bytes - tail..segment.bytes) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            // Of one that was cut short there may be nothing there to be read.
            Err(_) if depot.size(&name)? != Some(segment.bytes) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut reader = reader();
        match reader.try_parse_sized(&bytes, segment.bytes) {
            Ok(()) => return Ok(reader.finish().ok()),
            Err(ParquetError::NeedMoreData(needed)) => tail = (needed as u64).min(segment.bytes),
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// The least or greatest value of a column.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Number(i64),
    Text(String),
}

impl Bound {
    fn json(&self) -> Option<Value> {
        Some(match self {
            Self::Number(number) => json!(number),
            Self::Text(text) => json!(text),
        })
    }
}

/// A column over all row groups; a bound only if every one has it.
#[derive(Default)]
struct Column {
    min: Option<Bound>,
    max: Option<Bound>,
    nulls: Option<u64>,
}

impl Column {
    fn of(footer: &ParquetMetaData, name: &str) -> Option<Self> {
        let columns = footer.file_metadata().schema_descr().columns();
        let at = columns.iter().position(|column| column.name() == name)?;
        let mut whole = Self { nulls: Some(0), ..Self::default() };
        let mut is_bounded = true;
        for group in footer.row_groups() {
            let statistics = group.columns().get(at)?.statistics()?;
            let nulls = statistics.null_count_opt();
            whole.nulls = whole.nulls.zip(nulls).map(|(all, here)| all + here);
            let is_all_null = nulls.is_some() && nulls == u64::try_from(group.num_rows()).ok();
            match bounds(statistics) {
                Some((min, max)) => {
                    whole.min = Some(whole.min.filter(|least| *least <= min).unwrap_or(min));
                    whole.max = Some(whole.max.filter(|most| *most >= max).unwrap_or(max));
                }
                None => is_bounded &= is_all_null,
            }
        }
        if !is_bounded {
            (whole.min, whole.max) = (None, None);
        }
        Some(whole)
    }
}

/// Texts may be cut, each so that it stays a bound; one that was cut within a character is none for us.
fn bounds(statistics: &Statistics) -> Option<(Bound, Bound)> {
    let text = |bytes: &parquet::data_type::ByteArray| bytes.as_utf8().ok().map(|text| Bound::Text(text.to_owned()));
    match statistics {
        Statistics::Int32(of) => {
            Some((Bound::Number(i64::from(*of.min_opt()?)), Bound::Number(i64::from(*of.max_opt()?))))
        }
        Statistics::Int64(of) => Some((Bound::Number(*of.min_opt()?), Bound::Number(*of.max_opt()?))),
        Statistics::ByteArray(of) => Some((text(of.min_opt()?)?, text(of.max_opt()?)?)),
        _ => None,
    }
}

fn is_time(name: &str) -> bool {
    matches!(name, "creation_time" | "ingested_at")
}

fn micros_of_second(second: i64) -> Option<i64> {
    second.checked_mul(1_000_000)
}

/// A time in microseconds as statistics have it: in milliseconds, which many readers expect, and not later than it is.
fn time_down(micros: i64) -> Option<Value> {
    time(DateTime::from_timestamp_micros(micros)?.trunc_subsecs(3))
}

/// The same, and not earlier.
fn time_up(micros: i64) -> Option<Value> {
    time(DateTime::from_timestamp_micros(micros)?.checked_add_signed(TimeDelta::microseconds(999))?.trunc_subsecs(3))
}

fn time(time: DateTime<chrono::Utc>) -> Option<Value> {
    Some(json!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
}

/// PROTOCOL.md, "Per-file Statistics".
#[derive(Default)]
struct Stats {
    min: Map<String, Value>,
    max: Map<String, Value>,
    nulls: Map<String, Value>,
}

impl Stats {
    fn bounds(&mut self, name: &str, min: Option<Value>, max: Option<Value>) {
        if let (Some(min), Some(max)) = (min, max) {
            self.min.insert(name.to_owned(), min);
            self.max.insert(name.to_owned(), max);
        }
    }

    fn nulls(&mut self, name: &str, nulls: u64) {
        self.nulls.insert(name.to_owned(), json!(nulls));
    }

    fn text(self, rows: u64) -> Box<str> {
        let Self { min, max, nulls } = self;
        let stats = json!({ "numRecords": rows, "minValues": min, "maxValues": max, "nullCount": nulls });
        stats.to_string().into_boxed_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: "2026-03-04".parse().unwrap(),
            commit: 9,
            part: 0,
            rows: 5,
            bytes: 1,
            second_min: Some(1_772_600_767),
            second_max: Some(1_772_600_768),
            untimed_rows: 2,
            digest: [0; 32],
        }
    }

    #[test]
    fn a_time_is_given_in_milliseconds_that_it_lies_between() {
        let micros = 1_772_600_767_123_456;
        assert_eq!(time_down(micros), Some(json!("2026-03-04T05:06:07.123Z")));
        assert_eq!(time_up(micros), Some(json!("2026-03-04T05:06:07.124Z")));
        assert_eq!(time_up(micros - 456), Some(json!("2026-03-04T05:06:07.123Z")));
        assert_eq!(time_up(micros - 455), Some(json!("2026-03-04T05:06:07.124Z")));
    }

    #[test]
    fn the_ledger_alone_says_how_many_and_between_which_seconds() {
        let facts = Facts::of_row(&segment());
        let stats: Value = serde_json::from_str(&facts.stats).unwrap();
        let expected = json!({
            "numRecords": 5,
            "minValues": { "creation_time": "2026-03-04T05:06:07.000Z" },
            "maxValues": { "creation_time": "2026-03-04T05:06:09.000Z" },
            "nullCount": { "creation_time": 2 },
        });
        assert_eq!(stats, expected);
        assert_eq!(facts.origin(&segment()), Origin::Unknown, "who does not know does not say so");
    }

    #[test]
    fn a_merge_is_told_by_records_that_are_all_older_than_it() {
        let facts = |newest| Facts { newest_commit: Some(newest), ..Facts::of_row(&segment()) };
        assert_eq!(facts(8).origin(&segment()), Origin::Merge);
        assert_eq!(facts(9).origin(&segment()), Origin::Commit);
    }
}
