//! Consent on the public site: `GET /consent` takes a link and sends the person to Microsoft, `GET /consent/callback` takes
//! the answer, `GET /consent/live/{tenant}` shows collection beginning.
//!
//! Never needs a script, a session or anything from elsewhere; never answers a browser with another's tenant. What a person
//! is told is in [`pages`], the way it takes in [`desk`], what binds it to the browser in [`browser`].

mod browser;
mod desk;
mod html;
mod live;
mod pages;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use protocol::ids::TenantId;

use browser::{Secret, cookie_of, set_cookie};
use desk::{Desk, Ended, Onward};
use engine::consent::Digest;
use pages::Ending;

use super::PublicUrl;
use crate::collector::Reception;

pub use desk::CALLBACK_PATH;

/// Where a link leads, on the public site.
const START_PATH: &str = "/consent";

/// By which of Microsoft's pages consent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentMethod {
    /// The v1 authorize page of the getting-started guide, answered with a code.
    V1,
    /// The v2 admin-consent page, and a sign-in after it that proves its answer.
    V2,
}

/// How consent is asked.
#[derive(Debug, Clone)]
pub struct ConsentSettings {
    /// What browsers and Microsoft reach the public site by; the redirect URI that is registered follows from it.
    pub url: PublicUrl,
    /// By which pages.
    pub method: ConsentMethod,
    /// The tenants that may be connected; `None`: any that is invited.
    pub allowed_tenants: Option<Vec<TenantId>>,
    /// Whether only an account is let in whose administrator's role its sign-in tells.
    pub role_required: bool,
}

/// The secret of an invitation's link: 256 random bits. It is shown once, in the link, and kept by nobody here.
pub struct LinkSecret(Secret);

impl LinkSecret {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "a default that differs every time is none")]
    pub fn new() -> Self {
        Self(Secret::new())
    }

    /// What the ledger keeps of it.
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// The link, for whoever is invited.
    pub fn link(&self, url: &PublicUrl) -> String {
        url.page(&format!("{START_PATH}?invite={}", self.0.expose()))
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(redacted)")
    }
}

/// The routes of the consent site.
pub fn routes(reception: Reception, settings: ConsentSettings) -> Router {
    let desk = Arc::new(Desk::new(reception, settings));
    Router::new()
        // Mail scanners look whether a link is there; that begins nothing.
        .route(START_PATH, get(start).head(|| async {}))
        .route(CALLBACK_PATH, get(callback).head(|| async {}))
        .route("/consent/live/{tenant}", get(show))
        .route("/consent/style.css", get(|| asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/consent/live.js", get(|| asset("text/javascript; charset=utf-8", include_str!("live.js"))))
        .with_state(desk)
}

async fn start(State(desk): State<Arc<Desk>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let Some(link) = invite_of(query.as_deref().unwrap_or_default()) else {
        return ended(&desk, Ending::UnknownLink.into());
    };
    let browser = cookie_of(&desk.settings.url, &headers).unwrap_or_else(Secret::new);
    match desk.start(&link, &browser).await {
        Ok(page) => {
            desk.reception.metrics().consent_begun();
            let cookie = (header::SET_COOKIE, set_cookie(&desk.settings.url, &browser));
            (StatusCode::SEE_OTHER, [cookie], [(header::LOCATION, page.as_str())]).into_response()
        }
        Err(why) => ended(&desk, why),
    }
}

async fn callback(State(desk): State<Arc<Desk>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let browser = cookie_of(&desk.settings.url, &headers);
    match desk.conclude(query.as_deref().unwrap_or_default(), browser.as_ref()).await {
        Ok(Onward::Microsoft(page)) => see_other(page.as_str()),
        // Away from the address with the code in it, which a reload would send again.
        Ok(Onward::Live(tenant)) => see_other(&format!("/consent/live/{tenant}")),
        Err(why) => ended(&desk, why),
    }
}

async fn show(State(desk): State<Arc<Desk>>, headers: HeaderMap, Path(tenant): Path<String>) -> Response {
    let Ok(tenant) = tenant.parse() else { return Ending::NoVisit.page(None) };
    let browser = cookie_of(&desk.settings.url, &headers);
    match live::live(&desk, browser.as_ref(), tenant).await {
        Ok(live) => live.page(),
        // Whoever looks at a page that is not theirs has not tried to consent.
        Err(Ended { ending: Ending::NoVisit, .. }) => Ending::NoVisit.page(None),
        Err(why) => ended(&desk, why),
    }
}

fn ended(desk: &Desk, why: Ended) -> Response {
    tracing::info!(ending = why.ending.word(), "a consent ended without a tenant");
    desk.reception.metrics().consent(why.ending.word());
    why.ending.page(why.error.as_deref())
}

fn see_other(location: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// The link's secret: the parameter `invite`, once, in the form we gave it.
fn invite_of(query: &str) -> Option<Secret> {
    let mut found = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == "invite");
    let (_, secret) = found.next()?;
    if found.next().is_some() { None } else { Secret::parse(secret) }
}

async fn asset(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, kind)], text)
}
