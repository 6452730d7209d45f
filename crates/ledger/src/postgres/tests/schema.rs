//! Databases that are empty, foreign, older or newer; and workers that start at the same moment.

use super::PgLedger;
use crate::Ledger;
use crate::LedgerError;
use crate::conformance::server::PgServer;
use crate::conformance::{block_on, noon, tenant};
use crate::postgres::PgOptions;
use crate::postgres::schema::VERSION;

/// The error names the database and a step, and is one sentence without its source.
#[track_caller]
fn assert_clear(error: &LedgerError, database: &str, remedy: &str) {
    let text = error.to_string();
    assert!(text.contains(database) && text.contains(remedy), "{text}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
    assert!(!error.is_refusal() && !error.is_passing());
}

fn read_only(options: PgOptions) -> PgOptions {
    PgOptions { read_only: true, ..options }
}

#[test]
fn a_database_becomes_a_ledger_for_a_writer_and_is_missed_by_a_reader_and_what_is_none_is_left_alone() {
    let server = PgServer::start();
    let empty = server.database();
    let error = PgLedger::open(read_only(server.options(&empty))).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { .. }), "{error:?}");
    assert_clear(&error, &empty, "tenantry serve");
    assert_eq!(
        server.psql_in(&empty, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"),
        ["0"]
    );
    PgLedger::open(server.options(&empty)).unwrap();
    PgLedger::open(read_only(server.options(&empty))).unwrap();

    let foreign = server.database();
    server.psql_in(&foreign, "CREATE TABLE bookmarks (url text)");
    for options in [server.options(&foreign), read_only(server.options(&foreign))] {
        let error = PgLedger::open(options).unwrap_err();
        assert!(matches!(error, LedgerError::NotALedger { .. }), "{error:?}");
        assert_clear(&error, &foreign, "another program");
    }
    assert_eq!(
        server.psql_in(&foreign, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"),
        ["1"]
    );

    // A ledger in a schema of its own, beside another program's tables.
    server.psql_in(&foreign, "CREATE SCHEMA tenantry");
    let url = format!("{}&options=-csearch_path%3Dtenantry", server.url(&foreign));
    let (address, _) = crate::postgres::PgAddress::parse(&url).unwrap();
    let ledger = PgLedger::open(PgOptions::at(address)).unwrap();
    assert!(block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap());
    assert_eq!(server.psql_in(&foreign, "SELECT count(*) FROM tenantry.tenant"), ["1"]);

    let other_encoding = "test_latin";
    server.psql(&format!("CREATE DATABASE {other_encoding} ENCODING 'LATIN1' TEMPLATE template0"));
    let error = PgLedger::open(server.options(other_encoding)).unwrap_err();
    assert_clear(&error, other_encoding, "LATIN1");
}

#[test]
fn a_newer_ledger_is_refused_and_an_older_one_is_brought_up_to_date_by_a_writer() {
    let server = PgServer::start();
    let name = server.ledger();
    let set = |version: i64| {
        server.psql_in(&name, &format!("UPDATE ledger_version SET version = {version}"));
    };
    set(VERSION + 1);
    for options in [server.options(&name), read_only(server.options(&name))] {
        let error = PgLedger::open(options).unwrap_err();
        assert!(matches!(error, LedgerError::NewerVersion { found, .. } if found == VERSION + 1), "{error:?}");
        assert_clear(&error, &name, "newer tenantry");
    }
    let older = server.database();
    server.psql_in(
        &older,
        "CREATE TABLE ledger_version (single smallint PRIMARY KEY, version bigint NOT NULL);
         INSERT INTO ledger_version VALUES (1, 0)",
    );
    let error = PgLedger::open(read_only(server.options(&older))).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { .. } | LedgerError::OlderVersion { .. }), "{error:?}");
    PgLedger::open(server.options(&older)).unwrap_err();
}

#[test]
fn workers_that_start_at_once_on_an_empty_database_make_one_ledger() {
    let server = PgServer::start();
    for _ in 0..5 {
        let name = server.database();
        let ready = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            for number in 0..6 {
                let (server, name, ready) = (&server, &name, &ready);
                scope.spawn(move || {
                    ready.wait();
                    let ledger = PgLedger::open(server.options(name)).unwrap();
                    assert!(block_on(ledger.add_tenant(tenant(number), String::new(), noon(), noon())).unwrap());
                });
            }
        });
        assert_eq!(server.psql_in(&name, "SELECT version FROM ledger_version"), [VERSION.to_string()]);
        assert_eq!(server.psql_in(&name, "SELECT count(*), max(revision) FROM tenant"), ["6|6"]);
    }
}
