//! The archive's segments and quarantined pieces as the ledger writes them down, and back.
//!
//! Never loses a field on the way: what one room wrote, the other reads.

use archive::{Quarantined, Segment, SegmentSet};
use engine::model::{CommitNumber, QuarantineRow, SegmentRow};
use protocol::ids::TenantId;

/// A segment as the ledger remembers it.
pub fn row_of(segment: &Segment) -> SegmentRow {
    SegmentRow {
        date: segment.date.format("%Y-%m-%d").to_string(),
        commit: CommitNumber(segment.commit),
        part: segment.part,
        rows: segment.rows,
        bytes: segment.bytes,
        second_min: segment.second_min,
        second_max: segment.second_max,
        untimed_rows: segment.untimed_rows,
        digest: segment.digest,
    }
}

/// A segment as the archive finds it; `None` when the ledger's date is no date, which no writer of ours leaves.
pub fn segment_of(tenant: TenantId, row: &SegmentRow) -> Option<Segment> {
    Some(Segment {
        tenant,
        date: row.date.parse().ok()?,
        commit: row.commit.0,
        part: row.part,
        rows: row.rows,
        bytes: row.bytes,
        second_min: row.second_min,
        second_max: row.second_max,
        untimed_rows: row.untimed_rows,
        digest: row.digest,
    })
}

/// The set of a tenant's visible segments.
pub(crate) fn set_of(tenant: TenantId, rows: &[SegmentRow]) -> SegmentSet {
    rows.iter().filter_map(|row| segment_of(tenant, row)).collect()
}

/// A quarantined piece as the ledger remembers it.
pub(crate) fn quarantine_row_of(piece: &Quarantined) -> QuarantineRow {
    QuarantineRow {
        content_type: piece.content_type.clone(),
        content_id: piece.content_id.clone(),
        path: piece.path.to_string_lossy().into_owned(),
        bytes: piece.bytes,
        digest: piece.digest,
        reason: piece.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_survives_the_ledger() {
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let segment = Segment {
            tenant,
            date: "2026-03-04".parse().unwrap(),
            commit: 7,
            part: 1,
            rows: 2,
            bytes: 3,
            second_min: Some(-4),
            second_max: Some(5),
            untimed_rows: 6,
            digest: [8; 32],
        };
        let row = row_of(&segment);
        assert_eq!(row.date, "2026-03-04");
        assert_eq!(segment_of(tenant, &row), Some(segment));
    }
}
