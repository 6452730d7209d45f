//! `archive verify`, `archive compact` and `archive publish`; `archive vacuum` is [`vacuum`]'s.
//!
//! Verify never writes to the archive, and notes in the ledger what it finds; compact and publish never run beside a collector,
//! which does both by itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use server::archive::{Damage, Depth, Reading, Segment, Verified};
use server::clock::SystemClock;
use server::collector::segments::{row_of, segment_of};
use server::collector::{Held, Keep};
use server::engine::model::Expired;
use server::ledger::Ledger;
use server::ledger::postgres::Company;
use server::protocol::ids::TenantId;

use super::{load, store, vacuum};
use crate::cli::{ArchiveCommand, Global};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, command: ArchiveCommand) -> Result<(), Failure> {
    match command {
        ArchiveCommand::Verify { tenant } => verify(global, &tenant).await,
        ArchiveCommand::Compact { tenant } => compact(global, &tenant).await,
        ArchiveCommand::Publish { tenant, rebuild } => publish(global, &tenant, rebuild).await,
        ArchiveCommand::Vacuum { tenant, yes: false } => vacuum::list(global, &tenant).await,
        ArchiveCommand::Vacuum { tenant, yes: true } => vacuum::delete(global, &tenant).await,
    }
}

async fn verify(global: &Global, ids: &[TenantId]) -> Result<(), Failure> {
    let config = load(global)?;
    let _reading = Reading::begin(&config.archive_root);
    let ledger = store::open_ledger_read_only(&config)?;
    let archive = store::read_archive(&config, ledger.as_ref()).await?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut pieces = Vec::new();
    let mut known = BTreeSet::new();
    for tenant in store::selected_tenants(ledger.as_ref(), ids).await? {
        let rows = ledger.segments(tenant.id).await.map_err(store::ledger_failure)?;
        segments.extend(rows.iter().filter_map(|row| segment_of(tenant.id, row)));
        let damaged = ledger.damaged_segments(tenant.id).await.map_err(store::ledger_failure)?;
        known.extend(damaged.iter().filter_map(|damaged| Some(segment_of(tenant.id, &damaged.segment)?.path())));
        pieces.extend(ledger.quarantine(tenant.id, u32::MAX).await.map_err(store::ledger_failure)?);
    }
    let quarantined = pieces.len() as u64;
    let Some(archive) = archive else {
        if segments.is_empty() {
            return show(global, &Verified::default(), 0, &[]);
        }
        return Err(Failure::new(
            Code::Storage,
            format!(
                "the archive folder {} is gone, and the ledger names {} segments in it",
                config.archive_root.display(),
                segments.len()
            ),
        ));
    };
    let (looked_at, mut verified, pieces) = tokio::task::spawn_blocking(move || {
        let verified = archive.verify(&segments, Depth::Records, |_| ())?;
        let mut damaged = Vec::new();
        for piece in pieces {
            let problem = archive.verify_quarantined(Path::new(&piece.path), piece.bytes, &piece.digest)?;
            damaged.extend(problem.map(|problem| (archive.place_of(Path::new(&piece.path)), problem)));
        }
        Ok((segments, verified, damaged))
    })
    .await
    .map_err(|error| Failure::new(Code::Other, format!("the verification did not finish: {error}")))?
    .map_err(store::archive_failure)?;
    keep_visible(ledger.as_ref(), &mut verified.damaged).await?;
    note(&config, &looked_at, &known, &verified.damaged).await;
    let damaged = verified.damaged.iter().map(|damage| (damage.path.clone(), damage.problem.clone()));
    let damaged: Vec<(PathBuf, String)> = damaged.chain(pieces).collect();
    show(global, &verified, quarantined, &damaged)?;
    if damaged.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Storage,
        format!("{} file(s) are damaged: restore them from a backup; every other record is sound", damaged.len()),
    ))
}

/// Leaves out what a collector has merged away, or a retention taken, while it was looked at: its file was to go.
async fn keep_visible(ledger: &dyn Ledger, damaged: &mut Vec<Damage>) -> Result<(), Failure> {
    let tenants: BTreeSet<TenantId> = damaged.iter().map(|damage| damage.segment.tenant).collect();
    let mut visible = Vec::new();
    for tenant in tenants {
        let rows = ledger.segments(tenant).await.map_err(store::ledger_failure)?;
        visible.extend(rows.iter().filter_map(|row| segment_of(tenant, row)));
    }
    damaged.retain(|damage| visible.contains(&damage.segment));
    Ok(())
}

fn show(global: &Global, verified: &Verified, quarantined: u64, damaged: &[(PathBuf, String)]) -> Result<(), Failure> {
    if global.json {
        let damaged: Vec<_> = damaged
            .iter()
            .map(|(path, problem)| json!({ "path": path.display().to_string(), "problem": problem }))
            .collect();
        present::print_json(&json!({
            "segments": verified.segments, "records": verified.rows, "bytes": verified.bytes,
            "quarantined": quarantined, "damaged": damaged,
        }))?;
    } else {
        for (path, problem) in damaged {
            present::print(&format!("damaged: {}: {problem}", path.display()))?;
        }
        present::print(&format!(
            "{} segments, {} records, {}{}: {}",
            present::count(verified.segments),
            present::count(verified.rows),
            present::size(verified.bytes),
            if quarantined == 0 { String::new() } else { format!(", {} in quarantine", present::count(quarantined)) },
            if damaged.is_empty() { "all sound".to_owned() } else { format!("{} damaged", damaged.len()) },
        ))?;
    }
    Ok(())
}

/// Writes what was found into the ledger, where coverage and the console tell it from: what is damaged, and what was and is
/// sound again. A ledger that cannot be written is no reason to keep the findings back: they are printed all the same.
async fn note(config: &Config, looked_at: &[Segment], known: &BTreeSet<PathBuf>, damaged: &[Damage]) {
    let problem = |segment: &Segment| damaged.iter().find(|damage| damage.segment == *segment);
    let news: Vec<_> = looked_at
        .iter()
        .map(|segment| (segment, problem(segment).map(|damage| damage.problem.clone())))
        .filter(|(segment, problem)| problem.is_some() || known.contains(&segment.path()))
        .collect();
    if news.is_empty() {
        return;
    }
    let noted = async {
        // Beside a collector, which writes to it too: they take turns.
        let ledger = store::open_ledger(config)?;
        for (segment, problem) in news {
            let noted = ledger.set_segment_problem(segment.tenant, row_of(segment), problem, store::now()).await;
            noted.map_err(store::ledger_failure)?;
        }
        Ok::<_, Failure>(())
    };
    if let Err(failure) = noted.await {
        tracing::warn!(error = failure.message, "what was found is not noted, so coverage does not tell it");
    }
}

async fn compact(global: &Global, ids: &[TenantId]) -> Result<(), Failure> {
    let config = load(global)?;
    let _lock = store::lock(&config)?;
    let open = store::open_any_ledger(&config)?;
    let _claim = open.claim(Company::Alone).await.map_err(store::claim_failure)?;
    let ledger = open.shared();
    let archive = store::open_archive(&config, ledger.as_ref()).await?;
    let held = match store::sharing(&config, &open) {
        Some(sharing) => Some(Held::take(sharing).await.map_err(store::ledger_failure)?),
        None => None,
    };
    let (mut merged, mut into, mut expired) = (0, 0, Expired::default());
    for tenant in store::selected_tenants(ledger.as_ref(), ids).await? {
        let (ledger, archive) = match &held {
            None => (ledger.clone(), archive.clone()),
            Some(held) => match held.tenant(tenant.id, &archive) {
                Some(own) => own,
                // Added this moment, so there is nothing to merge.
                None => continue,
            },
        };
        let keep = Keep { retention: config.retention, tables: config.tables, is_shared: held.is_some() };
        let done = server::collector::compact(ledger.as_ref(), &archive, &SystemClock, keep, tenant.id)
            .await
            .map_err(|error| Failure::from_chain(Code::Storage, &error))?;
        merged += done.removed;
        into += done.added;
        expired.segments += done.expired.segments;
        expired.records += done.expired.records;
    }
    if let Some(held) = held {
        held.leave().await;
    }
    if global.json {
        return present::print_json(&json!({
            "merged_segments": merged, "into": into,
            "expired_segments": expired.segments, "expired_records": expired.records,
        }));
    }
    if expired.segments > 0 {
        let [records, segments] = [expired.records, expired.segments].map(present::count);
        present::print(&format!("{records} records in {segments} segments were past their retention and are removed"))?;
    }
    present::print(&format!("{} segments merged into {}", present::count(merged as u64), present::count(into as u64)))
}

async fn publish(global: &Global, ids: &[TenantId], rebuild: bool) -> Result<(), Failure> {
    let config = load(global)?;
    let Some(tables) = config.tables else {
        return Err(Failure::new(Code::Config, "no tables are published: set tables = \"delta\" under [archive]"));
    };
    let _lock = store::lock(&config)?;
    let open = store::open_any_ledger(&config)?;
    let _claim = open.claim(Company::Alone).await.map_err(store::claim_failure)?;
    let ledger = open.shared();
    let archive = store::open_archive(&config, ledger.as_ref()).await?;
    let (mut tenants, mut entries) = (0, 0);
    for tenant in store::selected_tenants(ledger.as_ref(), ids).await? {
        let (ledger, clock) = (ledger.as_ref(), &SystemClock);
        entries += server::collector::publish(ledger, &archive, clock, tables, tenant.id, rebuild)
            .await
            .map_err(|error| Failure::from_chain(Code::Storage, &error))?;
        tenants += 1;
    }
    if global.json {
        return present::print_json(&json!({ "tenants": tenants, "entries": entries }));
    }
    let [tenants, entries] = [tenants, entries as u64].map(present::count);
    present::print(&format!(
        "the tables of {tenants} tenants are published: {entries} entries were added to their logs"
    ))
}
