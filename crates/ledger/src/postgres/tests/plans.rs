//! What it costs: every statement that the suite makes is looked up by an index.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio_postgres::SimpleQueryMessage;

use crate::conformance::block_on;
use crate::conformance::server::PgServer;
use crate::postgres::PgLedger;

static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers a statement.
pub(in crate::postgres) fn note(statement: &str) {
    NOTED.lock().unwrap().insert(statement.to_owned());
}

/// What may read a table from end to end: what an operator asks for, or what has a handful of rows.
const MAY_SCAN: [&str; 8] = [
    // All workers, one row a process.
    "SELECT name, held, expires_at > $1 FROM worker",
    "UPDATE worker SET expires_at = 0",
    // All spells of work, at most a thousand.
    "FROM at_work ORDER BY since",
    // All segments of all tenants are what is asked for.
    "SELECT id, date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest FROM tenant",
    // At most 20,000, when one is added by hand.
    "SELECT count(*) FROM invitation",
    // The check reads everything.
    "LIMIT 100",
    // A few rows for each handle of the last weeks, when one is opened.
    "DELETE FROM last_write",
    // The server's own tables.
    "pg_class",
];

/// With no row in any table, whatever is not an index's work shows as a scan even where scans are forbidden.
pub(super) fn assert_all_are_looked_up(server: &PgServer) {
    let statements = NOTED.lock().unwrap().clone();
    assert!(statements.len() > 60, "the suite makes {} statements", statements.len());
    let is_bound = |statement: &String| {
        let flat: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        !MAY_SCAN.iter().any(|allowed| flat.contains(allowed))
    };
    let statements: Vec<String> = statements.into_iter().filter(is_bound).collect();
    let plans = explain(server, &statements);
    let costly: Vec<_> = statements.iter().zip(&plans).filter_map(|(of, plan)| Some((of, scan_in(plan)?))).collect();
    assert!(costly.is_empty(), "{costly:#?}");
}

/// The plans that serve statements whatever their values are.
fn explain(server: &PgServer, statements: &[String]) -> Vec<Vec<String>> {
    let (name, statements) = (server.ledger(), statements.to_vec());
    let ledger = PgLedger::open(server.options(&name)).unwrap();
    let plans = ledger.on_thread(async move |engine| {
        let (client, _task) = engine.connect().await?;
        let settings = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan";
        client.batch_execute(settings).await.unwrap();
        let mut plans = Vec::new();
        for statement in &statements {
            client.batch_execute(&format!("PREPARE it AS {statement}")).await.unwrap();
            let count = (1..=20).take_while(|number| statement.contains(&format!("${number}"))).count();
            let nulls = if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count].join(", ")) };
            let plan = client.simple_query(&format!("EXPLAIN (COSTS OFF) EXECUTE it{nulls}")).await.unwrap();
            let line = |message: &SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            };
            plans.push(plan.iter().filter_map(line).collect());
            client.batch_execute("DEALLOCATE it").await.unwrap();
        }
        Ok(plans)
    });
    block_on(plans).unwrap()
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
    let (statements, scans): (Vec<String>, Vec<bool>) = [
        ("SELECT * FROM pending WHERE uri = $1", true),
        ("SELECT * FROM segment WHERE rows = $1 ORDER BY tenant, date, number, part", true),
        ("SELECT * FROM pending WHERE content = $1", false),
        ("SELECT greatest FROM revision WHERE single = 1", false),
    ]
    .into_iter()
    .map(|(statement, scans)| (statement.to_owned(), scans))
    .unzip();
    let plans = explain(&PgServer::start(), &statements);
    assert_eq!(plans.iter().map(|plan| scan_in(plan).is_some()).collect::<Vec<_>>(), scans);
}
