//! Ten thousand tenants' tokens over a simulated day, clocks that differ, secrets that stay out of sight, and what each
//! error number leads to.

use std::sync::atomic::AtomicI64;

use protocol::time::{Timestamp, parse_timestamp};

use super::*;
use crate::clock::TokioClock;
use crate::logs::Logs;

const DAY: u64 = 86_400;
const TENANTS: usize = 10_000;

/// Grants tokens that live as long as Entra's do, writes down when each was asked for, and can be ahead of our time.
struct Issuer {
    began: Instant,
    clock: Arc<TokioClock>,
    /// The second each request came in.
    asked: Mutex<Vec<u64>>,
    /// Seconds the issuer's clock is ahead.
    ahead: AtomicI64,
    /// Assertions are checked against the issuer's clock.
    picky: bool,
}

impl Issuer {
    fn new(clock: &Arc<TokioClock>, picky: bool) -> Arc<Self> {
        let (began, clock) = (Instant::now(), Arc::clone(clock));
        Arc::new(Self { began, clock, asked: Mutex::default(), ahead: AtomicI64::new(0), picky })
    }

    fn now(&self) -> Timestamp {
        self.clock.now() + chrono::TimeDelta::seconds(self.ahead.load(Ordering::SeqCst))
    }

    /// Whether the form's assertion is valid at the issuer's time.
    fn accepts(&self, form: &str) -> bool {
        use base64::Engine as _;
        let Some(assertion) = form.split("client_assertion=").nth(1) else { return true };
        let claims = assertion.split('.').nth(1).unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let now = self.now().timestamp();
        claims["nbf"].as_i64().unwrap() <= now && now < claims["exp"].as_i64().unwrap()
    }
}

impl Transport for Issuer {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            let asked = self.began.elapsed().as_secs();
            let number = {
                let mut all = self.asked.lock().unwrap();
                all.push(asked);
                all.len()
            };
            tokio::time::sleep(Duration::from_millis(150)).await;
            let mut headers = HeaderMap::new();
            let date = self.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            headers.insert("date", date.parse().unwrap());
            let form = String::from_utf8(request.into_body()).unwrap();
            let (status, body) = if self.picky && !self.accepts(&form) {
                refused(700_024, "invalid_client", 401)
            } else {
                // 60 to 90 minutes, as entra.md §5.5 says.
                let lifetime = 3600 + (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1800;
                (200, format!(r#"{{"token_type":"Bearer","expires_in":{lifetime},"access_token":"token-{number}"}}"#))
            };
            let body = Body::new(Box::pin(stream::iter([Ok(Bytes::from(body))])));
            Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body })
        })
    }
}

fn noon() -> Timestamp {
    parse_timestamp("2026-03-10T12:00:00Z").unwrap()
}

fn settings_with(credential: Credential) -> Settings {
    let endpoint = Endpoint::new(|number, _| granted(number));
    let mut settings = Settings::clone(&manager(&endpoint, &["s"]).settings);
    settings.app.credentials = vec![credential];
    settings
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tenants_over_a_day_ask_without_bursts_and_never_use_an_expired_token() {
    let clock = TokioClock::starting_at(noon());
    let issuer = Issuer::new(&clock, false);
    let settings = settings_with(Credential::Secret(ClientSecret::new("s")));
    let manager = Arc::new(manager_of(settings, issuer.clone(), clock.clone()));
    manager.expect_tenants(TENANTS);
    let pace = engine::token::pace(TENANTS);
    let began = Instant::now();
    let tenants = (0..TENANTS).map(|number| {
        let manager = Arc::clone(&manager);
        async move {
            let tenant =
                TenantId::from_uuid(Uuid::from_u128(0x5eed_0000_0000_4000_8000_0000_0000_0000 + number as u128));
            // As the supervisor lets them begin; then a poll each quarter of an hour, each tenant at its own second.
            tokio::time::sleep(engine::token::first_turn(number, pace)).await;
            while began.elapsed() < Duration::from_secs(DAY) {
                let held = manager.token(tenant).await.unwrap();
                assert!(Instant::now() < held.expires, "an expired token was handed out");
                tokio::time::sleep(Duration::from_secs(900)).await;
            }
        }
    });
    join_all(tenants).await;
    let asked = issuer.asked.lock().unwrap();
    let mut minutes = vec![0_u32; (DAY / 60) as usize];
    for second in asked.iter().filter(|second| **second < DAY) {
        minutes[(*second / 60) as usize] += 1;
    }
    let mean = f64::from(minutes.iter().sum::<u32>()) / minutes.len() as f64;
    let most = f64::from(*minutes.iter().max().unwrap());
    println!("{} requests, {mean:.1} a minute on average, {most} at most ({:.2} times)", asked.len(), most / mean);
    assert!(most <= 2.0 * mean, "{most} requests in a minute, {mean} on average");
    // A token that lives 60 to 90 minutes is renewed 16 to 42 times a day.
    assert!((16 * TENANTS..42 * TENANTS).contains(&asked.len()), "{}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_clock_differs_is_noticed_allowed_for_and_told_once() {
    for ahead in [600, -600] {
        let (logs, _guard) = Logs::capture();
        let clock = TokioClock::starting_at(noon());
        let issuer = Issuer::new(&clock, true);
        issuer.ahead.store(ahead, Ordering::SeqCst);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("app.pem");
        let request = crate::credential::CertificateRequest {
            out: &out,
            bits: 2048,
            days: 300,
            subject: "clock",
            now: noon() - chrono::TimeDelta::days(1),
        };
        crate::credential::new_certificate(&request).unwrap();
        let files = crate::credential::CertificateFiles::at(&out);
        let certificate = Credential::Certificate(files, protocol::token::AssertionAlgorithm::Rs256);
        let manager = manager_of(settings_with(certificate), issuer.clone(), clock.clone());
        assert!(manager.token(tenant(1)).await.is_ok(), "{logs:?}");
        assert_eq!(issuer.asked.lock().unwrap().len(), 2, "once by our clock, once by the server's");
        // A minute's difference is within what an assertion begins in the past; the difference is known from now on.
        for number in 2..10 {
            assert!(manager.token(tenant(number)).await.is_ok());
        }
        assert_eq!(issuer.asked.lock().unwrap().len(), 10);
        let warnings = logs.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("set it by NTP"), "{warnings:?}");
        assert!((manager.clock.ahead().num_seconds() - ahead).abs() <= 1);
        // The clock is set right.
        issuer.ahead.store(0, Ordering::SeqCst);
        for number in 20..24 {
            assert!(manager.token(tenant(number)).await.is_ok());
        }
        assert!(logs.text().contains("agrees with Entra ID's again"), "{logs:?}");
        assert_eq!(logs.warnings().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_token_secret_or_assertion_is_ever_in_a_log_an_error_or_debug_output() {
    let (logs, _guard) = Logs::capture();
    let endpoint = Endpoint::new(|number, _| match number {
        0 => (200, r#"{"token_type":"Bearer","expires_in":3600,"access_token":"hush-token"}"#.to_owned()),
        1 => (200, r#"{"token_type":"hush-type","access_token":"hush-token"}"#.to_owned()),
        2 => (200, r#"{"access_token":"hush-token"#.to_owned()),
        3 => refused(7_000_215, "invalid_client", 401),
        4 => (500, "client_secret=hush-secret&access_token=hush-token".to_owned()),
        _ => (200, r#"{"expires_in":"x","access_token":"hush token"}"#.to_owned()),
    });
    let manager = manager(&endpoint, &["hush-secret"]);
    let mut shown = format!("{manager:?} {:?}", manager.settings);
    for number in 0..6 {
        match manager.token(tenant(number)).await {
            Ok(held) => shown.push_str(&format!("{held:?}")),
            Err(failure) => shown.push_str(&format!("{failure} {failure:?}")),
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    assert_eq!(endpoint.requests(), 6);
    let all = format!("{shown}{}", logs.text());
    assert!(logs.text().contains("token received"), "nothing was logged: {all}");
    for secret in ["hush-token", "hush token", "hush-secret"] {
        let found = all.find(secret).map(|at| &all[at.saturating_sub(200)..at + 20]);
        assert!(found.is_none(), "{secret}: {found:?}");
    }
}

/// Every number of the token error table, and the state and sentence it must lead to.
const CODES: &str = include_str!("../../../tests/fixtures/aadsts.tsv");

#[tokio::test(start_paused = true)]
async fn every_aadsts_code_leads_to_its_state_and_sentence() {
    let mut rows = 0;
    for line in CODES.lines().filter(|line| !line.starts_with('#')) {
        let [code, status, error, state, sentence] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?} has not five columns")
        };
        rows += 1;
        let (number, status): (u32, u16) = (code.parse().unwrap(), status.parse().unwrap());
        let error = error.to_owned();
        let endpoint = Endpoint::new(move |_, _| refused(number, &error, status));
        let manager = manager(&endpoint, &["s"]);
        let failure = manager.token(tenant(1)).await.unwrap_err();
        let kind = failure.kind();
        let problem = kind.stands_in_the_way(Some(&failure.to_string()), None, noon(), None);
        assert_eq!(problem.kind, state, "{code}: {problem:?}");
        assert!(problem.message.contains(sentence), "{code}: {:?} has no {sentence:?}", problem.message);
        assert!(problem.message.contains(&format!("AADSTS{code}")), "{code}: {problem:?}");
        assert!(problem.message.ends_with(kind.remedy()), "{code}: {problem:?}");
        // What is the app's concerns everybody and is one request; what is the tenant's concerns nobody else.
        let before = endpoint.requests();
        assert!(manager.token(tenant(2)).await.is_err());
        let of_app = matches!(kind, ProblemKind::App(_));
        assert_eq!(endpoint.requests() == before, of_app, "{code}");
        assert_eq!(manager.has_app_fault(), of_app, "{code}");
    }
    assert_eq!(rows, 87);
}
