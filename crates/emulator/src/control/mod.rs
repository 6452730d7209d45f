//! `/_emulator/`: the handle tests and people turn: ground truth, clock, tenants, applications, faults, counts.
//!
//! Never asks for a token: whoever can reach an emulator may do with it what they like.

mod change;
mod truth;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, patch, post, put};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::clock::EmulatorClock;
use crate::emulator::Emulator;
use crate::world::format_time;
use crate::world::tenant::Tenant;

pub(crate) fn router(emulator: Emulator) -> Router {
    Router::new()
        .route("/_emulator/about", get(about))
        .route("/_emulator/clock", get(clock).put(change::clock))
        .route("/_emulator/truth", get(truth::contents))
        .route("/_emulator/truth/summary", get(truth::summary))
        .route("/_emulator/truth/records", get(truth::records))
        .route("/_emulator/requests", get(requests).delete(clear_requests))
        .route("/_emulator/faults", put(change::faults))
        .route("/_emulator/tenants", post(change::add_tenant))
        .route("/_emulator/tenants/{tenant}", patch(change::tenant))
        .route("/_emulator/apps", post(change::add_app))
        .route("/_emulator/notifications", post(deliver))
        .with_state(emulator)
}

async fn about(State(emulator): State<Emulator>) -> Response<Body> {
    answer(StatusCode::OK, &emulator.about())
}

async fn clock(State(emulator): State<Emulator>) -> Response<Body> {
    answer(StatusCode::OK, &about_clock(emulator.world().clock()))
}

async fn requests(State(emulator): State<Emulator>) -> Response<Body> {
    let struck = emulator.world().faults_struck();
    let faults: Vec<Value> = struck.iter().map(|(name, count)| json!({ "rule": name, "count": count })).collect();
    answer(StatusCode::OK, &json!({ "requests": emulator.requests(), "faults": faults }))
}

async fn clear_requests(State(emulator): State<Emulator>) -> Response<Body> {
    emulator.clear_requests();
    answer(StatusCode::OK, &json!({}))
}

/// One round of notifications, for clocks that stand still.
async fn deliver(State(emulator): State<Emulator>) -> Response<Body> {
    let posts = emulator.notifier().deliver_due().await;
    answer(StatusCode::OK, &json!({ "posts": posts }))
}

pub(crate) fn about_clock(clock: &EmulatorClock) -> Value {
    json!({ "now": format_time(clock.now()), "frozen": clock.is_frozen(), "speed": clock.speed() })
}

pub(crate) fn about_tenant(tenant: &Tenant) -> Value {
    let state = tenant.state();
    let history: u64 = tenant.feeds.iter().map(|feed| feed.history).sum();
    json!({
        "id": tenant.id().to_string(),
        "name": tenant.profile.name,
        "domain": tenant.profile.domain,
        "cloud": tenant.cloud.as_str(),
        "seats": tenant.profile.seats,
        "auditing": state.auditing(),
        "deleted": state.deleted,
        "content_types": state.licensed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "history_records": history,
    })
}

fn answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A request that makes no sense, with what would.
fn refused(status: StatusCode, error: &str) -> Response<Body> {
    answer(status, &json!({ "error": error }))
}
