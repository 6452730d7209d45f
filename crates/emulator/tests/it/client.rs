//! A client of the emulator for tests, written against activity-api.md and nothing else.
//!
//! Never retries and never hides an error: a test says what it expects.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use emulator::entra::tokens::AccessToken;
use emulator::{Emulator, EmulatorClock, EmulatorOptions, WorldOptions, default_app};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use protocol::ids::{ClientId, TenantId};
use serde_json::Value;
use tower::ServiceExt as _;

pub(crate) const KINDS: [&str; 5] =
    ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"];
pub(crate) const PUBLISHER: &str = "46b472a7-c68e-4adf-8ade-3db49497518e";

/// A Thursday, at an odd second.
pub(crate) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_798_754_437, 0).unwrap()
}

/// An emulator whose clock stands at [`start`].
pub(crate) fn emulator(options: WorldOptions) -> Emulator {
    emulator_with(EmulatorOptions { world: options, ..EmulatorOptions::default() })
}

pub(crate) fn emulator_with(options: EmulatorOptions) -> Emulator {
    Emulator::new(EmulatorOptions { clock: Some(EmulatorClock::frozen(start())), ..options }).unwrap()
}

pub(crate) fn client_id() -> ClientId {
    default_app(1).client_id
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The body ended in an error.
    pub(crate) broken: bool,
    /// The connection would have been cut.
    pub(crate) cut: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of the error envelope.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", self.text())).to_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn expect_ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(!self.broken);
        self
    }
}

/// A tenant's feed, as one application sees it.
pub(crate) struct Client {
    pub(crate) emulator: Emulator,
    router: axum::Router,
    /// The last token, with what it was made for.
    held: std::sync::Mutex<Option<(String, String)>>,
    pub(crate) tenant: TenantId,
    pub(crate) client: ClientId,
    pub(crate) roles: Vec<&'static str>,
}

impl Client {
    pub(crate) fn new(emulator: &Emulator, tenant: TenantId) -> Self {
        let roles = vec!["ActivityFeed.Read", "ActivityFeed.ReadDlp"];
        Self {
            emulator: emulator.clone(),
            router: emulator.router(),
            held: std::sync::Mutex::default(),
            tenant,
            client: client_id(),
            roles,
        }
    }

    /// Of the first tenant.
    pub(crate) fn first(emulator: &Emulator) -> Self {
        Self::new(emulator, emulator.world().tenant_ids()[0])
    }

    pub(crate) fn root(&self) -> String {
        format!("https://manage.office.com/api/v1.0/{}/activity/feed", self.tenant)
    }

    pub(crate) fn token(&self) -> String {
        let now = self.emulator.world().now();
        let made_for = format!("{now} {} {} {:?}", self.tenant, self.client, self.roles);
        let mut held = self.held.lock().unwrap();
        if let Some((_, token)) = held.as_ref().filter(|(held_for, _)| *held_for == made_for) {
            return token.clone();
        }
        let token = AccessToken::app_only(self.tenant, self.client, "https://manage.office.com", &self.roles);
        let token = self.emulator.tokens().issue(&token, now, 3600).unwrap().text;
        *held = Some((made_for, token.clone()));
        token
    }

    pub(crate) async fn send(&self, method: Method, url: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let token = self.token();
        let mut request = Request::builder().method(method).uri(url).header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(self.router.clone(), request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(crate) fn with_publisher(url: &str) -> String {
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}PublisherIdentifier={PUBLISHER}")
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.send(Method::GET, &Self::with_publisher(url), "", &[]).await
    }

    pub(crate) async fn post(&self, url: &str, body: &str) -> Answer {
        self.send(Method::POST, &Self::with_publisher(url), body, &[]).await
    }

    pub(crate) async fn start(&self, kind: &str) -> Answer {
        self.post(&format!("{}/subscriptions/start?contentType={kind}", self.root()), "").await
    }

    pub(crate) async fn stop(&self, kind: &str) -> Answer {
        self.post(&format!("{}/subscriptions/stop?contentType={kind}", self.root()), "").await
    }

    pub(crate) async fn list(&self, kind: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> Answer {
        self.get(&self.list_url(kind, from, until)).await
    }

    pub(crate) fn list_url(&self, kind: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> String {
        let (from, until) = (from.format("%Y-%m-%dT%H:%M:%S"), until.format("%Y-%m-%dT%H:%M:%S"));
        format!("{}/subscriptions/content?contentType={kind}&startTime={from}&endTime={until}", self.root())
    }

    /// Every entry of a window, page by page.
    pub(crate) async fn list_all(&self, kind: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut url = Some(self.list_url(kind, from, until));
        while let Some(page) = url {
            let answer = self.get(&page).await.expect_ok();
            entries.extend(answer.json().as_array().unwrap().iter().cloned());
            url = answer.header("NextPageUri").map(str::to_owned);
        }
        entries
    }

    /// The texts of a blob's elements.
    pub(crate) async fn records(&self, uri: &str) -> Vec<String> {
        let answer = self.get(uri).await.expect_ok();
        let elements: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&answer.body).unwrap();
        elements.iter().map(|element| element.get().to_owned()).collect()
    }

    /// Reads everything of the last seven days in tiles, as a patient client would; gives back the distinct texts and
    /// how
    /// many elements there were.
    pub(crate) async fn read_everything(&self, tile: TimeDelta) -> (BTreeSet<String>, usize) {
        let now = self.emulator.world().now();
        let (mut distinct, mut count) = (BTreeSet::new(), 0);
        for kind in KINDS {
            let mut from = now - TimeDelta::days(7);
            while from < now {
                let until = (from + tile).min(now + TimeDelta::seconds(1));
                for entry in self.list_all(kind, from, until).await {
                    for record in self.records(entry["contentUri"].as_str().unwrap()).await {
                        count += 1;
                        distinct.insert(record);
                    }
                }
                from = until;
            }
        }
        (distinct, count)
    }
}

pub(crate) async fn call(emulator: &Emulator, request: Request<Body>) -> Answer {
    answer(emulator.router(), request).await
}

async fn answer(router: axum::Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let mut answer = Answer {
        status: parts.status,
        headers: parts.headers,
        body: Vec::new(),
        broken: false,
        cut: parts.extensions.get::<emulator::tls::Cut>().is_some(),
    };
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => answer.body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                answer.broken = true;
                break;
            }
        }
    }
    answer
}

/// A call of the control API.
pub(crate) async fn control(emulator: &Emulator, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(format!("http://localhost/_emulator/{path}"));
    call(emulator, request.body(Body::from(body.to_owned())).unwrap()).await
}

pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
