//! Credentials change while everything goes on: nothing is lost, nothing is restarted, and the operator is told once.

use std::sync::Arc;
use std::time::Duration;

use emulator::app::{AppCertificate, FederatedCredential, ManagedIdentity};
use emulator::{FaultPlan, WorldOptions};
use protocol::token::{IdentityEndpoint, IdentityName};
use server::collector::Ended;
use server::credential::{CertificateFiles, CertificateRequest, NewCertificate, new_certificate};
use server::settings::{AssertionAlgorithm, Credential};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::logs::Logs;
use crate::rig::{Rig, small_world, start};

const HOUR: Duration = Duration::from_secs(3600);

fn certificate(folder: &TempDir, name: &str) -> NewCertificate {
    let out = folder.path().join(name);
    new_certificate(&CertificateRequest { out: &out, bits: 2048, days: 365, subject: name, now: start() }).unwrap()
}

fn using(made: &NewCertificate) -> Credential {
    Credential::Certificate(CertificateFiles::at(&made.path), AssertionAlgorithm::Rs256)
}

fn upload(rig: &Rig, made: &NewCertificate) {
    let certificate = AppCertificate::from_pem(&made.details.pem()).unwrap();
    assert!(rig.emulator.apps().add_certificate(rig.settings.app.client_id, certificate));
}

fn withdraw(rig: &Rig, made: &NewCertificate) {
    assert!(rig.emulator.apps().remove_certificate(rig.settings.app.client_id, &made.details.sha1_hex()));
}

pub(crate) fn live_world(seed: u64) -> WorldOptions {
    WorldOptions { live_rate: 4.0, history: HOUR, ..small_world(seed, 2, 50) }
}

/// Collects through `script`, in one run of one collector, and then holds the archive against what was published by the
/// end of the script.
pub(crate) async fn collect_through(rig: &Rig, script: impl Future<Output = ()>) {
    let collector = Arc::new(rig.collector());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = Arc::clone(&collector);
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        running.run(stopped).await.unwrap()
    });
    script.await;
    // Content that is there by now is listed by the next polls.
    let published = rig.published();
    tokio::time::sleep(Duration::from_secs(600)).await;
    stop.send(()).unwrap();
    let report = task.await.unwrap();
    assert_eq!((report.ended, &report.problem), (Ended::Stopped, &None));
    let archived = rig.archived().await;
    for (tenant, published) in &published {
        let lost = published.difference(archived.get(tenant).unwrap()).count();
        assert_eq!(lost, 0, "of {} records of {tenant}", published.len());
        assert!(published.len() > 100, "a world without live records proves nothing: {}", published.len());
    }
}

#[tokio::test(start_paused = true)]
async fn when_one_of_two_certificates_is_refused_the_other_goes_on_with_one_warning() {
    let (logs, _guard) = Logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (certificate(&folder, "a.pem"), certificate(&folder, "b.pem"));
    let mut rig = Rig::new(live_world(301), FaultPlan::default()).await;
    upload(&rig, &a);
    upload(&rig, &b);
    rig.settings.app.credentials = vec![using(&a), using(&b)];
    collect_through(&rig, async {
        tokio::time::sleep(HOUR).await;
        withdraw(&rig, &a);
        tokio::time::sleep(2 * HOUR).await;
    })
    .await;
    let warnings = logs.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("the next one is used"), "{warnings:#?}");
    assert!(warnings[0].contains("a.pem") && warnings[0].contains("AADSTS700027"), "{warnings:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_replaced_in_its_file_without_a_restart_and_the_old_one_withdrawn() {
    let (logs, _guard) = Logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (certificate(&folder, "app.pem"), certificate(&folder, "next.pem"));
    let mut rig = Rig::new(live_world(302), FaultPlan::default()).await;
    upload(&rig, &a);
    rig.settings.app.credentials = vec![using(&a)];
    collect_through(&rig, async {
        tokio::time::sleep(HOUR).await;
        upload(&rig, &b);
        let whole = std::fs::read(&b.path).unwrap();
        // Somebody copies it slowly.
        server::private_file::replace(&a.path, &whole[..1000]).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        server::private_file::replace(&a.path, &whole).unwrap();
        withdraw(&rig, &a);
        tokio::time::sleep(2 * HOUR).await;
    })
    .await;
    let warnings = logs.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("the one read before is used on"), "{warnings:#?}");
    assert!(logs.text().contains(&b.details.sha1_hex()), "the new one is named");
    assert_eq!(rig.refused_token_requests(), 0, "nothing was asked for with the old one");
}

#[tokio::test(start_paused = true)]
async fn a_managed_identity_proves_the_app_in_every_tenant() {
    let mut rig = Rig::new(small_world(303, 3, 60), FaultPlan::default()).await;
    let identity = ManagedIdentity {
        client_id: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
        object_id: "33333333-3333-4333-8333-333333333333".parse().unwrap(),
        tenant: rig.tenants()[0],
        resource_id: Some("/subscriptions/s/resourceGroups/g/providers/m/userAssignedIdentities/collector".into()),
    };
    rig.emulator.apps().add_managed_identity(identity.clone());
    // The name that the emulator's identities are issued under: its tenant's cloud's login authority.
    let trusted = FederatedCredential::managed_identity(&identity, "https://login.microsoftonline.com");
    rig.emulator.apps().update(rig.settings.app.client_id, |app| {
        app.federated.push(trusted);
        app.secrets.clear();
    });
    let endpoint = IdentityEndpoint::Imds("http://127.0.0.1:7000".parse().unwrap());
    let name = Some(IdentityName::ClientId(identity.client_id.to_string()));
    rig.settings.app.credentials = vec![Credential::ManagedIdentity { endpoint, name }];
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
    // Trust that is withdrawn is told as what it is.
    rig.emulator.apps().update(rig.settings.app.client_id, |app| app.federated.clear());
    let problem = rig.collect_once().await.problem.unwrap();
    assert_eq!(problem.kind, "federation_mismatch", "{problem:?}");
}
