//! Who speaks for a tenant that has consented before: the permission is there already, so that a member of it who is no
//! administrator gets through Microsoft's page by writing another address into the browser.

use engine::consent::Acceptance;
use engine::model::TenantState;
use http::StatusCode;
use ledger::Ledger;
use server::site::consent::ConsentMethod;
use url::Url;

use crate::consent::{Browser, House, Page, SITE};

const CONNECTED: &str = "Your organization is connected";
const METHODS: [ConsentMethod; 2] = [ConsentMethod::V1, ConsentMethod::V2];

/// The house's registration asks for the directory roles of whoever signs in.
fn roles_are_told(house: &House) {
    let client = house.rig.settings.app.client_id;
    assert!(house.rig.emulator.apps().update(client, |app| app.directory_role_claims = true));
}

fn parameter(address: &str, wanted: &str) -> String {
    let url = Url::parse(address).unwrap();
    url.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned()
}

fn without(address: &str, unwanted: &str) -> String {
    let mut url = Url::parse(address).unwrap();
    let kept: Vec<_> = url.query_pairs().into_owned().filter(|(name, _)| name != unwanted).collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    url.into()
}

/// What a member of tenant 0 can do with a link and the address bar: never be asked for an administrator's consent.
async fn pass_without_consent(house: &House, method: ConsentMethod, link: &str, account: &str) -> Page {
    let mut browser = Browser::default();
    let asked = house.open(&mut browser, link).await;
    let sign_in = match method {
        ConsentMethod::V1 => without(asked.location(), "prompt"),
        ConsentMethod::V2 => {
            let state = parameter(asked.location(), "state");
            let claim = format!("{SITE}/consent/callback?admin_consent=True&tenant={}&state={state}", house.tenant(0));
            house.open(&mut browser, &claim).await.location().to_owned()
        }
    };
    let answer = house.microsoft(&sign_in, account, "accept").await;
    let page = house.open(&mut browser, answer.location()).await;
    match &page.location {
        Some(live) => house.open(&mut browser, live).await,
        None => page,
    }
}

#[tokio::test(start_paused = true)]
async fn whose_roles_are_told_and_may_not_consent_connects_nothing_with_an_open_link() {
    for (seed, method) in [31, 32].into_iter().zip(METHODS) {
        let house = House::new(seed, method).await;
        roles_are_told(&house);
        let (link, number) = house.link(|_| {}).await;
        let (user, admin) = (house.account("user", 0), house.account("admin", 0));
        let page = pass_without_consent(&house, method, &link, &user).await;
        house.check_ends(&page, 403, "An administrator is needed");
        assert_eq!((house.stored().await, house.uses(number).await), (vec![], 0));
        let metrics = house.rig.metrics.encode();
        assert!(metrics.contains("tenantry_consents_total{outcome=\"not_an_admin\"} 1"), "{metrics}");
        // An administrator who takes the same short cut is still one.
        let page = pass_without_consent(&house, method, &link, &admin).await;
        assert_eq!(page.heading(), CONNECTED, "{page:?}");
        assert_eq!((house.stored().await, house.uses(number).await), (vec![house.tenant(0)], 1));
        assert!(house.rig.metrics.encode().contains("tenantry_consents_total{outcome=\"added\"} 1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_offboarded_comes_back_by_a_new_link_of_its_own_or_an_administrators_role() {
    for (seed, method) in [33, 34].into_iter().zip(METHODS) {
        let house = House::new(seed, method).await;
        let (tenant, user) = (house.tenant(0), house.account("user", 0));
        let (open, _) = house.link(|link| link.uses_allowed = None).await;
        let (old, _) = house.link(|link| (link.tenant, link.uses_allowed) = (Some(tenant), None)).await;
        let page = house.go(&mut Browser::default(), &old, &house.account("admin", 0), "accept").await;
        assert_eq!(page.heading(), CONNECTED);
        house.rig.ledger.set_tenant_state(tenant, TenantState::Removed, house.rig.now()).await.unwrap();
        assert_eq!(house.rig.ledger.revoke_invitations_for(tenant, house.rig.now()).await.unwrap(), 1);

        let page = pass_without_consent(&house, method, &open, &user).await;
        house.check_ends(&page, 403, "Your organization was disconnected before");
        house.check_ends(&house.open(&mut Browser::default(), &old).await, 410, "This link has been withdrawn");
        let state = async || house.rig.ledger.tenant(tenant).await.unwrap().unwrap().state;
        assert_eq!(state().await, TenantState::Removed);
        // Whose role nobody tells is nobody's administrator, whatever page was shown.
        let page = house.go(&mut Browser::default(), &open, &house.account("admin", 0), "accept").await;
        house.check_ends(&page, 403, "Your organization was disconnected before");

        // The operator wants it back.
        let (new, _) = house.link(|link| link.tenant = Some(tenant)).await;
        let page = house.go(&mut Browser::default(), &new, &house.account("admin", 0), "accept").await;
        assert_eq!((page.heading(), state().await), (CONNECTED, TenantState::Active));
        // Or its administrator does, and shows the role.
        house.rig.ledger.set_tenant_state(tenant, TenantState::Removed, house.rig.now()).await.unwrap();
        roles_are_told(&house);
        let page = house.go(&mut Browser::default(), &open, &house.account("admin", 0), "accept").await;
        assert_eq!((page.heading(), state().await), (CONNECTED, TenantState::Active));
        let log = house.rig.ledger.consents(Some(tenant), 10).await.unwrap();
        let outcomes: Vec<_> = log.iter().map(|entry| entry.acceptance).collect();
        assert_eq!(outcomes, [Acceptance::CameBack, Acceptance::CameBack, Acceptance::Added]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_role_is_required_nobody_is_let_in_without_it() {
    for (seed, method) in [35, 36].into_iter().zip(METHODS) {
        let house = House::with(seed, method, |settings, _| settings.role_required = true).await;
        let (open, _) = house.link(|_| {}).await;
        let (bound, _) = house.link(|link| link.tenant = Some(house.tenant(0))).await;
        for link in [&open, &bound] {
            let page = house.go(&mut Browser::default(), link, &house.account("admin", 0), "accept").await;
            house.check_ends(&page, 403, "Your role could not be seen");
        }
        roles_are_told(&house);
        let page = pass_without_consent(&house, method, &open, &house.account("user", 0)).await;
        house.check_ends(&page, 403, "An administrator is needed");
        assert_eq!(house.stored().await, []);
        let page = house.go(&mut Browser::default(), &bound, &house.account("admin", 0), "accept").await;
        assert_eq!((page.status, page.heading()), (StatusCode::OK, CONNECTED));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_link_for_one_tenant_proves_is_the_operators_word_and_the_standing_permission() {
    for (seed, method) in [37, 38].into_iter().zip(METHODS) {
        let house = House::new(seed, method).await;
        let (tenant, client) = (house.tenant(0), house.rig.settings.app.client_id);
        let (bound, _) = house.link(|link| (link.tenant, link.uses_allowed) = (Some(tenant), None)).await;
        let user = house.account("user", 0);
        // Without an administrator's consent there is nothing a member could begin.
        house.rig.emulator.world().set_roles(tenant, client, Some(&[]));
        let mut browser = Browser::default();
        let asked = house.open(&mut browser, &bound).await;
        let answer = house.microsoft(&without(asked.location(), "prompt"), &user, "accept").await;
        let page = house.open(&mut browser, answer.location()).await;
        assert!(page.status.is_client_error(), "{page:?}");
        assert_eq!(house.stored().await, []);
        // With it, this tenant may begin, by whomever of its people: the operator has asked for it by its id.
        house.rig.emulator.world().set_roles(tenant, client, Some(&["ActivityFeed.Read", "ActivityFeed.ReadDlp"]));
        let page = pass_without_consent(&house, method, &bound, &user).await;
        assert_eq!(page.heading(), CONNECTED, "{page:?}");
        assert_eq!(house.stored().await, [tenant]);
    }
}
