//! What an operator does by hand: subscriptions and merging.

use std::time::Duration;

use emulator::FaultPlan;
use engine::model::{CommitNumber, Tenant};
use ledger::Ledger;
use protocol::activity::SubscriptionStatus;
use protocol::ids::ContentType;
use server::clock::Clock;
use server::collector::{Keep, Started, compact};

use crate::rig::{Rig, small_world};

#[tokio::test(start_paused = true)]
async fn subscriptions_are_listed_started_and_stopped() {
    let rig = Rig::new(small_world(1, 1, 20), FaultPlan::default()).await;
    let tenant = rig.tenants()[0];
    let collector = rig.collector();
    assert!(collector.list_subscriptions(tenant).await.unwrap().is_empty());
    assert_eq!(collector.start_subscription(tenant, &ContentType::Exchange).await.unwrap(), Started::Enabled);
    let listed = collector.list_subscriptions(tenant).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].content_type, &listed[0].status), (&ContentType::Exchange, &SubscriptionStatus::Enabled));
    // Another start within a quarter of an hour is not even sent.
    rig.emulator.clear_requests();
    let again = collector.start_subscription(tenant, &ContentType::Exchange).await.unwrap();
    assert!(matches!(again, Started::TooEarly { until } if until > rig.clock.now()), "{again:?}");
    assert_eq!(rig.requests("start"), 0);
    collector.stop_subscription(tenant, &ContentType::Exchange).await.unwrap();
    let listed = collector.list_subscriptions(tenant).await.unwrap();
    assert!(listed.iter().all(|subscription| subscription.status != SubscriptionStatus::Enabled), "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_its_remedy() {
    let rig = Rig::new(small_world(2, 1, 20), FaultPlan::default()).await;
    let tenant = rig.tenants()[0];
    rig.emulator.world().set_roles(tenant, rig.settings.app.client_id, None);
    let error = rig.collector().list_subscriptions(tenant).await.unwrap_err();
    assert_eq!(error.kind.as_str(), "consent_missing");
    let text = error.to_string();
    assert!(text.contains("send the tenant's admin a new consent link"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn compacting_merges_what_lies_in_small_pieces() {
    let mut rig = Rig::new(small_world(3, 1, 200), FaultPlan::default()).await;
    // Too few of a kind to be merged by itself.
    rig.settings.limits.commit_contents = 25;
    rig.collect_once().await;
    let tenant = rig.tenants()[0];
    let before = rig.ledger.segments(tenant).await.unwrap().len();
    // Past the days on which records still come.
    tokio::time::sleep(Duration::from_secs(8 * 86_400)).await;
    let compacted = compact(&rig.ledger, &rig.archive, &*rig.clock, Keep::default(), tenant).await.unwrap();
    let after = rig.ledger.segments(tenant).await.unwrap().len();
    assert!(compacted.removed > 0 && after < before, "{compacted:?} {before} {after}");
    assert_eq!(before - after, compacted.removed - compacted.added);
    let Tenant { last_commit: CommitNumber(last), .. } = rig.ledger.tenant(tenant).await.unwrap().unwrap();
    assert!(last > 0);
    rig.check_no_orphans().await;
    assert!(!rig.archived().await[&tenant].is_empty());
}
