//! Tenants, problems and subscriptions.

use engine::lease::Epoch;
use engine::model::{CommitNumber, Loss, LossKind, Subscription, Tenant, TenantState};

use super::*;

async fn tenants(ledger: &dyn Ledger) -> Vec<Tenant> {
    ledger.tenants_since(0).await.unwrap().1
}

pub async fn a_tenant_is_added_once_and_found_again(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap(), None);
    assert_eq!(ledger.tenants_since(0).await.unwrap(), (0, vec![]));
    assert!(ledger.add_tenant(tenant(1), "Contoso".to_owned(), noon(), noon() + minutes(5)).await.unwrap());
    let expected = Tenant {
        id: tenant(1),
        label: "Contoso".to_owned(),
        state: TenantState::Active,
        added_at: noon() + minutes(5),
        collect_from: noon(),
        last_commit: CommitNumber(0),
        problem: None,
        hold: None,
        epoch: Epoch(0),
        revision: 1,
    };
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap(), Some(expected.clone()));
    assert!(!ledger.add_tenant(tenant(1), "Other".to_owned(), noon() + hours(9), noon()).await.unwrap());
    assert_eq!(tenants(&*ledger).await, [expected]);
}

pub async fn where_collection_begins_is_cut_to_the_grid(fixture: &dyn Fixture) {
    let ledger = fixture.open();
    let from = noon() + minutes(59);
    ledger.add_tenant(tenant(1), String::new(), from, noon()).await.unwrap();
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().collect_from, noon());
}

pub async fn a_removed_tenant_comes_back_with_its_history(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.commit(commit(1)).await.unwrap();
    assert!(ledger.set_tenant_state(tenant(1), TenantState::Removed, noon()).await.unwrap());
    assert!(ledger.add_tenant(tenant(1), String::new(), noon() + days(9), noon() + days(9)).await.unwrap());
    let back = ledger.tenant(tenant(1)).await.unwrap().unwrap();
    assert_eq!((back.state, back.last_commit), (TenantState::Active, CommitNumber(1)));
    assert_eq!((back.label.as_str(), back.added_at, back.collect_from), ("Contoso", noon(), noon()));
    ledger.set_tenant_state(tenant(1), TenantState::Removed, noon()).await.unwrap();
    assert!(ledger.add_tenant(tenant(1), "New".to_owned(), noon(), noon()).await.unwrap());
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().label, "New");
    // A paused one is there; adding it is not resuming it.
    ledger.set_tenant_state(tenant(1), TenantState::Paused, noon()).await.unwrap();
    assert!(!ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap());
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().state, TenantState::Paused);
}

pub async fn every_change_an_operator_sees_moves_the_revision(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.add_tenant(tenant(2), String::new(), noon(), noon()).await.unwrap();
    let (seen, all) = ledger.tenants_since(0).await.unwrap();
    assert_eq!(all.iter().map(|tenant| tenant.revision).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ledger.tenants_since(seen).await.unwrap(), (seen, vec![]));
    assert_eq!(ledger.tenants_since(u64::MAX).await.unwrap(), (seen, vec![]));

    // A commit is no news, and neither is what does not change anything.
    ledger.commit(commit(1)).await.unwrap();
    ledger.set_tenant_state(tenant(1), TenantState::Active, noon()).await.unwrap();
    ledger.set_problem(tenant(1), None, None, noon()).await.unwrap();
    assert_eq!(ledger.tenants_since(seen).await.unwrap(), (seen, vec![]));

    ledger.set_tenant_state(tenant(1), TenantState::Paused, noon()).await.unwrap();
    let (next, changed) = ledger.tenants_since(seen).await.unwrap();
    assert_eq!(changed.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [tenant(1)]);
    assert!(next > seen && changed.iter().all(|tenant| tenant.revision == next));

    ledger.set_problem(tenant(2), None, Some(problem("auditing_off")), noon()).await.unwrap();
    let (last, changed) = ledger.tenants_since(next).await.unwrap();
    assert_eq!(changed.iter().map(|tenant| tenant.id).collect::<Vec<_>>(), [tenant(2)]);
    ledger.set_problem(tenant(2), None, Some(problem("auditing_off")), noon()).await.unwrap();
    assert_eq!(ledger.tenants_since(last).await.unwrap(), (last, vec![]));
    assert!(!ledger.set_tenant_state(tenant(9), TenantState::Paused, noon()).await.unwrap(), "nobody by that name");
}

pub async fn a_purged_tenant_leaves_nothing_and_the_revision_goes_on(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.contents_listed(tenant(1), vec![content("a", hours(1)), content("b", hours(2))], noon()).await.unwrap();
    ledger.tile_listed(tenant(1), GENERAL, tile(0)).await.unwrap();
    let a = row(&*ledger, tenant(1), "a").await;
    let segments = vec![segment(1, 0)];
    let quarantined = vec![quarantined("x")];
    let lost = vec![(a, loss(LossKind::Unreadable))];
    ledger.commit(Commit { segments, quarantined, lost, ..commit(1) }).await.unwrap();
    ledger.set_tenant_state(tenant(1), TenantState::Removed, noon()).await.unwrap();
    let (seen, _) = ledger.tenants_since(0).await.unwrap();
    let purge = ledger.purge_tenant(tenant(1), noon()).await.unwrap();
    assert_eq!(ledger.tenants_since(0).await.unwrap(), (seen, vec![]));
    assert_eq!(ledger.segments_within(None, None).await.unwrap(), vec![]);
    assert!(matches!(refused(ledger.purge_tenant(tenant(1), noon())).await, LedgerError::UnknownTenant { .. }));
    ledger.files_purged(tenant(1), purge.through, purge.deleted, true, noon()).await.unwrap();

    ledger.add_tenant(tenant(1), String::new(), noon(), noon()).await.unwrap();
    let (next, changed) = ledger.tenants_since(seen).await.unwrap();
    assert!(next > seen, "a number is not given twice");
    assert_eq!(changed.first().unwrap().last_commit, CommitNumber(0));
    assert_eq!(ledger.coverage(tenant(1)).await.unwrap(), vec![]);
    assert_eq!(ledger.tiles(tenant(1), GENERAL).await.unwrap(), vec![]);
    assert_eq!(ledger.losses(tenant(1), 10).await.unwrap(), vec![]);
    assert_eq!(ledger.contents_listed(tenant(1), vec![content("a", hours(1))], noon()).await.unwrap(), 1);
}

pub async fn only_a_removed_tenant_is_purged(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    for state in [TenantState::Active, TenantState::Paused] {
        ledger.set_tenant_state(tenant(1), state, noon()).await.unwrap();
        assert!(matches!(refused(ledger.purge_tenant(tenant(1), noon())).await, LedgerError::NotRemoved { .. }));
        assert!(ledger.tenant(tenant(1)).await.unwrap().is_some());
    }
}

pub async fn an_unknown_tenant_is_refused_by_every_write(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    let nobody = tenant(2);
    let loss = Loss { kind: LossKind::Expired, message: String::new() };
    let errors = [
        refused(ledger.set_problem(nobody, None, None, noon())).await,
        refused(ledger.set_problem(nobody, Some(GENERAL), Some(problem("x")), noon())).await,
        refused(ledger.subscriptions_listed(nobody, vec![(GENERAL, Some(true))], noon())).await,
        refused(ledger.start_requested(nobody, GENERAL, noon())).await,
        refused(ledger.contents_listed(nobody, vec![content("a", hours(0))], noon())).await,
        refused(ledger.entries_refused(nobody, vec![], noon())).await,
        refused(ledger.tile_listed(nobody, GENERAL, tile(0))).await,
        refused(ledger.content_failed(nobody, 1, String::new(), noon())).await,
        refused(ledger.content_lost(nobody, 1, loss, noon())).await,
        refused(ledger.commit(Commit { tenant: nobody, ..commit(1) })).await,
        refused(ledger.replace_segments(nobody, CommitNumber(1), vec![], vec![], noon())).await,
        refused(ledger.obsolete_deleted(nobody, vec![])).await,
        refused(ledger.fold(nobody, noon(), 1)).await,
        refused(ledger.coverage(nobody)).await,
        refused(ledger.segments(nobody)).await,
        refused(ledger.pending(nobody, noon(), 1, vec![])).await,
    ];
    for error in errors {
        assert!(matches!(error, LedgerError::UnknownTenant { tenant } if tenant == nobody), "{error:?}");
        assert!(error.to_string().contains("tenantry tenant add 6a1c4f0e"), "{error}");
    }
}

pub async fn a_problem_is_kept_until_it_is_cleared(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    // Nothing to clear makes no subscription.
    ledger.set_problem(tenant(1), Some(GENERAL), None, noon()).await.unwrap();
    assert_eq!(ledger.subscriptions(tenant(1)).await.unwrap(), vec![]);
    ledger.set_problem(tenant(1), Some(GENERAL), Some(problem("subscription_disabled")), noon()).await.unwrap();
    ledger.set_problem(tenant(1), Some(EXCHANGE), Some(problem("service_down")), noon()).await.unwrap();
    let of_type = async |content_type: ContentType| {
        let all = ledger.subscriptions(tenant(1)).await.unwrap();
        all.into_iter().find(|subscription| subscription.content_type == content_type).and_then(|found| found.problem)
    };
    assert_eq!(of_type(GENERAL).await, Some(problem("subscription_disabled")));
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().problem, None);
    ledger.set_problem(tenant(1), Some(GENERAL), None, noon()).await.unwrap();
    assert_eq!(of_type(GENERAL).await, None);
    assert_eq!(of_type(EXCHANGE).await, Some(problem("service_down")));

    ledger.set_problem(tenant(1), None, Some(Problem { next_attempt_at: None, ..problem("x") }), noon()).await.unwrap();
    let kept = ledger.tenant(tenant(1)).await.unwrap().unwrap().problem;
    assert_eq!(kept, Some(Problem { next_attempt_at: None, ..problem("x") }));
    // The tenant's stands before the type's in the coverage.
    let coverage = ledger.coverage(tenant(1)).await.unwrap();
    assert!(coverage.iter().all(|row| row.problem.as_ref().is_some_and(|problem| problem.kind == "x")), "{coverage:?}");
    ledger.set_problem(tenant(1), None, None, noon()).await.unwrap();
    assert_eq!(ledger.tenant(tenant(1)).await.unwrap().unwrap().problem, None);
}

pub async fn a_listing_of_subscriptions_switches_off_what_it_does_not_name(fixture: &dyn Fixture) {
    let ledger = with_tenant(fixture).await;
    ledger.start_requested(tenant(1), EXCHANGE, noon()).await.unwrap();
    let expected = Subscription {
        content_type: EXCHANGE,
        enabled: None,
        listed_at: None,
        start_requested_at: Some(noon()),
        problem: None,
    };
    assert_eq!(ledger.subscriptions(tenant(1)).await.unwrap(), [expected]);
    let other = ContentType::Other("Audit.New".to_owned());
    let listed = vec![(GENERAL, Some(true)), (other.clone(), None)];
    ledger.subscriptions_listed(tenant(1), listed, noon() + minutes(1)).await.unwrap();
    let states = async || {
        let all = ledger.subscriptions(tenant(1)).await.unwrap().into_iter();
        let mut all: Vec<_> =
            all.map(|found| (found.content_type, found.enabled, found.listed_at, found.start_requested_at)).collect();
        all.sort();
        all
    };
    let at = Some(noon() + minutes(1));
    assert_eq!(
        states().await,
        [(EXCHANGE, Some(false), at, Some(noon())), (GENERAL, Some(true), at, None), (other.clone(), None, at, None),]
    );
    ledger.subscriptions_listed(tenant(1), vec![(EXCHANGE, Some(true))], noon() + minutes(2)).await.unwrap();
    let at = Some(noon() + minutes(2));
    assert_eq!(
        states().await,
        [(EXCHANGE, Some(true), at, Some(noon())), (GENERAL, Some(false), at, None), (other, Some(false), at, None),]
    );
}
