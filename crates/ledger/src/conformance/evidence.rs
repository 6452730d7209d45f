//! Evidence: orders to purge, holds, and the log of what was done.

use engine::evidence::{ActivityEntry, ActivityFilter, ActivityKind, Deleted, Purge};
use engine::lease::Epoch;
use engine::model::{Commit, CommitNumber, Expired, SegmentRow, TenantState};
use engine::retention::Expiry;
use protocol::time::Timestamp;

use super::{Fixture, commit, days, hours, minutes, noon, refused, segment, tenant, with_tenant};
use crate::{Ledger, LedgerError};

const THREE: Deleted = Deleted { files: 3, bytes: 300 };

/// Removed and purged, and all its files deleted.
pub(crate) async fn purged(ledger: &dyn Ledger, number: u64) {
    let purge = ledger.purge_tenant(tenant(number), noon()).await.unwrap();
    ledger.files_purged(tenant(number), purge.through, Deleted::default(), true, noon()).await.unwrap();
}

async fn remove(ledger: &dyn Ledger, number: u64) {
    ledger.set_tenant_state(tenant(number), TenantState::Removed, noon()).await.unwrap();
}

pub async fn a_purge_is_an_order_until_the_archive_has_confirmed_it(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.commit(Commit { segments: vec![segment(1, 0), segment(1, 1)], ..commit(1) }).await.unwrap();
    let merged = vec![segment(2, 0)];
    ledger.replace_segments(tenant(1), CommitNumber(2), vec![segment(1, 0)], merged, noon()).await.unwrap();
    remove(&*ledger, 1).await;
    assert_eq!(ledger.purge(tenant(1)).await.unwrap(), None);
    let expected = Purge {
        tenant: tenant(1),
        ordered_at: noon() + hours(1),
        ordered_by: crate::UNNAMED.to_owned(),
        through: Epoch(0),
        segments: 2,
        records: 21,
        bytes: 2 * 12_345,
        deleted: Deleted::default(),
        done_at: None,
    };
    assert_eq!(ledger.purge_tenant(tenant(1), noon() + hours(1)).await.unwrap(), expected);
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap(), None);
    assert_eq!(ledger.purge(tenant(1)).await.unwrap(), Some(expected.clone()));
    assert_eq!(ledger.purges(noon() + days(9), 10).await.unwrap(), std::slice::from_ref(&expected));
    // Some files could not be deleted.
    let told = |deleted, is_done, at| ledger.files_purged(tenant(1), Epoch(0), deleted, is_done, at);
    told(THREE, false, noon() + hours(2)).await.unwrap();
    let open = ledger.purge(tenant(1)).await.unwrap().unwrap();
    assert_eq!((open.deleted, open.done_at), (THREE, None));
    // Of another order nothing is believed.
    ledger.files_purged(tenant(1), Epoch(7), THREE, true, noon()).await.unwrap();
    assert_eq!(ledger.purge(tenant(1)).await.unwrap(), Some(open));
    told(THREE, true, noon() + hours(3)).await.unwrap();
    let done = ledger.purge(tenant(1)).await.unwrap().unwrap();
    assert_eq!((done.deleted, done.done_at), (Deleted { files: 6, bytes: 600 }, Some(noon() + hours(3))));
    assert_eq!(ledger.purges(noon() + hours(3), 10).await.unwrap(), [done]);
    assert_eq!(ledger.purges(noon() + hours(3) + minutes(1), 10).await.unwrap(), []);
    // A straggler's file was found later: that it was done stays.
    told(Deleted { files: 1, bytes: 5 }, true, noon() + hours(9)).await.unwrap();
    let again = fixture.open().purge(tenant(1)).await.unwrap().unwrap();
    assert_eq!((again.deleted, again.done_at), (Deleted { files: 7, bytes: 605 }, Some(noon() + hours(3))));
}

pub async fn a_tenant_that_is_being_purged_cannot_return_and_then_does_under_a_later_epoch(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    remove(&*ledger, 1).await;
    ledger.purge_tenant(tenant(1), noon()).await.unwrap();
    let add = || ledger.add_tenant(tenant(1), String::new(), noon(), noon());
    assert!(matches!(refused(add()).await, LedgerError::BeingPurged { .. }));
    assert!(ledger.add_tenant(tenant(2), String::new(), noon(), noon()).await.unwrap(), "others may come");
    ledger.files_purged(tenant(1), Epoch(0), THREE, true, noon()).await.unwrap();
    assert!(add().await.unwrap());
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().epoch, Epoch(1));
    // The next order is for what was written since, too.
    remove(&*ledger, 1).await;
    let purge = ledger.purge_tenant(tenant(1), noon() + days(1)).await.unwrap();
    assert_eq!((purge.through, purge.deleted, purge.done_at), (Epoch(1), Deleted::default(), None));
}

pub async fn nothing_of_a_held_tenant_is_deleted(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let of_day = |day: u32, part| SegmentRow { date: format!("2026-03-{day:02}"), ..segment(1, part) };
    let segments = vec![of_day(1, 0), of_day(2, 1), of_day(3, 2), of_day(3, 3)];
    ledger.commit(Commit { segments: segments.clone(), ..commit(1) }).await.unwrap();
    let now = noon() + days(30);
    let expire = async |before: &str| {
        let expiry = Expiry { before: before.parse().unwrap(), stored_before: now };
        ledger.expire_segments(tenant(1), expiry, now).await.unwrap()
    };
    let names = |rows: Vec<(SegmentRow, Timestamp)>| rows.iter().map(|(row, _)| row.part).collect::<Vec<_>>();
    // What had gone before the hold and still lies there, stays there; what a merge replaces need not.
    assert_eq!(expire("2026-03-02").await.segments, 1);
    assert!(ledger.hold_tenant(tenant(1), "case 17".to_owned(), noon()).await.unwrap());
    let merged = vec![SegmentRow { date: "2026-03-03".to_owned(), ..segment(2, 0) }];
    ledger.replace_segments(tenant(1), CommitNumber(2), segments[2..].to_vec(), merged, now).await.unwrap();
    assert_eq!(names(ledger.obsolete(tenant(1)).await.unwrap()), [0, 2, 3]);
    assert_eq!(names(ledger.deletable(tenant(1)).await.unwrap()), [2, 3]);
    assert_eq!(expire("2026-03-20").await, Expired::default());
    let hold = fixture.open().tenant(tenant(1)).await.unwrap().unwrap().hold.unwrap();
    assert_eq!((hold.since, hold.reason.as_str(), hold.by.as_str()), (noon(), "case 17", crate::UNNAMED));
    // Offboarding keeps everything, and is allowed.
    remove(&*ledger, 1).await;
    let error = refused(ledger.purge_tenant(tenant(1), now)).await;
    assert!(matches!(&error, LedgerError::Held { reason, .. } if reason == "case 17"), "{error:?}");
    // Another reason does not make it begin anew, and moves the revision.
    let (before, _) = ledger.tenants_since(0).await.unwrap();
    assert!(ledger.hold_tenant(tenant(1), "case 18".to_owned(), now).await.unwrap());
    let (_, changed) = ledger.tenants_since(before).await.unwrap();
    let hold = changed[0].hold.clone().unwrap();
    assert_eq!((hold.since, hold.reason.as_str()), (noon(), "case 18"));

    assert!(ledger.release_tenant(tenant(1), now).await.unwrap());
    assert!(!ledger.release_tenant(tenant(1), now).await.unwrap(), "there is none any more");
    assert_eq!(names(ledger.deletable(tenant(1)).await.unwrap()), [0, 2, 3]);
    assert_eq!(expire("2026-03-20").await.segments, 2);
    ledger.purge_tenant(tenant(1), now).await.unwrap();
    for unknown in [ledger.hold_tenant(tenant(9), String::new(), now), ledger.release_tenant(tenant(9), now)] {
        assert!(!unknown.await.unwrap());
    }
}

pub async fn what_is_done_with_tenants_is_told_the_latest_first(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let at = |hour| noon() + hours(hour);
    ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    ledger.add_tenant(tenant(2), String::new(), noon(), at(1)).await.unwrap();
    ledger.commit(Commit { segments: vec![segment(1, 0)], ..commit(1) }).await.unwrap();
    for (state, hour) in [(TenantState::Paused, 2), (TenantState::Paused, 3), (TenantState::Active, 4)] {
        ledger.set_tenant_state(tenant(1), state, at(hour)).await.unwrap();
    }
    let expiry = Expiry { before: (noon() + days(9)).date_naive(), stored_before: noon() + days(9) };
    for hour in [5, 6] {
        ledger.expire_segments(tenant(1), expiry, at(hour)).await.unwrap();
    }
    ledger.hold_tenant(tenant(1), "case".to_owned(), at(7)).await.unwrap();
    ledger.release_tenant(tenant(1), at(8)).await.unwrap();
    ledger.set_tenant_state(tenant(1), TenantState::Removed, at(9)).await.unwrap();
    ledger.files_purged(tenant(1), Epoch(0), THREE, true, at(9)).await.unwrap();
    ledger.purge_tenant(tenant(1), at(10)).await.unwrap();
    ledger.files_purged(tenant(1), Epoch(0), THREE, false, at(11)).await.unwrap();
    ledger.files_purged(tenant(1), Epoch(0), THREE, true, at(12)).await.unwrap();
    ledger.note_activity(ActivityKind::Vacuumed, None, r#"{"files":1}"#.to_owned(), at(13)).await.unwrap();

    let told = async |filter: ActivityFilter, limit| fixture.open().activity(filter, limit).await.unwrap();
    let kinds = |entries: &[ActivityEntry]| entries.iter().map(|entry| entry.kind).collect::<Vec<_>>();
    let all = told(ActivityFilter::default(), 100).await;
    use ActivityKind as K;
    assert_eq!(
        kinds(&all),
        [
            K::Vacuumed,
            K::Purged,
            K::PurgeOrdered,
            K::TenantRemoved,
            K::HoldReleased,
            K::HoldSet,
            K::Expired,
            K::TenantResumed,
            K::TenantPaused,
            K::TenantAdded,
            K::TenantAdded,
        ],
        "what changes nothing is not told"
    );
    assert!(all.iter().all(|entry| entry.actor == crate::UNNAMED) && all.is_sorted_by(|a, b| a.number > b.number));
    assert_eq!((all[0].tenant, all[0].at, all[0].details.as_str()), (None, at(13), r#"{"files":1}"#));
    let has = |entry: &ActivityEntry, words: &[&str]| {
        words.iter().for_each(|word| assert!(entry.details.contains(word), "{word}: {}", entry.details));
    };
    has(&all[1], &[r#""files":6"#, r#""bytes":600"#, r#""records":0"#, "\"ordered_by\":", "2026-03-04T22:00:00.000Z"]);
    has(&all[6], &[r#""segments":1"#, r#""records":10"#, r#""bytes":12345"#, r#""from":"2026-03-04""#]);
    has(&all[4], &["case", "held_since"]);

    let of_two = ActivityFilter { tenant: Some(tenant(2)), ..ActivityFilter::default() };
    assert_eq!(kinds(&told(of_two, 100).await), [K::TenantAdded]);
    let added = ActivityFilter { kind: Some(K::TenantAdded), ..ActivityFilter::default() };
    assert_eq!(told(added, 100).await.len(), 2);
    assert_eq!(told(ActivityFilter { tenant: Some(tenant(1)), ..added }, 100).await.len(), 1);
    let since = ActivityFilter { since: Some(at(12)), ..ActivityFilter::default() };
    assert_eq!(kinds(&told(since, 100).await), [K::Vacuumed, K::Purged]);
    let page = told(ActivityFilter { before: Some(all[1].number), ..ActivityFilter::default() }, 2).await;
    assert_eq!(page, all[2..4]);
}
