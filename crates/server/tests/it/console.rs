//! The console: what operators, scrapers and scripts read.

use axum::Router;
use axum::body::Body;
use emulator::FaultPlan;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use server::console::{ConsoleParts, router};
use std::sync::Arc;
use tower::ServiceExt;

use crate::rig::{Rig, small_world};

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).header("host", "127.0.0.1:8366").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get_json(router: &Router, path: &str) -> Value {
    let (status, body) = get(router, path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_console_says_what_was_collected_and_what_stands_in_the_way() {
    let rig = Rig::new(small_world(1, 3, 60), FaultPlan::default()).await;
    let (first, client) = (rig.tenants()[0], rig.settings.app.client_id);
    rig.emulator.world().set_roles(first, client, None);
    let collector = rig.collector();
    collector.collect_once(&[], std::future::pending()).await.unwrap();
    let parts = ConsoleParts {
        ledger: Arc::new(rig.ledger.clone()),
        board: collector.board().clone(),
        metrics: Arc::clone(&rig.metrics),
        clock: Arc::clone(&rig.clock) as Arc<dyn server::clock::Clock>,
    };
    let router = router(parts, "127.0.0.1:8366".parse().unwrap());

    assert_eq!(get(&router, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));

    let tenants = get_json(&router, "/api/v1/tenants").await;
    assert_eq!(tenants["items"].as_array().unwrap().len(), 3);
    assert!(tenants.get("next").is_none());
    let row = get_json(&router, &format!("/api/v1/tenants/{first}")).await;
    assert_eq!(row["problem"]["kind"], "consent_missing");
    assert_eq!(row["state"], "active");
    let (status, _) = get(&router, "/api/v1/tenants/00000000-0000-4000-8000-000000000000").await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let page = get_json(&router, "/api/v1/tenants?limit=2").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let rest = get_json(&router, &format!("/api/v1/tenants?limit=2&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);

    let coverage = get_json(&router, "/api/v1/coverage").await;
    let complete: Vec<&Value> =
        coverage["items"].as_array().unwrap().iter().filter(|row| row["complete_through"].is_string()).collect();
    assert_eq!(complete.len(), 10, "{coverage:#}");
    assert!(complete.iter().all(|row| row["complete_through"].as_str().unwrap().ends_with('Z')));

    let status = get_json(&router, "/api/v1/status").await;
    assert_eq!((status["tenants"].clone(), status["tenants_with_problem"].clone()), (3.into(), 1.into()));

    assert_eq!((&status["clock"]["agrees"], &status["clock"]["remedy"]), (&true.into(), &Value::Null), "{status}");

    let (_, metrics) = get(&router, "/metrics").await;
    let records = status["since_start"]["records"].as_u64().unwrap();
    assert!(metrics.contains(&format!("tenantry_records_total {records}\n")), "{metrics}");
    assert!(metrics.contains(r#"tenantry_requests_total{operation="blob",status="200"}"#), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test(start_paused = true)]
async fn a_loopback_console_answers_by_names_of_this_machine_only() {
    let rig = Rig::new(small_world(2, 1, 10), FaultPlan::default()).await;
    let collector = rig.collector();
    let parts = ConsoleParts {
        ledger: Arc::new(rig.ledger.clone()),
        board: collector.board().clone(),
        metrics: Arc::clone(&rig.metrics),
        clock: Arc::clone(&rig.clock) as Arc<dyn server::clock::Clock>,
    };
    for (listen, host, expected) in [
        ("127.0.0.1:8366", "localhost:8366", StatusCode::OK),
        ("127.0.0.1:8366", "attacker.example:8366", StatusCode::MISDIRECTED_REQUEST),
        ("10.0.0.5:8366", "console.example", StatusCode::OK),
    ] {
        let router = router(parts.clone(), listen.parse().unwrap());
        let request = Request::get("/api/v1/tenants").header("host", host).body(Body::empty()).unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), expected, "{listen} {host}");
    }
}
