//! From a link to a running collection, in process: a browser that is no more than a cookie and a redirect, the emulated
//! Entra ID, and a collector beside the site. However a consent fails, no tenant is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use chrono::TimeDelta;
use emulator::FaultPlan;
use emulator::entra::Directory as _;
use engine::consent::{InvitationNumber, NewInvitation};
use engine::model::TenantState;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use ledger::Ledger;
use proptest::prelude::*;
use protocol::ids::TenantId;
use server::Collector;
use server::site::PublicSite;
use server::site::consent::{ConsentMethod, ConsentSettings, LinkSecret, routes};
use tower::ServiceExt;
use url::Url;

use crate::rig::{Rig, small_world};

pub(crate) const SITE: &str = "http://127.0.0.1:8365";
const ROLES: [&str; 2] = ["ActivityFeed.Read", "ActivityFeed.ReadDlp"];

/// A public site, and a collector that may be running behind it.
pub(crate) struct House {
    pub(crate) rig: Rig,
    site: Router,
    pub(crate) collector: Arc<Collector>,
}

/// What a browser was shown.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

impl Page {
    pub(crate) fn heading(&self) -> &str {
        let heading = self.body.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>"));
        heading.unwrap_or_else(|| panic!("no heading in {self:?}")).0
    }

    pub(crate) fn location(&self) -> &str {
        self.location.as_deref().unwrap_or_else(|| panic!("leads nowhere: {self:?}"))
    }
}

/// A browser: a cookie, and nothing else that lasts.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    cookie: Option<String>,
}

impl House {
    /// A world of tenants that Microsoft knows and we do not.
    pub(crate) async fn new(seed: u64, method: ConsentMethod) -> Self {
        Self::with(seed, method, |_, _| {}).await
    }

    pub(crate) async fn with(
        seed: u64,
        method: ConsentMethod,
        change: impl FnOnce(&mut ConsentSettings, &[TenantId]),
    ) -> Self {
        let rig = Rig::new(small_world(seed, 3, 60), FaultPlan::default()).await;
        for tenant in rig.tenants() {
            rig.ledger.set_tenant_state(tenant, TenantState::Removed, rig.now()).await.unwrap();
            rig.forget(tenant);
        }
        let collector = Arc::new(rig.collector());
        let url: server::site::PublicUrl = SITE.parse().unwrap();
        let mut settings = ConsentSettings { url: url.clone(), method, allowed_tenants: None, role_required: false };
        change(&mut settings, &rig.tenants());
        let site = PublicSite::new(url).with(routes(collector.reception(), settings)).into_router();
        Self { rig, site, collector }
    }

    pub(crate) fn tenant(&self, number: usize) -> TenantId {
        self.rig.tenants()[number]
    }

    pub(crate) fn account(&self, name: &str, number: usize) -> String {
        let world = self.rig.emulator.world();
        let tenant = world.find_tenant(&self.tenant(number).to_string()).unwrap();
        format!("{name}@{}", tenant.domains[0])
    }

    pub(crate) async fn link(&self, change: impl FnOnce(&mut NewInvitation)) -> (String, InvitationNumber) {
        let secret = LinkSecret::new();
        let mut invitation = NewInvitation {
            secret: secret.digest(),
            label: "Contoso".to_owned(),
            tenant: None,
            expires_at: self.rig.now() + TimeDelta::days(7),
            uses_allowed: Some(1),
        };
        change(&mut invitation);
        let number = self.rig.ledger.add_invitation(invitation, self.rig.now()).await.unwrap();
        (secret.link(&SITE.parse().unwrap()), number)
    }

    pub(crate) async fn open(&self, browser: &mut Browser, address: &str) -> Page {
        let mut request = Request::get(address.strip_prefix(SITE).unwrap_or(address));
        if let Some(cookie) = &browser.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let answer = self.site.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        assert!(parts.headers.contains_key(header::CONTENT_SECURITY_POLICY), "{address}");
        if let Some(cookie) = parts.headers.get(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            assert!(text.contains("HttpOnly") && text.contains("SameSite=Lax"), "{text}");
            browser.cookie = Some(text.split(';').next().unwrap().to_owned());
        }
        Page {
            status: parts.status,
            location: parts.headers.get(header::LOCATION).map(|location| location.to_str().unwrap().to_owned()),
            body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        }
    }

    /// What Microsoft answers this account's decision with: an address of ours, or a page of its own.
    pub(crate) async fn microsoft(&self, page: &str, account: &str, decision: &str) -> Page {
        self.rig.emulator.world().clock().set(self.rig.now());
        let mut url = Url::parse(page).unwrap();
        url.query_pairs_mut().append_pair("emulator_account", account).append_pair("emulator_decision", decision);
        let host = url.authority().to_owned();
        let request = Request::get(url.as_str()).header(header::HOST, host).body(Body::empty()).unwrap();
        let answer = self.rig.emulator.router().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        Page {
            status: parts.status,
            location: parts.headers.get(header::LOCATION).map(|location| location.to_str().unwrap().to_owned()),
            body: String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned(),
        }
    }

    /// The whole way, with the same account and decision wherever Microsoft asks.
    pub(crate) async fn go(&self, browser: &mut Browser, link: &str, account: &str, decision: &str) -> Page {
        let mut page = self.open(browser, link).await;
        for _ in 0..6 {
            let Some(location) = page.location.clone() else { return page };
            page = if location.starts_with(SITE) || location.starts_with('/') {
                self.open(browser, &location).await
            } else {
                self.microsoft(&location, account, decision).await
            };
        }
        panic!("goes round in circles: {page:?}")
    }

    pub(crate) async fn stored(&self) -> Vec<TenantId> {
        self.rig.ledger.tenants_since(0).await.unwrap().1.into_iter().map(|tenant| tenant.id).collect()
    }

    #[track_caller]
    pub(crate) fn check_ends(&self, page: &Page, status: u16, heading: &str) {
        assert_eq!((page.status.as_u16(), page.heading()), (status, heading), "{page:?}");
        assert!(page.body.contains("What to do next"), "{page:?}");
    }

    pub(crate) async fn uses(&self, number: InvitationNumber) -> u32 {
        self.rig.ledger.invitation(number).await.unwrap().unwrap().uses
    }

    fn faults(&self, operation: &str, effect: &str) {
        let plan = format!("[[rule]]\noperations = [\"{operation}\"]\nevery = 1\n{effect}\n");
        self.rig.emulator.world().set_faults(FaultPlan::parse(&plan).unwrap());
    }

    /// Collects beside `work`.
    pub(crate) async fn serving<T>(&self, work: impl Future<Output = T>) -> T {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = Arc::clone(&self.collector);
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            running.run(stopped).await.unwrap()
        });
        let result = work.await;
        stop.send(()).unwrap();
        task.await.unwrap();
        result
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_leads_to_a_running_collection() {
    for (seed, method) in [(1, ConsentMethod::V1), (2, ConsentMethod::V2)] {
        let house = House::new(seed, method).await;
        let (link, number) = house.link(|_| {}).await;
        let mut browser = Browser::default();
        house
            .serving(async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                let page = house.go(&mut browser, &link, &house.account("admin", 0), "accept").await;
                assert_eq!((page.status, page.heading()), (StatusCode::OK, "Your organization is connected"));
                assert_eq!(house.stored().await, [house.tenant(0)]);
                assert_eq!(house.uses(number).await, 1);
                // It is noticed at once, not at the next look for tenants.
                tokio::time::sleep(Duration::from_millis(100)).await;
                assert!(house.collector.board().tenant(house.tenant(0)).is_some());
                tokio::time::sleep(Duration::from_secs(30)).await;
                let page = house.open(&mut browser, &format!("/consent/live/{}", house.tenant(0))).await;
                assert!(page.body.contains(r#"data-state="collecting""#), "{}", page.body);
                assert!(page.body.contains(r#"<dd data-count="subscriptions">5 of 5</dd>"#), "{}", page.body);
                assert!(!page.body.contains(r#"<dd data-count="records">0</dd>"#), "{}", page.body);
                tokio::time::sleep(Duration::from_secs(600)).await;
            })
            .await;
        let tenant = house.rig.ledger.tenant(house.tenant(0)).await.unwrap().unwrap();
        assert_eq!((tenant.label.as_str(), tenant.problem), ("Contoso", None));
        let (published, archived) = (house.rig.published(), house.rig.archived().await);
        assert_eq!(archived.keys().collect::<Vec<_>>(), [&house.tenant(0)]);
        assert_eq!(archived[&house.tenant(0)], published[&house.tenant(0)]);
        let log = house.rig.ledger.consents(Some(house.tenant(0)), 10).await.unwrap();
        assert_eq!(log[0].account.as_deref(), Some(house.account("admin", 0).as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_or_will_not_consent_reads_why_and_adds_nothing() {
    for (seed, method) in [(3, ConsentMethod::V1), (4, ConsentMethod::V2)] {
        let house = House::new(seed, method).await;
        let (link, number) = house.link(|_| {}).await;
        let (mine, _) = house.link(|link| link.tenant = Some(house.tenant(0))).await;
        for (link, name, tenant, decision, heading) in [
            (&link, "admin", 0, "cancel", "The permission was declined"),
            (&link, "user", 0, "accept", "An administrator is needed"),
            (&mine, "admin", 1, "accept", "This account belongs to another organization"),
        ] {
            let account = house.account(name, tenant);
            let page = house.go(&mut Browser::default(), link, &account, decision).await;
            house.check_ends(&page, 403, heading);
            assert!(page.body.contains("AADSTS"), "what support asks for: {page:?}");
            assert_eq!(house.stored().await, []);
        }
        assert_eq!(house.uses(number).await, 0, "what fails uses nothing up");
        let page = house.go(&mut Browser::default(), &link, &house.account("admin", 0), "accept").await;
        assert_eq!(page.heading(), "Your organization is connected");
    }
}

#[tokio::test(start_paused = true)]
async fn what_microsoft_refuses_has_its_own_page() {
    let house = House::new(5, ConsentMethod::V1).await;
    let (link, _) = house.link(|_| {}).await;
    let account = house.account("admin", 0);
    for (number, status, heading) in [
        (65004, 403, "The permission was declined"),
        (90094, 403, "An administrator is needed"),
        (90095, 403, "Your administrators have been asked"),
        (50020, 403, "This account belongs to another organization"),
        (50076, 403, "Microsoft needs another proof of who you are"),
        (650_051, 502, "The application asks for a permission that no longer exists"),
        (650_052, 502, "Your organization has no Office 365 audit records"),
        (53003, 403, "A Conditional Access policy blocks the connection"),
        (7_000_112, 403, "The application is switched off"),
        (90033, 503, "Microsoft&#39;s sign-in service does not work at the moment"),
    ] {
        // A switched-off app is told to nobody but the person, on Microsoft's own page.
        let first = usize::from(number == 7_000_112);
        for operation in &["authorize", "token"][first..] {
            house.faults(operation, &format!("effect = \"aadsts\"\nnumber = {number}"));
            let page = house.go(&mut Browser::default(), &link, &account, "accept").await;
            let heading = heading.replace("&#39;", "'");
            let found = page.heading().replace("&#39;", "'").replace("&#x27;", "'");
            assert_eq!((page.status.as_u16(), found), (status, heading), "{number} at {operation}");
            assert!(page.body.contains(&format!("AADSTS{number}")), "{number} at {operation}: {page:?}");
            assert_eq!(house.stored().await, []);
        }
    }
    for effect in ["effect = \"server_error\"", "effect = \"reset\"", "effect = \"truncate\""] {
        house.faults("token", effect);
        let page = house.go(&mut Browser::default(), &link, &account, "accept").await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{effect}: {page:?}");
        assert_eq!(house.stored().await, []);
    }
    house.rig.emulator.world().set_faults(FaultPlan::default());
    let page = house.go(&mut Browser::default(), &link, &account, "accept").await;
    assert_eq!(page.heading(), "Your organization is connected", "none of that used the link up");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_not_good_any_more_says_so() {
    let house = House::new(6, ConsentMethod::V1).await;
    let account = house.account("admin", 0);
    let (short, _) = house.link(|link| link.expires_at = house.rig.now() + TimeDelta::minutes(10)).await;
    let (revoked, number) = house.link(|_| {}).await;
    house.rig.ledger.revoke_invitation(number, house.rig.now()).await.unwrap();
    let page = house.go(&mut Browser::default(), &revoked, &account, "accept").await;
    house.check_ends(&page, 410, "This link has been withdrawn");
    // It expires while the person is at Microsoft's.
    let mut browser = Browser::default();
    let asked = house.open(&mut browser, &short).await;
    let answer = house.microsoft(asked.location(), &account, "accept").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    house.check_ends(&house.open(&mut browser, answer.location()).await, 410, "This link has expired");
    house.check_ends(&house.open(&mut browser, &short).await, 410, "This link has expired");
    for address in
        ["/consent", "/consent?invite=", "/consent?invite=abc", &format!("{revoked}&invite=a"), &format!("{revoked}A")]
    {
        house.check_ends(&house.open(&mut browser, address).await, 404, "This link is not known");
    }
    assert_eq!(house.stored().await, []);
    let (link, _) = house.link(|_| {}).await;
    house.go(&mut Browser::default(), &link, &account, "accept").await;
    let page = house.go(&mut Browser::default(), &link, &house.account("admin", 1), "accept").await;
    house.check_ends(&page, 410, "This link has been used");
    assert_eq!(house.stored().await, [house.tenant(0)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_good_once_for_its_browser_and_its_state() {
    let house = House::new(7, ConsentMethod::V1).await;
    let (link, number) = house.link(|_| {}).await;
    let account = house.account("admin", 0);
    let mut browser = Browser::default();
    let asked = house.open(&mut browser, &link).await;
    let answer = house.microsoft(asked.location(), &account, "accept").await.location().to_owned();

    let mut stranger = Browser::default();
    let page = house.open(&mut stranger, &answer).await;
    house.check_ends(&page, 409, "This was begun in another browser");
    house.open(&mut stranger, &link).await;
    let page = house.open(&mut stranger, &answer).await;
    house.check_ends(&page, 409, "This was begun in another browser");

    let state = Url::parse(&answer).unwrap().query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let forged = answer.replace(&state, &"A".repeat(43));
    house.check_ends(&house.open(&mut browser, &forged).await, 409, "This answer belongs to no attempt of yours");
    let without = answer.replace(&format!("state={state}"), "x=1");
    house.check_ends(&house.open(&mut browser, &without).await, 400, "This answer belongs to no attempt of yours");
    let twice = format!("{answer}&state={state}");
    house.check_ends(&house.open(&mut browser, &twice).await, 400, "This answer cannot be read");
    assert_eq!(house.stored().await, []);

    let page = house.open(&mut browser, &answer).await;
    assert_eq!(page.location(), format!("/consent/live/{}", house.tenant(0)));
    house.check_ends(&house.open(&mut browser, &answer).await, 409, "This answer belongs to no attempt of yours");
    assert_eq!((house.stored().await, house.uses(number).await), (vec![house.tenant(0)], 1));

    let (late, _) = house.link(|_| {}).await;
    let asked = house.open(&mut browser, &late).await;
    let answer = house.microsoft(asked.location(), &house.account("admin", 1), "accept").await;
    tokio::time::sleep(Duration::from_secs(20 * 60)).await;
    let page = house.open(&mut browser, answer.location()).await;
    house.check_ends(&page, 409, "This answer belongs to no attempt of yours");
    assert_eq!(house.stored().await, [house.tenant(0)]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_an_address_names_is_never_believed() {
    // Every tenant of the world has consented to the app already, so an app-only token proves nothing here.
    let house = House::new(8, ConsentMethod::V2).await;
    let (link, _) = house.link(|_| {}).await;
    let (mine, victim) = (house.tenant(0), house.tenant(1));
    let account = house.account("admin", 0);
    let mut browser = Browser::default();
    let asked = house.open(&mut browser, &link).await;
    let answer = house.microsoft(asked.location(), &account, "accept").await.location().to_owned();
    let forged = answer.replace(&mine.to_string(), &victim.to_string());
    assert_ne!(forged, answer);
    let sign_in = house.open(&mut browser, &forged).await;
    assert!(sign_in.location().contains(&format!("/{victim}/oauth2/v2.0/authorize")), "{sign_in:?}");
    assert_eq!(house.stored().await, []);
    // There, nobody but one of the victim's own can sign in.
    let refused = house.microsoft(sign_in.location(), &account, "accept").await;
    let page = house.open(&mut browser, refused.location()).await;
    house.check_ends(&page, 403, "This account belongs to another organization");
    // Nor does it help to ask for the own tenant instead.
    let asked = house.open(&mut browser, &link).await;
    let answer = house.microsoft(asked.location(), &account, "accept").await.location().to_owned();
    let sign_in = house.open(&mut browser, &answer.replace(&mine.to_string(), &victim.to_string())).await;
    let elsewhere = sign_in.location().replace(&victim.to_string(), &mine.to_string());
    let answer = house.microsoft(&elsewhere, &account, "accept").await;
    let page = house.open(&mut browser, answer.location()).await;
    assert!(page.status.is_client_error(), "{page:?}");

    // A v1 flow takes no claim at all.
    let house = House::new(8, ConsentMethod::V1).await;
    let (link, _) = house.link(|_| {}).await;
    let asked = house.open(&mut browser, &link).await;
    let state =
        Url::parse(asked.location()).unwrap().query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let claim = format!("/consent/callback?tenant={victim}&admin_consent=True&state={state}");
    house.check_ends(&house.open(&mut browser, &claim).await, 400, "This answer cannot be read");
    assert_eq!(house.stored().await, []);
}

#[tokio::test(start_paused = true)]
async fn only_invited_and_allowed_tenants_are_connected() {
    for (seed, method) in [(9, ConsentMethod::V1), (10, ConsentMethod::V2)] {
        let house =
            House::with(seed, method, |settings, tenants| settings.allowed_tenants = Some(tenants[..2].to_vec())).await;
        let (link, number) = house.link(|link| link.uses_allowed = None).await;
        let page = house.go(&mut Browser::default(), &link, &house.account("admin", 2), "accept").await;
        house.check_ends(&page, 403, "This organization is not on the list");
        assert_eq!((house.stored().await, house.uses(number).await), (vec![], 0));
        // Whoever gets round the directory in the address still has a link for another tenant.
        let (mine, _) = house.link(|link| link.tenant = Some(house.tenant(0))).await;
        let mut browser = Browser::default();
        let asked = house.open(&mut browser, &mine).await;
        let elsewhere = asked.location().replace(&house.tenant(0).to_string(), &house.tenant(1).to_string());
        let answer = house.microsoft(&elsewhere, &house.account("admin", 1), "accept").await;
        let page = house.open(&mut browser, answer.location()).await;
        assert!(page.status.is_client_error() && page.body.contains("What to do next"), "{page:?}");
        assert_eq!(house.stored().await, []);
        for number in [0, 1] {
            let page = house.go(&mut Browser::default(), &link, &house.account("admin", number), "accept").await;
            assert_eq!(page.heading(), "Your organization is connected");
        }
        assert_eq!(house.stored().await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_on_its_way_is_waited_for() {
    let house = House::new(11, ConsentMethod::V1).await;
    let (tenant, client) = (house.tenant(0), house.rig.settings.app.client_id);
    let live = format!("/consent/live/{tenant}");
    let (link, number) = house.link(|_| {}).await;
    let mut browser = Browser::default();
    let asked = house.open(&mut browser, &link).await;
    let answer = house.microsoft(asked.location(), &house.account("admin", 0), "accept").await;
    house.rig.emulator.world().set_roles(tenant, client, Some(&[]));
    house.open(&mut browser, answer.location()).await;
    let page = house.open(&mut browser, &live).await;
    assert!(page.body.contains(r#"data-state="waiting""#), "{page:?}");
    assert!(page.body.contains(r#"http-equiv="refresh""#) && page.body.contains("/consent/live.js"), "{page:?}");
    assert_eq!(house.stored().await, [], "the permission is what makes it a tenant");
    // However often the page is fetched, Microsoft is asked now and then.
    house.rig.emulator.clear_requests();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.open(&mut browser, &live).await;
    }
    assert!((3..=5).contains(&house.rig.requests("token")), "{}", house.rig.requests("token"));
    house.rig.emulator.world().set_roles(tenant, client, Some(&ROLES));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let page = house.open(&mut browser, &live).await;
    assert_eq!(page.heading(), "Your organization is connected");
    assert_eq!((house.stored().await, house.uses(number).await), (vec![tenant], 1));

    // One that never comes is given up, and nothing is stored.
    let (link, number) = house.link(|_| {}).await;
    let other = house.tenant(1);
    let asked = house.open(&mut browser, &link).await;
    let answer = house.microsoft(asked.location(), &house.account("admin", 1), "accept").await;
    house.rig.emulator.world().set_roles(other, client, Some(&[]));
    house.open(&mut browser, answer.location()).await;
    tokio::time::sleep(Duration::from_secs(15 * 60)).await;
    let page = house.open(&mut browser, &format!("/consent/live/{other}")).await;
    house.check_ends(&page, 503, "The permission has not arrived");
    assert_eq!((house.stored().await, house.uses(number).await), (vec![tenant], 0));
}

#[tokio::test(start_paused = true)]
async fn the_live_page_is_its_own_browsers_and_shows_its_own_tenant() {
    let house = House::new(12, ConsentMethod::V1).await;
    let mut browsers = [Browser::default(), Browser::default()];
    for (number, browser) in browsers.iter_mut().enumerate() {
        let (link, _) = house.link(|_| {}).await;
        house.go(browser, &link, &house.account("admin", number), "accept").await;
    }
    let live = |number: usize| format!("/consent/live/{}", house.tenant(number));
    for (number, browser) in browsers.iter_mut().enumerate() {
        let mine = house.open(browser, &live(number)).await;
        assert!(mine.body.contains(&house.tenant(number).to_string()), "{mine:?}");
        let others = house.open(browser, &live(1 - number)).await;
        house.check_ends(&others, 404, "There is nothing to see here");
        assert!(!others.body.contains(&house.tenant(1 - number).to_string()), "{others:?}");
    }
    house.check_ends(&house.open(&mut Browser::default(), &live(0)).await, 404, "There is nothing to see here");
    let page = house.open(&mut browsers[0], "/consent/live/contoso.com").await;
    house.check_ends(&page, 404, "There is nothing to see here");
    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    house.check_ends(&house.open(&mut browsers[0], &live(0)).await, 404, "There is nothing to see here");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_consents_anew_is_collected_at_once() {
    let house = House::new(13, ConsentMethod::V1).await;
    let (tenant, client) = (house.tenant(0), house.rig.settings.app.client_id);
    house.rig.emulator.world().set_roles(tenant, client, None);
    house.rig.add_tenant(tenant).await;
    house
        .serving(async {
            tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
            let problem = house.rig.ledger.tenant(tenant).await.unwrap().unwrap().problem.unwrap();
            assert_eq!(problem.kind, "consent_missing");
            assert!(problem.next_attempt_at.unwrap() > house.rig.now() + TimeDelta::minutes(5), "{problem:?}");
            let (link, _) = house.link(|_| {}).await;
            house.go(&mut Browser::default(), &link, &house.account("admin", 0), "accept").await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(house.rig.ledger.tenant(tenant).await.unwrap().unwrap().problem, None);
        })
        .await;
    let (published, archived) = (house.rig.published(), house.rig.archived().await);
    assert_eq!(archived[&tenant], published[&tenant]);
}

#[tokio::test(start_paused = true)]
async fn no_secret_of_a_consent_is_in_the_ledger() {
    let house = House::new(14, ConsentMethod::V1).await;
    let (link, _) = house.link(|_| {}).await;
    let mut browser = Browser::default();
    let asked = house.open(&mut browser, &link).await;
    let answer = house.microsoft(asked.location(), &house.account("admin", 0), "accept").await;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&house.rig.settings.data_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            files.extend(std::fs::read(path).unwrap());
        }
    }
    let holds = |secret: &str| files.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(holds("Contoso"), "the test looks in the right place");
    let mut secrets: Vec<String> = Vec::new();
    for url in [link.as_str(), asked.location(), answer.location()] {
        let pairs = Url::parse(url).unwrap();
        let pairs = pairs.query_pairs().filter(|(name, _)| ["invite", "state", "nonce", "code"].contains(&&**name));
        secrets.extend(pairs.map(|(_, value)| value.into_owned()));
    }
    secrets.push(browser.cookie.unwrap().split_once('=').unwrap().1.to_owned());
    assert_eq!(secrets.len(), 6);
    for secret in secrets {
        assert!(!holds(&secret), "{secret}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_opened_in_a_loop_is_slowed_down() {
    let house = House::new(15, ConsentMethod::V1).await;
    let (link, _) = house.link(|_| {}).await;
    let mut turned_away = 0;
    for _ in 0..150 {
        let page = house.open(&mut Browser::default(), &link).await;
        turned_away += u32::from(page.status == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(turned_away, 50);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(house.open(&mut Browser::default(), &link).await.status, StatusCode::SEE_OTHER);
    let head = Request::head("/consent?invite=x").body(Body::empty()).unwrap();
    assert_eq!(house.site.clone().oneshot(head).await.unwrap().status(), StatusCode::OK, "a scanner's look is none");
}

/// Queries of the pieces that matter, in any order and number.
fn hostile_query() -> impl Strategy<Value = String> {
    let pieces = vec![
        "code=0.AX",
        "state=",
        "error=access_denied",
        "error_description=AADSTS65004%3A",
        "tenant=",
        "admin_consent=True",
        "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11",
        "&",
        "&",
        "%",
        "%00",
        "%0d%0a",
        "%FF",
        "<script>",
        "'\"",
        "invite=",
        "STATE",
        "STATE",
        "=",
    ];
    let piece = prop_oneof![5 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "[!-~]{0,8}"];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

#[test]
fn no_callback_however_hostile_stores_a_tenant_or_breaks_anything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (house, browser, link) = runtime.block_on(async {
        let house = House::new(16, ConsentMethod::V2).await;
        let (link, _) = house.link(|link| link.uses_allowed = None).await;
        let mut browser = Browser::default();
        house.open(&mut browser, &link).await;
        (house, browser, link)
    });
    let mut runner = proptest::test_runner::TestRunner::default();
    let property = |query: String| {
        runtime.block_on(async {
            let mut browser = browser.clone();
            tokio::time::advance(Duration::from_millis(200)).await;
            let asked = house.open(&mut browser, &link).await;
            let url = Url::parse(asked.location()).unwrap();
            let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
            // Also what a browser would never send, as far as HTTP lets it through.
            let query = query.replace("STATE", &state).replace(['#', ' '], "%23");
            for address in [format!("/consent/callback?{query}"), format!("/consent?{query}")] {
                let Ok(uri) = address.parse::<http::Uri>() else { continue };
                let page = house.open(&mut browser, &uri.to_string()).await;
                assert!(page.status.is_client_error() || page.status == StatusCode::SEE_OTHER, "{address}: {page:?}");
                assert!(!page.body.contains("<script>"), "{address}: {page:?}");
            }
            assert_eq!(house.stored().await, []);
        });
        Ok(())
    };
    runner.run(&hostile_query(), property).unwrap();
}
