//! What coverage says, and what folding leaves of it.

use engine::model::{ContentState, Coverage, Gap};

use super::*;

async fn general(ledger: &dyn Ledger) -> Coverage {
    let all = ledger.coverage(tenant(1)).await.unwrap();
    all.into_iter().find(|coverage| coverage.content_type == GENERAL).unwrap()
}

pub async fn the_sums_are_what_happened(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    assert_eq!(ledger.coverage(tenant(1)).await.unwrap(), []);
    let contents = ["a", "b", "c", "d"].map(|id| content(id, hours(1)));
    ledger.contents_listed(tenant(1), contents.to_vec(), noon()).await.unwrap();
    ledger.start_requested(tenant(1), EXCHANGE, noon()).await.unwrap();
    for (id, message) in [("a", "first"), ("b", "second"), ("c", "third"), ("b", "fourth")] {
        let row = row(&*ledger, tenant(1), id).await;
        ledger.content_failed(tenant(1), row, message.to_owned(), noon() + hours(1)).await.unwrap();
    }
    let (a, b) = (row(&*ledger, tenant(1), "a").await, row(&*ledger, tenant(1), "b").await);
    let contents = vec![ArchivedContent { records: 100, duplicates: 7, variants: 2, ..archived(a, 0) }];
    ledger.commit(Commit { contents, quarantined: vec![quarantined("q")], ..commit(1) }).await.unwrap();
    let said = general(&*ledger).await;
    assert_eq!((said.archived, said.pending, said.failing), (1, 3, 2));
    assert_eq!((said.records, said.duplicates, said.variants, said.quarantined), (100, 7, 2, 1));
    assert_eq!((said.lost, said.last_failure.as_deref()), (vec![], Some("fourth")));
    ledger.content_lost(tenant(1), b, loss(LossKind::Expired), noon()).await.unwrap();
    let said = general(&*ledger).await;
    assert_eq!((said.archived, said.pending, said.failing), (1, 2, 1));
    assert_eq!((said.lost, said.last_failure.as_deref()), (vec![(LossKind::Expired, 1)], Some("third")));
    let all = ledger.coverage(tenant(1)).await.unwrap();
    let exchange = all.iter().find(|coverage| coverage.content_type == EXCHANGE).unwrap();
    assert_eq!((exchange.archived, exchange.pending, exchange.complete_through), (0, 0, None));
    assert_eq!(all.len(), 2);
}

pub async fn completeness_follows_the_tiles_and_stops_at_what_is_pending(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger
        .contents_listed(tenant(1), vec![content("a", minutes(150)), content("old", -hours(2))], noon())
        .await
        .unwrap();
    assert_eq!((general(&*ledger).await.from, general(&*ledger).await.complete_through), (noon(), None));
    for start in [0, 1, 3] {
        ledger.tile_listed(tenant(1), GENERAL, tile(start)).await.unwrap();
    }
    // What was created before collection began does not hold the claim up.
    assert_eq!(general(&*ledger).await.complete_through, Some(noon() + hours(2)));
    ledger.tile_listed(tenant(1), GENERAL, tile(2)).await.unwrap();
    assert_eq!(general(&*ledger).await.complete_through, Some(noon() + minutes(150)));
    let a = row(&*ledger, tenant(1), "a").await;
    ledger.commit(Commit { contents: vec![archived(a, 1)], ..commit(1) }).await.unwrap();
    assert_eq!(general(&*ledger).await.complete_through, Some(noon() + hours(4)));
    assert_eq!(general(&*ledger).await.gaps, []);
}

pub async fn folding_keeps_the_sums_and_names_the_gaps(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let contents = vec![content("done", minutes(30)), content("lost", minutes(30)), content("waits", hours(9))];
    ledger.contents_listed(tenant(1), contents, noon()).await.unwrap();
    for start in [0, 2, 3, 9] {
        ledger.tile_listed(tenant(1), GENERAL, tile(start)).await.unwrap();
    }
    // The service answers to the end, so that what is out of reach is known to be.
    let last = Tile { listed_at: Some(noon() + days(7) + hours(3)), ..tile(9) };
    let (done, lost) = (row(&*ledger, tenant(1), "done").await, row(&*ledger, tenant(1), "lost").await);
    let lost = vec![(lost, loss(LossKind::Missing))];
    ledger.commit(Commit { contents: vec![archived(done, 5)], lost, ..commit(1) }).await.unwrap();
    let before = general(&*ledger).await;
    assert_eq!(before.complete_through, Some(noon() + hours(1)), "what is missing may still be had");

    // The archived one expires half an hour into the eighth day: nothing to fold before that has passed.
    let expires = noon() + minutes(30) + days(7);
    assert_eq!(ledger.fold(tenant(1), expires, 100).await.unwrap(), 0);
    assert_eq!(ledger.fold(tenant(1), expires + TimeDelta::milliseconds(1), 100).await.unwrap(), 1);
    assert_eq!(ledger.content_state(tenant(1), GENERAL, "done".to_owned()).await.unwrap(), None);
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap().len(), 4, "a tile goes when all of it has expired");

    ledger.tile_listed(tenant(1), GENERAL, last.clone()).await.unwrap();
    assert_eq!(ledger.fold(tenant(1), noon() + hours(3) + days(7), 100).await.unwrap(), 0);
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap(), [tile(3), last]);
    let said = general(&*ledger).await;
    assert_eq!(said.gaps, [Gap { start: noon() + hours(1), until: noon() + hours(2) }]);
    assert_eq!(said.complete_through, Some(noon() + hours(4)));
    assert_eq!((said.archived, said.records, said.pending), (1, 5, 1));
    assert_eq!((said.lost, said.from), (vec![(LossKind::Missing, 1)], noon()));
    let lost = ledger.content_state(tenant(1), GENERAL, "lost".to_owned()).await.unwrap();
    assert_eq!(lost, Some(ContentState::Lost), "what is lost stays");
    assert_eq!(ledger.fold(tenant(1), noon() + days(400), 100).await.unwrap(), 0);
    let waits = ledger.content_state(tenant(1), GENERAL, "waits".to_owned()).await.unwrap();
    assert_eq!(waits, Some(ContentState::Listed), "what waits is not folded, however old");
}

pub async fn an_outage_folded_day_by_day_is_one_gap(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.tile_listed(tenant(1), GENERAL, tile(0)).await.unwrap();
    let listed = |day: i64| {
        let start = noon() + days(day);
        let until = start + hours(1);
        Tile { start, until, listed_until: Some(until), listed_at: Some(until), ..tile(0) }
    };
    for day in 1..=20 {
        ledger.fold(tenant(1), noon() + days(day), 100).await.unwrap();
        let said = general(&*ledger).await;
        assert_eq!(
            (said.complete_through, said.gaps),
            (Some(noon() + hours(1)), vec![]),
            "our clock alone says nothing"
        );
    }
    // Collection goes on after a month. What is a week old by then is gone; the rest can still be listed.
    ledger.tile_listed(tenant(1), GENERAL, listed(30)).await.unwrap();
    for day in 20..=40 {
        ledger.fold(tenant(1), noon() + days(day), 100).await.unwrap();
    }
    let gap = |until| Gap { start: noon() + hours(1), until };
    let said = general(&*ledger).await;
    let gone = noon() + days(23) + hours(1);
    assert_eq!((said.complete_through, said.gaps), (Some(gone), vec![gap(gone)]));
    // It was not; eight days later that is gone too, and belongs to the same gap.
    ledger.tile_listed(tenant(1), GENERAL, listed(38)).await.unwrap();
    let said = general(&*ledger).await;
    assert_eq!(said.complete_through, Some(noon() + days(30) + hours(1)));
    assert_eq!(said.gaps, [gap(noon() + days(30))]);
    ledger.fold(tenant(1), noon() + days(38) + hours(1), 100).await.unwrap();
    assert_eq!(general(&*ledger).await.gaps.first(), Some(&gap(noon() + days(30))));
}

pub async fn folding_is_bounded(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let contents: Vec<Listed> = (0..25).map(|number| content(&format!("{number}"), hours(number))).collect();
    ledger.contents_listed(tenant(1), contents, noon()).await.unwrap();
    let rows = all_pending(&*ledger, tenant(1)).await;
    let contents = rows.iter().map(|pending| archived(pending.row, 1)).collect();
    ledger.commit(Commit { contents, ..commit(1) }).await.unwrap();
    let mut folded = Vec::new();
    for _ in 0..4 {
        folded.push(ledger.fold(tenant(1), noon() + days(30), 10).await.unwrap());
    }
    assert_eq!(folded, [10, 10, 5, 0]);
    assert_eq!(general(&*ledger).await.archived, 25);
}
