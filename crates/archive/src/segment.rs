//! One archive file as the ledger remembers it, and the set of those that are visible.
//!
//! Plain data: never touches a file. What is not in the set does not exist for the archive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use protocol::ids::TenantId;

/// One archive file, never changed once it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Whose records it holds.
    pub tenant: TenantId,
    /// The UTC date of its records' `CreationTime`; for those without a readable one, of their content's creation.
    pub date: NaiveDate,
    /// The commit (or merge) that wrote the file. Each row keeps the number of its own commit in a column.
    pub commit: u64,
    /// Counts the files of one commit, from a number that tells whose they are ([`crate::Archive::under`]).
    pub part: u64,
    /// Records in it.
    pub rows: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// First second of its timed records, inclusive, in Unix seconds. `None` when it holds no timed record.
    pub second_min: Option<i64>,
    /// Last second of its timed records, inclusive.
    pub second_max: Option<i64>,
    /// Rows without a readable `CreationTime`: their repeats may come with any date, so dedup asks for them separately.
    pub untimed_rows: u64,
    /// BLAKE3 of the file.
    pub digest: [u8; 32],
}

impl Segment {
    /// Where the file lies below the archive's root: `tenant={guid}/date={YYYY-MM-DD}/{commit}-{part}.parquet`.
    pub fn path(&self) -> PathBuf {
        date_folder(&tenant_folder(Path::new(""), self.tenant), self.date).join(file_name(self.commit, self.part))
    }

    /// The same with slashes, whatever the platform: its name in a store.
    pub(crate) fn name(&self) -> String {
        let Self { tenant, date, commit, part, .. } = self;
        format!("tenant={tenant}/date={}/{}", date.format("%Y-%m-%d"), file_name(*commit, *part))
    }

    /// Whether a timed record of that second could be in it.
    pub(crate) fn covers(&self, second: i64) -> bool {
        matches!((self.second_min, self.second_max), (Some(min), Some(max)) if min <= second && second <= max)
    }
}

/// The visible segments of one tenant, found by date.
#[derive(Debug, Clone, Default)]
pub struct SegmentSet {
    dates: BTreeMap<NaiveDate, Vec<Segment>>,
    untimed: Vec<Segment>,
}

impl SegmentSet {
    /// The segments of the set on one date.
    pub fn on_date(&self, date: NaiveDate) -> &[Segment] {
        self.dates.get(&date).map_or(&[], Vec::as_slice)
    }

    /// The segments that hold rows without a readable time, of any date.
    pub fn with_untimed_rows(&self) -> &[Segment] {
        &self.untimed
    }

    /// All of them, by date.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.dates.values().flatten()
    }

    /// Whether the set names this file.
    pub fn names(&self, date: NaiveDate, commit: u64, part: u64) -> bool {
        self.on_date(date).iter().any(|segment| segment.commit == commit && segment.part == part)
    }

    /// Adds one.
    pub fn insert(&mut self, segment: Segment) {
        if segment.untimed_rows > 0 {
            self.untimed.push(segment.clone());
        }
        self.dates.entry(segment.date).or_default().push(segment);
    }
}

impl FromIterator<Segment> for SegmentSet {
    fn from_iter<T: IntoIterator<Item = Segment>>(segments: T) -> Self {
        let mut set = Self::default();
        for segment in segments {
            set.insert(segment);
        }
        set
    }
}

/// A path below the archive's root as its name in a store.
pub(crate) fn slashed(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// `{root}/tenant={guid}`
pub(crate) fn tenant_folder(root: &Path, tenant: TenantId) -> PathBuf {
    root.join(format!("tenant={tenant}"))
}

/// `{tenant folder}/date={YYYY-MM-DD}`
pub(crate) fn date_folder(tenant_folder: &Path, date: NaiveDate) -> PathBuf {
    tenant_folder.join(format!("date={}", date.format("%Y-%m-%d")))
}

/// `{commit}-{part}.parquet`
pub(crate) fn file_name(commit: u64, part: u64) -> String {
    format!("{commit}-{part}.parquet")
}

/// Reads [`file_name`] back; `None` for a file that is not a segment's, which is then left alone.
pub(crate) fn parse_file_name(name: &str) -> Option<(u64, u64)> {
    let (commit, part) = name.strip_suffix(".parquet")?.split_once('-')?;
    let (commit, part) = (commit.parse().ok()?, part.parse().ok()?);
    // Only the canonical spelling: `+1-0` or `01-0` was not written by us.
    (file_name(commit, part) == name).then_some((commit, part))
}

/// Reads a `date=…` folder's name back.
pub(crate) fn parse_date_folder(name: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(name.strip_prefix("date=")?, "%Y-%m-%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(date: &str, commit: u64) -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: date.parse().unwrap(),
            commit,
            part: 2,
            rows: 1,
            bytes: 1,
            second_min: Some(10),
            second_max: Some(20),
            untimed_rows: 0,
            digest: [0; 32],
        }
    }

    #[test]
    fn a_segment_lies_where_the_design_says() {
        assert_eq!(
            segment("2026-03-04", 17).path().to_str().unwrap(),
            "tenant=6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11/date=2026-03-04/17-2.parquet"
        );
    }

    #[test]
    fn only_our_own_spelling_of_a_file_name_is_a_segment() {
        assert_eq!(parse_file_name("17-2.parquet"), Some((17, 2)));
        for other in
            ["17-2.parquet.tmp", ".17-2.parquet", "017-2.parquet", "+17-2.parquet", "part-0.parquet", "17.parquet"]
        {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn both_ends_of_the_seconds_are_covered_and_their_neighbours_are_not() {
        let segment = segment("2026-03-04", 1);
        assert!(segment.covers(10) && segment.covers(20));
        assert!(!segment.covers(9) && !segment.covers(21));
    }

    #[test]
    fn the_set_finds_segments_by_date_and_by_untimed_rows() {
        let untimed = Segment { untimed_rows: 3, ..segment("2026-03-05", 2) };
        let set: SegmentSet = [segment("2026-03-04", 1), untimed.clone()].into_iter().collect();
        assert_eq!(set.on_date("2026-03-04".parse().unwrap()).len(), 1);
        assert_eq!(set.with_untimed_rows(), [untimed]);
        assert!(set.names("2026-03-04".parse().unwrap(), 1, 2));
        assert!(!set.names("2026-03-04".parse().unwrap(), 2, 2));
    }
}
