//! Which small segments are worth merging. Pure: counts and sizes in, lists out.
//!
//! Never merges across dates, and never rewrites a record more often than its segment can grow by a factor of 24, and once
//! more when it becomes a full one: three or four times on the way from a commit of a few records. Rewriting a record costs
//! more than storing it did, so that is where the CPU time of a quiet tenant goes.

use std::collections::BTreeMap;

use crate::part::ROWS_MAX;
use crate::segment::Segment;

/// When merging is worth its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergePolicy {
    /// The size merging aims at, in bytes. Segments of half of it or more are left as they are.
    pub target_bytes: u64,
    /// How many segments of like size it takes. Fewer, and records are rewritten more often; more, and a query opens more
    /// files.
    pub segments_min: usize,
}

impl MergePolicy {
    /// Towards 128 MiB, when 24 segments of like size have gathered.
    pub const DEFAULT: Self = Self { target_bytes: 128 << 20, segments_min: 24 };
}

/// Segments of one tenant and date to be replaced by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePlan {
    /// What to merge, in order of their records' times.
    pub inputs: Vec<Segment>,
}

/// A segment of a settled date that has reached this size is merged as if more were to come. Smaller: a date of a tenant of
/// middling size ends in dozens of files. Larger: whoever catches up on a week rewrites most of what he has just written,
/// for a handful of files fewer.
const SETTLED_BYTES: u64 = 1 << 20;

/// As many make a full segment where fewer than gather otherwise do. Smaller: the last step of a record's way costs more than
/// it saves. Larger: segments between an eighth of the target and half of it stay as they are for ever.
const FULL_MIN: usize = 4;

/// The sizes at which a segment passes into the next class, a factor of 24 apart.
const CLASSES: [u64; 2] = [128 << 10, 3 << 20];

/// Which of a tenant's visible segments to merge. With `settled`, dates before it are taken to get hardly any more
/// records, and what is left in pieces below [`SETTLED_BYTES`] there is merged however few they are, once the pieces
/// together are worth rewriting the largest of them.
pub fn plan_merge<'a>(
    segments: impl IntoIterator<Item = &'a Segment>,
    policy: MergePolicy,
    settled: Option<chrono::NaiveDate>,
) -> Vec<MergePlan> {
    let mut dates: BTreeMap<_, Vec<&Segment>> = BTreeMap::new();
    for segment in segments {
        if segment.bytes < policy.target_bytes / 2 && segment.rows < ROWS_MAX as u64 / 2 {
            dates.entry((segment.tenant, segment.date)).or_default().push(segment);
        }
    }
    let mut plans = Vec::new();
    for ((_, date), small) in dates {
        let is_settled = settled.is_some_and(|settled| date < settled);
        let (pieces, small): (Vec<_>, Vec<_>) =
            small.into_iter().partition(|segment| is_settled && segment.bytes < SETTLED_BYTES);
        plans.extend(gather(worth_settling(pieces), policy, 2));
        for class in 0..=CLASSES.len() {
            let alike = small.iter().copied().filter(|segment| class_of(segment) == class).collect();
            plans.extend(gather(alike, policy, policy.segments_min));
        }
    }
    plans
}

fn class_of(segment: &Segment) -> usize {
    CLASSES.partition_point(|limit| *limit <= segment.bytes)
}

/// Leaves out the largest as long as the others together would not be an eighth of it.
fn worth_settling(mut small: Vec<&Segment>) -> Vec<&Segment> {
    small.sort_by_key(|segment| segment.bytes);
    while let Some((largest, others)) = small.split_last() {
        if others.iter().map(|segment| segment.bytes).sum::<u64>() * 8 >= largest.bytes {
            break;
        }
        small.pop();
    }
    small
}

/// Groups of at least `segments_min`, or of [`FULL_MIN`] that make a full segment, each up to the target size, in order of
/// time so that each spans little of it.
fn gather(mut segments: Vec<&Segment>, policy: MergePolicy, segments_min: usize) -> Vec<MergePlan> {
    segments.sort_by_key(|segment| (segment.second_min, segment.commit, segment.part));
    let mut full = Vec::new();
    let mut inputs: Vec<Segment> = Vec::new();
    let (mut bytes, mut rows) = (0, 0);
    for segment in segments {
        if bytes + segment.bytes > policy.target_bytes || rows + segment.rows > ROWS_MAX as u64 {
            full.push(MergePlan { inputs: std::mem::take(&mut inputs) });
            (bytes, rows) = (0, 0);
        }
        bytes += segment.bytes;
        rows += segment.rows;
        inputs.push(segment.clone());
    }
    full.retain(|plan| plan.inputs.len() >= segments_min.clamp(2, FULL_MIN));
    let rest = (inputs.len() >= segments_min.max(2)).then_some(MergePlan { inputs });
    full.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(date: &str, commit: u64, bytes: u64) -> Segment {
        Segment {
            tenant: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            date: date.parse().unwrap(),
            commit,
            part: 0,
            rows: 1,
            bytes,
            second_min: Some(commit as i64),
            second_max: Some(commit as i64),
            untimed_rows: 0,
            digest: [0; 32],
        }
    }

    fn commits(plans: &[MergePlan]) -> Vec<Vec<u64>> {
        plans.iter().map(|plan| plan.inputs.iter().map(|input| input.commit).collect()).collect()
    }

    const DAY: &str = "2026-03-04";

    #[test]
    fn twenty_four_alike_are_merged_and_one_less_are_not() {
        let segments: Vec<_> = (1..=24).map(|commit| segment(DAY, commit, 10_000)).collect();
        assert_eq!(commits(&plan_merge(&segments, MergePolicy::DEFAULT, None)), [(1..=24).collect::<Vec<_>>()]);
        assert!(plan_merge(&segments[1..], MergePolicy::DEFAULT, None).is_empty());
    }

    #[test]
    fn dates_and_size_classes_are_not_mixed() {
        let mut segments: Vec<_> = (1..=23).map(|commit| segment(DAY, commit, 10_000)).collect();
        segments.push(segment("2026-03-05", 24, 10_000));
        segments.push(segment(DAY, 25, 2 << 20));
        assert!(plan_merge(&segments, MergePolicy::DEFAULT, None).is_empty());
    }

    #[test]
    fn a_plan_does_not_exceed_the_target_and_large_segments_are_left_alone() {
        let segments: Vec<_> = (1..=60).map(|commit| segment(DAY, commit, 5 << 20)).collect();
        let plans = plan_merge(&segments, MergePolicy::DEFAULT, None);
        assert_eq!(commits(&plans), [(1..=25).collect::<Vec<_>>(), (26..=50).collect()], "the last ten have to wait");
        let large: Vec<_> = (1..=40).map(|commit| segment(DAY, commit, 64 << 20)).collect();
        assert!(plan_merge(&large, MergePolicy::DEFAULT, None).is_empty());
    }

    #[test]
    fn what_makes_a_full_segment_is_merged_though_fewer_than_otherwise() {
        // Eleven of 11.5 MiB are 126.5.
        let segments: Vec<_> = (1..=23).map(|commit| segment(DAY, commit, 23 << 19)).collect();
        assert_eq!(
            commits(&plan_merge(&segments, MergePolicy::DEFAULT, None)),
            [(1..=11).collect::<Vec<_>>(), (12..=22).collect()]
        );
        assert!(
            plan_merge(&segments[..11], MergePolicy::DEFAULT, None).is_empty(),
            "a twelfth would not fit, and is not there"
        );
        // Four of 30 MiB are worth it, three of 40 are not.
        for (count, megabytes, plans) in [(5, 30, 1), (4, 40, 0)] {
            let segments: Vec<_> = (1..=count).map(|commit| segment(DAY, commit, megabytes << 20)).collect();
            assert_eq!(plan_merge(&segments, MergePolicy::DEFAULT, None).len(), plans, "{megabytes} MiB");
        }
        // As with bytes, so with rows.
        let rows = ROWS_MAX as u64 / 5;
        let many: Vec<_> = (1..=6).map(|commit| Segment { rows, ..segment(DAY, commit, 4 << 20) }).collect();
        assert_eq!(commits(&plan_merge(&many, MergePolicy::DEFAULT, None)), [[1, 2, 3, 4, 5]]);
    }

    #[test]
    fn merging_ends_and_leaves_few_files() {
        // As a day of commits comes, whatever their size: what is planned is done, until nothing is.
        for bytes in [3_000, 20_000, 150_000, 1 << 20, 4 << 20, 12 << 20, 31 << 20, 50 << 20] {
            let mut held: Vec<Segment> = Vec::new();
            let (mut rewritten, mut next) = (0, 1_000);
            for commit in 1..=700 {
                held.push(segment(DAY, commit, bytes));
                loop {
                    let plans = plan_merge(&held, MergePolicy::DEFAULT, None);
                    if plans.is_empty() {
                        break;
                    }
                    for plan in plans {
                        let sum = plan.inputs.iter().map(|input| input.bytes).sum();
                        rewritten += sum;
                        held.retain(|segment| !plan.inputs.contains(segment));
                        held.push(Segment { second_min: plan.inputs[0].second_min, ..segment(DAY, next, sum) });
                        next += 1;
                    }
                }
            }
            let total = 700 * bytes;
            let most = total / (32 << 20) + 3 * 24;
            assert!(held.len() as u64 <= most, "{bytes}: {} files of {total} bytes", held.len());
            assert!(rewritten <= 4 * total, "{bytes}: {rewritten} of {total} bytes rewritten");
        }
    }

    #[test]
    fn inputs_are_in_order_of_time() {
        let segments: Vec<_> = (1..=24).rev().map(|commit| segment(DAY, commit, 10_000)).collect();
        assert_eq!(commits(&plan_merge(&segments, MergePolicy::DEFAULT, None)), [(1..=24).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_settled_date_is_merged_to_the_end_but_not_for_a_trickle() {
        let after = "2026-03-05".parse().ok();
        let pieces = [segment(DAY, 1, 100_000), segment(DAY, 2, SETTLED_BYTES - 1), segment(DAY, 3, 500_000)];
        assert_eq!(commits(&plan_merge(&pieces, MergePolicy::DEFAULT, after)), [[1, 2, 3]]);
        assert!(plan_merge(&pieces, MergePolicy::DEFAULT, DAY.parse().ok()).is_empty());
        let trickle = [segment(DAY, 1, 900_000), segment(DAY, 2, 100_000)];
        assert!(plan_merge(&trickle, MergePolicy::DEFAULT, after).is_empty());
        assert!(plan_merge(&pieces[..1], MergePolicy::DEFAULT, after).is_empty());
    }

    #[test]
    fn what_has_reached_a_size_on_a_settled_date_waits_for_as_many_as_anywhere() {
        let after = "2026-03-05".parse().ok();
        let segments: Vec<_> = (1..=24).map(|commit| segment(DAY, commit, SETTLED_BYTES)).collect();
        assert!(plan_merge(&segments[1..], MergePolicy::DEFAULT, after).is_empty());
        assert_eq!(commits(&plan_merge(&segments, MergePolicy::DEFAULT, after)), [(1..=24).collect::<Vec<_>>()]);
        let mixed = [segments[0].clone(), segment(DAY, 25, 800_000), segment(DAY, 26, 800_000)];
        assert_eq!(commits(&plan_merge(&mixed, MergePolicy::DEFAULT, after)), [[25, 26]]);
    }
}
