//! The suite, every case in a schema of its own of one database; and what its statements cost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::{few, plans};
use crate::conformance::server::PgServer;
use crate::conformance::{Fixture, block_on, run};
use crate::postgres::{PgLedger, PgOptions};
use crate::{Ledger, Workers};

/// An empty ledger that nobody else has: a schema, which is made a hundred times faster than a database.
struct Schema {
    url: String,
}

impl Schema {
    fn options(&self) -> PgOptions {
        few(&self.url)
    }
}

impl Fixture for Schema {
    fn open_for_workers(&self) -> Arc<dyn Workers> {
        Arc::new(PgLedger::open(self.options()).unwrap())
    }

    fn open_read_only(&self) -> Arc<dyn Ledger> {
        Arc::new(PgLedger::open(PgOptions { read_only: true, ..self.options() }).unwrap())
    }

    fn check(&self) -> Vec<String> {
        block_on(PgLedger::open(self.options()).unwrap().check()).unwrap()
    }
}

type Case = (&'static str, fn(&Schema));

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($case)), |schema: &Schema| {
            run(schema, async |fixture: &Schema| crate::conformance::$module::$case(fixture).await);
        })),*]
    };
}

#[test]
fn every_case_of_the_suite_passes_and_no_statement_reads_a_table_from_end_to_end() {
    let cases: &[Case] = &crate::for_each_conformance_case!(cases);
    // One of them alone: TENANTRY_TEST_CASE=sealed cargo nextest run -p ledger suite
    let only = std::env::var("TENANTRY_TEST_CASE").unwrap_or_default();
    let server = PgServer::start();
    let name = server.database();
    let schemas: String = (0..cases.len()).map(|number| format!("CREATE SCHEMA case_{number};")).collect();
    server.psql_in(&name, &schemas);
    let chosen = cases.iter().enumerate().filter(|(_, (name, _))| name.contains(&only));
    let (waiting, failed) = (Mutex::new(chosen), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    let Some((number, (case, passes))) = next else { break };
                    let url = format!("{}&options=-csearch_path%3Dcase_{number}", server.url(&name));
                    if catch_unwind(AssertUnwindSafe(|| passes(&Schema { url }))).is_err() {
                        failed.lock().unwrap().push(*case);
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
