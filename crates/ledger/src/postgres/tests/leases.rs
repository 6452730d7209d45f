//! Leases that are taken and given back at the same moment, by transactions that do not see each other.

use super::Database;
use crate::conformance::server::PgServer;
use crate::conformance::{block_on, noon, tenant};
use crate::{Ledger, Workers};

#[test]
fn who_leaves_while_it_takes_leaves_nothing_behind() {
    let server = PgServer::start();
    let database = Database::new(&server);
    let ledger = database.ledger();
    let worker = engine::lease::WorkerId([7; 16]);
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    block_on(ledger.alive(worker, "seven".to_owned(), std::time::Duration::from_secs(3600))).unwrap();
    let ask = |query: &str| server.psql_in(&database.name, query).concat();
    let locks = |granted: bool| {
        ask(&format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND granted = {granted}"
        ))
    };
    // A taking that has done all but its commit.
    let mut gate = server.background(&database.name, "SELECT pg_advisory_lock(42); SELECT pg_sleep(6000)");
    while locks(true) != "1" {}
    let take = "BEGIN; UPDATE worker SET held = held + 1; UPDATE tenant SET lease_worker = (SELECT worker FROM worker),
                lease_epoch = lease_epoch + 1; SELECT pg_advisory_lock(42); COMMIT";
    let mut taking = server.background(&database.name, take);
    while locks(false) != "1" {}
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| block_on(ledger.leave(worker)).unwrap());
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'DELETE FROM worker'
                       AND pid <> pg_backend_pid()";
        while ask(waiting) != "1" {}
        ask("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND granted");
        assert_eq!(leaving.join().unwrap(), 1);
    });
    assert_eq!(ask("SELECT count(*) FROM tenant WHERE lease_worker IS NOT NULL"), "0");
    for child in [&mut gate, &mut taking] {
        let _ = child.kill();
        child.wait().unwrap();
    }
}
