//! The queries that are timed on what was collected: what people ask of an archive, one of each kind.
//!
//! Never part of the ratio: each is a run of the program of its own, with its start, over files the system has in memory.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::child;
use super::figures::Query;

/// Each is run this often; the fastest run counts.
const RUNS: usize = 3;

/// Which tenant had its busiest hour when: where the narrow query looks.
const BUSIEST: &str = "SELECT tenant_id, date_trunc('hour', creation_time) AS hour, count(*) AS n FROM audit \
                       WHERE creation_time IS NOT NULL GROUP BY 1, 2 ORDER BY n DESC, 1, 2 LIMIT 1";

/// Runs them all over the archive of that folder.
pub(super) fn run(program: &Path, home: &Path) -> anyhow::Result<Vec<Query>> {
    let busiest = ask(program, home, BUSIEST)?;
    let text = |key: &str| busiest[0][key].as_str().with_context(|| format!("no busiest hour: {busiest}"));
    let (tenant, hour) = (text("tenant_id")?.to_owned(), text("hour")?.to_owned());
    queries(&tenant, &hour).into_iter().map(|(name, sql)| time(program, home, name, sql)).collect()
}

/// How many records there are.
pub(super) fn count(program: &Path, home: &Path) -> anyhow::Result<u64> {
    let counted = ask(program, home, "SELECT count(*) AS n FROM audit")?;
    counted[0]["n"].as_u64().with_context(|| format!("no count: {counted}"))
}

fn queries(tenant: &str, hour: &str) -> Vec<(&'static str, String)> {
    vec![
        ("count of all records", "SELECT count(*) AS n FROM audit".to_owned()),
        (
            "records by workload and operation",
            "SELECT workload, operation, count(*) AS n FROM audit GROUP BY 1, 2 ORDER BY n DESC".to_owned(),
        ),
        (
            "one tenant, one hour, with the records' JSON",
            format!(
                "SELECT id, creation_time, operation, user_id, raw FROM audit WHERE tenant_id = '{tenant}' \
                 AND creation_time >= '{hour}' AND creation_time < CAST('{hour}' AS timestamp) + interval '1 hour' \
                 ORDER BY creation_time"
            ),
        ),
        (
            "a member of every record's JSON, grouped",
            "SELECT raw ->> 'UserType' AS user_type, raw ->> 'Version' AS version, count(*) AS n FROM audit \
             GROUP BY 1, 2 ORDER BY n DESC"
                .to_owned(),
        ),
        (
            "join: addresses that signed in for several users",
            "SELECT a.client_ip, count(DISTINCT a.user_id) AS users, count(*) AS n FROM audit a \
             JOIN (SELECT client_ip FROM audit WHERE operation = 'UserLoggedIn' AND client_ip IS NOT NULL \
             GROUP BY 1 HAVING count(DISTINCT user_id) > 1) b ON a.client_ip = b.client_ip GROUP BY 1 ORDER BY n DESC LIMIT 20"
                .to_owned(),
        ),
        (
            "window: each user's longest silence",
            "SELECT tenant_id, user_id, max(gap) AS silence FROM (SELECT tenant_id, user_id, creation_time - \
             lag(creation_time) OVER (PARTITION BY tenant_id, user_id ORDER BY creation_time) AS gap FROM audit) \
             GROUP BY 1, 2 ORDER BY silence DESC NULLS LAST LIMIT 20"
                .to_owned(),
        ),
    ]
}

fn time(program: &Path, home: &Path, name: &'static str, sql: String) -> anyhow::Result<Query> {
    let mut fastest: Option<Query> = None;
    for _ in 0..RUNS {
        let mut command = child::command(program, home);
        command.args(["--quiet", "query", "--format", "json", &sql]);
        let (measured, text) = child::run(command, &home.join("query.json"), |_| None)?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{name} did not answer"))?;
        let rows = answer.as_array().map_or(0, Vec::len);
        let (wall_seconds, cpu_seconds) = (measured.wall_seconds, measured.cpu_seconds);
        if fastest.as_ref().is_none_or(|fastest| wall_seconds < fastest.wall_seconds) {
            fastest = Some(Query { name, sql: sql.clone(), rows, wall_seconds, cpu_seconds });
        }
    }
    fastest.with_context(|| format!("{name} was never run"))
}

fn ask(program: &Path, home: &Path, sql: &str) -> anyhow::Result<Value> {
    let mut command = child::command(program, home);
    let text = child::succeed(command.args(["--quiet", "query", "--format", "json", sql]))?;
    serde_json::from_str(&text).with_context(|| format!("no JSON from {sql}"))
}
