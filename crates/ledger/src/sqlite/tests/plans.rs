//! What it costs: every statement that the suite makes is looked up by an index, and none sorts what it has read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::Folder;
use crate::conformance::run;
use crate::sqlite::schema::{Access, connect};

thread_local! {
    static NOTED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Remembers a statement of this thread.
pub(in crate::sqlite) fn note(statement: &str) {
    NOTED.with_borrow_mut(|noted| noted.insert(statement.to_owned()));
}

/// What may read a table from end to end, or sort: what an operator asks for, or what has a handful of rows.
const MAY_SCAN: [&str; 7] = [
    // All segments of all tenants are what is asked for.
    "SELECT id, date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest FROM tenant",
    // At most 20,000 invitations, when an operator removes a tenant.
    "WHERE invitation IN (SELECT invitation FROM invitation WHERE tenant = ?1)",
    "UPDATE invitation SET revoked_at = ?2 WHERE tenant = ?1",
    // At most a few dozen obsolete ones, sorted within one moment.
    "obsolete_since FROM segment WHERE tenant = ?1 AND obsolete_since IS NOT NULL",
    // All workers, one row a process.
    "SELECT name, held, expires_at > ?1 FROM worker",
    "UPDATE worker SET expires_at = 0",
    // One row a run of the collector, the last thousand.
    "FROM at_work ORDER BY since",
];

macro_rules! all_cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        // In place, so that this thread makes the statements. There every call is done when it is first polled, so one
        // case has nothing to show.
        fn make_every_statement() {
            $(if stringify!($case) != "a_call_that_was_dropped_happened_whole_or_not_at_all" {
                run(&Folder::in_place(), async |fixture: &Folder| crate::conformance::$module::$case(fixture).await);
            })*
        }
    };
}

crate::for_each_conformance_case!(all_cases);

#[test]
fn the_suite_passes_in_place_and_no_statement_reads_a_table_from_end_to_end() {
    make_every_statement();
    let folder = Folder::new();
    drop(folder.ledger());
    let connection = connect(&folder.path(), Access::Write, std::time::Duration::ZERO).unwrap();
    let statements = NOTED.with_borrow(Clone::clone);
    assert!(statements.len() > 40, "the suite makes {} statements", statements.len());
    let mut costly = Vec::new();
    for statement in statements {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let nulls = vec![rusqlite::types::Null; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        let bad = steps.iter().any(|step| step.starts_with("SCAN") || step.contains("TEMP B-TREE"));
        // One row comes out of "no table".
        let constant = steps.iter().all(|step| step.starts_with("SCAN CONSTANT ROW"));
        let flat: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        if bad && !constant && !MAY_SCAN.iter().any(|allowed| flat.contains(allowed)) {
            costly.push((flat, steps));
        }
    }
    assert!(costly.is_empty(), "{costly:#?}");
}

#[test]
fn no_statement_is_compiled_anew_for_the_sake_of_what_is_bound() {
    let folder = Folder::new();
    drop(folder.ledger());
    for access in [Access::Write, Access::Read] {
        let connection = connect(&folder.path(), access, std::time::Duration::ZERO).unwrap();
        let mut statement = connection.prepare("SELECT start FROM tile WHERE feed = ?1 ORDER BY start").unwrap();
        for feed in [1, 2, 1, 0, 77, 0] {
            assert!(!statement.exists([feed]).unwrap());
        }
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0, "{access:?}");
    }
}
