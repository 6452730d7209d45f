//! Tokens of an outside issuer as proof of the app: a file that is renewed under a running collector, an issuer that changes
//! its keys, and everything in which a token may differ from what the registration trusts.

use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use emulator::FaultPlan;
use emulator::app::FederatedCredential;
use emulator::entra::OutsideIssuer;
use ledger::Ledger;
use protocol::secret::IdentityHeader;
use protocol::token::{IdentityEndpoint, IdentityName};
use server::settings::Credential;
use tempfile::TempDir;

use crate::logs::Logs;
use crate::rig::{Rig, small_world};
use crate::rollover::{collect_through, live_world};

const ISSUER: &str = "https://oidc.cluster.example/7f1d";
const SUBJECT: &str = "system:serviceaccount:audit:tenantry";
const AUDIENCE: &str = FederatedCredential::AUDIENCE;

/// A cluster that writes tokens into a pod's file.
struct Cluster {
    issuer: OutsideIssuer,
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self { issuer: OutsideIssuer::new(ISSUER).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("azure-identity-token")
    }

    /// As Kubernetes does it: another file, moved into its place.
    fn write(&self, token: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, token).unwrap();
        std::fs::rename(&next, self.file()).unwrap();
    }

    fn renew(&self, rig: &Rig, lifetime: TimeDelta) {
        self.write(&self.issuer.token(SUBJECT, AUDIENCE, rig.now(), lifetime).unwrap());
    }

    /// The app proves itself with this file alone.
    fn proves(&self, rig: &mut Rig) {
        rig.settings.app.credentials = vec![Credential::Federated { token_file: self.file() }];
        self.trusted(rig);
    }

    fn trusted(&self, rig: &Rig) {
        let trust = self.issuer.trust(SUBJECT);
        assert!(rig.emulator.apps().update(rig.settings.app.client_id, |app| {
            app.secrets.clear();
            app.federated = vec![trust];
        }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_renewed_and_its_issuers_key_changed_without_a_word_or_a_loss() {
    let (logs, _guard) = Logs::capture();
    let mut rig = Rig::new(live_world(501), FaultPlan::default()).await;
    rig.settings.collect.poll_interval = Duration::from_secs(300);
    let mut cluster = Cluster::new();
    cluster.proves(&mut rig);
    cluster.renew(&rig, TimeDelta::hours(1));
    let rig = &rig;
    collect_through(rig, async move {
        for turn in 0..8 {
            tokio::time::sleep(Duration::from_secs(30 * 60)).await;
            if turn == 3 {
                cluster.issuer = OutsideIssuer::new(ISSUER).unwrap();
                cluster.trusted(rig);
            }
            cluster.renew(rig, TimeDelta::hours(1));
        }
        // The folder lives as long as the collector reads it.
        std::mem::forget(cluster.folder);
    })
    .await;
    assert_eq!(logs.warnings(), Vec::<String>::new());
    assert_eq!(rig.refused_token_requests(), 0);
    assert!(rig.requests("token") >= 2 * 3, "each tenant renewed its token: {}", rig.requests("token"));
}

#[tokio::test(start_paused = true)]
async fn whatever_differs_from_what_is_trusted_is_told_as_what_it_is() {
    let mut rig = Rig::new(small_world(502, 1, 30), FaultPlan::default()).await;
    let cluster = Cluster::new();
    cluster.proves(&mut rig);
    let impostor = OutsideIssuer::new(ISSUER).unwrap();
    let stranger = OutsideIssuer::new("https://oidc.elsewhere.example").unwrap();
    let hour = TimeDelta::hours(1);
    let token =
        |by: &OutsideIssuer, subject: &str, audience: &str| by.token(subject, audience, rig.now(), hour).unwrap();
    for (token, kind, number) in [
        (token(&stranger, SUBJECT, AUDIENCE), "federation_mismatch", "AADSTS700211"),
        (token(&cluster.issuer, SUBJECT, "api://AzureADTokenExchangeUSGov"), "federation_mismatch", "AADSTS700212"),
        (token(&cluster.issuer, "system:serviceaccount:audit:other", AUDIENCE), "federation_mismatch", "AADSTS700213"),
        (
            token(&cluster.issuer, &SUBJECT.replace("tenantry", "Tenantry"), AUDIENCE),
            "federation_mismatch",
            "AADSTS7002138",
        ),
        // Signed with a key that the issuer has not published.
        (token(&impostor, SUBJECT, AUDIENCE), "certificate_unknown", "AADSTS700027"),
    ] {
        cluster.write(&token);
        let problem = rig.collect_once().await.problem.expect(number);
        assert_eq!(problem.kind, kind, "{number}: {problem:?}");
        assert!(problem.message.contains(number), "{number}: {problem:?}");
        assert!(!problem.message.contains(&token), "{number}");
    }
    cluster.renew(&rig, hour);
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_in_its_file_is_told_and_the_next_one_taken_by_itself() {
    let mut rig = Rig::new(live_world(503), FaultPlan::default()).await;
    rig.settings.collect.poll_interval = Duration::from_secs(300);
    let cluster = Cluster::new();
    cluster.proves(&mut rig);
    cluster.renew(&rig, TimeDelta::minutes(10));
    let (rig, cluster) = (&rig, &cluster);
    collect_through(rig, async {
        // Nobody renews it while the access tokens run out.
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
        let problem = rig.ledger.tenant(rig.tenants()[0]).await.unwrap().unwrap().problem.unwrap();
        assert_eq!(problem.kind, "federated_token_missing", "{problem:?}");
        cluster.renew(rig, TimeDelta::hours(24));
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_app_service_hands_out_its_identitys_token_to_whoever_knows_its_header() {
    let mut rig = Rig::new(small_world(504, 2, 40), FaultPlan::default()).await;
    let identity = emulator::app::ManagedIdentity {
        client_id: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
        object_id: "33333333-3333-4333-8333-333333333333".parse().unwrap(),
        tenant: rig.tenants()[0],
        resource_id: Some("/subscriptions/s/resourceGroups/g/providers/m/userAssignedIdentities/collector".into()),
    };
    rig.emulator.apps().add_managed_identity(identity.clone());
    rig.emulator.apps().open_app_service("853b9a84");
    let trusted = FederatedCredential::managed_identity(&identity, "https://login.microsoftonline.com");
    rig.emulator.apps().update(rig.settings.app.client_id, |app| {
        app.federated.push(trusted);
        app.secrets.clear();
    });
    let using = |header: &str, name: IdentityName| Credential::ManagedIdentity {
        endpoint: IdentityEndpoint::AppService {
            endpoint: "http://127.0.0.1:7000/msi/token".parse().unwrap(),
            header: IdentityHeader::new(header),
        },
        name: Some(name),
    };
    let object = || IdentityName::ObjectId(identity.object_id.to_string());
    rig.settings.app.credentials = vec![using("853b9a85", object())];
    let problem = rig.collect_once().await.problem.unwrap();
    assert_eq!(problem.kind, "federated_token_missing", "{problem:?}");
    assert!(problem.message.contains("HTTP 401") && !problem.message.contains("853b9a85"), "{problem:?}");
    let resource = || IdentityName::ResourceId(identity.resource_id.clone().unwrap());
    for name in [object(), resource(), IdentityName::ClientId(identity.client_id.to_string())] {
        rig.settings.app.credentials = vec![using("853b9a84", name)];
        let report = rig.collect_once().await;
        assert!(report.is_complete(), "{report:#?}");
    }
    rig.check_all_there().await;
}
