//! `coverage`: what is complete through when, what is pending or failing, and by name what is missing: gaps, losses,
//! quarantine, damaged files; and the check that a monitor runs.
//!
//! Never claims more than the ledger can defend: a tenant that has not been listed yet is complete through nothing.

use serde_json::json;
use server::archive::{SetAside, set_aside};
use server::coverage::{
    CoverageReport, DamagedFile, ExpiredItem, FailingItem, FeedCoverage, GapItem, QuarantinedItem, RelistingItem, Time,
    UnconfirmedItem, UnconfirmedWindow,
};
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
    let report = CoverageReport::read(ledger.as_ref(), &tenants, details, store::now()).await;
    let report = report.map_err(store::ledger_failure)?;
    let mut aside = set_aside(&store::archive_options(&config)?).map_err(store::archive_failure)?;
    aside.retain(|of| tenants.contains(&of.tenant));
    if global.json {
        let mut json = serde_json::to_value(&report).map_err(|error| Failure::new(Code::Other, error))?;
        let item = |of: &SetAside| json!({ "tenant_id": of.tenant, "files": of.files, "bytes": of.bytes });
        json["set_aside"] = aside.iter().map(item).collect();
        present::print_json(&json)?;
    } else {
        let lines = std::iter::once(to_text(&report)).chain(aside.iter().map(aside_text));
        present::print(&lines.collect::<Vec<_>>().join("\n"))?;
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

/// The whole report for a person: a line for each content type, and beneath it, by name, what is missing or in the way.
pub(crate) fn to_text(report: &CoverageReport) -> String {
    let width = present::terminal_width();
    let header = ["content type", "complete through", "contents", "records", "repeats"];
    let row = |row: &FeedCoverage| {
        vec![
            row.content_type.to_string(),
            row.complete_through.map_or("-".to_owned(), moment),
            present::count(row.archived),
            present::count(row.records),
            present::count(row.duplicates),
        ]
    };
    let table = present::unfolded_table(&header, &header[2..], report.items.iter().map(row).collect());
    let mut rows = table.lines().map(|line| line.trim_end().to_owned());
    let mut lines: Vec<String> = rows.by_ref().take(2).collect();
    for (index, (item, row)) in report.items.iter().zip(rows).enumerate() {
        if index == 0 || report.items.get(index - 1).is_some_and(|before| before.tenant_id != item.tenant_id) {
            lines.push(heading(report, item.tenant_id));
        }
        lines.push(row);
        lines.extend(details(item).iter().map(|detail| present::folded(detail, DETAIL_INDENT, width)));
    }
    for damaged in &report.damaged_segments {
        let DamagedFile { tenant_id, path, records, problem, found_at } = damaged;
        let (records, found) = (present::count(*records), moment(*found_at));
        let says = format!(
            "damaged segment {path} of tenant {tenant_id}: {records} records cannot be read, found {found}: {problem}; \
             restore it from a backup"
        );
        lines.push(present::folded(&says, DETAIL_INDENT, width));
    }
    lines.join("\n")
}

/// What lies where no query looks.
fn aside_text(aside: &SetAside) -> String {
    let SetAside { tenant, files, bytes } = aside;
    let (files, size) = (present::count(*files), present::count(bytes.div_ceil(1 << 20)));
    let says = format!(
        "set aside of tenant {tenant}: {files} segment(s), {size} MiB, in _aside/tenant={tenant} of the archive: the ledger did \
         not know them, and queries do not read them; take over what is needed of them, then delete the folder"
    );
    present::folded(&says, DETAIL_INDENT, present::terminal_width())
}

/// A tenant, and since when its records are kept if older ones went.
fn heading(report: &CoverageReport, tenant: TenantId) -> String {
    match report.expired.iter().find(|expired| expired.tenant_id == tenant) {
        None => format!("tenant {tenant}"),
        Some(ExpiredItem { kept_since, records, .. }) => {
            let (since, records) = (kept_since.0.format("%Y-%m-%d"), present::count(*records));
            format!("tenant {tenant}, kept since {since}: {records} older records went")
        }
    }
}

/// How far what is said beneath a content type stands to the right.
const DETAIL_INDENT: usize = 4;

/// What is not archived of a content type, counted; `None` when there is nothing.
fn open(row: &FeedCoverage) -> Option<String> {
    let counts = [
        (row.pending, "pending"),
        (row.failing, "failing"),
        (row.lost_contents(), "lost"),
        (row.gaps.len() as u64, if row.gaps.len() == 1 { "gap" } else { "gaps" }),
        (row.quarantined, "in quarantine"),
    ];
    let said = counts.into_iter().filter(|(count, _)| *count > 0);
    let said: Vec<String> = said.map(|(count, of)| format!("{} {of}", present::count(count))).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// What is missing of a content type or in its way, by name; what is cut off says by how much.
fn details(row: &FeedCoverage) -> Vec<String> {
    let mut says = Vec::from_iter(open(row));
    if let Some(problem) = &row.problem {
        says.push(format!("problem: {}, since {}", problem.message, moment(problem.since)));
    }
    let gap =
        |gap: &GapItem| format!("gap from {} to {}: {}: {}", moment(gap.from), moment(gap.to), gap.cause, gap.message);
    says.extend(row.gaps.iter().map(gap));
    says.extend(unconfirmed(row));
    says.extend(row.failures.iter().map(|failing| {
        let FailingItem { content_id, attempts, cause, next_attempt_at: next, to, .. } = failing;
        let (next, to) = (moment(*next), moment(*to));
        format!("failing {content_id}: {attempts} failures, next try {next}, expires {to}: {cause}")
    }));
    says.extend(more(row.failing, row.failures.len(), "failing"));
    if let Some(failure) = row.last_failure.as_ref().filter(|_| row.failures.is_empty()) {
        says.push(format!("last failure: {failure}"));
    }
    says.extend(row.losses.iter().map(|loss| {
        let (from, to) = (moment(loss.from), moment(loss.to));
        format!("lost {} from {from} to {to}: {}: {}", loss.content_id, loss.cause, loss.message)
    }));
    says.extend(more(row.lost_contents(), row.losses.len(), "lost"));
    says.extend(row.quarantine.iter().map(|piece| {
        let QuarantinedItem { content_id, path, bytes, reason } = piece;
        format!("quarantine {path}, {} bytes of content {content_id}: {reason}", present::count(*bytes))
    }));
    says.extend(more(row.quarantined, row.quarantine.len(), "in quarantine"));
    says.extend(notes(row));
    says
}

/// The windows that end "complete through", and the oldest after them; nothing while only time goes on.
fn unconfirmed(row: &FeedCoverage) -> Vec<String> {
    let UnconfirmedItem { windows, oldest } = &row.unconfirmed;
    if !row.unconfirmed.is_worth_telling() {
        return Vec::new();
    }
    let one = |window: &UnconfirmedWindow| {
        let UnconfirmedWindow { from, to, cause, message, .. } = window;
        format!("not yet confirmed: {} to {}: {cause}: {message}", moment(*from), moment(*to))
    };
    let more = windows.saturating_sub(oldest.len() as u64);
    let more = (more > 0).then(|| format!("and {} later windows not yet confirmed", present::count(more)));
    oldest.iter().map(one).chain(more).collect()
}

/// What is noted beside completeness.
fn notes(row: &FeedCoverage) -> Vec<String> {
    let mut says = Vec::new();
    if let Some(GapItem { from, to, message, .. }) = &row.unavailable {
        says.push(format!("not to be had from {} to {}: {message}", moment(*from), moment(*to)));
    }
    if row.variants > 0 {
        let count = present::count(row.variants);
        says.push(format!("{count} records came with another body under an Id that was there: both bodies are kept"));
    }
    if let Some(silence) = &row.silence {
        let usual = std::time::Duration::from_secs(u64::try_from(silence.usual_seconds / 60 * 60).unwrap_or(0));
        let (since, usual) = (moment(silence.since), format_duration(usual));
        says.push(format!("silent since {since}, longer than ever: {usual} is the most that is usual at this hour"));
    }
    if let Some(webhook) = &row.webhook {
        let notified = webhook.notified_at.map_or("never".to_owned(), moment);
        says.push(format!(
            "webhook {} since {}, last notified {notified}, {} drifts: {}",
            webhook.state,
            moment(webhook.since),
            present::count(webhook.drifts),
            webhook.message
        ));
    }
    let RelistingItem { listings, requests, found } = &row.relisting;
    if *listings > 0 {
        let [listings, requests, found] = [*listings, *requests, *found].map(present::count);
        says.push(format!(
            "closed windows listed again: {listings} listings, {requests} requests, {found} contents found late"
        ));
    }
    says
}

fn more(all: u64, shown: usize, what: &str) -> Option<String> {
    let more = all.saturating_sub(shown as u64);
    (more > 0).then(|| format!("and {} more {what}: --details N shows more of them", present::count(more)))
}

fn moment(time: Time) -> String {
    time.0.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time(server::protocol::time::parse_timestamp(text).unwrap())
    }

    fn feed(content_type: &str) -> FeedCoverage {
        FeedCoverage {
            tenant_id: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            content_type: content_type.parse().unwrap(),
            from: time("2026-03-01T00:00:00Z"),
            complete_through: Some(time("2026-03-09T12:34:56Z")),
            unconfirmed: UnconfirmedItem::default(),
            archived: 1_234_567,
            pending: 0,
            failing: 0,
            last_failure: None,
            lost: Vec::new(),
            losses: Vec::new(),
            gaps: Vec::new(),
            unavailable: None,
            records: 123_456_789,
            duplicates: 1_234_567,
            variants: 0,
            quarantined: 0,
            quarantine: Vec::new(),
            failures: Vec::new(),
            silence: None,
            relisting: RelistingItem::default(),
            webhook: None,
            problem: None,
        }
    }

    #[test]
    fn a_line_a_content_type_fits_a_terminal_of_100_columns_and_names_what_is_missing_beneath() {
        let mut missing = feed("Audit.AzureActiveDirectory");
        (missing.pending, missing.quarantined) = (12, 3);
        let (from, to) = (time("2026-03-02T00:00:00Z"), time("2026-03-03T00:00:00Z"));
        missing.gaps.push(GapItem { from, to, cause: "collector_off", message: "it did not run".to_owned() });
        let mut dlp = feed("DLP.All");
        dlp.variants = 1234;
        let window = |cause, message: &str| UnconfirmedWindow {
            from: time("2026-03-09T12:00:00Z"),
            to: time("2026-03-09T16:00:00Z"),
            cause,
            message: message.to_owned(),
            listed_through: None,
            pending: 0,
        };
        // That the window of now is open is no news.
        missing.unconfirmed = UnconfirmedItem { windows: 1, oldest: vec![window("open", "it has not ended")] };
        dlp.unconfirmed = UnconfirmedItem { windows: 3, oldest: vec![window("not_listed", "unlisted")] };
        let report = CoverageReport { items: vec![missing, dlp], damaged_segments: Vec::new(), expired: Vec::new() };
        let text = to_text(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
        assert!(lines[0].contains("complete through") && lines[2].starts_with("tenant 6a1c4f0e"), "{text}");
        assert!(lines[3].contains("Audit.AzureActiveDirectory"), "{text}");
        assert_eq!(lines[4], "    12 pending, 1 gap, 3 in quarantine");
        assert_eq!(
            lines[5],
            "    gap from 2026-03-02 00:00:00Z to 2026-03-03 00:00:00Z: collector_off: it did not run"
        );
        assert_eq!(lines[6], "    and 3 more in quarantine: --details N shows more of them");
        assert!(lines[7].contains("DLP.All") && lines[7].ends_with("1,234,567"), "{text}");
        assert_eq!(
            lines[8],
            "    not yet confirmed: 2026-03-09 12:00:00Z to 2026-03-09 16:00:00Z: not_listed: unlisted"
        );
        assert_eq!(lines[9], "    and 2 later windows not yet confirmed");
        assert_eq!(
            lines[10],
            "    1,234 records came with another body under an Id that was there: both bodies are kept"
        );
        assert_eq!(lines.len(), 11, "one tenant, named once: {text}");
    }
}
