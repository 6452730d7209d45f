//! One collector on one database, whatever becomes of its connection.

use super::Database;
use crate::conformance::server::PgServer;
use crate::conformance::{block_on, noon, tenant};
use crate::postgres::ClaimError;
use crate::{Ledger, LedgerError};

#[test]
fn a_second_collector_is_refused_and_told_who_is_at_work_until_the_first_has_ended() {
    let server = PgServer::start();
    let (database, another) = (Database::new(&server), Database::new(&server));
    let (first, second) = (database.ledger(), database.ledger());
    let claim = block_on(first.claim()).unwrap();
    let error = block_on(second.claim()).unwrap_err();
    assert!(matches!(error, ClaimError::Taken { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())) && text.contains(&database.name), "{text}");
    assert!(block_on(second.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap(), "others may still write");
    let elsewhere = block_on(another.ledger().claim()).unwrap();
    drop(claim);
    let claim = block_on(second.claim()).unwrap();
    // Also when it did not say good-bye.
    std::mem::forget(claim);
    drop(second);
    let waited = (0..200).find_map(|_| {
        std::thread::yield_now();
        block_on(first.claim()).ok()
    });
    assert!(waited.is_some());
    drop(elsewhere);
}

#[test]
fn a_claim_whose_connection_is_cut_is_had_again_and_one_that_was_lost_to_another_writes_no_more() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let first = database.ledger();
    let _claim = block_on(first.claim()).unwrap();
    let locks = |granted: bool| {
        let count = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = {granted}");
        server.psql(&count).concat()
    };
    let cut = || {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        assert_eq!(server.psql(cut), ["1"]);
    };
    let settled = |granted: bool| while locks(granted) != "1" {};
    cut();
    settled(true);
    assert!(block_on(first.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap());
    let second = database.ledger();
    block_on(second.claim()).unwrap_err();

    // Somebody else waits for the lock when ours is cut, and has it before ours can have it again.
    let waits = "SELECT pg_advisory_lock(1416524921, hashtext('public')); SELECT pg_sleep(60)";
    let mut other = server.background(&database.name, waits);
    settled(false);
    cut();
    let error = loop {
        match block_on(first.set_problem(tenant(1), None, None, noon())) {
            Ok(()) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::Ousted { .. }), "{error:?}");
    assert!(!error.is_passing() && !error.is_refusal());
    assert!(error.to_string().contains("stop one of the two"), "{error}");
    assert!(block_on(first.tenant(tenant(1))).unwrap().is_some(), "reading goes on");
    other.kill().unwrap();
    other.wait().unwrap();
}
