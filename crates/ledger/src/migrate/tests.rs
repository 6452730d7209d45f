//! There and back: what a ledger holds after two moves is what it held before.

use std::path::PathBuf;

use engine::consent::{Acceptance, ConsentFlow, InvitationNumber, Leg, NewInvitation, Visit};
use engine::model::{Commit, CommitNumber, LossKind, TenantState};
use engine::webhook::{Webhook, WebhookState};

use super::table::TABLES;
use super::{MigrateError, migrate};
use crate::conformance::history::{lines, small_history};
use crate::conformance::server::PgServer;
use crate::conformance::{
    EXCHANGE, GENERAL, block_on, commit, content, days, hours, loss, minutes, noon, problem, quarantined, row, segment,
    tenant, tile,
};
use crate::postgres::{Company, PgLedger};
use crate::sqlite::{OpenOptions, SqliteLedger};
use crate::{Ledger, Location};

fn file(folder: &tempfile::TempDir, name: &str) -> (Location, PathBuf) {
    let path = folder.path().join(name);
    (Location::File(path.clone()), path)
}

fn database(server: &PgServer) -> (Location, String) {
    let name = server.database();
    (Location::Database(Box::new(server.options(&name))), name)
}

/// A ledger with something in every table.
async fn fill(ledger: &dyn Ledger) {
    let mut history = small_history(3);
    for _ in 0..200 {
        history(ledger).await.unwrap();
    }
    let (id, now) = (tenant(40), noon());
    ledger.add_tenant(id, "Contoso".to_owned(), now, now).await.unwrap();
    ledger.set_problem(id, None, Some(problem("auditing_off")), now).await.unwrap();
    ledger.subscriptions_listed(id, vec![(GENERAL, Some(true)), (EXCHANGE, None)], now).await.unwrap();
    ledger.relisted(id, GENERAL, 3, 1, now).await.unwrap();
    // A gap and a rhythm: listed for an hour, and then again after a month.
    ledger.contents_listed(id, vec![content("early", minutes(5)), content("late", hours(1))], now).await.unwrap();
    ledger.tile_listed(id, GENERAL, tile(0)).await.unwrap();
    ledger.tile_listed(id, GENERAL, tile(30 * 24)).await.unwrap();
    ledger.fold(id, now + days(31), 100).await.unwrap();
    ledger.contents_listed(id, vec![content("heard", hours(800))], now + hours(800)).await.unwrap();
    ledger.content_lost(id, row(ledger, id, "late").await, loss(LossKind::Missing), now).await.unwrap();
    ledger.content_failed(id, row(ledger, id, "heard").await, "try again".to_owned(), now).await.unwrap();
    let segments = vec![segment(1, 0), segment(1, 1)];
    let first = Commit { tenant: id, segments: segments.clone(), quarantined: vec![quarantined("q")], ..commit(1) };
    ledger.commit(first).await.unwrap();
    let merged = vec![segment(2, 0)];
    ledger.replace_segments(id, CommitNumber(2), segments[..1].to_vec(), merged.clone(), now).await.unwrap();
    ledger.set_segment_problem(id, merged[0].clone(), Some("is cut short".to_owned()), now).await.unwrap();
    let webhook = Webhook {
        content_type: GENERAL,
        path_key: [4; 16],
        address: "https://audit.example.com/webhook/4".to_owned(),
        accepted: Some([5; 32]),
        offered: None,
        state: WebhookState::Armed,
        since: now,
        expires: Some(now + days(9)),
        failures: 1,
        drifts: 2,
        refusal: Some("no".to_owned()),
        notified_at: None,
    };
    ledger.write_webhooks(id, vec![webhook], now).await.unwrap();
    ledger.at_work(now).await.unwrap();
    ledger.add_tenant(tenant(43), String::new(), now, now).await.unwrap();
    ledger.set_tenant_state(tenant(43), TenantState::Removed, now).await.unwrap();
    ledger.purge_tenant(tenant(43), now).await.unwrap();
    ledger.hold_tenant(id, "case 17".to_owned(), now).await.unwrap();
    ledger.put_sealed("token".to_owned(), None, Some(vec![0, 255, 7])).await.unwrap();
    invitations(ledger).await;
}

/// Two numbers are given; one has been used, and one person is on the way.
async fn invitations(ledger: &dyn Ledger) {
    let now = noon();
    for secret in [1, 2] {
        ledger.add_invitation(invitation(secret), now).await.unwrap();
    }
    let number = InvitationNumber(1);
    let visit = Visit {
        browser: [1; 32],
        tenant: tenant(41),
        invitation: number,
        account: Some("admin@contoso.example".to_owned()),
        proven_at: now,
        accepted_at: None,
        expires_at: now + days(1),
    };
    ledger.prove_consent(visit, now).await.unwrap();
    assert_eq!(ledger.accept_consent([1; 32], tenant(41), now, now).await.unwrap(), Acceptance::Added);
    let flow = ConsentFlow {
        state: [8; 32],
        browser: [9; 32],
        invitation: number,
        leg: Leg::SignIn,
        tenant: Some(tenant(42)),
        expires_at: now + hours(1),
    };
    ledger.begin_consent(flow, now).await.unwrap();
}

fn invitation(secret: u8) -> NewInvitation {
    let (label, expires_at) = ("Contoso".to_owned(), noon() + days(1));
    NewInvitation { secret: [secret; 32], label, tenant: None, expires_at, uses_allowed: Some(3) }
}

/// Every row of an embedded ledger, as text.
fn dump(path: &PathBuf) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut lines = Vec::new();
    for table in TABLES.iter().map(|table| (table.name, table.select())).chain([
        ("identity", "SELECT id FROM identity".to_owned()),
        ("revision", "SELECT greatest FROM revision".to_owned()),
        ("sequence", "SELECT seq FROM sqlite_sequence".to_owned()),
    ]) {
        let mut statement = connection.prepare(&table.1).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values: Vec<rusqlite::types::Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
            Ok(format!("{} {values:?}", table.0))
        });
        lines.extend(rows.unwrap().map(Result::unwrap));
    }
    lines
}

#[test]
fn a_ledger_that_went_to_a_database_and_back_holds_what_it_held_and_goes_on_from_there() {
    let (server, folder) = (PgServer::start(), tempfile::tempdir().unwrap());
    let (first, path) = file(&folder, "first.db");
    let ledger = SqliteLedger::open(&path, OpenOptions::default()).unwrap();
    block_on(fill(&ledger));
    let before = block_on(lines(&ledger));
    drop(ledger);

    let (shared, _) = database(&server);
    let there = block_on(migrate(&first, &shared)).unwrap();
    let empty: Vec<_> = there.tables.iter().filter(|(_, rows)| *rows == 0).collect();
    assert!(empty.is_empty(), "nothing of these was moved, so nothing was tested: {empty:?}");
    let Location::Database(options) = &shared else { unreachable!() };
    let ledger = PgLedger::open((**options).clone()).unwrap();
    assert_eq!(block_on(lines(&ledger)), before);
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
    drop(ledger);

    let (second, copy) = file(&folder, "second.db");
    let back = block_on(migrate(&shared, &second)).unwrap();
    assert_eq!(back, there);
    assert_eq!(dump(&copy), dump(&path));

    // Both go on counting where they were.
    let ledger = PgLedger::open((**options).clone()).unwrap();
    let copied = SqliteLedger::open(&copy, OpenOptions::default()).unwrap();
    for ledger in [&ledger as &dyn Ledger, &copied] {
        assert_eq!(block_on(ledger.add_invitation(invitation(77), noon())).unwrap().0, 3);
        assert!(block_on(ledger.add_tenant(tenant(50), String::new(), noon(), noon())).unwrap());
        assert_eq!(block_on(ledger.contents_listed(tenant(50), vec![content("n", hours(1))], noon())).unwrap(), 1);
    }
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
    assert_eq!(block_on(copied.check()).unwrap(), Vec::<String>::new());
}

#[test]
fn nothing_is_moved_onto_something_or_while_a_collector_is_at_work() {
    let (server, folder) = (PgServer::start(), tempfile::tempdir().unwrap());
    let (full, path) = file(&folder, "full.db");
    let ledger = SqliteLedger::open(&path, OpenOptions::default()).unwrap();
    block_on(fill(&ledger));
    drop(ledger);
    let (shared, name) = database(&server);
    let Location::Database(options) = &shared else { unreachable!() };

    let taken = PgLedger::open((**options).clone()).unwrap();
    let claim = block_on(taken.claim(Company::Alone)).unwrap();
    let error = block_on(migrate(&full, &shared)).unwrap_err();
    assert!(matches!(error, MigrateError::Claim(_)), "{error:?}");
    drop(claim);
    block_on(taken.add_tenant(tenant(9), String::new(), noon(), noon())).unwrap();
    let error = block_on(migrate(&full, &shared)).unwrap_err();
    assert!(matches!(error, MigrateError::NotEmpty { table: "tenant", .. }), "{error:?}");
    assert_eq!(server.psql_in(&name, "SELECT count(*) FROM tenant"), ["1"], "and it is as it was");
    let error = block_on(migrate(&shared, &full)).unwrap_err();
    assert!(matches!(error, MigrateError::NotEmpty { table: "tenant", .. }), "{error:?}");

    let (missing, at) = file(&folder, "missing.db");
    assert!(matches!(block_on(migrate(&missing, &shared)).unwrap_err(), MigrateError::NoSource { .. }));
    assert!(!at.exists());
    assert!(matches!(block_on(migrate(&full, &full)).unwrap_err(), MigrateError::Same { .. }));
    // A database that is no ledger does not become one by being read.
    let (empty, nothing) = database(&server);
    block_on(migrate(&empty, &missing)).unwrap_err();
    assert_eq!(server.psql_in(&nothing, "SELECT to_regclass('tenant') IS NULL"), ["t"]);
}

#[test]
fn what_breaks_off_midway_leaves_an_empty_target() {
    let (server, folder) = (PgServer::start(), tempfile::tempdir().unwrap());
    let (full, path) = file(&folder, "full.db");
    let ledger = SqliteLedger::open(&path, OpenOptions::default()).unwrap();
    block_on(fill(&ledger));
    drop(ledger);
    // A row that no ledger writes, in one of the last tables.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE webhook SET state = 70000", []).unwrap();
    drop(connection);
    let (shared, name) = database(&server);
    let error = block_on(migrate(&full, &shared)).unwrap_err();
    assert!(matches!(error, MigrateError::Value { table: "webhook", column: "state" }), "{error:?}");
    for table in TABLES {
        assert_eq!(server.psql_in(&name, &format!("SELECT count(*) FROM {}", table.name)), ["0"]);
    }
}

#[test]
fn every_table_and_column_of_both_schemas_is_moved() {
    let (server, folder) = (PgServer::start(), tempfile::tempdir().unwrap());
    let name = server.ledger();
    let mut listed: Vec<String> = TABLES
        .iter()
        .flat_map(|table| table.columns.iter().map(|(column, _)| format!("{}.{column}", table.name)))
        .collect();
    listed.sort();
    let shared = server.psql_in(
        &name,
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'
         AND table_name NOT IN ('identity', 'revision', 'ledger_version', 'worker', 'last_write')
         AND column_name <> 'lease_worker' ORDER BY 1",
    );
    let mut shared: Vec<String> = shared;
    shared.sort();
    assert_eq!(shared, listed);
    let path = folder.path().join("l.db");
    drop(SqliteLedger::open(&path, OpenOptions::default()).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT t.name || '.' || c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
             WHERE t.type = 'table' AND t.name NOT IN ('identity', 'revision', 'sqlite_sequence', 'worker')
             AND c.name <> 'lease_worker'",
        )
        .unwrap();
    let mut embedded: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    embedded.sort();
    assert_eq!(embedded, listed);
}
