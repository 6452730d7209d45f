//! What it costs: every statement that the suite makes is looked up by an index.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::conformance::server::PgServer;

static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers a statement.
pub(in crate::postgres) fn note(statement: &str) {
    NOTED.lock().unwrap().insert(statement.to_owned());
}

/// What may read a table from end to end: what an operator asks for, or what has a handful of rows.
const MAY_SCAN: [&str; 5] = [
    // All spells of work, at most a thousand.
    "FROM at_work ORDER BY since",
    // All segments of all tenants are what is asked for.
    "SELECT id, date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest FROM tenant",
    // At most 20,000, when one is added by hand.
    "SELECT count(*) FROM invitation",
    // The check reads everything.
    "LIMIT 100",
    // The server's own tables.
    "pg_class",
];

/// With no row in any table, whatever is not an index's work shows as a scan even where scans are forbidden.
pub(super) fn assert_all_are_looked_up(server: &PgServer) {
    let statements = NOTED.lock().unwrap().clone();
    assert!(statements.len() > 60, "the suite makes {} statements", statements.len());
    let mut costly = Vec::new();
    for statement in statements {
        let flat: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        if flat.contains("pg_xact_status") || MAY_SCAN.iter().any(|allowed| flat.contains(allowed)) {
            continue;
        }
        let plan = explain(server, "template_ledger", &statement);
        if let Some(line) = scan_in(&plan) {
            costly.push((flat, line));
        }
    }
    assert!(costly.is_empty(), "{costly:#?}");
}

/// The plan that serves a statement whatever its values are.
fn explain(server: &PgServer, database: &str, statement: &str) -> Vec<String> {
    let count = (1..=20).take_while(|number| statement.contains(&format!("${number}"))).count();
    let nulls = if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count].join(", ")) };
    server.psql_in(
        database,
        &format!(
            "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; PREPARE it AS {statement};
             EXPLAIN (COSTS OFF) EXECUTE it{nulls}"
        ),
    )
}

/// The first line of a plan that reads a table, or an index, from end to end.
fn scan_in(plan: &[String]) -> Option<String> {
    let is_node = |line: &str| line.trim_start().starts_with("->");
    for (number, line) in plan.iter().enumerate() {
        // One row, and a handful.
        if line.contains("on identity") || line.contains("on revision") || line.contains("on content_type") {
            continue;
        }
        let whole = line.contains("Seq Scan on")
            || ((line.contains("Index Scan using") || line.contains("Index Only Scan using"))
                && !plan
                    .iter()
                    .skip(number + 1)
                    .take_while(|later| !is_node(later))
                    .any(|later| later.contains("Index Cond:")));
        if whole {
            return Some(line.clone());
        }
    }
    None
}

#[test]
fn a_scan_is_recognised_in_a_plan() {
    let server = PgServer::start();
    server.ledger();
    for (statement, scans) in [
        ("SELECT * FROM pending WHERE uri = $1", true),
        ("SELECT * FROM segment WHERE rows = $1 ORDER BY tenant, date, number, part", true),
        ("SELECT * FROM pending WHERE content = $1", false),
        ("SELECT greatest FROM revision WHERE single = 1", false),
    ] {
        assert_eq!(scan_in(&explain(&server, "template_ledger", statement)).is_some(), scans, "{statement}");
    }
}
