//! `coverage`: what is complete through when, what is pending or failing, and by name what is missing: gaps, losses,
//! quarantine, damaged files; and the check that a monitor runs.
//!
//! Never claims more than the ledger can defend: a tenant that has not been listed yet is complete through nothing.

use server::coverage::{CoverageReport, FeedCoverage, Time};
use server::protocol::ids::TenantId;
use server::protocol::time::Timestamp;

use super::{load, store};
use crate::cli::{CoverageArgs, Global, Requirement};
use crate::config::format_duration;
use crate::exit::{Code, Failure};
use crate::present;

/// Losses and pieces in quarantine that a person is shown of each tenant unless asked for more.
const SHOWN: u32 = 20;
/// The same in JSON, for scripts.
const SHOWN_AS_JSON: u32 = 1000;

pub(crate) async fn run(global: &Global, args: CoverageArgs) -> Result<(), Failure> {
    let config = load(global)?;
    let ledger = store::open_ledger_read_only(&config)?;
    let tenants = store::selected_tenants(ledger.as_ref(), &args.tenant).await?;
    let tenants: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
    let details = args.details.unwrap_or(if global.json { SHOWN_AS_JSON } else { SHOWN });
    let report = CoverageReport::read(ledger.as_ref(), &tenants, details).await.map_err(store::ledger_failure)?;
    if global.json {
        let json = serde_json::to_value(&report).map_err(|error| Failure::new(Code::Other, error))?;
        present::print_json(&json)?;
    } else {
        present::print(&to_text(&report))?;
    }
    match args.require {
        Some(requirement) => check(&report.items, tenants.len(), requirement, store::now()),
        None => Ok(()),
    }
}

fn check(rows: &[FeedCoverage], tenants: usize, requirement: Requirement, now: Timestamp) -> Result<(), Failure> {
    let limit = now - requirement.within;
    let mut unmet: Vec<String> = rows
        .iter()
        .filter(|row| row.complete_through.is_none_or(|through| through.0 < limit))
        .map(|row| {
            let through = row.complete_through.map_or("nothing".to_owned(), |through| through.0.to_rfc3339());
            format!("{} {} is complete through {through}", row.tenant_id, row.content_type)
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

/// The whole report for a person: the table, then what is missing, by name.
pub(crate) fn to_text(report: &CoverageReport) -> String {
    let sections = [
        feeds(report),
        gaps(report),
        failures(report),
        losses(report),
        quarantine(report),
        silences(report),
        webhooks(report),
        relisting(report),
        damaged(report),
    ];
    sections.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn feeds(report: &CoverageReport) -> Option<String> {
    let header = [
        "tenant",
        "content type",
        "complete through",
        "archived",
        "pending",
        "failing",
        "lost",
        "gaps",
        "records",
        "repeats",
        "quarantined",
        "problem",
    ];
    let row = |row: &FeedCoverage| {
        let problem = row.problem.as_ref().map(|problem| problem.message.clone());
        vec![
            row.tenant_id.to_string(),
            row.content_type.to_string(),
            row.complete_through.map_or("-".to_owned(), moment),
            present::count(row.archived),
            present::count(row.pending),
            present::count(row.failing),
            present::count(row.lost_contents()),
            present::count(row.gaps.len() as u64),
            present::count(row.records),
            present::count(row.duplicates),
            present::count(row.quarantined),
            problem.or_else(|| row.last_failure.clone()).unwrap_or_default(),
        ]
    };
    Some(present::table(&header, &header[3..11], report.items.iter().map(row).collect()))
}

fn gaps(report: &CoverageReport) -> Option<String> {
    let rows = report.items.iter().flat_map(|row| {
        let of = [row.tenant_id.to_string(), row.content_type.to_string()];
        row.gaps.iter().map(move |gap| [&of[..], &[moment(gap.from), moment(gap.to), gap.cause.to_owned()]].concat())
    });
    section("gaps", &["tenant", "content type", "from", "to", "cause"], &[], rows.collect(), 0)
}

fn failures(report: &CoverageReport) -> Option<String> {
    let rows: Vec<_> = report
        .items
        .iter()
        .flat_map(|row| {
            let of = [row.tenant_id.to_string(), row.content_type.to_string()];
            row.failures.iter().map(move |failing| {
                let rest = [
                    failing.content_id.clone(),
                    failing.attempts.to_string(),
                    moment(failing.next_attempt_at),
                    moment(failing.to),
                    failing.cause.clone(),
                ];
                [&of[..], &rest].concat()
            })
        })
        .collect();
    let all: u64 = report.items.iter().map(|row| row.failing).sum();
    let header = ["tenant", "content type", "content", "failures", "next try", "expires", "why"];
    section("failing", &header, &["failures"], rows, all)
}

fn silences(report: &CoverageReport) -> Option<String> {
    let rows = report.items.iter().filter_map(|row| {
        let silence = row.silence.as_ref()?;
        let usual = std::time::Duration::from_secs(u64::try_from(silence.usual_seconds / 60 * 60).unwrap_or(0));
        let of = [row.tenant_id.to_string(), row.content_type.to_string()];
        Some([&of[..], &[moment(silence.since), format_duration(usual)]].concat())
    });
    let header = ["tenant", "content type", "since", "longest usual at this hour"];
    section("silent for longer than ever", &header, &[], rows.collect(), 0)
}

fn webhooks(report: &CoverageReport) -> Option<String> {
    let rows = report.items.iter().filter_map(|row| {
        let webhook = row.webhook.as_ref()?;
        let of = [row.tenant_id.to_string(), row.content_type.to_string()];
        let rest = [
            webhook.state.to_owned(),
            moment(webhook.since),
            webhook.notified_at.map_or("-".to_owned(), moment),
            present::count(webhook.drifts),
            webhook.message.clone(),
        ];
        Some([&of[..], &rest].concat())
    });
    let header = ["tenant", "content type", "webhook", "since", "last notified", "drifts", ""];
    section("webhooks", &header, &["drifts"], rows.collect(), 0)
}

fn relisting(report: &CoverageReport) -> Option<String> {
    let rows = report.items.iter().filter(|row| row.relisting.listings > 0).map(|row| {
        let of = [row.tenant_id.to_string(), row.content_type.to_string()];
        let counts = [row.relisting.listings, row.relisting.requests, row.relisting.found].map(present::count);
        [&of[..], &counts].concat()
    });
    let header = ["tenant", "content type", "listings", "requests", "found late"];
    section("closed windows listed again", &header, &header[2..], rows.collect(), 0)
}

fn losses(report: &CoverageReport) -> Option<String> {
    let rows: Vec<_> = report
        .items
        .iter()
        .flat_map(|row| {
            let of = [row.tenant_id.to_string(), row.content_type.to_string()];
            row.losses.iter().map(move |loss| {
                let cause = format!("{}: {}", loss.cause, loss.message);
                let rest = [moment(loss.from), moment(loss.to), loss.content_id.clone(), cause];
                [&of[..], &rest].concat()
            })
        })
        .collect();
    let all: u64 = report.items.iter().map(FeedCoverage::lost_contents).sum();
    section("losses", &["tenant", "content type", "from", "to", "content", "cause"], &[], rows, all)
}

fn quarantine(report: &CoverageReport) -> Option<String> {
    let rows: Vec<_> = report
        .items
        .iter()
        .flat_map(|row| {
            let of = [row.tenant_id.to_string(), row.content_type.to_string()];
            row.quarantine.iter().map(move |piece| {
                let rest =
                    [present::count(piece.bytes), piece.path.clone(), piece.content_id.clone(), piece.reason.clone()];
                [&of[..], &rest].concat()
            })
        })
        .collect();
    let all: u64 = report.items.iter().map(|row| row.quarantined).sum();
    section("quarantine", &["tenant", "content type", "bytes", "file", "content", "cause"], &["bytes"], rows, all)
}

fn damaged(report: &CoverageReport) -> Option<String> {
    let rows = report.damaged_segments.iter().map(|damaged| {
        vec![
            damaged.tenant_id.to_string(),
            damaged.path.clone(),
            present::count(damaged.records),
            moment(damaged.found_at),
            format!("{}; restore it from a backup", damaged.problem),
        ]
    });
    section("damaged segments", &["tenant", "file", "records", "found", "cause"], &["records"], rows.collect(), 0)
}

/// A table under its name; nothing when it has no rows. `all` says how many rows there would be without the limit.
fn section(name: &str, header: &[&str], right: &[&str], rows: Vec<Vec<String>>, all: u64) -> Option<String> {
    if rows.is_empty() && all == 0 {
        return None;
    }
    let more = all.saturating_sub(rows.len() as u64);
    let tail = if more > 0 {
        format!("\nand {} more: --details N shows more of them", present::count(more))
    } else {
        String::new()
    };
    Some(format!("{name}\n{}{tail}", present::table(header, right, rows)))
}

fn moment(time: Time) -> String {
    time.0.format("%Y-%m-%d %H:%M:%SZ").to_string()
}
