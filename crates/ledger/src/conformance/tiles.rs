//! Tiles.

use super::*;

pub async fn a_tile_is_kept_as_written(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap(), []);
    let open = Tile { listed_until: None, listed_at: None, next_listing_at: None, closed_listings: 0, ..tile(2) };
    for written in [tile(1), open.clone(), tile(0)] {
        ledger.tile_listed(tenant(1), GENERAL, written).await.unwrap();
    }
    ledger.tile_listed(tenant(1), EXCHANGE, tile(7)).await.unwrap();
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap(), [tile(0), tile(1), open]);
    let again = Tile { closed_listings: 7, late_contents: 3, next_listing_at: None, ..tile(1) };
    ledger.tile_listed(tenant(1), GENERAL, again.clone()).await.unwrap();
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap().get(1), Some(&again));
    assert_eq!(ledger.tiles(tenant(1), EXCHANGE).await.unwrap(), [tile(7)]);
    assert_eq!(ledger.tiles(tenant(1), ContentType::DlpAll).await.unwrap(), []);
}

pub async fn tiles_do_not_overlap(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.tile_listed(tenant(1), GENERAL, tile(1)).await.unwrap();
    let half = |from: i64, until: i64| Tile {
        start: noon() + minutes(from),
        until: noon() + minutes(until),
        listed_until: None,
        ..tile(1)
    };
    // One that covers it, one that begins before its end, one that ends after its start, one within it.
    for wrong in [half(0, 240), half(119, 180), half(30, 61), half(70, 80)] {
        let error = refused(ledger.tile_listed(tenant(1), GENERAL, wrong)).await;
        assert!(matches!(error, LedgerError::OverlappingTile { other, .. } if other == noon() + hours(1)), "{error:?}");
    }
    for right in [half(30, 60), half(120, 121)] {
        ledger.tile_listed(tenant(1), GENERAL, right).await.unwrap();
    }
    ledger.tile_listed(tenant(1), EXCHANGE, half(30, 90)).await.unwrap();
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap().len(), 3);
}

pub async fn a_malformed_tile_is_refused(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let good = tile(0);
    let malformed = [
        Tile { until: good.start, listed_until: None, ..good.clone() },
        Tile { until: good.start - hours(1), listed_until: None, ..good.clone() },
        Tile { listed_until: Some(good.until + TimeDelta::milliseconds(1)), ..good.clone() },
        Tile { listed_until: Some(good.start - TimeDelta::milliseconds(1)), ..good.clone() },
    ];
    for wrong in malformed {
        let error = refused(ledger.tile_listed(tenant(1), GENERAL, wrong)).await;
        assert!(matches!(error, LedgerError::MalformedTile { .. }), "{error:?}");
    }
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap(), []);
    ledger.tile_listed(tenant(1), GENERAL, Tile { listed_until: Some(good.start), ..good.clone() }).await.unwrap();
    ledger.tile_listed(tenant(1), GENERAL, Tile { listed_until: Some(good.until), ..good }).await.unwrap();
}

pub async fn the_rest_of_a_tile_left_behind_cuts_it_short(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let part = Tile { listed_until: Some(noon() + minutes(20)), ..tile(0) };
    ledger.tile_listed(tenant(1), GENERAL, part.clone()).await.unwrap();
    let rest = |from: i64| Tile {
        start: noon() + minutes(from),
        until: noon() + hours(1),
        listed_until: Some(noon() + hours(1)),
        ..tile(0)
    };
    let error = refused(ledger.tile_listed(tenant(1), GENERAL, rest(19))).await;
    assert!(matches!(error, LedgerError::OverlappingTile { .. }), "{error:?}");
    ledger.tile_listed(tenant(1), GENERAL, rest(40)).await.unwrap();
    let cut = Tile { until: noon() + minutes(40), ..part };
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap(), [cut, rest(40)]);
}
