//! One collector on one database, whatever becomes of its connection.

use super::Database;
use crate::conformance::server::PgServer;
use crate::conformance::{block_on, content, hours, noon, tenant};
use crate::postgres::{ClaimError, Company};
use crate::{Hint, Ledger, LedgerError, Workers};

#[test]
fn a_second_collector_is_refused_and_told_who_is_at_work_until_the_first_has_ended() {
    let server = PgServer::start();
    let (database, another) = (Database::new(&server), Database::new(&server));
    let (first, second) = (database.ledger(), database.ledger());
    let claim = block_on(first.claim(Company::Alone)).unwrap();
    let error = block_on(second.claim(Company::Alone)).unwrap_err();
    assert!(matches!(error, ClaimError::Taken { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())) && text.contains(&database.name), "{text}");
    assert!(block_on(second.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap(), "others may still write");
    let elsewhere = block_on(another.ledger().claim(Company::Alone)).unwrap();
    drop(claim);
    let claim = block_on(second.claim(Company::Alone)).unwrap();
    // Also when it did not say good-bye.
    std::mem::forget(claim);
    drop(second);
    while block_on(first.claim(Company::Alone)).is_err() {}
    drop(elsewhere);
}

#[test]
fn a_claim_whose_connection_is_cut_is_had_again_and_one_that_was_lost_to_another_writes_no_more() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let first = database.ledger();
    let _claim = block_on(first.claim(Company::Alone)).unwrap();
    // What the server cuts off a name would make our own session another's.
    let length = "SELECT max(length(application_name)) < 63 FROM pg_stat_activity WHERE application_name ~ 'collector'";
    assert_eq!(server.psql(length), ["t"]);
    let locks = |granted: bool| {
        let count = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = {granted}");
        server.psql(&count).concat()
    };
    let cut = || {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        assert_eq!(server.psql(cut), ["1"]);
    };
    let settled = |granted: bool| while locks(granted) != "1" {};
    let session = || server.psql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted").concat();
    let was = session();
    cut();
    // The session that was cut may hold on for a moment, and nobody has it for the next.
    while [was.as_str(), ""].contains(&session().as_str()) {}
    assert!(block_on(first.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap());
    let second = database.ledger();
    block_on(second.claim(Company::Alone)).unwrap_err();

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

#[test]
fn a_worker_that_somebody_alone_came_before_is_back_when_that_one_has_ended() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let worker = database.ledger();
    let _claim = block_on(worker.claim(Company::Workers)).unwrap();
    block_on(worker.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let waits = "SELECT pg_advisory_lock(1416524921, hashtext('public')); SELECT pg_sleep(6000)";
    let mut alone = server.background(&database.name, waits);
    let count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while server.psql(count) != ["1"] {}
    let end = |mode: &str| {
        server.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = '{mode}'"
        ));
    };
    end("ShareLock");
    let write = || block_on(worker.set_problem(tenant(1), None, None, noon()));
    let error = loop {
        match write() {
            Ok(()) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::Ousted { .. }), "{error:?}");
    end("ExclusiveLock");
    while write().is_err() {
        std::thread::yield_now();
    }
    alone.kill().unwrap();
    alone.wait().unwrap();
}

#[test]
fn workers_are_at_work_beside_each_other_and_not_beside_one_who_needs_the_database_for_itself() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let [one, two, alone] = [database.ledger(), database.ledger(), database.ledger()];
    let first = block_on(one.claim(Company::Workers)).unwrap();
    let second = block_on(two.claim(Company::Workers)).unwrap();
    let error = block_on(alone.claim(Company::Alone)).unwrap_err().to_string();
    assert!(error.contains("and 1 more"), "{error}");
    drop(first);
    let error = block_on(alone.claim(Company::Alone)).unwrap_err().to_string();
    assert!(!error.contains("more"), "{error}");
    drop(second);
    let _claim = block_on(alone.claim(Company::Alone)).unwrap();
    assert!(matches!(block_on(one.claim(Company::Workers)), Err(ClaimError::Taken { .. })));
}

#[test]
fn what_one_process_writes_is_heard_by_those_who_have_to_look_at_it() {
    let server = PgServer::start();
    let (database, another) = (Database::new(&server), Database::new(&server));
    let (worker, writer, stranger) = (database.ledger(), database.ledger(), another.ledger());
    let _claim = block_on(worker.claim(Company::Workers)).unwrap();
    let mut hints = worker.hints();
    let contents = |ids: &[&str]| ids.iter().map(|id| content(id, hours(1))).collect::<Vec<_>>();
    block_on(stranger.add_tenant(tenant(9), String::new(), noon(), noon())).unwrap();
    block_on(worker.add_tenant(tenant(8), String::new(), noon(), noon())).unwrap();
    block_on(writer.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    assert_eq!(block_on(hints.next()), Hint::Changed { tenant: tenant(1) }, "neither another database's nor our own");
    assert_eq!(block_on(writer.contents_listed(tenant(1), contents(&["a", "b"]), noon())).unwrap(), 2);
    assert_eq!(block_on(hints.next()), Hint::Listed { tenant: tenant(1), new: 2 });
    assert_eq!(block_on(writer.contents_listed(tenant(1), contents(&["a"]), noon())).unwrap(), 0);
    let holder = engine::lease::WorkerId([1; 16]);
    block_on(writer.alive(holder, "one".to_owned(), std::time::Duration::from_secs(3600))).unwrap();
    let taken = block_on(writer.take(holder, 9)).unwrap();
    let lease = *taken.iter().find(|lease| lease.tenant == tenant(1)).unwrap();
    assert_eq!(block_on(writer.under(lease).contents_listed(tenant(1), contents(&["c"]), noon())).unwrap(), 1);
    block_on(writer.give_back(vec![lease])).unwrap();
    assert_eq!(block_on(hints.next()), Hint::Free, "what a holder has listed itself is nobody else's to look at");
}
