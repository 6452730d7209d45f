//! What coverage notes beside completeness, and second chances.

use engine::model::Relisting;
use engine::silence::LEARNT_MIN;

use super::*;

pub async fn what_keeps_failing_is_named_the_latest_first(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger
        .contents_listed(
            tenant(1),
            vec![content("a", hours(1)), content("b", hours(2)), content("c", hours(3))],
            noon(),
        )
        .await
        .unwrap();
    assert_eq!(ledger.failing(tenant(1), 10).await.unwrap(), []);
    for (id, times) in [("a", 1), ("b", 2)] {
        let row = row(&*ledger, tenant(1), id).await;
        for _ in 0..times {
            ledger.content_failed(tenant(1), row, format!("{id} answers 500"), noon() + hours(9)).await.unwrap();
        }
    }
    let failing = ledger.failing(tenant(1), 10).await.unwrap();
    let told: Vec<_> = failing.iter().map(|failing| (failing.content_id.as_str(), failing.attempts)).collect();
    assert_eq!(told, [("b", 2), ("a", 1)]);
    assert_eq!((failing[0].failure.as_str(), failing[0].next_attempt_at), ("b answers 500", noon() + hours(9)));
    assert_eq!(ledger.failing(tenant(1), 1).await.unwrap().len(), 1);
}

pub async fn what_was_given_up_waits_again_when_asked_as_long_as_it_can_be_had(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let all = ["missing", "unreadable", "expired", "old"];
    let created = |id: &str| if id == "old" { days(-7) } else { hours(1) };
    ledger.contents_listed(tenant(1), all.map(|id| content(id, created(id))).to_vec(), noon() - days(1)).await.unwrap();
    let kinds = [LossKind::Missing, LossKind::Unreadable, LossKind::Expired, LossKind::Unreadable];
    for (id, kind) in all.into_iter().zip(kinds) {
        let row = row(&*ledger, tenant(1), id).await;
        ledger.content_lost(tenant(1), row, loss(kind), noon()).await.unwrap();
    }
    assert_eq!(ledger.retry_lost(tenant(1), noon()).await.unwrap(), 2);
    assert_eq!(ledger.retry_lost(tenant(1), noon()).await.unwrap(), 0, "once");
    let mut waiting: Vec<String> =
        all_pending(&*ledger, tenant(1)).await.iter().map(|row| row.content.content_id.to_string()).collect();
    waiting.sort();
    assert_eq!(waiting, ["missing", "unreadable"]);
    let coverage = ledger.coverage(tenant(1)).await.unwrap();
    assert_eq!(coverage[0].lost, [(LossKind::Expired, 1), (LossKind::Unreadable, 1)]);
    assert_eq!(coverage[0].pending, 2);
}

pub async fn listings_of_closed_windows_are_counted(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.relisted(tenant(1), GENERAL, 3, 0, noon()).await.unwrap();
    ledger.relisted(tenant(1), GENERAL, 1, 2, noon()).await.unwrap();
    let notes = ledger.feed_notes(tenant(1)).await.unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].relisting, Relisting { listings: 2, requests: 4, found: 2 });
    assert_eq!(notes[0].silence, None);
}

pub async fn a_silence_is_unusual_once_weeks_are_learnt(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let weeks = i64::from(LEARNT_MIN) / 24 + 2;
    for day in 0..weeks {
        for hour in 0..24 {
            let created = days(day) + hours(hour);
            let id = format!("{day}-{hour}");
            ledger.contents_listed(tenant(1), vec![content(&id, created)], noon() + created).await.unwrap();
            ledger.tile_listed(tenant(1), GENERAL, tile(day * 24 + hour)).await.unwrap();
        }
        ledger.fold(tenant(1), noon() + days(day), 1000).await.unwrap();
    }
    assert_eq!(ledger.feed_notes(tenant(1)).await.unwrap()[0].silence, None, "an hour is usual");
    let end = weeks * 24;
    for hour in end..end + 6 {
        ledger.tile_listed(tenant(1), GENERAL, tile(hour)).await.unwrap();
    }
    let silence = ledger.feed_notes(tenant(1)).await.unwrap()[0].silence.expect("six hours are not");
    assert_eq!(silence.since, noon() + hours(end - 1));
}
