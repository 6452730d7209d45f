//! Webhooks from end to end: set by the collector, validated and notified by the emulator, answered by the listener; and
//! strangers, floods and broken endpoints, none of which costs a record.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use emulator::webhook::{HookPost, Outbound, PostFuture};
use emulator::{FaultPlan, WorldOptions};
use engine::model::ContentState;
use engine::webhook::{Webhook, WebhookState};
use http::Request;
use ledger::Ledger;
use protocol::ids::{ContentType, TenantId};
use server::collector::{Collector, Webhooks};
use server::webhook::{GateLimits, WebhookBase, WebhookParts};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// The network between the emulator and us.
#[derive(Default)]
struct Switchboard {
    router: Mutex<Option<Router>>,
    /// Bodies and secrets of the posts that were answered with 200.
    answered: Mutex<Vec<HookPost>>,
    /// When each of them came.
    came: Mutex<Vec<tokio::time::Instant>>,
}

impl Switchboard {
    fn connect(&self, router: Option<Router>) {
        *self.router.lock().unwrap() = router;
    }
}

impl Outbound for Switchboard {
    fn post(&self, post: HookPost) -> PostFuture<'_> {
        Box::pin(async move {
            let router = self.router.lock().unwrap().clone();
            let Some(router) = router else { return Err("no route to host".to_owned()) };
            let came = tokio::time::Instant::now();
            let mut request = Request::post(&post.address);
            for (name, value) in &post.headers {
                request = request.header(*name, value);
            }
            let answer = router.oneshot(request.body(Body::from(post.body.clone())).unwrap()).await.unwrap();
            if answer.status() == 200 {
                self.came.lock().unwrap().push(came);
                self.answered.lock().unwrap().push(post);
            }
            Ok(answer.status().as_u16())
        })
    }
}

/// A rig whose emulator can reach us, and a collector that wants webhooks.
struct Hooked {
    rig: Arc<Rig>,
    network: Arc<Switchboard>,
    collector: Arc<Collector>,
    tasks: Vec<JoinHandle<()>>,
    /// How often the service looks whether there is something to tell.
    tick: Duration,
}

impl Hooked {
    async fn new(world: WorldOptions, change: impl FnOnce(&mut Rig)) -> Self {
        let network = Arc::new(Switchboard::default());
        let mut rig =
            Rig::notifying(world, FaultPlan::default(), Some(Arc::clone(&network) as Arc<dyn Outbound>)).await;
        rig.settings.collect.poll_interval = 5 * MINUTE;
        change(&mut rig);
        let tick = Duration::from_secs(10);
        let mut hooked =
            Self { collector: Arc::new(rig.collector()), rig: Arc::new(rig), network, tasks: Vec::new(), tick };
        hooked.restart(Webhooks::Arm(base("https://audit.example.com", &hooked.rig)));
        hooked
    }

    /// Another collector takes over, with its own say about webhooks.
    fn restart(&mut self, webhooks: Webhooks) {
        self.stop();
        let rig = &self.rig;
        let parts = rig.parts(rig.transport(), Arc::new(rig.ledger.clone()));
        self.collector = Arc::new(Collector::with_webhooks(rig.settings.clone(), &parts, webhooks));
        self.network.connect(Some(self.router(GateLimits::default())));
        let collector = Arc::clone(&self.collector);
        self.tasks.push(tokio::spawn(async move {
            collector.run(std::future::pending()).await.unwrap();
        }));
        self.notify_every(self.tick);
    }

    fn notify_every(&mut self, tick: Duration) {
        let rig = Arc::clone(&self.rig);
        self.tasks.push(tokio::spawn(async move {
            loop {
                tokio::time::sleep(tick).await;
                rig.emulator.world().clock().set(rig.now());
                rig.emulator.notifier().deliver_due().await;
            }
        }));
    }

    fn stop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }

    fn router(&self, limits: GateLimits) -> Router {
        let rig = &self.rig;
        server::webhook::router(WebhookParts {
            ledger: Arc::new(rig.ledger.clone()),
            waker: self.collector.waker(),
            clock: self.collector.sure_clock(),
            metrics: Arc::clone(&rig.metrics),
            cloud: rig.settings.cloud.clone(),
            client_id: rig.settings.app.client_id,
            content_types: rig.settings.collect.content_types.clone(),
            limits,
        })
    }

    async fn webhooks(&self) -> Vec<Webhook> {
        let mut all = Vec::new();
        for tenant in self.rig.tenants() {
            all.extend(self.rig.ledger.webhooks(tenant).await.unwrap());
        }
        all
    }

    async fn states(&self) -> Vec<WebhookState> {
        self.webhooks().await.iter().map(|webhook| webhook.state).collect()
    }

    fn counted_any(&self, words: &str) -> bool {
        self.rig.metrics.encode().lines().any(|have| have.contains(words) && !have.ends_with(" 0"))
    }

    fn counted(&self, line: &str) -> bool {
        self.rig.metrics.encode().lines().any(|have| have == line)
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        self.stop();
    }
}

fn base(url: &str, rig: &Rig) -> WebhookBase {
    WebhookBase::new(&url.parse().unwrap(), &rig.settings.cloud).unwrap()
}

fn live_world(seed: u64) -> WorldOptions {
    WorldOptions { live_rate: 0.5, history: Duration::from_secs(86_400), ..small_world(seed, 1, 50) }
}

/// Commits every second, and the network takes its time: p99 of what was notified is in the archive within 2 s.
#[tokio::test(start_paused = true)]
async fn webhooks_are_set_a_quarter_of_an_hour_after_the_start_and_bring_records_within_two_seconds() {
    let mut world = live_world(1);
    world.live_rate = 180.0;
    // Many small blobs: what counts is how many there are.
    (world.blobs.median, world.blobs.max) = (2, 10);
    let mut hooked = Hooked::new(world, |rig| {
        // Polls alone would take half an hour in the mean.
        rig.settings.collect.poll_interval = HOUR;
        rig.settings.collect.commit_interval = Duration::from_secs(1);
        rig.settings.collect.content_types = vec![ContentType::Exchange, ContentType::General];
        rig.latency = Some(Duration::from_millis(50)..Duration::from_millis(350));
    })
    .await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(hooked.webhooks().await, [], "a subscription comes first, and without one");
    tokio::time::sleep(MINUTE * 70).await;
    hooked.notify_every(Duration::from_millis(250));
    assert_eq!(hooked.states().await, [WebhookState::Armed; 2]);
    let (mut looked_at, mut waiting, mut seconds) =
        (hooked.network.answered.lock().unwrap().len(), Vec::new(), Vec::new());
    for _ in 0..10 * 60 * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let posts = hooked.network.answered.lock().unwrap()[looked_at..].to_vec();
        let came = hooked.network.came.lock().unwrap()[looked_at..].to_vec();
        looked_at += posts.len();
        waiting.extend(
            posts.iter().zip(came).flat_map(|(post, came)| notified(post).into_iter().map(move |one| (one, came))),
        );
        let mut left = Vec::new();
        for ((tenant, content_type, id), came) in waiting {
            let state =
                hooked.rig.ledger.content_state(tenant, ContentType::clone(&content_type), String::clone(&id)).await;
            if state.unwrap() == Some(ContentState::Archived) {
                seconds.push(came.elapsed().as_secs_f64());
            } else {
                left.push(((tenant, content_type, id), came));
            }
        }
        waiting = left;
    }
    assert!(waiting.iter().all(|(_, came)| came.elapsed() < Duration::from_secs(5)), "{waiting:?}");
    seconds.sort_by(f64::total_cmp);
    let at = |percent: usize| seconds[(seconds.len() - 1) * percent / 100];
    println!("{} contents: p50 {:.2} s, p99 {:.2} s, longest {:.2} s", seconds.len(), at(50), at(99), at(100));
    assert!(seconds.len() > 200, "{} contents prove little", seconds.len());
    assert!(at(99) < 2.0, "p99 {:.2} s", at(99));
    assert!(hooked.webhooks().await.iter().all(|webhook| webhook.notified_at.is_some() && webhook.drifts == 0));
    assert_eq!(hooked.rig.requests("start"), 4, "one each to subscribe, one to be notified");
}

/// What a notification names.
fn notified(post: &HookPost) -> Vec<(TenantId, ContentType, String)> {
    let body: serde_json::Value = serde_json::from_str(&post.body).unwrap();
    let text = |entry: &serde_json::Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entries = body.as_array().into_iter().flatten();
    let named = entries.map(|entry| {
        (
            text(entry, "tenantId").parse().unwrap(),
            text(entry, "contentType").parse().unwrap(),
            text(entry, "contentId"),
        )
    });
    named.collect()
}

#[tokio::test(start_paused = true)]
async fn the_service_is_let_in_to_validate_while_strangers_take_all_the_room_there_is() {
    let mut hooked = Hooked::new(live_world(10), |_| ()).await;
    let limits = || GateLimits { strangers_per_second: 0, ..GateLimits::default() };
    hooked.network.connect(Some(hooked.router(limits())));
    tokio::time::sleep(HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Armed; 5]);
    assert!(!hooked.counted_any(r#"kind="stranger""#));
    // Nor are they strangers to a process that has only just begun.
    hooked.restart(Webhooks::Arm(base("https://audit.example.com", &hooked.rig)));
    let router = hooked.router(limits());
    hooked.network.connect(Some(router.clone()));
    tokio::time::sleep(MINUTE).await;
    let (webhook, secret) = with_known_secret(&hooked).await;
    assert_eq!(call(&router, &webhook.address, Some(&secret), "[]").await, 200);
    let elsewhere = format!("https://audit.example.com/webhook/{}", "0".repeat(32));
    assert_eq!(call(&router, &elsewhere, Some(&secret), "[]").await, 404);
    assert!(hooked.counted_any(r#"kind="stranger""#));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_vanished_is_seen_counted_and_set_again() {
    let hooked = Hooked::new(live_world(2), |_| ()).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Armed; 5]);
    let first = hooked.rig.tenants()[0];
    hooked.rig.emulator.world().lose_webhooks(first);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Armed; 5]);
    let drifts: Vec<u64> = hooked.rig.ledger.webhooks(first).await.unwrap().iter().map(|row| row.drifts).collect();
    assert_eq!(drifts, [1; 5]);
    assert!(hooked.counted(r#"tenantry_webhook_drifts_total{kind="vanished"} 5"#), "{}", hooked.rig.metrics.encode());
    hooked.rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_is_switched_off_by_the_service_costs_nothing_and_comes_back() {
    let mut world = live_world(3);
    world.live_rate = 2.0;
    let hooked = Hooked::new(world, |_| ()).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Armed; 5]);
    hooked.network.connect(None);
    tokio::time::sleep(8 * HOUR).await;
    let states = hooked.states().await;
    assert_eq!(states, [WebhookState::Disabled; 5], "it was switched off, and could not be set again");
    for row in hooked.rig.coverage().await {
        assert_eq!(row.problem, None, "polling is not disturbed");
        assert!(hooked.rig.now() - row.complete_through.unwrap() < chrono::TimeDelta::minutes(20), "{row:?}");
    }
    for webhook in hooked.webhooks().await {
        assert!(webhook.failures > 1 && webhook.drifts == 1, "{webhook:?}");
        let refusal = webhook.refusal.unwrap();
        assert!(refusal.contains("no route to host"));
        // The service repeats the address; whoever reads the report must not learn the way in.
        let (base, name) = webhook.address.rsplit_once('/').unwrap();
        assert!(refusal.contains(&format!("{base}/(redacted)")) && !refusal.contains(name), "{refusal}");
    }
    assert!(WebhookState::Disabled.says().contains("polling carries on alone"));
    hooked.network.connect(Some(hooked.router(GateLimits::default())));
    tokio::time::sleep(6 * HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Armed; 5]);
    hooked.rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_never_reached_delays_nothing_and_is_tried_ever_more_seldom() {
    let mut hooked = Hooked::new(live_world(4), |_| ()).await;
    hooked.network.connect(None);
    tokio::time::sleep(5 * MINUTE).await;
    let complete = hooked.rig.coverage().await;
    assert!(complete.iter().all(|row| row.complete_through.is_some() && row.problem.is_none()), "{complete:#?}");
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Refused; 5]);
    // To subscribe, and after 15, 15, 30, 60, 120 minutes, then every four hours.
    let starts = hooked.rig.requests("start");
    assert!((30..=40).contains(&starts), "{starts} starts of 5 subscriptions");
    hooked.stop();
    hooked.rig.catch_up_and_check().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_another_url_moves_the_webhooks_and_one_without_takes_them_off() {
    let mut hooked = Hooked::new(live_world(5), |_| ()).await;
    tokio::time::sleep(HOUR).await;
    let before = hooked.webhooks().await;
    hooked.restart(Webhooks::Arm(base("https://elsewhere.example.com", &hooked.rig)));
    tokio::time::sleep(HOUR).await;
    let after = hooked.webhooks().await;
    assert!(after.iter().all(|row| row.state == WebhookState::Armed), "{after:#?}");
    assert!(after.iter().all(|row| row.address.starts_with("https://elsewhere.example.com/webhook/")));
    assert!(after.iter().all(|row| before.iter().all(|old| old.path_key != row.path_key)), "old paths lead nowhere");
    hooked.restart(Webhooks::TakeOff);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(hooked.states().await, [WebhookState::Removed; 5]);
    hooked.rig.catch_up_and_check().await;
}

/// The first webhook, with a secret of our own making in the place of the one that only the service knows.
async fn with_known_secret(hooked: &Hooked) -> (Webhook, String) {
    let post = hooked.network.answered.lock().unwrap().last().cloned().expect("it was validated");
    let secret = post.headers.iter().find(|(name, _)| *name == "Webhook-AuthID").unwrap().1.clone();
    let webhook = hooked.webhooks().await.into_iter().find(|webhook| webhook.address == post.address).unwrap();
    (webhook, secret)
}

async fn call(router: &Router, address: &str, secret: Option<&str>, body: impl Into<Body>) -> u16 {
    let mut request = Request::post(address).header("Content-Type", "application/json; utf-8");
    if let Some(secret) = secret {
        request = request.header("Webhook-AuthID", secret);
    }
    router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_counted_and_cause_no_request() {
    let mut hooked = Hooked::new(small_world(6, 2, 20), |_| ()).await;
    tokio::time::sleep(HOUR).await;
    let (webhook, secret) = with_known_secret(&hooked).await;
    hooked.stop();
    hooked.rig.emulator.clear_requests();
    let router = hooked.router(GateLimits::default());
    let (first, second) = (hooked.rig.tenants()[0], hooked.rig.tenants()[1]);
    let client = hooked.rig.settings.app.client_id;
    let entry = |tenant: &str, client: &str, content_type: &str, id: &str, host: &str| {
        format!(
            r#"{{"tenantId":"{tenant}","clientId":"{client}","contentType":"{content_type}","contentId":"{id}","contentUri":"{host}/api/v1.0/{tenant}/activity/feed/audit/{id}","contentCreated":"2026-03-10T12:00:00.000Z","contentExpiration":"2026-03-17T12:00:00.000Z"}}"#
        )
    };
    let (first, client) = (first.to_string(), client.to_string());
    let good = entry(&first, &client, "Audit.General", "g$1", "http://127.0.0.1:7000");
    let other = entry(&second.to_string(), &client, "Audit.Exchange", "g$2", "http://127.0.0.1:7000");
    let list =
        |entries: &[&String]| format!("[{}]", entries.iter().map(|entry| entry.as_str()).collect::<Vec<_>>().join(","));

    // Without the secret, or at another path: nothing is even read.
    let elsewhere = format!("https://audit.example.com/webhook/{}", "0".repeat(32));
    assert_eq!(call(&router, &elsewhere, Some(&secret), list(&[&good])).await, 404);
    assert_eq!(call(&router, "https://audit.example.com/webhook/x", Some(&secret), list(&[&good])).await, 404);
    for wrong in [None, Some(""), Some("x"), Some(&secret[1..]), Some(&*format!("{secret}0"))] {
        assert_eq!(call(&router, &webhook.address, wrong, list(&[&good])).await, 404, "{wrong:?}");
    }
    assert!(hooked.counted(r#"tenantry_webhook_calls_total{kind="unknown_path"} 2"#));
    assert!(
        hooked.counted(r#"tenantry_webhook_calls_total{kind="wrong_secret"} 5"#),
        "{}",
        hooked.rig.metrics.encode()
    );

    // With the secret: one body for several tenants, of which what is not ours is passed over.
    let unknown = "11111111-2222-3333-4444-555555555555";
    let mixed = list(&[
        &good,
        &other,
        &entry(unknown, &client, "Audit.General", "g$3", "http://127.0.0.1:7000"),
        &entry(&first, unknown, "Audit.General", "g$4", "http://127.0.0.1:7000"),
        &entry(&first, &client, "Audit.General", "g$5", "https://evil.example"),
        &entry(&first, &client, "Audit.Invented", "g$6", "http://127.0.0.1:7000"),
    ]);
    assert_eq!(call(&router, &webhook.address, Some(&secret), mixed.clone()).await, 200);
    assert_eq!(call(&router, &webhook.address, Some(&secret), mixed).await, 200, "at least once is at most twice");
    for line in [
        r#"{kind="new"} 2"#,
        r#"{kind="known"} 2"#,
        r#"{kind="unknown_tenant"} 2"#,
        r#"{kind="foreign_app"} 2"#,
        r#"{kind="foreign_url"} 2"#,
        r#"{kind="foreign_type"} 2"#,
    ] {
        assert!(hooked.counted(&format!("tenantry_webhook_entries_total{line}")), "{line}");
    }
    let ledger = &hooked.rig.ledger;
    let state = |tenant, content_type, id: &str| ledger.content_state(tenant, content_type, id.to_owned());
    let tenant = first.parse().unwrap();
    assert_eq!(state(tenant, ContentType::General, "g$1").await.unwrap(), Some(ContentState::Listed));
    assert_eq!(state(second, ContentType::Exchange, "g$2").await.unwrap(), Some(ContentState::Listed));
    for id in ["g$4", "g$5", "g$6"] {
        assert_eq!(state(tenant, ContentType::General, id).await.unwrap(), None, "{id}");
    }
    assert!(hooked.rig.emulator.requests().is_empty(), "a call of the webhook asks the network for nothing");

    // What is neither: refused, so that a confused service tries again.
    for (body, status) in [
        ("{}".to_owned(), 400),
        ("[".to_owned(), 400),
        (String::new(), 400),
        ("[]".to_owned(), 200),
        (format!("[{}]", " ".repeat(1 << 20)), 413),
    ] {
        assert_eq!(call(&router, &webhook.address, Some(&secret), body.clone()).await, status, "{:.20}", body);
    }
    assert_eq!(call(&router, &webhook.address, Some(&secret), format!("[{}]", " ".repeat((1 << 20) - 2))).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_its_time_is_cut_off_and_too_many_at_once_are_sent_away() {
    let mut hooked = Hooked::new(small_world(7, 1, 20), |_| ()).await;
    tokio::time::sleep(HOUR).await;
    let (webhook, secret) = with_known_secret(&hooked).await;
    hooked.stop();
    let router = hooked.router(GateLimits { calls_at_once: 2, ..GateLimits::default() });
    let slow = || Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let (one, two, three) = tokio::join!(
        call(&router, &webhook.address, Some(&secret), slow()),
        call(&router, &webhook.address, Some(&secret), slow()),
        call(&router, &webhook.address, Some(&secret), "[]"),
    );
    assert_eq!((one, two, three), (408, 408, 429));
    assert_eq!(call(&router, &webhook.address, Some(&secret), "[]").await, 200, "places are given back");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_notifications_loses_none_that_was_answered_with_200() {
    let mut hooked = Hooked::new(small_world(8, 1, 20), |_| ()).await;
    tokio::time::sleep(HOUR).await;
    let (webhook, secret) = with_known_secret(&hooked).await;
    hooked.stop();
    let (tenant, client) = (hooked.rig.tenants()[0], hooked.rig.settings.app.client_id);
    let limits = GateLimits { calls_at_once: 64, ..GateLimits::default() };
    let router = hooked.router(limits);
    let mut answered = Vec::new();
    let mut refused = 0;
    for round in 0..20 {
        let calls = (0..100).map(|number| {
            let id = format!("flood${round}${number}");
            let body = format!(
                r#"[{{"tenantId":"{tenant}","clientId":"{client}","contentType":"Audit.General","contentId":"{id}","contentUri":"http://127.0.0.1:7000/api/v1.0/{tenant}/activity/feed/audit/{id}","contentCreated":"2026-03-10T12:00:00.000Z","contentExpiration":"2026-03-17T12:00:00.000Z"}}]"#
            );
            let (router, webhook, secret) = (&router, &webhook, &secret);
            async move { (id, call(router, &webhook.address, Some(secret), body).await) }
        });
        for (id, status) in futures_util::future::join_all(calls).await {
            match status {
                200 => answered.push(id),
                429 => refused += 1,
                other => panic!("{other}"),
            }
        }
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    for id in &answered {
        let state = hooked.rig.ledger.content_state(tenant, ContentType::General, id.clone()).await.unwrap();
        assert_eq!(state, Some(ContentState::Listed), "{id}");
    }
    let waiting = hooked.rig.ledger.pending(tenant, hooked.rig.now(), u32::MAX, Vec::new()).await.unwrap();
    assert_eq!(waiting.len(), answered.len(), "and nothing was written for those that were sent away");
    println!("{} answered with 200, {refused} told to come back", answered.len());
    assert!(answered.len() >= 1000, "{}", answered.len());
}
