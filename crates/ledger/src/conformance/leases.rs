//! Who holds which tenant, and what is refused to who does not.

use std::time::Duration;

use engine::lease::{Epoch, Lease, WorkerId, WorkerRow};
use engine::model::{RefusedEntry, TenantState};
use engine::retention::Expiry;

use super::*;

const LONG: Duration = Duration::from_secs(3600);
/// Whoever says that it is alive for this long is dead by the next word.
const NOUGHT: Duration = Duration::ZERO;

fn worker(number: u8) -> WorkerId {
    WorkerId([number; 16])
}

/// A ledger with so many tenants, and a worker that is alive.
async fn with_tenants(fixture: &dyn Fixture, tenants: u64) -> Arc<dyn Workers> {
    let ledger = fixture.open_for_workers();
    for number in 1..=tenants {
        ledger.add_tenant(tenant(number), String::new(), noon(), noon()).await.unwrap();
    }
    ledger.alive(worker(1), "one".to_owned(), LONG).await.unwrap();
    ledger
}

fn lease(number: u64, of: u8, epoch: u64) -> Lease {
    Lease { tenant: tenant(number), worker: worker(of), epoch: Epoch(epoch) }
}

pub async fn a_worker_takes_what_nobody_holds_and_no_more_than_it_asks_for(fixture: &dyn Fixture) {
    let (one, two) = (with_tenants(fixture, 5).await, fixture.open_for_workers());
    assert_eq!(two.take(worker(2), 9).await.unwrap(), [], "who has not said that it is alive takes nothing");
    assert_eq!(one.take(worker(1), 0).await.unwrap(), []);
    assert_eq!(one.take(worker(1), 3).await.unwrap(), [lease(1, 1, 1), lease(2, 1, 1), lease(3, 1, 1)]);
    let fleet = two.alive(worker(2), "two".to_owned(), LONG).await.unwrap();
    let peers: Vec<_> = fleet.workers.iter().map(|peer| (peer.worker, peer.name.as_str(), peer.held)).collect();
    assert_eq!((peers, fleet.free), (vec![(worker(1), "one", 3), (worker(2), "two", 0)], 2));
    assert_eq!(two.take(worker(2), 9).await.unwrap(), [lease(4, 2, 1), lease(5, 2, 1)]);
    assert_eq!(two.take(worker(2), 9).await.unwrap(), []);
    assert_eq!(two.held(worker(1)).await.unwrap(), [lease(1, 1, 1), lease(2, 1, 1), lease(3, 1, 1)]);
    let fleet = one.alive(worker(1), "one".to_owned(), LONG).await.unwrap();
    assert_eq!((fleet.workers.iter().map(|peer| peer.held).collect::<Vec<_>>(), fleet.free), (vec![3, 2], 0));
    let before = one.tenants_since(0).await.unwrap().0;
    one.leave(worker(1)).await.unwrap();
    assert_eq!(one.tenants_since(0).await.unwrap().0, before, "who holds it is nothing that operators see");
}

pub async fn what_is_given_back_is_taken_under_the_next_epoch(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 3).await;
    ledger.alive(worker(2), "two".to_owned(), LONG).await.unwrap();
    let taken = ledger.take(worker(1), 3).await.unwrap();
    assert_eq!(ledger.give_back(vec![taken[0], taken[2]]).await.unwrap(), 2);
    assert_eq!(ledger.give_back(vec![taken[0], taken[2]]).await.unwrap(), 0, "only once");
    assert_eq!(ledger.held(worker(1)).await.unwrap(), [lease(2, 1, 1)]);
    assert_eq!(ledger.take(worker(2), 1).await.unwrap(), [lease(1, 2, 2)]);
    assert_eq!(ledger.take(worker(1), 9).await.unwrap(), [lease(3, 1, 2)]);
    // What is another's cannot be given back, nor what was ours under another epoch.
    assert_eq!(ledger.give_back(vec![lease(1, 1, 1), lease(1, 1, 2), lease(3, 1, 1)]).await.unwrap(), 0);
    assert_eq!(ledger.held(worker(2)).await.unwrap(), [lease(1, 2, 2)]);
    assert_eq!(ledger.give_back(Vec::new()).await.unwrap(), 0);
}

pub async fn who_is_silent_loses_its_tenants_and_writes_nothing_more(fixture: &dyn Fixture) {
    let (one, two) = (with_tenants(fixture, 2).await, fixture.open_for_workers());
    let taken = one.take(worker(1), 2).await.unwrap();
    let mine = one.under(taken[0]);
    mine.commit(commit(1)).await.unwrap();
    one.alive(worker(1), "one".to_owned(), NOUGHT).await.unwrap();
    let fleet = two.alive(worker(2), "two".to_owned(), LONG).await.unwrap();
    assert_eq!((fleet.workers.len(), fleet.free), (1, 2), "{fleet:?}");
    // Nobody has it yet, so nothing can be doubled.
    mine.commit(commit(2)).await.unwrap();
    assert_eq!(two.take(worker(2), 1).await.unwrap(), [lease(1, 2, 2)]);
    let error = refused(mine.commit(commit(3))).await;
    assert!(error.is_lost_lease() && !error.is_passing(), "{error:?}");
    assert!(matches!(error, LedgerError::LeaseLost { epoch: Epoch(1), .. }), "{error:?}");
    let theirs = two.under(lease(1, 2, 2));
    theirs.commit(commit(3)).await.unwrap();
    assert_eq!(one.tenant(tenant(1)).await.unwrap().unwrap().last_commit, CommitNumber(3));
    // It is back, and has what was left to it; who has the other does not lose it by that.
    let fleet = one.alive(worker(1), "one".to_owned(), LONG).await.unwrap();
    assert_eq!(fleet.workers.iter().map(|peer| peer.held).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(one.held(worker(1)).await.unwrap(), [lease(2, 1, 1)]);
    refused(mine.commit(commit(4))).await;
    theirs.commit(commit(4)).await.unwrap();
    // Taken again, it is another lease: what began under the first is refused to the same worker.
    two.leave(worker(2)).await.unwrap();
    assert_eq!(one.take(worker(1), 9).await.unwrap(), [lease(1, 1, 3)]);
    refused(mine.commit(commit(5))).await;
    one.under(lease(1, 1, 3)).commit(commit(5)).await.unwrap();
}

pub async fn who_comes_back_before_others_took_goes_on_as_before(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 2).await;
    let taken = ledger.take(worker(1), 2).await.unwrap();
    ledger.alive(worker(1), "one".to_owned(), NOUGHT).await.unwrap();
    assert_eq!(ledger.take(worker(1), 2).await.unwrap(), [], "who is dead takes nothing, not even its own");
    let fleet = ledger.alive(worker(1), "one, again".to_owned(), LONG).await.unwrap();
    let peer = &fleet.workers[0];
    assert_eq!((peer.name.as_str(), peer.held, fleet.free), ("one, again", 2, 0));
    assert_eq!(ledger.held(worker(1)).await.unwrap(), taken);
    ledger.under(taken[0]).commit(commit(1)).await.unwrap();
    // A dead worker that holds nothing is forgotten.
    ledger.alive(worker(3), "three".to_owned(), NOUGHT).await.unwrap();
    assert_eq!(ledger.alive(worker(1), "one".to_owned(), LONG).await.unwrap().workers.len(), 1);
}

pub async fn a_lease_is_for_its_own_tenant_alone(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 2).await;
    let taken = ledger.take(worker(1), 2).await.unwrap();
    let other = Commit { tenant: tenant(2), ..commit(1) };
    assert!(refused(ledger.under(taken[0]).commit(other.clone())).await.is_lost_lease());
    ledger.under(taken[1]).commit(other).await.unwrap();
    let error = refused(ledger.under(lease(3, 1, 1)).retry_lost(tenant(3), noon())).await;
    assert!(matches!(error, LedgerError::UnknownTenant { .. }), "{error:?}");
    // What belongs to no tenant is written by whoever asks, and everything may be read.
    let under = ledger.under(taken[0]);
    under.at_work(noon()).await.unwrap();
    assert!(under.put_sealed("name".to_owned(), None, Some(vec![1])).await.unwrap());
    assert_eq!(under.coverage(tenant(2)).await.unwrap(), []);
    assert_eq!(under.tenants_since(0).await.unwrap().1.len(), 2);
}

pub async fn every_write_of_a_tenant_is_refused_under_a_lost_lease(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 1).await;
    let taken = ledger.take(worker(1), 1).await.unwrap();
    let under = ledger.under(taken[0]);
    under.contents_listed(tenant(1), vec![content("a", hours(1)), content("b", hours(1))], noon()).await.unwrap();
    let one = row(&*ledger, tenant(1), "a").await;
    let segments = vec![segment(1, 0)];
    under.commit(Commit { segments: segments.clone(), ..commit(1) }).await.unwrap();
    assert_eq!(ledger.give_back(taken).await.unwrap(), 1);
    let before = (ledger.coverage(tenant(1)).await.unwrap(), ledger.tenant(tenant(1)).await.unwrap());
    let (id, now) = (tenant(1), noon());
    let entry = RefusedEntry {
        content_type: GENERAL,
        content_id: None,
        created: None,
        loss: loss(LossKind::RefusedUrl),
        raw: "{}".to_owned(),
    };
    let expiry = Expiry { before: (noon() + days(400)).date_naive(), stored_before: noon() + days(400) };
    let calls: Vec<(&str, LedgerFuture<'_, ()>)> = vec![
        ("set_tenant_state", done(under.set_tenant_state(id, TenantState::Removed, now))),
        ("purge_tenant", done(under.purge_tenant(id, now))),
        ("hold_tenant", done(under.hold_tenant(id, String::new(), now))),
        ("release_tenant", done(under.release_tenant(id, now))),
        ("set_problem", under.set_problem(id, None, Some(problem("throttled")), now)),
        ("subscriptions_listed", under.subscriptions_listed(id, vec![(GENERAL, Some(true))], now)),
        ("start_requested", under.start_requested(id, GENERAL, now)),
        ("was_enabled", under.was_enabled(id, GENERAL, now)),
        ("write_webhooks", under.write_webhooks(id, Vec::new(), now)),
        ("notified", under.notified(id, vec![GENERAL], now)),
        ("contents_listed", done(under.contents_listed(id, vec![content("c", hours(1))], now))),
        ("entries_refused", done(under.entries_refused(id, vec![entry], now))),
        ("tile_listed", under.tile_listed(id, GENERAL, tile(0))),
        ("content_failed", under.content_failed(id, one, String::new(), now)),
        ("content_lost", under.content_lost(id, one, loss(LossKind::Missing), now)),
        ("commit", under.commit(commit(2))),
        ("expire_segments", done(under.expire_segments(id, expiry, now))),
        ("replace_segments", under.replace_segments(id, CommitNumber(2), segments.clone(), Vec::new(), now)),
        ("obsolete_deleted", under.obsolete_deleted(id, segments.clone())),
        ("set_segment_problem", under.set_segment_problem(id, segments[0].clone(), Some(String::new()), now)),
        ("retry_lost", done(under.retry_lost(id, now))),
        ("relisted", under.relisted(id, GENERAL, 1, 0, now)),
        ("fold", done(under.fold(id, now, 10))),
    ];
    for (name, call) in calls {
        let error = call.await.unwrap_err();
        assert!(error.is_lost_lease(), "{name}: {error:?}");
    }
    let after = (ledger.coverage(tenant(1)).await.unwrap(), ledger.tenant(tenant(1)).await.unwrap());
    assert_eq!(after, before);
    assert_eq!(ledger.segments(tenant(1)).await.unwrap(), segments);
}

fn done<'a, T: Send + 'a>(call: LedgerFuture<'a, T>) -> LedgerFuture<'a, ()> {
    Box::pin(async move { call.await.map(|_| ()) })
}

pub async fn who_holds_nothing_may_still_take_notes_for_the_one_who_does(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 1).await;
    let taken = ledger.take(worker(1), 1).await.unwrap();
    // Another machine's listener: a row, that the holder finds.
    let listener = fixture.open();
    assert_eq!(listener.contents_listed(tenant(1), vec![content("a", hours(1))], noon()).await.unwrap(), 1);
    let holder = ledger.under(taken[0]);
    let row = row(&*holder, tenant(1), "a").await;
    holder.commit(Commit { contents: vec![archived(row, 1)], ..commit(1) }).await.unwrap();
    // And another's operator.
    assert!(listener.set_tenant_state(tenant(1), TenantState::Paused, noon()).await.unwrap());
    assert!(listener.add_tenant(tenant(2), String::new(), noon(), noon()).await.unwrap());
    assert_eq!(ledger.alive(worker(1), "one".to_owned(), LONG).await.unwrap().free, 1);
}

pub async fn who_leaves_leaves_nothing_behind(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 3).await;
    let taken = ledger.take(worker(1), 2).await.unwrap();
    assert_eq!(ledger.leave(worker(1)).await.unwrap(), 2);
    assert_eq!(ledger.leave(worker(1)).await.unwrap(), 0);
    assert_eq!(ledger.take(worker(1), 9).await.unwrap(), []);
    assert!(refused(ledger.under(taken[0]).commit(commit(1))).await.is_lost_lease());
    let fleet = ledger.alive(worker(2), "two".to_owned(), LONG).await.unwrap();
    assert_eq!((fleet.workers.len(), fleet.free), (1, 3));
    assert_eq!(ledger.take(worker(2), 9).await.unwrap(), [lease(1, 2, 2), lease(2, 2, 2), lease(3, 2, 1)]);
}

pub async fn who_knows_that_others_are_gone_takes_what_they_hold_at_once(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 2).await;
    let taken = ledger.take(worker(1), 2).await.unwrap();
    ledger.alive(worker(2), "two".to_owned(), LONG).await.unwrap();
    assert_eq!(ledger.take(worker(2), 9).await.unwrap(), []);
    ledger.bury_others(worker(2)).await.unwrap();
    assert_eq!(ledger.take(worker(2), 9).await.unwrap(), [lease(1, 2, 2), lease(2, 2, 2)]);
    assert!(refused(ledger.under(taken[0]).commit(commit(1))).await.is_lost_lease());
    let fleet = ledger.alive(worker(2), "two".to_owned(), LONG).await.unwrap();
    assert_eq!((fleet.workers.len(), fleet.workers[0].held, fleet.free), (1, 2, 0));
}

pub async fn it_tells_who_is_at_work_and_who_holds_what(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 3).await;
    ledger.alive(worker(2), "another".to_owned(), LONG).await.unwrap();
    ledger.take(worker(1), 2).await.unwrap();
    let row = |name: &str, held, is_alive| WorkerRow { name: name.to_owned(), held, is_alive };
    assert_eq!(ledger.workers().await.unwrap(), [row("another", 0, true), row("one", 2, true)]);
    let asked = vec![tenant(3), tenant(2), tenant(9), tenant(1)];
    let one = |number| (tenant(number), "one".to_owned());
    assert_eq!(ledger.holders(asked.clone()).await.unwrap(), [one(2), one(1)]);
    ledger.alive(worker(1), "one".to_owned(), NOUGHT).await.unwrap();
    assert_eq!(ledger.workers().await.unwrap(), [row("another", 0, true), row("one", 2, false)]);
    assert_eq!(ledger.holders(asked).await.unwrap(), [one(2), one(1)], "until another takes them");
    assert_eq!(ledger.holders(Vec::new()).await.unwrap(), []);
}

pub async fn a_purged_tenant_is_nobodys_and_comes_back_under_epochs_that_were_never_given(fixture: &dyn Fixture) {
    let ledger = with_tenants(fixture, 2).await;
    let taken = ledger.take(worker(1), 2).await.unwrap();
    ledger.set_tenant_state(tenant(1), TenantState::Removed, noon()).await.unwrap();
    evidence::purged(&*ledger, 1).await;
    let fleet = ledger.alive(worker(1), "one".to_owned(), LONG).await.unwrap();
    assert_eq!((fleet.workers[0].held, fleet.free), (1, 0));
    assert_eq!(ledger.give_back(taken.clone()).await.unwrap(), 1);
    // Added anew, it is another one, and whoever has not noticed cannot write to it.
    ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    assert_eq!(ledger.take(worker(1), 9).await.unwrap(), [lease(1, 1, 3), lease(2, 1, 2)]);
    assert!(refused(ledger.under(taken[0]).commit(commit(1))).await.is_lost_lease());
    assert_eq!(ledger.give_back(vec![taken[0]]).await.unwrap(), 0);
    ledger.under(lease(1, 1, 3)).commit(commit(1)).await.unwrap();
    // The greatest of all counts, not the last.
    for number in [1, 2] {
        ledger.set_tenant_state(tenant(number), TenantState::Removed, noon()).await.unwrap();
    }
    ledger.give_back(vec![lease(2, 1, 2)]).await.unwrap();
    assert_eq!(ledger.take(worker(1), 9).await.unwrap(), [lease(2, 1, 3)]);
    evidence::purged(&*ledger, 2).await;
    evidence::purged(&*ledger, 1).await;
    ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    assert_eq!(ledger.take(worker(1), 9).await.unwrap(), [lease(1, 1, 5)]);
}
