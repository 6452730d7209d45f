//! What stands in the way is said in the operator's words, holds nobody else up, and is over when it is over.

use std::time::Duration;

use emulator::{DEFAULT_SECRET, FaultPlan};
use engine::model::Problem;
use ledger::Ledger;
use protocol::ids::TenantId;
use protocol::secret::ClientSecret;
use protocol::time::parse_timestamp;
use server::credential::{CertificateFiles, CertificateRequest, NewCertificate, new_certificate};
use server::settings::{AssertionAlgorithm, Credential, TokenEndpoint};

use crate::rig::{Rig, small_world};

const HOUR: Duration = Duration::from_secs(3600);

async fn problem_of(rig: &Rig, tenant: TenantId) -> Problem {
    rig.ledger.tenant(tenant).await.unwrap().unwrap().problem.expect("a problem is written down")
}

/// The first of two tenants is in trouble: it is named with `kind` and `words`, and the other one is collected.
async fn check_first_in_trouble(rig: &Rig, kind: &str, words: &str) {
    let (first, second) = (rig.tenants()[0], rig.tenants()[1]);
    let report = rig.collect_once().await;
    assert!(!report.is_complete());
    let problem = problem_of(rig, first).await;
    assert_eq!(problem.kind, kind, "{problem:?}");
    assert!(problem.message.contains(words), "{problem:?}");
    for row in rig.ledger.coverage(first).await.unwrap() {
        assert_eq!(row.complete_through, None, "nothing is claimed for a tenant that cannot be asked");
    }
    let of_second = report.tenants.iter().find(|tenant| tenant.progress.tenant == second).unwrap();
    assert!(of_second.is_complete(), "{of_second:#?}");
    assert!(!rig.archived().await[&second].is_empty());
}

async fn check_it_is_over(rig: &Rig) {
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    for tenant in rig.tenants() {
        assert_eq!(rig.ledger.tenant(tenant).await.unwrap().unwrap().problem, None);
    }
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn auditing_that_is_off_is_named_and_collected_from_when_it_is_on() {
    let rig = Rig::new(small_world(1, 2, 100), FaultPlan::default()).await;
    let first = rig.tenants()[0];
    rig.emulator.world().set_auditing(first, false);
    check_first_in_trouble(&rig, "auditing_off", "unified audit logging is off").await;
    rig.emulator.world().set_auditing(first, true);
    tokio::time::sleep(HOUR).await;
    check_it_is_over(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn consent_that_is_missing_is_named_and_collected_once_it_is_given() {
    let rig = Rig::new(small_world(2, 2, 100), FaultPlan::default()).await;
    let (first, client) = (rig.tenants()[0], rig.settings.app.client_id);
    rig.emulator.world().set_roles(first, client, None);
    check_first_in_trouble(&rig, "consent_missing", "consent").await;
    rig.emulator.world().set_roles(first, client, Some(&["ActivityFeed.Read", "ActivityFeed.ReadDlp"]));
    check_it_is_over(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_and_a_fresh_token_finds_it_granted() {
    let rig = Rig::new(small_world(3, 2, 100), FaultPlan::default()).await;
    let (first, client) = (rig.tenants()[0], rig.settings.app.client_id);
    rig.emulator.world().set_roles(first, client, Some(&[]));
    check_first_in_trouble(&rig, "permission_missing", "ActivityFeed.Read").await;
    rig.emulator.world().set_roles(first, client, Some(&["ActivityFeed.Read", "ActivityFeed.ReadDlp"]));
    check_it_is_over(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_microsoft_does_not_know_is_named() {
    let rig = Rig::new(small_world(4, 2, 50), FaultPlan::default()).await;
    rig.emulator.world().set_deleted(rig.tenants()[0], true);
    check_first_in_trouble(&rig, "tenant_unknown", "Microsoft does not know this tenant").await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_one_problem_for_all_and_few_requests() {
    let mut rig = Rig::new(small_world(5, 20, 5), FaultPlan::default()).await;
    rig.settings.app.credentials = vec![Credential::Secret(ClientSecret::new("wrong"))];
    rig.emulator.clear_requests();
    let report = rig.collect_once().await;
    assert!(!report.is_complete());
    let problem = report.problem.expect("it is everybody's");
    assert_eq!(problem.kind, "secret_wrong", "{problem:?}");
    assert!(problem.message.contains("AADSTS7000215") && problem.message.contains("value (not its id)"), "{problem:?}");
    // At most as many as may ask at one time; everybody else is told what they were told.
    assert!(rig.requests("token") <= 8, "{}", rig.requests("token"));
    rig.settings.app.credentials = vec![Credential::Secret(ClientSecret::new(DEFAULT_SECRET))];
    let report = rig.collect_once().await;
    assert_eq!(report.problem, None);
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn of_several_credentials_the_first_that_is_not_refused_is_used() {
    let mut rig = Rig::new(small_world(6, 3, 50), FaultPlan::default()).await;
    rig.settings.app.credentials = vec![
        Credential::Secret(ClientSecret::new("expired long ago")),
        Credential::Secret(ClientSecret::new(DEFAULT_SECRET)),
    ];
    rig.emulator.clear_requests();
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    // The refused one is passed over once it is known to be refused.
    assert!(rig.requests("token") <= 2 * 3, "{}", rig.requests("token"));
}

/// A key and its certificate for 2026, in a file.
fn certificate_in(folder: &tempfile::TempDir) -> NewCertificate {
    let request = CertificateRequest {
        out: &folder.path().join("app.pem"),
        bits: 2048,
        days: 365,
        subject: "tenantry test",
        now: parse_timestamp("2026-01-01T00:00:00Z").unwrap(),
    };
    new_certificate(&request).unwrap()
}

#[tokio::test(start_paused = true)]
async fn certificates_are_accepted_with_either_signature_at_either_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let made = certificate_in(&folder);
    let files = CertificateFiles::at(&made.path);
    for algorithm in [AssertionAlgorithm::Rs256, AssertionAlgorithm::Ps256] {
        for endpoint in [TokenEndpoint::V1, TokenEndpoint::V2] {
            let mut rig = Rig::new(small_world(20, 1, 20), FaultPlan::default()).await;
            let registered = emulator::app::AppCertificate::from_pem(&made.details.pem()).unwrap();
            assert!(rig.emulator.apps().add_certificate(rig.settings.app.client_id, registered));
            rig.settings.app.credentials = vec![Credential::Certificate(files.clone(), algorithm)];
            rig.settings.app.token_endpoint = endpoint;
            let report = rig.collect_once().await;
            assert!(report.is_complete(), "{algorithm:?} {endpoint:?}: {report:#?}");
            rig.check_all_there().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_was_not_uploaded_is_named_with_the_step_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = CertificateFiles::at(certificate_in(&folder).path);
    let mut rig = Rig::new(small_world(21, 1, 20), FaultPlan::default()).await;
    rig.settings.app.credentials = vec![Credential::Certificate(files, AssertionAlgorithm::Rs256)];
    let problem = rig.collect_once().await.problem.unwrap();
    assert_eq!(problem.kind, "certificate_unknown", "{problem:?}");
    assert!(problem.message.contains("upload the certificate"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_asked_for_once_a_tenant_whoever_asks() {
    let rig = Rig::new(small_world(7, 3, 200), FaultPlan::default()).await;
    rig.emulator.clear_requests();
    rig.collect_once().await;
    assert_eq!(rig.requests("token"), 3);
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_one_tenant_down_and_loses_nothing() {
    let mut world = small_world(8, 2, 100);
    // Far below what we are configured to ask.
    world.limits.requests_per_minute = Some(60);
    let rig = Rig::new(world, FaultPlan::default()).await;
    let report = rig.collect_once().await;
    assert!(report.is_complete(), "{report:#?}");
    rig.check_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn starts_that_are_throttled_together_are_made_one_by_one() {
    let mut world = small_world(9, 1, 100);
    world.limits.start_scope = emulator::world::StartThrottleScope::Application;
    let rig = Rig::new(world, FaultPlan::default()).await;
    let report = rig.collect_once().await;
    assert!(!report.is_complete());
    assert_eq!(report.tenants[0].unlisted.len(), 4, "{report:#?}");
    // A restart keeps to the quarter of an hour: the ledger knows of the starts.
    rig.emulator.clear_requests();
    rig.collect_once().await;
    assert!(rig.requests("start") <= 1, "{}", rig.requests("start"));
    for _ in 0..4 {
        tokio::time::sleep(HOUR).await;
        rig.collect_once().await;
    }
    check_it_is_over(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn odd_answers_are_survived() {
    for (number, rule) in [
        "operations = [\"content\"]\neffect = \"null_uri\"\nprobability = 0.3",
        "operations = [\"retrieve\"]\neffect = \"not_a_record\"\nprobability = 0.2",
        "operations = [\"content\", \"retrieve\", \"list\"]\neffect = \"byte_order_mark\"\nprobability = 0.5",
        "operations = [\"retrieve\"]\neffect = \"slow\"\nbytes_per_second = 5000\nprobability = 0.5",
        "operations = [\"start\"]\neffect = \"lost_answer\"\nfirst = 2",
        "operations = [\"token\"]\neffect = \"server_error\"\nstatus = 503\nfirst = 3",
        "operations = [\"list\"]\neffect = \"server_error\"\nstatus = 502\nfirst = 2",
    ]
    .into_iter()
    .enumerate()
    {
        let plan = FaultPlan::parse(&format!("[[rule]]\n{rule}\n")).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let rig = Rig::new(small_world(10 + number as u64, 1, 150), plan).await;
        let report = rig.collect_once().await;
        assert!(report.is_complete(), "{rule}: {report:#?}");
        assert!(!rig.emulator.world().faults_struck().is_empty(), "{rule}: it never struck");
        if rig.emulator.world().truth().not_records == 0 {
            rig.check_all_there().await;
        } else {
            // What is an object in form is archived as it came, whatever is in it; the rest is in quarantine.
            rig.check_readable_there().await;
            let quarantined = report.total().quarantined;
            assert!(quarantined > 0 && quarantined <= rig.emulator.world().truth().not_records, "{quarantined}");
            let rows = rig.ledger.quarantine(rig.tenants()[0], 1000).await.unwrap();
            for row in rows {
                assert_eq!(std::fs::read(rig.archive.root().join(row.path)).unwrap().len() as u64, row.bytes);
            }
        }
    }
}
