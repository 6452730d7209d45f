//! Commits, segments and quarantine.

use engine::model::{ContentState, DamagedSegment, Expired, Retained};
use engine::retention::Expiry;

use super::*;

/// A ledger in which contents `a`, `b` and `c` wait, and their rows.
async fn with_contents(fixture: &dyn Fixture) -> (Arc<dyn Ledger>, [i64; 3]) {
    let ledger = with_tenant(fixture).await;
    let contents = ["a", "b", "c"].map(|id| content(id, hours(1)));
    ledger.contents_listed(tenant(1), contents.to_vec(), noon()).await.unwrap();
    let mut rows = [0; 3];
    for (found, id) in rows.iter_mut().zip(["a", "b", "c"]) {
        *found = row(&*ledger, tenant(1), id).await;
    }
    (ledger, rows)
}

async fn state(ledger: &dyn Ledger, id: &str) -> Option<ContentState> {
    ledger.content_state(tenant(1), GENERAL, id.to_owned()).await.unwrap()
}

pub async fn a_commit_archives_what_it_names_and_shows_its_segments(fixture: &dyn Fixture) {
    let (ledger, [a, b, _]) = with_contents(fixture).await;
    let segments = vec![segment(1, 1), segment(1, 0), SegmentRow { date: "2026-03-03".to_owned(), ..segment(1, 0) }];
    let untimed =
        SegmentRow { second_min: None, second_max: None, date: "2026-03-05".to_owned(), ..segment(1, 7_000_000_007) };
    ledger
        .commit(Commit {
            contents: vec![archived(a, 10)],
            lost: vec![(b, loss(LossKind::Unreadable))],
            segments: [segments.clone(), vec![untimed.clone()]].concat(),
            quarantined: vec![quarantined("q/b")],
            ..commit(1)
        })
        .await
        .unwrap();
    assert_eq!(state(&*ledger, "a").await, Some(ContentState::Archived));
    assert_eq!(state(&*ledger, "b").await, Some(ContentState::Lost));
    assert_eq!(state(&*ledger, "c").await, Some(ContentState::Listed));
    let mut expected = segments;
    expected.push(untimed);
    expected.sort_by(|x, y| (&x.date, x.part).cmp(&(&y.date, y.part)));
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), expected);
    assert_eq!(ledger.quarantine(tenant(1), 10).await.unwrap(), [quarantined("q/b")]);
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(1));
    assert_eq!(all_pending(&*ledger, tenant(1)).await.len(), 1);
}

pub async fn a_commit_out_of_order_changes_nothing(fixture: &dyn Fixture) {
    let (ledger, [a, ..]) = with_contents(fixture).await;
    ledger.commit(commit(1)).await.unwrap();
    for number in [0, 1, 3, u64::MAX] {
        let wrong = Commit { contents: vec![archived(a, 1)], segments: vec![segment(number, 0)], ..commit(number) };
        let error = refused(ledger.commit(wrong)).await;
        assert!(
            matches!(error, LedgerError::CommitOutOfOrder { given, expected: CommitNumber(2), .. } if given.0 == number),
            "{error:?}"
        );
    }
    assert_eq!(state(&*ledger, "a").await, Some(ContentState::Listed));
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), []);
    ledger.commit(Commit { contents: vec![archived(a, 1)], ..commit(2) }).await.unwrap();
}

pub async fn a_commit_with_one_bad_part_changes_nothing(fixture: &dyn Fixture) {
    let (ledger, [a, b, c]) = with_contents(fixture).await;
    let good = Commit {
        contents: vec![archived(a, 1)],
        lost: vec![(b, loss(LossKind::Expired))],
        segments: vec![segment(1, 0)],
        quarantined: vec![quarantined("q")],
        ..commit(1)
    };
    let bad = [
        Commit { contents: vec![archived(a, 1), archived(a, 1)], ..good.clone() },
        Commit { contents: vec![archived(a, 1), archived(b, 1)], ..good.clone() },
        Commit { contents: vec![archived(a, 1), archived(c + 1000, 1)], ..good.clone() },
        Commit { segments: vec![segment(1, 0), segment(1, 0)], ..good.clone() },
        Commit { segments: vec![segment(1, 0), segment(2, 0)], ..good.clone() },
    ];
    for wrong in bad {
        refused(ledger.commit(wrong)).await;
        assert_eq!(all_pending(&*ledger, tenant(1)).await.len(), 3);
        assert_eq!(ledger.segments(tenant(1)).await.unwrap(), []);
        assert_eq!(ledger.quarantine(tenant(1), 10).await.unwrap(), []);
        assert_eq!(ledger.losses(tenant(1), 10).await.unwrap(), []);
        assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(0));
        assert_eq!(ledger.coverage(tenant(1)).await.unwrap().remove(0).records, 0);
    }
    ledger.commit(good).await.unwrap();
}

pub async fn an_empty_commit_counts(fixture: &dyn Fixture) {
    let (ledger, _) = with_contents(fixture).await;
    for number in 1..=3 {
        ledger.commit(commit(number)).await.unwrap();
    }
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(3));
}

pub async fn segments_are_merged_and_forgotten(fixture: &dyn Fixture) {
    let (ledger, _) = with_contents(fixture).await;
    let small: Vec<SegmentRow> = (0..3).map(|part| segment(1, part)).collect();
    ledger.commit(Commit { segments: small.clone(), ..commit(1) }).await.unwrap();
    let merge = |number, removed: &[SegmentRow], added| {
        ledger.replace_segments(tenant(1), CommitNumber(number), removed.to_vec(), added, noon() + hours(1))
    };
    merge(2, &small[..2], vec![segment(2, 0)]).await.unwrap();
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), [segment(1, 2), segment(2, 0)]);
    let since = noon() + hours(1);
    assert_eq!(ledger.obsolete(tenant(1)).await.unwrap(), [(segment(1, 0), since), (segment(1, 1), since)]);
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(2));
    // A visible one is never forgotten, even if somebody says that its file is gone.
    ledger.obsolete_deleted(tenant(1), vec![segment(1, 0), segment(2, 0), segment(9, 9)]).await.unwrap();
    assert_eq!(ledger.obsolete(tenant(1)).await.unwrap(), [(segment(1, 1), since)]);
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), [segment(1, 2), segment(2, 0)]);
    // Removing without adding is a merge too: a retention's.
    merge(3, &[segment(1, 2)], vec![]).await.unwrap();
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), [segment(2, 0)]);
}

pub async fn a_merge_of_what_is_not_visible_changes_nothing(fixture: &dyn Fixture) {
    let (ledger, _) = with_contents(fixture).await;
    ledger.commit(Commit { segments: vec![segment(1, 0), segment(1, 1)], ..commit(1) }).await.unwrap();
    let merge =
        |number, removed, added| ledger.replace_segments(tenant(1), CommitNumber(number), removed, added, noon());
    let errors = [
        refused(merge(2, vec![segment(1, 0), segment(1, 9)], vec![segment(2, 0)])).await,
        refused(merge(2, vec![segment(1, 0), segment(1, 0)], vec![segment(2, 0)])).await,
    ];
    for error in errors {
        assert!(matches!(error, LedgerError::SegmentNotVisible { .. }), "{error:?}");
    }
    let error = refused(merge(3, vec![segment(1, 0)], vec![segment(3, 0)])).await;
    assert!(matches!(error, LedgerError::CommitOutOfOrder { .. }), "{error:?}");
    let error = refused(merge(2, vec![segment(1, 0)], vec![segment(1, 5)])).await;
    assert!(matches!(error, LedgerError::SegmentRefused { .. }), "{error:?}");
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), [segment(1, 0), segment(1, 1)]);
    assert_eq!(ledger.obsolete(tenant(1)).await.unwrap(), []);
    merge(2, vec![segment(1, 0)], vec![segment(2, 0)]).await.unwrap();
    let error = refused(merge(3, vec![segment(1, 0)], vec![])).await;
    assert!(matches!(error, LedgerError::SegmentNotVisible { .. }), "obsolete already: {error:?}");
}

pub async fn segments_are_found_by_tenant_and_time(fixture: &dyn Fixture) {
    let (ledger, _) = with_contents(fixture).await;
    for number in [2, 3] {
        ledger.add_tenant(tenant(number), String::new(), noon(), noon()).await.unwrap();
    }
    ledger.commit(Commit { segments: vec![segment(1, 0), segment(1, 1)], ..commit(1) }).await.unwrap();
    let other = Commit { tenant: tenant(3), segments: vec![segment(1, 4)], ..commit(1) };
    ledger.commit(other).await.unwrap();
    ledger.replace_segments(tenant(1), CommitNumber(2), vec![segment(1, 0)], vec![], noon()).await.unwrap();
    // Another day, and one whose only record has no time.
    let day_after = SegmentRow {
        date: "2026-03-05".to_owned(),
        second_min: Some(1_772_668_800),
        second_max: Some(1_772_668_805),
        ..segment(2, 0)
    };
    let untimed = SegmentRow { second_min: None, second_max: None, ..segment(2, 1) };
    let other = Commit { tenant: tenant(3), segments: vec![day_after.clone(), untimed.clone()], ..commit(2) };
    ledger.commit(other).await.unwrap();
    let first = (tenant(1), vec![segment(1, 1)]);
    let found = |tenants: Option<&[u64]>, seconds| {
        let tenants = tenants.map(|numbers| numbers.iter().map(|number| tenant(*number)).collect());
        async {
            let mut found = ledger.segments_within(tenants, seconds).await.unwrap();
            found.sort_by_key(|(tenant, _)| *tenant);
            found
        }
    };
    let of_third = |rows: &[&SegmentRow]| (tenant(3), rows.iter().copied().cloned().collect::<Vec<_>>());
    let all = of_third(&[&segment(1, 4), &untimed, &day_after]);
    assert_eq!(found(None, None).await, [first.clone(), all.clone()]);
    assert_eq!(found(Some(&[3, 2, 9]), None).await, [all]);
    assert_eq!(found(Some(&[]), None).await, []);
    let (hour_first, hour_last) = (1_772_625_600, 1_772_629_199);
    let in_the_hour = [first, of_third(&[&segment(1, 4)])];
    for seconds in [hour_first..=hour_first, hour_last..=hour_last, i64::MIN..=hour_first, 5..=hour_last] {
        assert_eq!(found(None, Some(seconds.clone())).await, in_the_hour, "{seconds:?}");
    }
    for seconds in [hour_last + 1..=1_772_668_799, 1_772_668_806..=i64::MAX, i64::MIN..=hour_first - 1] {
        assert_eq!(found(None, Some(seconds.clone())).await, [], "{seconds:?}");
    }
    for seconds in [1_772_668_805..=i64::MAX, hour_last + 1..=1_772_668_800] {
        assert_eq!(found(None, Some(seconds)).await, [of_third(&[&day_after])]);
    }
    assert_eq!(found(Some(&[3]), Some(hour_first..=hour_last)).await, [of_third(&[&segment(1, 4)])]);
    assert_eq!(found(Some(&[1]), Some(1_772_668_800..=i64::MAX)).await, []);
}

pub async fn quarantine_keeps_each_path_once(fixture: &dyn Fixture) {
    let (ledger, _) = with_contents(fixture).await;
    for number in 1..=2 {
        let rows = vec![quarantined("b"), quarantined("a"), quarantined("b")];
        ledger.commit(Commit { quarantined: rows, ..commit(number) }).await.unwrap();
    }
    assert_eq!(ledger.quarantine(tenant(1), 10).await.unwrap(), [quarantined("a"), quarantined("b")]);
    assert_eq!(ledger.quarantine(tenant(1), 1).await.unwrap(), [quarantined("a")]);
    assert_eq!(ledger.coverage(tenant(1)).await.unwrap().remove(0).quarantined, 2);
}

pub async fn a_damaged_segment_is_named_until_it_is_sound_or_gone(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let segments: Vec<SegmentRow> = (0..3).map(|part| segment(1, part)).collect();
    ledger.commit(Commit { segments: segments.clone(), ..commit(1) }).await.unwrap();
    let note = |part: u64, problem: Option<&str>, hour| {
        ledger.set_segment_problem(tenant(1), segment(1, part), problem.map(str::to_owned), noon() + hours(hour))
    };
    let damaged = |part, problem: &str, hour| DamagedSegment {
        segment: segment(1, part),
        problem: problem.to_owned(),
        found_at: noon() + hours(hour),
    };
    assert_eq!(ledger.damaged_segments(tenant(1)).await.unwrap(), []);
    note(2, Some("the file is missing"), 1).await.unwrap();
    note(0, Some("its bytes have changed"), 2).await.unwrap();
    note(2, Some("it has 3 bytes"), 3).await.unwrap();
    note(9, Some("it is not there"), 3).await.unwrap();
    let both = [damaged(0, "its bytes have changed", 2), damaged(2, "it has 3 bytes", 1)];
    assert_eq!(ledger.damaged_segments(tenant(1)).await.unwrap(), both);
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), segments, "it stays visible");
    note(0, None, 4).await.unwrap();
    assert_eq!(ledger.damaged_segments(tenant(1)).await.unwrap(), [damaged(2, "it has 3 bytes", 1)]);
    let gone = vec![segment(1, 2)];
    ledger.replace_segments(tenant(1), CommitNumber(2), gone, vec![], noon() + hours(5)).await.unwrap();
    assert_eq!(ledger.damaged_segments(tenant(1)).await.unwrap(), []);
    note(2, Some("too late"), 6).await.unwrap();
    assert_eq!(ledger.damaged_segments(tenant(1)).await.unwrap(), []);
    refused(ledger.set_segment_problem(tenant(2), segment(1, 0), None, noon())).await;
}

/// A segment of a day of March.
fn of_day(day: u32, commit: u64, part: u64) -> SegmentRow {
    SegmentRow { date: format!("2026-03-{day:02}"), ..segment(commit, part) }
}

fn expiry(before: &str, stored_before: Timestamp) -> Expiry {
    Expiry { before: before.parse().unwrap(), stored_before }
}

pub async fn what_is_past_its_retention_goes_whole_and_is_counted(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.add_tenant(tenant(2), String::new(), noon(), noon()).await.unwrap();
    let segments = vec![of_day(1, 1, 0), of_day(2, 1, 1), of_day(2, 1, 2), of_day(3, 1, 3)];
    ledger.commit(Commit { segments: segments.clone(), ..commit(1) }).await.unwrap();
    let others = vec![of_day(1, 1, 0)];
    ledger.commit(Commit { tenant: tenant(2), segments: others.clone(), ..commit(1) }).await.unwrap();
    let now = noon() + days(30);
    let expire = |before: &str| ledger.expire_segments(tenant(1), expiry(before, now), now);
    assert_eq!(expire("2026-03-01").await.unwrap(), Expired::default());
    assert_eq!(ledger.retained(tenant(1)).await.unwrap(), Retained::default());

    assert_eq!(expire("2026-03-03").await.unwrap(), Expired { segments: 3, records: 10 + 11 + 12 });
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), [of_day(3, 1, 3)]);
    let gone: Vec<_> = segments[..3].iter().map(|segment| (segment.clone(), now)).collect();
    assert_eq!(ledger.obsolete(tenant(1)).await.unwrap(), gone, "their files can still be found");
    let kept_since = "2026-03-03".parse().ok();
    let retained = Retained { kept_since, expired: Expired { segments: 3, records: 33 } };
    assert_eq!(ledger.retained(tenant(1)).await.unwrap(), retained);
    // Once more takes nothing more, and an earlier date takes nothing back.
    for before in ["2026-03-03", "2026-03-02"] {
        assert_eq!(expire(before).await.unwrap(), Expired::default());
        assert_eq!(ledger.retained(tenant(1)).await.unwrap(), retained);
    }
    // What has come of an old date since then goes too, and what is kept since a date stays so.
    ledger.commit(Commit { segments: vec![of_day(1, 2, 0)], ..commit(2) }).await.unwrap();
    assert_eq!(expire("2026-03-02").await.unwrap(), Expired { segments: 1, records: 10 });
    let retained = Retained { kept_since, expired: Expired { segments: 4, records: 43 } };
    assert_eq!(fixture.open().retained(tenant(1)).await.unwrap(), retained);
    assert_eq!(ledger.segments(tenant(2)).await.unwrap(), others, "another tenant's stay");
    refused(ledger.expire_segments(tenant(3), expiry("2026-03-03", now), now)).await;
}

pub async fn what_was_stored_lately_outlives_its_retention(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let at = |hour| noon() + hours(hour);
    for (number, hour) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        let segments = vec![of_day(1, number, 0)];
        ledger.commit(Commit { at: at(hour), segments, ..commit(number) }).await.unwrap();
    }
    // A merge was stored when the latest of what it merged was.
    let merged = vec![of_day(1, 2, 0), of_day(1, 3, 0)];
    ledger.replace_segments(tenant(1), CommitNumber(5), merged, vec![of_day(1, 5, 0)], at(9)).await.unwrap();
    let left = async |stored_before| {
        ledger.expire_segments(tenant(1), expiry("2026-03-02", stored_before), at(10)).await.unwrap();
        let left = ledger.segments(tenant(1)).await.unwrap();
        left.iter().map(|segment| segment.commit.0).collect::<Vec<_>>()
    };
    assert_eq!(left(at(1)).await, [1, 4, 5], "stored at that moment is not before it");
    assert_eq!(left(at(1) + TimeDelta::milliseconds(1)).await, [4, 5]);
    assert_eq!(left(at(3)).await, [4, 5]);
    assert_eq!(left(at(3) + TimeDelta::milliseconds(1)).await, [4]);
    assert_eq!(left(at(5)).await, [0_u64; 0]);
}
