//! The private site: health, metrics, and the JSON that says which tenant is healthy, which is not, and through when each
//! is complete.
//!
//! Never changes anything, never reaches the internet by itself (loopback unless told otherwise), and answers a browser
//! only by names of this machine, so that no web page elsewhere can read it through a name it has bent to 127.0.0.1.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use engine::model::Tenant;
use ledger::{Ledger, LedgerError};
use protocol::ids::TenantId;
use serde::Deserialize;

use crate::clock::Clock;
use crate::collector::Board;
use crate::coverage::{CoverageReport, ProblemItem};
use crate::listen::healthz;
use crate::metrics::Metrics;

mod views;

use views::{ClockView, CountsView, CredentialView, Paged, PagedCoverage, StatusView, TenantView, WorkerView};

/// Tenants in one answer unless fewer are asked for. Ten thousand tenants are read page by page.
const PAGE_MAX: usize = 500;

/// Losses and pieces in quarantine that are named of each tenant, unless asked for otherwise, and at most.
const DETAILS: u32 = 20;
const DETAILS_MAX: u32 = 1000;

/// What the console shows.
#[derive(Clone)]
pub struct ConsoleParts {
    /// The durable state; coverage comes from here.
    pub ledger: Arc<dyn Ledger>,
    /// What the collector is doing.
    pub board: Board,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// The console's routes. `listen` is where they will be served: on a loopback address, only requests by a name of this
/// machine are answered.
pub fn router(parts: ConsoleParts, listen: SocketAddr) -> Router {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/tenants", get(tenants))
        .route("/api/v1/tenants/{tenant}", get(tenant))
        .route("/api/v1/coverage", get(coverage))
        .with_state(parts);
    if listen.ip().is_loopback() { router.layer(axum::middleware::from_fn(local_names_only)) } else { router }
}

async fn local_names_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 carries the name in the URI instead.
    let host = host.map(str::to_owned).or_else(|| request.uri().authority().map(ToString::to_string));
    match host {
        Some(host) if !is_local_name(&host) => {
            (StatusCode::MISDIRECTED_REQUEST, "this console answers by the names of this machine only\n")
                .into_response()
        }
        _ => next.run(request).await,
    }
}

fn is_local_name(host: &str) -> bool {
    if host == "localhost" {
        return true;
    }
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn readyz(State(parts): State<ConsoleParts>) -> Response {
    if let Err(error) = parts.ledger.tenants_since(u64::MAX).await {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
    }
    match parts.board.snapshot_problem() {
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", problem.message)).into_response(),
        None => "ready\n".into_response(),
    }
}

async fn metrics(State(parts): State<ConsoleParts>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (headers, parts.metrics.encode()).into_response()
}

async fn status(State(parts): State<ConsoleParts>) -> Json<StatusView> {
    let progress = parts.board.snapshot();
    Json(StatusView {
        tenants: progress.tenants.len(),
        tenants_with_problem: progress.tenants.iter().filter(|tenant| tenant.has_problem()).count(),
        pending: progress.pending(),
        damaged_segments: progress.damaged_segments(),
        since_start: CountsView::from(&progress.total()),
        problem: progress.problem.as_ref().map(ProblemItem::from),
        clock: parts.metrics.clock_seen_ahead().map(ClockView::new),
        credentials: progress.credentials.iter().map(CredentialView::from).collect(),
        // A ledger that does not answer is the problem above.
        workers: parts.ledger.workers().await.unwrap_or_default().into_iter().map(WorkerView::from).collect(),
    })
}

/// Which page of tenants.
#[derive(Debug, Deserialize)]
struct Page {
    /// Tenants after this id, in the order of ids.
    after: Option<TenantId>,
    /// At most so many.
    limit: Option<usize>,
    /// Only this one.
    tenant: Option<TenantId>,
    /// At most so many losses and pieces in quarantine are named of each tenant.
    details: Option<u32>,
}

async fn tenants(State(parts): State<ConsoleParts>, Query(page): Query<Page>) -> Result<Response, ConsoleError> {
    let (tenants, next) = parts.page(&page).await?;
    let mut holders: HashMap<TenantId, String> =
        parts.ledger.holders(tenants.iter().map(|tenant| tenant.id).collect()).await?.into_iter().collect();
    let view = |tenant: &Tenant| TenantView::new(tenant, holders.remove(&tenant.id), &parts.board);
    let tenants: Vec<_> = tenants.iter().map(view).collect();
    Ok(Json(Paged { items: tenants, next }).into_response())
}

async fn tenant(State(parts): State<ConsoleParts>, Path(id): Path<TenantId>) -> Result<Response, ConsoleError> {
    match parts.ledger.tenant(id).await? {
        Some(tenant) => {
            let holder = parts.ledger.holders(vec![id]).await?.pop().map(|(_, name)| name);
            Ok(Json(TenantView::new(&tenant, holder, &parts.board)).into_response())
        }
        None => Ok((StatusCode::NOT_FOUND, format!("tenant {id} is not known here\n")).into_response()),
    }
}

async fn coverage(State(parts): State<ConsoleParts>, Query(page): Query<Page>) -> Result<Response, ConsoleError> {
    let (tenants, next) = parts.page(&page).await?;
    let tenants: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
    let details = page.details.unwrap_or(DETAILS).min(DETAILS_MAX);
    let report = CoverageReport::read(parts.ledger.as_ref(), &tenants, details, parts.clock.now()).await?;
    Ok(Json(PagedCoverage { report, next }).into_response())
}

impl ConsoleParts {
    /// A page of tenants in the order of their ids, and where the next one begins.
    async fn page(&self, page: &Page) -> Result<(Vec<Tenant>, Option<TenantId>), LedgerError> {
        if let Some(id) = page.tenant {
            return Ok((self.ledger.tenant(id).await?.into_iter().collect(), None));
        }
        let (_, mut tenants) = self.ledger.tenants_since(0).await?;
        tenants.retain(|tenant| page.after.is_none_or(|after| tenant.id > after));
        tenants.sort_by_key(|tenant| tenant.id);
        let limit = page.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let more = tenants.len() > limit;
        tenants.truncate(limit);
        let next = if more { tenants.last().map(|tenant| tenant.id) } else { None };
        Ok((tenants, next))
    }
}

/// The ledger did not answer.
struct ConsoleError(LedgerError);

impl From<LedgerError> for ConsoleError {
    fn from(error: LedgerError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        tracing::warn!(error = %self.0, "the console could not read the ledger");
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "localhost:8366", "127.0.0.1", "127.0.0.1:8366", "[::1]:8366", "[::1]", "127.8.0.1:1"]
        {
            assert!(is_local_name(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8366", "10.0.0.1:8366", "localhost.evil.example", "127.0.0.1.evil:80"]
        {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
