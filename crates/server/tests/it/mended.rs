//! What a tenant's admin breaks while everything runs: it is recognised by what the other side answers, shown as that, asked
//! for at a sensible pace, and picked up again by itself once it is mended, without losing what could still be had.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use chrono::TimeDelta;
use emulator::{FaultPlan, WorldOptions};
use http::Request;
use http_body_util::BodyExt;
use ledger::Ledger;
use protocol::ids::{ContentType, TenantId};
use serde_json::Value;
use server::Collector;
use server::console::{ConsoleParts, router};
use tower::ServiceExt;

use crate::rig::{Rig, small_world};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ROLES: [&str; 2] = ["ActivityFeed.Read", "ActivityFeed.ReadDlp"];

/// A collector all day beside a console, over two tenants whose records never end; the first gets into trouble.
struct Day {
    rig: Rig,
    collector: Arc<Collector>,
    console: Router,
}

/// What a trouble may be.
struct Expected {
    kind: &'static str,
    words: &'static str,
    /// Within this it is on the console.
    shown_within: Duration,
    /// Requests of the tenant and for its tokens in three hours of it.
    requests_max: u64,
    /// Within this after it was mended, it is over.
    over_within: Duration,
}

impl Day {
    async fn new(seed: u64) -> Self {
        let world = WorldOptions { live_rate: 2.0, history: 12 * HOUR, ..small_world(seed, 2, 60) };
        let mut rig = Rig::new(world, FaultPlan::default()).await;
        // Half a day of listings is most of what this costs.
        rig.settings.collect.poll_interval = 5 * MINUTE;
        let collector = Arc::new(rig.collector());
        let parts = ConsoleParts {
            ledger: Arc::new(rig.ledger.clone()),
            board: collector.board().clone(),
            metrics: Arc::clone(&rig.metrics),
            clock: Arc::clone(&rig.clock) as Arc<dyn server::clock::Clock>,
        };
        let console = router(parts, "127.0.0.1:8366".parse().unwrap());
        Self { rig, collector, console }
    }

    fn first(&self) -> TenantId {
        self.rig.tenants()[0]
    }

    async fn shown(&self, path: &str) -> Value {
        let request = Request::get(path).header("host", "127.0.0.1:8366").body(Body::empty()).unwrap();
        let answer = self.console.clone().oneshot(request).await.unwrap();
        assert!(answer.status().is_success(), "{path}");
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    /// What the console shows in the tenant's way, or null; for a problem of its content types, the first of those.
    async fn shown_problem(&self, tenant: TenantId) -> Value {
        let of_tenant = self.shown(&format!("/api/v1/tenants/{tenant}")).await["problem"].clone();
        if !of_tenant.is_null() {
            return of_tenant;
        }
        let coverage = self.shown(&format!("/api/v1/coverage?tenant={tenant}")).await;
        let rows = coverage["items"].as_array().unwrap();
        rows.iter().map(|row| row["problem"].clone()).find(|problem| !problem.is_null()).unwrap_or(Value::Null)
    }

    async fn wait_for(&self, what: &str, within: Duration, is_there: impl Fn(&Value) -> bool) {
        let mut waited = Duration::ZERO;
        loop {
            let problem = self.shown_problem(self.first()).await;
            if is_there(&problem) {
                return;
            }
            assert!(waited < within, "{what} took more than {within:?}: {problem:#}");
            tokio::time::sleep(MINUTE).await;
            waited += MINUTE;
        }
    }

    fn published(&self) -> BTreeSet<Bytes> {
        self.rig.published().remove(&self.first()).unwrap()
    }

    /// Breaks, looks, mends, looks again. `had_meanwhile`: what the tenant does during the trouble can be had afterwards.
    async fn live_through(
        &self,
        expected: Expected,
        had_meanwhile: bool,
        break_it: impl AsyncFnOnce(&Day),
        mend_it: impl FnOnce(&Day),
    ) {
        let (first, second) = (self.first(), self.rig.tenants()[1]);
        let running = Arc::clone(&self.collector);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            running.run(stopped).await.unwrap()
        });
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(self.shown_problem(first).await, Value::Null);
        let before = self.published();
        break_it(self).await;
        self.wait_for("to see it", expected.shown_within, |problem| problem["kind"] == expected.kind).await;
        let problem = self.shown_problem(first).await;
        assert!(problem["message"].as_str().unwrap().contains(expected.words), "{problem:#}");

        self.rig.emulator.clear_requests();
        tokio::time::sleep(3 * HOUR).await;
        let asked = self.rig.requests_of(first);
        assert!(
            (2..=expected.requests_max).contains(&asked),
            "{asked} requests in three hours: {:#?}",
            self.rig.emulator.requests()
        );
        let problem = self.shown_problem(first).await;
        assert_eq!(problem["kind"], expected.kind, "{problem:#}");
        let since: chrono::DateTime<chrono::Utc> = problem["since"].as_str().unwrap().parse().unwrap();
        assert!(self.rig.now() - since > TimeDelta::hours(3), "since it began: {problem:#}");
        // Nobody else is held up.
        assert_eq!(self.shown_problem(second).await, Value::Null);
        for row in self.rig.ledger.coverage(second).await.unwrap() {
            let age = self.rig.now() - row.complete_through.unwrap();
            assert!(age < TimeDelta::minutes(20), "{age}: {row:?}");
        }

        mend_it(self);
        self.wait_for("picking it up again", expected.over_within, Value::is_null).await;
        let at_mending = self.published();
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(self.shown_problem(first).await, Value::Null);
        let after = self.published();
        tokio::time::sleep(10 * MINUTE).await;
        stop.send(()).unwrap();
        task.await.unwrap();
        let archived = self.rig.archived().await.remove(&first).unwrap();
        let can_be_had: BTreeSet<Bytes> = if had_meanwhile {
            after.clone()
        } else {
            before.iter().chain(after.difference(&at_mending)).cloned().collect()
        };
        assert!(can_be_had.len() > 200, "a quiet tenant proves nothing: {}", can_be_had.len());
        let lost = can_be_had.difference(&archived).count();
        assert_eq!(lost, 0, "of {} records", can_be_had.len());
        let losses = self.rig.ledger.losses(first, 10).await.unwrap();
        assert!(losses.is_empty(), "{losses:#?}");
    }
}

/// A token that was issued before lives for up to 90 minutes and is renewed five minutes early.
const BY_THE_NEXT_TOKEN: Duration = Duration::from_secs(95 * 60);
/// The longest wait is an hour, spread by a fifth.
const BY_THE_NEXT_TRY: Duration = Duration::from_secs(75 * 60);

#[tokio::test(start_paused = true)]
async fn a_service_principal_that_was_deleted_is_told_and_collected_again_once_it_is_back() {
    let expected = Expected {
        kind: "consent_missing",
        words: "AADSTS700016",
        shown_within: BY_THE_NEXT_TOKEN,
        requests_max: 12,
        over_within: BY_THE_NEXT_TRY,
    };
    let day = Day::new(401).await;
    let client = day.rig.settings.app.client_id;
    day.live_through(
        expected,
        true,
        async |day| assert!(day.rig.emulator.world().set_roles(day.first(), client, None)),
        |day| assert!(day.rig.emulator.world().set_roles(day.first(), client, Some(&ROLES))),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn consent_that_was_revoked_is_told_and_collected_again_once_it_is_given() {
    let expected = Expected {
        kind: "consent_missing",
        words: "AADSTS65001",
        shown_within: BY_THE_NEXT_TOKEN,
        requests_max: 12,
        over_within: BY_THE_NEXT_TRY,
    };
    let day = Day::new(402).await;
    let plan = format!(
        "[[rule]]\noperations = [\"token\"]\ntenants = [\"{}\"]\neffect = \"aadsts\"\nnumber = 65001\nevery = 1\n",
        day.first()
    );
    day.live_through(
        expected,
        true,
        async |day| day.rig.emulator.world().set_faults(FaultPlan::parse(&plan).unwrap()),
        |day| day.rig.emulator.world().set_faults(FaultPlan::default()),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_was_taken_away_is_told_and_collected_again_once_it_is_granted() {
    let expected = Expected {
        kind: "permission_missing",
        words: "ActivityFeed.Read",
        shown_within: BY_THE_NEXT_TOKEN,
        // A token without the permission is still a token: each try is a token and a request, and the same once more.
        requests_max: 48,
        over_within: BY_THE_NEXT_TRY,
    };
    let day = Day::new(403).await;
    let client = day.rig.settings.app.client_id;
    day.live_through(
        expected,
        true,
        async |day| assert!(day.rig.emulator.world().set_roles(day.first(), client, Some(&["ServiceHealth.Read"]))),
        |day| assert!(day.rig.emulator.world().set_roles(day.first(), client, Some(&ROLES))),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn auditing_that_is_switched_off_is_told_and_collected_again_once_it_is_on() {
    let expected = Expected {
        kind: "auditing_off",
        words: "unified audit logging is off",
        shown_within: HOUR,
        // Lists subscriptions and asks for the starts, hourly.
        requests_max: 60,
        over_within: 2 * HOUR,
    };
    let day = Day::new(404).await;
    day.live_through(
        expected,
        false,
        async |day| {
            // The feed ends, and the subscriptions with it: that the tenant "does not exist" only a start says.
            assert!(day.rig.emulator.world().set_auditing(day.first(), false));
            let admin = day.rig.collector();
            for kind in ContentType::KNOWN {
                admin.stop_subscription(day.first(), &kind).await.unwrap();
            }
        },
        |day| assert!(day.rig.emulator.world().set_auditing(day.first(), true)),
    )
    .await;
}
