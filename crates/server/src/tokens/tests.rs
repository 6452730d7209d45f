//! The token manager on paused time, against a token endpoint that answers by a script.

mod day;

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use engine::tile::Grid;
use futures_util::future::join_all;
use futures_util::stream;
use http::{HeaderMap, Request, StatusCode};
use protocol::cloud::{Cloud, CloudName};
use protocol::ids::ContentType;
use protocol::secret::ClientSecret;
use protocol::token::TokenEndpoint;
use uuid::Uuid;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::collector::Board;
use crate::credential::keyring::KeyringParts;
use crate::settings::{AppSettings, CollectSettings, Credential, Limits};
use crate::transport::{Answer, Body, TransportFuture};

/// What the endpoint says to the so-manieth request (from 0) with this secret.
type Script = Box<dyn Fn(u32, &str) -> (u16, String) + Send + Sync>;

struct Endpoint {
    script: Script,
    requests: AtomicU32,
    under_way: AtomicU32,
    most_under_way: AtomicU32,
}

impl Endpoint {
    fn new(script: impl Fn(u32, &str) -> (u16, String) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            requests: AtomicU32::new(0),
            under_way: AtomicU32::new(0),
            most_under_way: AtomicU32::new(0),
        })
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Transport for Endpoint {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let form = String::from_utf8(request.into_body()).unwrap();
            let secret = form.split("client_secret=").nth(1).unwrap_or_default();
            let (status, body) = (self.script)(number, secret);
            let body = Body::new(Box::pin(stream::iter([Ok(Bytes::from(body))])));
            Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
        })
    }
}

fn granted(number: u32) -> (u16, String) {
    (200, format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"token-{number}"}}"#))
}

fn refused(code: u32, error: &str, status: u16) -> (u16, String) {
    (status, format!(r#"{{"error":"{error}","error_codes":[{code}],"error_description":"AADSTS{code}: no"}}"#))
}

fn manager(endpoint: &Arc<Endpoint>, secrets: &[&str]) -> TokenManager {
    let settings = Settings {
        data_dir: "unused".into(),
        app: AppSettings {
            client_id: "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap(),
            publisher_id: "46b472a7-c68e-4adf-8ade-3db49497518e".parse().unwrap(),
            credentials: secrets.iter().map(|secret| Credential::Secret(ClientSecret::new(secret))).collect(),
            token_endpoint: TokenEndpoint::V2,
        },
        cloud: Cloud::preset(CloudName::Commercial).unwrap(),
        collect: CollectSettings {
            content_types: vec![ContentType::General],
            poll_interval: Duration::from_secs(60),
            quiet_poll_interval: Duration::from_secs(300),
            commit_interval: Duration::from_secs(5),
            requests_per_minute: 1500,
            tile: Grid::HOUR,
        },
        retention: None,
        tables: None,
        limits: Limits::default(),
    };
    let transport: Arc<dyn Transport> = endpoint.clone();
    manager_of(settings, transport, Arc::new(SystemClock))
}

fn manager_of(settings: Settings, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> TokenManager {
    let (clock, metrics) = (Arc::new(ServerClock::new(clock)), Arc::new(Metrics::new()));
    let parts = KeyringParts {
        transport: Arc::clone(&transport),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        board: Board::default(),
        audience: settings.cloud.token_exchange_audience(),
    };
    let keyring = Arc::new(Keyring::open(&settings.app.credentials, parts));
    TokenManager::new(Arc::new(settings), keyring, transport, clock, metrics)
}

fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_ask_together_cost_one_request() {
    let endpoint = Endpoint::new(|number, _| granted(number));
    let manager = manager(&endpoint, &["s"]);
    let tokens = join_all((0..100).map(|_| manager.token(tenant(1)))).await;
    assert_eq!(endpoint.requests(), 1);
    let first = tokens[0].as_ref().unwrap();
    assert!(tokens.iter().all(|token| Arc::ptr_eq(token.as_ref().unwrap(), first)));
}

#[tokio::test(start_paused = true)]
async fn many_tenants_do_not_storm_the_token_endpoint() {
    let endpoint = Endpoint::new(|number, _| granted(number));
    let manager = manager(&endpoint, &["s"]);
    let tokens = join_all((0..200).map(|number| manager.token(tenant(number)))).await;
    assert!(tokens.iter().all(Result::is_ok));
    assert_eq!(endpoint.requests(), 200);
    assert_eq!(endpoint.most_under_way.load(Ordering::SeqCst), 8);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_ahead_of_its_end_and_nobody_waits_for_it() {
    let endpoint = Endpoint::new(|number, _| granted(number));
    let manager = manager(&endpoint, &["s"]);
    let first = manager.token(tenant(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    assert!(Arc::ptr_eq(&manager.token(tenant(1)).await.unwrap(), &first), "half an hour is no reason");
    tokio::time::sleep(Duration::from_secs(26 * 60)).await;
    // One renews it; those who ask meanwhile use the old one, which still works.
    let asked_at = Instant::now();
    let both = join_all([manager.token(tenant(1)), manager.token(tenant(1))]).await;
    assert_eq!(endpoint.requests(), 2);
    assert!(both.iter().any(|token| Arc::ptr_eq(token.as_ref().unwrap(), &first)));
    let renewed = manager.token(tenant(1)).await.unwrap();
    assert!(!Arc::ptr_eq(&renewed, &first));
    assert!(asked_at.elapsed() < Duration::from_secs(1));
    assert_eq!(endpoint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_endpoint_is_down_the_old_token_is_used_to_its_end() {
    let endpoint = Endpoint::new(|number, _| if number == 0 { granted(0) } else { (503, String::new()) });
    let manager = manager(&endpoint, &["s"]);
    let first = manager.token(tenant(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(57 * 60)).await;
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&manager.token(tenant(1)).await.unwrap(), &first));
    }
    assert_eq!(endpoint.requests(), 2, "it is asked again when it is time, not for each who asks");
    tokio::time::sleep(Duration::from_secs(3 * 60)).await;
    let failure = manager.token(tenant(1)).await.unwrap_err();
    assert!(failure.to_string().contains("503"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_dropped_once_however_many_were_refused_with_it() {
    let endpoint = Endpoint::new(|number, _| granted(number));
    let manager = manager(&endpoint, &["s"]);
    let first = manager.token(tenant(1)).await.unwrap();
    manager.reject(tenant(1), &first);
    let second = manager.token(tenant(1)).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    // Late news of the first refusal does not cost the second token.
    manager.reject(tenant(1), &first);
    assert!(Arc::ptr_eq(&manager.token(tenant(1)).await.unwrap(), &second));
    assert_eq!(endpoint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_and_not_repeated_before_its_time() {
    let endpoint = Endpoint::new(|_, _| refused(700_016, "unauthorized_client", 400));
    let manager = manager(&endpoint, &["s"]);
    let failure = manager.token(tenant(1)).await.unwrap_err();
    for _ in 0..50 {
        assert!(manager.token(tenant(1)).await.is_err());
    }
    assert_eq!(endpoint.requests(), 1);
    // It is one tenant's matter.
    assert!(manager.token(tenant(2)).await.is_err());
    assert_eq!(endpoint.requests(), 2);
    assert!(!manager.has_app_fault());
    tokio::time::sleep_until(failure.retry_at).await;
    let again = manager.token(tenant(1)).await.unwrap_err();
    assert_eq!((endpoint.requests(), again.attempts), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_refused_app_credential_stops_everybody_until_it_is_tried_again() {
    let endpoint = Endpoint::new(
        |number, _| if number == 0 { refused(7_000_222, "invalid_client", 401) } else { granted(number) },
    );
    let manager = manager(&endpoint, &["s"]);
    let failure = manager.token(tenant(1)).await.unwrap_err();
    assert!(matches!(&*failure.cause, TokenCause::App { step: AppStep::RenewSecret, .. }), "{failure}");
    assert!(manager.has_app_fault());
    for number in 0..100 {
        assert!(manager.token(tenant(number)).await.is_err());
    }
    assert_eq!(endpoint.requests(), 1, "one alarm, not a hundred");
    tokio::time::sleep_until(failure.retry_at).await;
    assert!(manager.token(tenant(7)).await.is_ok());
    assert!(!manager.has_app_fault());
    assert!(manager.token(tenant(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_next_credential_is_used_while_the_first_rests() {
    let endpoint =
        Endpoint::new(
            |number, secret| {
                if secret == "old" { refused(7_000_222, "invalid_client", 401) } else { granted(number) }
            },
        );
    let manager = manager(&endpoint, &["old", "new"]);
    assert!(manager.token(tenant(1)).await.is_ok());
    assert_eq!(endpoint.requests(), 2);
    assert!(manager.token(tenant(2)).await.is_ok());
    assert_eq!(endpoint.requests(), 3, "the refused one is passed over");
    tokio::time::sleep(engine::token::REFUSED_CREDENTIAL_REST).await;
    assert!(manager.token(tenant(3)).await.is_ok());
    assert_eq!(endpoint.requests(), 5, "after its rest it is tried first again");
}

#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out_as_told() {
    let endpoint = Endpoint::new(|number, _| if number == 0 { (429, String::new()) } else { granted(number) });
    let manager = manager(&endpoint, &["s"]);
    let asked_at = Instant::now();
    let failure = manager.token(tenant(1)).await.unwrap_err();
    let wait = failure.retry_at - asked_at;
    assert!(wait >= Duration::from_secs(60) && wait < Duration::from_secs(120), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn an_assertion_out_of_its_time_is_tried_once_more_with_a_new_one() {
    let endpoint =
        Endpoint::new(|number, _| if number == 0 { refused(700_024, "invalid_client", 401) } else { granted(number) });
    let manager = manager(&endpoint, &["s"]);
    assert!(manager.token(tenant(1)).await.is_ok());
    assert_eq!(endpoint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_answer_shows_no_secret() {
    let endpoint = Endpoint::new(|_, _| refused(7_000_215, "invalid_client", 401));
    let manager = manager(&endpoint, &["hush~hush"]);
    let failure = manager.token(tenant(1)).await.unwrap_err();
    for text in [failure.to_string(), format!("{failure:?}")] {
        assert!(!text.contains("hush"), "{text}");
    }
    assert!(failure.to_string().contains("value (not its id)"), "{failure}");
}
