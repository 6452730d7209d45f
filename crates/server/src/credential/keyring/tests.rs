//! Credentials side by side: what is used, what is told, and how often.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::stream;
use http::{HeaderMap, Request, StatusCode};
use protocol::secret::ClientSecret;
use protocol::time::{Timestamp, parse_timestamp};
use protocol::token::{AssertionAlgorithm, IMDS_ROOT, IdentityEndpoint};
use tempfile::TempDir;

use super::*;
use crate::clock::TokioClock;
use crate::credential::{CertificateFiles, CertificateRequest, new_certificate};
use crate::logs::Logs;
use crate::transport::{Answer, Body, Direct, TransportFuture};

fn start() -> Timestamp {
    parse_timestamp("2026-03-10T12:00:00Z").unwrap()
}

/// An identity endpoint that answers by a script, and refuses what came through a proxy.
struct Identities {
    script: Box<dyn Fn(usize) -> (u16, String) + Send + Sync>,
    requests: AtomicUsize,
}

impl Transport for Identities {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            assert!(request.extensions().get::<Direct>().is_some(), "no proxy may be asked for a machine's identity");
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let (status, body) = (self.script)(number);
            let body = Body::new(Box::pin(stream::iter([Ok(Bytes::from(body))])));
            Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
        })
    }
}

fn identities(script: impl Fn(usize) -> (u16, String) + Send + Sync + 'static) -> Arc<Identities> {
    Arc::new(Identities { script: Box::new(script), requests: AtomicUsize::new(0) })
}

fn open_over(credentials: &[Credential], transport: Arc<dyn Transport>) -> (Keyring, Board) {
    let board = Board::default();
    let parts = KeyringParts {
        transport,
        clock: Arc::new(ServerClock::new(TokioClock::starting_at(start()))),
        metrics: Arc::new(Metrics::new()),
        board: board.clone(),
        audience: "api://AzureADTokenExchange",
    };
    (Keyring::open(credentials, parts), board)
}

fn open(credentials: &[Credential]) -> (Keyring, Board) {
    open_over(credentials, identities(|_| (500, String::new())))
}

fn certificate(folder: &TempDir, name: &str, days: u32) -> (PathBuf, String) {
    let out = folder.path().join(name);
    let request = CertificateRequest { out: &out, bits: 2048, days, subject: name, now: start() };
    let made = new_certificate(&request).unwrap();
    (made.path, made.details.sha1_hex())
}

fn using(path: &Path) -> Credential {
    Credential::Certificate(CertificateFiles::at(path), AssertionAlgorithm::Rs256)
}

fn thumbprint(keyring: &Keyring, number: usize) -> Option<String> {
    keyring.statuses()[number].summary.thumbprint.clone()
}

async fn proof(keyring: &Keyring, number: usize) -> Result<Proof, NoProof> {
    let audience = Url::parse("https://login.example/t/oauth2/v2.0/token").unwrap();
    keyring.proof(number, "a6099727-6b7b-482c-b509-1df309acc563".parse().unwrap(), &audience).await
}

#[tokio::test(start_paused = true)]
async fn a_replaced_file_is_used_and_a_broken_one_is_told_once_while_the_old_key_goes_on() {
    let (logs, _guard) = Logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = certificate(&folder, "app.pem", 365);
    let (next, second) = certificate(&folder, "next.pem", 365);
    let (keyring, board) = open(&[using(&path)]);
    assert_eq!(thumbprint(&keyring, 0), Some(first.clone()));

    // Half of the new file is there when it is looked at.
    let whole = std::fs::read(&next).unwrap();
    crate::private_file::replace(&path, &whole[..whole.len() / 2]).unwrap();
    for _ in 0..5 {
        keyring.look();
    }
    assert_eq!(thumbprint(&keyring, 0), Some(first));
    let status = board.snapshot().credentials.remove(0);
    assert_eq!(status.state, "usable");
    assert!(status.problem.is_some_and(|problem| problem.contains("app.pem")));
    assert_eq!(logs.warnings().len(), 1, "{logs:?}");
    assert!(proof(&keyring, 0).await.is_ok());

    // The watch finds the rest of it by itself.
    crate::private_file::replace(&path, &whole).unwrap();
    assert!(tokio::time::timeout(LOOK_INTERVAL * 2, keyring.watch()).await.is_err());
    assert_eq!(thumbprint(&keyring, 0), Some(second));
    assert_eq!(board.snapshot().credentials[0].problem, None);
    assert_eq!(logs.warnings().len(), 1, "{logs:?}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_new_file_does_not_take_a_valid_ones_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = certificate(&folder, "app.pem", 365);
    let (short, _) = certificate(&folder, "short.pem", 1);
    let (keyring, _) = open(&[using(&path)]);
    tokio::time::advance(Duration::from_secs(2 * 86_400)).await;
    std::fs::rename(&short, &path).unwrap();
    keyring.look();
    assert_eq!(thumbprint(&keyring, 0), Some(first));
}

#[tokio::test(start_paused = true)]
async fn expiry_is_told_at_30_14_7_and_1_days_and_at_the_end_and_never_twice() {
    let (logs, _guard) = Logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = certificate(&folder, "app.pem", 40);
    let (other, _) = certificate(&folder, "other.pem", 400);
    let (keyring, _) = open(&[using(&path), using(&other)]);
    let mut told = Vec::new();
    for hour in 0..42 * 24 {
        let before = logs.warnings().len();
        keyring.look();
        if logs.warnings().len() > before {
            told.push(hour);
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
    }
    assert_eq!(told, [10 * 24, 26 * 24, 33 * 24, 39 * 24, 40 * 24 + 1], "{logs:?}");
    assert_eq!(keyring.usable(), [1]);
    assert_eq!(keyring.statuses()[0].state, "expired");
    let text = keyring.parts.metrics.encode();
    let line = format!(
        "tenantry_credential_expires_timestamp_seconds{{credential=\"0\",kind=\"certificate\"}} {}",
        (start() + TimeDelta::days(40)).timestamp()
    );
    assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    assert!(text.contains("tenantry_credential_usable{credential=\"0\",kind=\"certificate\"} 0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_and_one_of_a_key_that_was_replaced_meanwhile_is_not_held_against_the_new_one() {
    let (logs, _guard) = Logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = certificate(&folder, "app.pem", 365);
    let (next, _) = certificate(&folder, "next.pem", 365);
    let (keyring, _) = open(&[using(&path), Credential::Secret(ClientSecret::new("s"))]);
    let old = proof(&keyring, 0).await.ok().unwrap().generation;
    for _ in 0..8 {
        assert_eq!(keyring.refused(0, old, AppStep::UploadCertificate, "no"), Refusal::Noted);
    }
    assert_eq!((keyring.usable(), logs.warnings().len()), (vec![1], 1));
    // After its rest it is tried, and refused again: that is no news.
    tokio::time::advance(engine::token::REFUSED_CREDENTIAL_REST).await;
    assert_eq!(keyring.usable(), [0, 1]);
    keyring.refused(0, old, AppStep::UploadCertificate, "no");
    assert_eq!(logs.warnings().len(), 1, "{logs:?}");
    // The new file ends the rest, and the old key's refusals are of yesterday.
    std::fs::rename(&next, &path).unwrap();
    assert_eq!(keyring.refused(0, old, AppStep::UploadCertificate, "no"), Refusal::Outdated);
    assert_eq!((keyring.usable(), logs.warnings().len()), (vec![0, 1], 1));
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_cannot_be_read_is_passed_over_until_its_file_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let secret = folder.path().join("secret.txt");
    crate::private_file::create(&secret, b"value\n").unwrap();
    let (keyring, _) = open(&[using(&missing), Credential::SecretFile(secret)]);
    assert_eq!(keyring.usable(), [1]);
    assert_eq!(keyring.statuses()[0].state, "unreadable");
    let (made, _) = certificate(&folder, "made.pem", 365);
    std::fs::rename(made, &missing).unwrap();
    keyring.look();
    assert_eq!(keyring.usable(), [0, 1]);
}

fn jwt(number: usize, expires: Timestamp) -> String {
    use base64::Engine as _;
    let part = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"iss":"https://issuer.example","jti":"{number}","exp":{}}}"#, expires.timestamp());
    format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#.to_owned()), part(claims))
}

fn assertion(proof: Result<Proof, NoProof>) -> String {
    match proof {
        Ok(Proof { credential: GrantCredential::Assertion(assertion), .. }) => assertion.expose().to_owned(),
        Ok(_) => panic!("no assertion"),
        Err(NoProof::Passing { reason } | NoProof::Unusable { reason, .. }) => panic!("{reason}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_federated_token_is_read_anew_at_each_use_and_an_old_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let (keyring, _) = open(&[Credential::Federated { token_file: token_file.clone() }]);
    let refused = |result: Result<Proof, NoProof>| match result {
        Err(NoProof::Unusable { reason, .. }) => reason,
        _ => panic!("it is not usable"),
    };
    assert!(refused(proof(&keyring, 0).await).contains("token"));
    for number in 0..3 {
        let text = jwt(number, start() + TimeDelta::hours(1));
        std::fs::write(&token_file, format!("{text}\n")).unwrap();
        assert_eq!(assertion(proof(&keyring, 0).await), text);
    }
    tokio::time::advance(Duration::from_secs(3601)).await;
    assert!(refused(proof(&keyring, 0).await).contains("whatever renews it still runs"));
    std::fs::write(&token_file, "not a token").unwrap();
    let reason = refused(proof(&keyring, 0).await);
    assert!(reason.contains("three parts") && !reason.contains("not a token"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_managed_identity_is_asked_once_while_its_token_lives_and_again_as_its_service_bears() {
    let transport = identities(|number| match number {
        0 => (500, String::new()),
        1 => (429, String::new()),
        2 => (404, String::new()),
        _ => {
            (200, format!(r#"{{"access_token":"{}","expires_in":"3600"}}"#, jwt(number, start() + TimeDelta::hours(2))))
        }
    });
    let endpoint = IdentityEndpoint::Imds(Url::parse(IMDS_ROOT).unwrap());
    let credential = Credential::ManagedIdentity { endpoint, name: None };
    let (keyring, _) = open_over(&[credential], transport.clone());
    let began = Instant::now();
    let first = assertion(proof(&keyring, 0).await);
    assert_eq!((transport.requests.load(Ordering::SeqCst), began.elapsed().as_secs()), (4, 2 + 4 + 8));
    assert_eq!(assertion(proof(&keyring, 0).await), first);
    tokio::time::advance(Duration::from_secs(3600 - 300 + 1)).await;
    assert_ne!(assertion(proof(&keyring, 0).await), first);
    assert_eq!(transport.requests.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_refused_is_the_operators_and_one_that_does_not_answer_passes() {
    let endpoint = || IdentityEndpoint::Imds(Url::parse(IMDS_ROOT).unwrap());
    let of = |transport: Arc<Identities>| {
        open_over(&[Credential::ManagedIdentity { endpoint: endpoint(), name: None }], transport).0
    };
    let refusing =
        identities(|_| (400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#.into()));
    let refused = proof(&of(refusing.clone()), 0).await;
    assert!(matches!(refused, Err(NoProof::Unusable { step: AppStep::ProvideAssertion, .. })));
    assert_eq!(refusing.requests.load(Ordering::SeqCst), 1, "such an answer is not asked for again");
    let silent = identities(|_| (503, String::new()));
    assert!(matches!(proof(&of(silent.clone()), 0).await, Err(NoProof::Passing { .. })));
    assert_eq!(silent.requests.load(Ordering::SeqCst), 5);
}
