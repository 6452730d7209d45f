//! `coverage`: what is complete through when, what is pending, failing or lost, and the check that a monitor runs.
//!
//! Never claims more than the ledger can defend: a tenant that has not been listed yet is complete through nothing.

use serde_json::json;
use server::engine::model::Coverage;
use server::ledger::Ledger as _;
use server::protocol::time::Timestamp;

use super::{load, store};
use crate::cli::{CoverageArgs, Global, Requirement};
use crate::config::format_duration;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, args: CoverageArgs) -> Result<(), Failure> {
    let config = load(global)?;
    let ledger = store::open_ledger_read_only(&config)?;
    let tenants = store::selected_tenants(ledger.as_ref(), &args.tenant).await?;
    let mut rows = Vec::new();
    for tenant in &tenants {
        rows.extend(ledger.coverage(tenant.id).await.map_err(store::ledger_failure)?);
    }
    let now = chrono_now();
    if global.json {
        present::print_json(&serde_json::Value::Array(rows.iter().map(to_json).collect()))?;
    } else {
        present::print(&to_table(&rows))?;
    }
    match args.require {
        Some(requirement) => check(&rows, tenants.len(), requirement, now),
        None => Ok(()),
    }
}

/// The moment coverage is judged at.
fn chrono_now() -> Timestamp {
    std::time::SystemTime::now().into()
}

fn check(rows: &[Coverage], tenants: usize, requirement: Requirement, now: Timestamp) -> Result<(), Failure> {
    let limit = now - requirement.within;
    let mut unmet: Vec<String> = rows
        .iter()
        .filter(|row| row.complete_through.is_none_or(|through| through < limit))
        .map(|row| {
            let through = row.complete_through.map_or("nothing".to_owned(), |through| through.to_rfc3339());
            format!("{} {} is complete through {through}", row.tenant, row.content_type)
        })
        .collect();
    if rows.is_empty() {
        unmet.push(format!("nothing has been collected yet of {tenants} tenant(s)"));
    }
    if unmet.is_empty() {
        return Ok(());
    }
    let more = unmet.len().saturating_sub(5);
    unmet.truncate(5);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Failure::new(
        Code::Incomplete,
        format!("not complete within {}: {}{tail}", format_duration(requirement.within), unmet.join("; ")),
    ))
}

fn lost(row: &Coverage) -> u64 {
    row.lost.iter().map(|(_, count)| count).sum()
}

pub(crate) fn to_table(rows: &[Coverage]) -> String {
    let header = [
        "tenant",
        "content type",
        "complete through",
        "archived",
        "pending",
        "failing",
        "lost",
        "records",
        "repeats",
        "problem",
    ];
    let right = ["archived", "pending", "failing", "lost", "records", "repeats"];
    let rows = rows
        .iter()
        .map(|row| {
            vec![
                row.tenant.to_string(),
                row.content_type.to_string(),
                row.complete_through.map_or("-".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string()),
                present::count(row.archived),
                present::count(row.pending),
                present::count(row.failing),
                present::count(lost(row)),
                present::count(row.records),
                present::count(row.duplicates),
                row.problem
                    .as_ref()
                    .map_or_else(|| row.last_failure.clone().unwrap_or_default(), |problem| problem.message.clone()),
            ]
        })
        .collect();
    present::table(&header, &right, rows)
}

fn to_json(row: &Coverage) -> serde_json::Value {
    let lost: serde_json::Map<String, serde_json::Value> =
        row.lost.iter().map(|(kind, count)| (kind.as_str().to_owned(), json!(count))).collect();
    json!({
        "tenant_id": row.tenant,
        "content_type": row.content_type,
        "from": row.from.to_rfc3339(),
        "complete_through": row.complete_through.map(|time| time.to_rfc3339()),
        "archived": row.archived,
        "pending": row.pending,
        "failing": row.failing,
        "last_failure": row.last_failure,
        "lost": lost,
        "records": row.records,
        "duplicates": row.duplicates,
        "variants": row.variants,
        "quarantined": row.quarantined,
        "problem": row.problem.as_ref().map(|problem| json!({
            "kind": problem.kind, "message": problem.message, "since": problem.since.to_rfc3339(),
        })),
    })
}
