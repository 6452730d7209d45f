//! `activity`: what was done with tenants and their records, by whom and when.
//!
//! Never changes anything: the log is written by what it tells of, and kept for ever.

use serde_json::json;
use server::engine::evidence::{ActivityEntry, ActivityFilter};
use server::engine::time::earlier;

use super::{load, store};
use crate::cli::{ActivityArgs, Global};
use crate::exit::Failure;
use crate::present;

pub(crate) async fn run(global: &Global, args: ActivityArgs) -> Result<(), Failure> {
    let config = load(global)?;
    let ledger = store::open_ledger_read_only(&config)?;
    let since = args.since.map(|span| earlier(store::now(), span));
    let filter = ActivityFilter { tenant: args.tenant, kind: args.kind, since, before: args.before };
    let entries = ledger.activity(filter, args.limit).await.map_err(store::ledger_failure)?;
    if global.json {
        return present::print_json(&serde_json::Value::Array(entries.iter().map(to_json).collect()));
    }
    let rows = entries.iter().map(|entry| {
        vec![
            entry.number.to_string(),
            entry.at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            entry.kind.to_string(),
            entry.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            entry.actor.clone(),
            particulars(&entry.details),
        ]
    });
    present::print(&present::table(&["entry", "at", "what", "tenant", "by", "particulars"], &["entry"], rows.collect()))
}

fn to_json(entry: &ActivityEntry) -> serde_json::Value {
    json!({
        "entry": entry.number,
        "at": entry.at.to_rfc3339(),
        "what": entry.kind.as_str(),
        "tenant_id": entry.tenant,
        "by": entry.actor,
        "details": details(&entry.details),
    })
}

fn details(text: &str) -> serde_json::Value {
    // What is no JSON was not written by us, and is shown as it is.
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// `records 7, files 2`
fn particulars(text: &str) -> String {
    let serde_json::Value::Object(object) = details(text) else { return text.to_owned() };
    let words = object.iter().map(|(name, value)| match value {
        serde_json::Value::String(value) => format!("{name} {value}"),
        value => format!("{name} {value}"),
    });
    words.collect::<Vec<_>>().join(", ")
}
