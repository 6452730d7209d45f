//! The suite, every case in a database of its own on one server; and what its statements cost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::{Database, plans};
use crate::conformance::run;
use crate::conformance::server::PgServer;

type Case = (&'static str, fn(&Database<'_>));

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($case)), |database: &Database<'_>| {
            run(database, async |fixture: &Database<'_>| crate::conformance::$module::$case(fixture).await);
        })),*]
    };
}

#[test]
fn every_case_of_the_suite_passes_and_no_statement_reads_a_table_from_end_to_end() {
    let cases: &[Case] = &crate::for_each_conformance_case!(cases);
    // One of them alone: TENANTRY_TEST_CASE=sealed cargo nextest run -p ledger suite
    let only = std::env::var("TENANTRY_TEST_CASE").unwrap_or_default();
    let server = PgServer::start();
    let (waiting, failed) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, case)) = waiting.lock().unwrap().next() else { break };
                    if !name.contains(&only) {
                        continue;
                    }
                    let database = Database::new(&server);
                    if catch_unwind(AssertUnwindSafe(|| case(&database))).is_err() {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner().unwrap(), Vec::<&str>::new());
    if only.is_empty() {
        plans::assert_all_are_looked_up(&server);
    }
}
