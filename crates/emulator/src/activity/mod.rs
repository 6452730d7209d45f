//! The Office 365 Management Activity API: every operation, with its limits and its errors in the shapes really seen.
//!
//! Never keeps state of its own: tenants, contents and subscriptions are the world's, tokens the login service's.
//! A request passes four stations: what the fault plan does to it, the gate (token, tenant, publisher, quota), the
//! operation, and what the fault plan does to the answer.

mod broken;
mod gate;
mod listing;
mod params;
mod reply;
mod resources;
mod retrieve;
mod start;
mod stats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::any;
use http::{Method, Response};
use protocol::ids::{ContentType, TenantId};

pub use stats::RequestCount;

use crate::entra::tokens::TokenIssuer;
use crate::faults::{Call, Operation};
use crate::seed::Seed;
use crate::tls::Origin;
use crate::webhook::Notifier;
use crate::world::World;
use params::{Query, Target};
use reply::Refusal;
use stats::Stats;

/// The Activity API over a world.
pub(crate) struct ActivityApi {
    pub(crate) world: Arc<World>,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) stats: Stats,
    quota: gate::Quota,
    requests: AtomicU64,
}

/// One request, read.
pub(crate) struct Asked {
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) method: Method,
    pub(crate) parts: http::request::Parts,
    pub(crate) body: Body,
    pub(crate) origin: Origin,
}

impl ActivityApi {
    pub(crate) fn new(world: Arc<World>, tokens: Arc<TokenIssuer>, notifier: Arc<Notifier>) -> Self {
        Self {
            world,
            tokens,
            notifier,
            stats: Stats::default(),
            quota: gate::Quota::default(),
            requests: AtomicU64::new(0),
        }
    }

    /// The routes, to be merged with others.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let path = "/{tenant}/activity/feed/{*rest}";
        Router::new()
            .route(&format!("/api/v1.0{path}"), any(answer))
            .route(&format!("/api/v1{path}"), any(answer))
            .with_state(Arc::clone(self))
    }

    async fn serve(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        let operation = asked.target.operation;
        let tenant: Option<TenantId> = asked.target.tenant.parse().ok();
        let kind = self.kind_of(&asked, tenant);
        let subject = match operation {
            Operation::Retrieve => asked.target.content_id.clone(),
            _ => asked.query.subject(),
        };
        let now = self.world.now();
        let effect =
            self.world.faults().decide(&Call { operation, tenant, kind: kind.as_ref(), subject: &subject, now });
        if let Some(instead) = effect.as_ref().and_then(|effect| broken::instead(effect, &asked)) {
            return instead;
        }
        broken::wait(effect.as_ref()).await;
        let response = self.operate(asked).await.unwrap_or_else(Refusal::into_response);
        match effect {
            Some(effect) => broken::damage(&effect, response).await,
            None => response,
        }
    }

    /// The content type a request is about: named by it, or that of the content it asks for.
    fn kind_of(&self, asked: &Asked, tenant: Option<TenantId>) -> Option<ContentType> {
        if asked.target.operation == Operation::Retrieve {
            let tenant = self.world.tenant(tenant?)?;
            return crate::world::content::parse_content_id(&asked.target.content_id, tenant.region)
                .map(|(kind, _)| kind);
        }
        asked.query.content_type().ok().map(|(kind, _)| kind)
    }

    async fn operate(self: &Arc<Self>, asked: Asked) -> Result<Response<Body>, Refusal> {
        let caller = self.admit(&asked)?;
        let needs_post = matches!(asked.target.operation, Operation::Start | Operation::Stop);
        if asked.target.operation != Operation::Unknown && (asked.method == Method::POST) != needs_post {
            let message = "The requested resource does not support this http method.";
            return Err(Refusal::bare(405, reply::RefusalBody::Message(message)));
        }
        match asked.target.operation {
            Operation::Start => self.start(caller, asked).await,
            Operation::Stop => self.stop(&caller, &asked),
            Operation::List => Ok(self.list_subscriptions(&caller)),
            Operation::Content => self.list_content(&caller, &asked),
            Operation::Notifications => self.list_notifications(&caller, &asked),
            Operation::Retrieve => self.retrieve(&caller, &asked),
            Operation::Resources => resources::answer(&asked),
            _ => Err(Refusal::bare(
                404,
                reply::RefusalBody::Message("No HTTP resource was found that matches the request URI."),
            )),
        }
    }

    /// A number for each request, for ids that must differ.
    pub(crate) fn correlation(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Seed::new(self.world.options().seed).named("correlation").child(number).guid().to_string()
    }
}

/// IIS refuses a POST over HTTP/1.1 that does not say how long its body is. Calls within the process have no wire form.
fn lacks_length(parts: &http::request::Parts) -> bool {
    parts.method == Method::POST
        && parts.version <= http::Version::HTTP_11
        && parts.extensions.get::<std::net::SocketAddr>().is_some()
        && !parts.headers.contains_key(http::header::CONTENT_LENGTH)
        && !parts.headers.contains_key(http::header::TRANSFER_ENCODING)
}

async fn answer(State(api): State<Arc<ActivityApi>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Some(target) = Target::of(parts.uri.path()) else {
        return Refusal::bare(404, reply::RefusalBody::Html).into_response();
    };
    if lacks_length(&parts) {
        return Refusal::bare(411, reply::RefusalBody::Html).into_response();
    }
    let (operation, tenant) = (target.operation, target.tenant.parse().ok());
    let asked = Asked {
        target,
        query: Query::of(&parts.uri),
        method: parts.method.clone(),
        origin: Origin::of(&parts),
        parts,
        body,
    };
    let mut response = api.serve(asked).await;
    let correlation = api.correlation();
    reply::dress(response.headers_mut(), api.world.now(), &correlation);
    api.stats.count(
        operation,
        tenant,
        response.status().as_u16(),
        response.extensions().get::<crate::tls::Cut>().is_some(),
    );
    response
}
