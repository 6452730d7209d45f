//! `archive verify` and `archive compact`.
//!
//! Verify never writes; compact never runs beside a collector, which merges by itself.

use std::path::Path;

use serde_json::json;
use server::archive::{ArchiveOptions, Depth, Segment};
use server::clock::SystemClock;
use server::collector::segments::segment_of;
use server::ledger::Ledger as _;

use super::{load, store};
use crate::cli::{ArchiveCommand, Global};
use crate::exit::{Code, Failure};
use crate::present;

pub(crate) async fn run(global: &Global, command: ArchiveCommand) -> Result<(), Failure> {
    match command {
        ArchiveCommand::Verify { tenant } => verify(global, &tenant).await,
        ArchiveCommand::Compact { tenant } => compact(global, &tenant).await,
    }
}

async fn verify(global: &Global, ids: &[server::protocol::ids::TenantId]) -> Result<(), Failure> {
    let config = load(global)?;
    let ledger = store::open_ledger_read_only(&config)?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut pieces = Vec::new();
    for tenant in store::selected_tenants(ledger.as_ref(), ids).await? {
        let rows = ledger.segments(tenant.id).await.map_err(store::ledger_failure)?;
        segments.extend(rows.iter().filter_map(|row| segment_of(tenant.id, row)));
        pieces.extend(ledger.quarantine(tenant.id, u32::MAX).await.map_err(store::ledger_failure)?);
    }
    let quarantined = pieces.len() as u64;
    if !segments.is_empty() && !config.archive_root.exists() {
        return Err(Failure::new(
            Code::Storage,
            format!(
                "the archive folder {} is gone, and the ledger names {} segments in it",
                config.archive_root.display(),
                segments.len()
            ),
        ));
    }
    let options = ArchiveOptions::at(&config.archive_root);
    let (verified, damaged) = tokio::task::spawn_blocking(move || {
        let archive = server::archive::Archive::open_read_only(&options)?;
        let verified = archive.verify(&segments, Depth::Records, |_| ())?;
        let mut damaged: Vec<_> =
            verified.damaged.iter().map(|damage| (damage.path.clone(), damage.problem.clone())).collect();
        for piece in pieces {
            let problem = archive.verify_quarantined(Path::new(&piece.path), piece.bytes, &piece.digest)?;
            damaged.extend(problem.map(|problem| (archive.root().join(&piece.path), problem)));
        }
        Ok((verified, damaged))
    })
    .await
    .map_err(|error| Failure::new(Code::Other, format!("the verification did not finish: {error}")))?
    .map_err(store::archive_failure)?;
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
        for (path, problem) in &damaged {
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
    if damaged.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Storage,
        format!("{} file(s) are damaged: restore them from a backup; every other record is sound", damaged.len()),
    ))
}

async fn compact(global: &Global, ids: &[server::protocol::ids::TenantId]) -> Result<(), Failure> {
    let config = load(global)?;
    let _lock = store::lock(&config)?;
    let ledger = store::open_ledger(&config)?;
    let archive = store::open_archive(&config)?;
    let (mut merged, mut into) = (0, 0);
    for tenant in store::selected_tenants(ledger.as_ref(), ids).await? {
        let done = server::collector::compact(ledger.as_ref(), &archive, &SystemClock, tenant.id)
            .await
            .map_err(|error| Failure::from_chain(Code::Storage, &error))?;
        merged += done.removed;
        into += done.added;
    }
    if global.json {
        return present::print_json(&json!({ "merged_segments": merged, "into": into }));
    }
    present::print(&format!("{} segments merged into {}", present::count(merged as u64), present::count(into as u64)))
}
