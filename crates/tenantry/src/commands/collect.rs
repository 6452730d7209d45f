//! `collect --once`: catches up on everything available now, then exits with what came of it.
//!
//! Never loops for ever: what keeps failing is reported, and the next run tries again.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use server::clock::SystemClock;
use server::collector::{Board, Ended, Progress, RunReport, Sharing, Webhooks};
use server::ledger::Ledger;
use server::ledger::postgres::{Claim, Company};
use server::metrics::Metrics;
use server::transport::{HttpTransport, Timeouts};
use server::{Collector, CollectorParts};

use super::{load, store};
use crate::cli::{CollectArgs, Global};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::{logging, present};

pub(crate) async fn run(global: &Global, args: CollectArgs) -> Result<(), Failure> {
    debug_assert!(args.once, "clap requires --once");
    let config = load(global)?;
    let collector = open(&config, Webhooks::LeaveAlone, Company::Alone).await?;
    store::selected_tenants(collector.ledger.as_ref(), &args.tenant).await?;
    let painter = Painter::start(global, collector.collector.board().clone());
    let report = collector.collector.collect_once(&args.tenant, stop_signal()).await;
    painter.finish();
    let report = report.map_err(|error| Failure::from_chain(Code::Storage, &error))?;
    if global.json {
        present::print_json(&to_json(&report))?;
    } else {
        present::print(&to_table(&report))?;
    }
    outcome(&report)
}

/// A collector with everything it holds on to.
pub(crate) struct OpenCollector {
    pub(crate) collector: Collector,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    /// Held until the collector is gone: of the database, then of the data folder.
    #[expect(dead_code, reason = "what counts is that it lives")]
    claim: Option<Claim>,
    #[expect(dead_code, reason = "what counts is that it lives")]
    lock: Option<server::instance::InstanceLock>,
}

/// Opens everything a collector needs, in the order that gives the clearest refusal. `company` says whether others may be at
/// work on a shared ledger meanwhile.
pub(crate) async fn open(config: &Config, webhooks: Webhooks, company: Company) -> Result<OpenCollector, Failure> {
    let settings = store::settings(config)?;
    for note in config.not_carried_out() {
        tracing::warn!("{note}");
    }
    let lock = store::lock(config)?;
    let ledger = store::open_any_ledger(config)?.acting_as(&store::worker_name());
    let claim = ledger.claim(company).await.map_err(store::claim_failure)?;
    let sharing = store::sharing(config, &ledger);
    let sharing = sharing.map(|sharing| Sharing { alone: company == Company::Alone, ..sharing });
    let assembled = assemble(config, &ledger.shared(), settings, webhooks, sharing).await?;
    let open = OpenCollector { claim, lock: Some(lock), ..assembled };
    // A key that does not fit is no reason to stop collecting: it is said here, by `doctor`, and wherever a secret is missed.
    if let Err(error) = store::safe(config, open.ledger.clone())?.check().await {
        tracing::error!(error = %server::chain(&error), "the key of [secrets] does not open what this ledger keeps sealed");
    }
    Ok(open)
}

/// The same for a command that asks Microsoft something while a collector may be running; it collects nothing.
pub(crate) async fn open_beside(config: &Config) -> Result<OpenCollector, Failure> {
    assemble(config, &store::open_ledger(config)?, store::settings(config)?, Webhooks::LeaveAlone, None).await
}

async fn assemble(
    config: &Config,
    ledger: &Arc<dyn Ledger>,
    settings: server::settings::Settings,
    webhooks: Webhooks,
    sharing: Option<Sharing>,
) -> Result<OpenCollector, Failure> {
    let archive = store::open_archive(config, ledger.as_ref()).await?;
    let transport =
        HttpTransport::new(&Timeouts::default()).map_err(|error| Failure::from_chain(Code::Config, &error))?;
    let metrics = Arc::new(Metrics::default());
    let parts = CollectorParts {
        transport: Arc::new(transport),
        ledger: ledger.clone(),
        archive,
        clock: Arc::new(SystemClock),
        metrics: metrics.clone(),
    };
    let collector = Collector::sharing(settings, &parts, webhooks, sharing);
    Ok(OpenCollector { collector, ledger: ledger.clone(), metrics, claim: None, lock: None })
}

/// Completes at the first SIGINT, SIGTERM or SIGHUP from now on, before it is awaited too. There is nothing to reload (what is
/// watched is read again by itself), so a terminal that closes ends the program in good order; one started by `nohup`, which
/// has SIGHUP ignored, goes on ignoring it.
#[cfg(unix)]
pub(crate) fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let hang_up = (!ignores_hang_up()).then(SignalKind::hangup);
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hang_up);
    let mut signals: Vec<_> = kinds.filter_map(|kind| signal(kind).ok()).collect();
    std::future::poll_fn(move |context| {
        let has_come = |signal: &mut tokio::signal::unix::Signal| signal.poll_recv(context).is_ready();
        if signals.iter_mut().any(has_come) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
}

/// Completes at the first Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn stop_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

/// Whether whoever started us has SIGHUP ignored; asked before a handler takes its place. Only Linux tells.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// The exit of a run: complete, stopped, or with something left.
pub(crate) fn outcome(report: &RunReport) -> Result<(), Failure> {
    if let Some(problem) = &report.problem {
        return Err(Failure::new(code_of(&problem.kind), &problem.message));
    }
    let blocked: Vec<_> = report
        .tenants
        .iter()
        .filter_map(|tenant| {
            let problem = tenant.progress.problem.as_ref().or_else(|| tenant.progress.type_problems.values().next())?;
            Some((tenant.progress.tenant, problem))
        })
        .collect();
    if let Some((tenant, problem)) = blocked.first() {
        let more = if blocked.len() > 1 { format!(" (and {} more tenants)", blocked.len() - 1) } else { String::new() };
        return Err(Failure::new(code_of(&problem.kind), format!("tenant {tenant}: {}{more}", problem.message)));
    }
    let lost: u64 = report.tenants.iter().map(|tenant| tenant.lost).sum();
    if lost > 0 {
        return Err(Failure::new(
            Code::Incomplete,
            format!(
                "{lost} content(s) were given up; `tenantry coverage` names them with the cause, and the rest is archived"
            ),
        ));
    }
    let damaged: u64 = report.tenants.iter().map(|tenant| tenant.progress.damaged_segments).sum();
    if damaged > 0 {
        return Err(Failure::new(
            Code::Storage,
            format!(
                "{damaged} archive file(s) are damaged: restore them from a backup; `tenantry coverage` names them, and what was collected now is sound"
            ),
        ));
    }
    if report.is_complete() {
        return Ok(());
    }
    if report.ended == Ended::Stopped {
        return Err(Failure::new(
            Code::Incomplete,
            "stopped before everything was collected; the next run goes on where this one was",
        ));
    }
    if let Some(tenant) = report.tenants.iter().find(|tenant| tenant.unfinished == 0 && !tenant.unlisted.is_empty()) {
        let types: Vec<_> = tenant.unlisted.iter().map(ToString::to_string).collect();
        return Err(Failure::new(
            Code::Incomplete,
            format!(
                "tenant {}: {} could not be listed to the end (see the log); the next run tries again",
                tenant.progress.tenant,
                types.join(", ")
            ),
        ));
    }
    let unfinished: u64 = report.tenants.iter().map(|tenant| tenant.unfinished).sum();
    let reason = report.tenants.iter().find_map(|tenant| tenant.last_failure.as_deref()).unwrap_or("see the log");
    Err(Failure::new(
        Code::Incomplete,
        format!(
            "{unfinished} content(s) could not be had yet ({reason}); the next run tries again, and `tenantry coverage` lists them"
        ),
    ))
}

/// Problems that lie on this machine end with the storage code; whatever the other side says no to, with its own.
fn code_of(kind: &str) -> Code {
    match kind {
        "disk_full" | "ledger_locked" | "ledger_unreachable" | "ledger_unusable" | "archive_unavailable" => {
            Code::Storage
        }
        "service_down" | "throttled" | "unreachable" | "subscription_missing" => Code::Incomplete,
        _ => Code::Refused,
    }
}

fn to_table(report: &RunReport) -> String {
    let rows = report
        .tenants
        .iter()
        .map(|tenant| {
            let counts = &tenant.progress.counts;
            let problem = tenant.progress.problem.as_ref().or_else(|| tenant.progress.type_problems.values().next());
            vec![
                tenant.progress.tenant.to_string(),
                tenant.progress.label.clone(),
                present::count(counts.archived),
                present::count(counts.records),
                present::count(counts.records.saturating_sub(counts.duplicates)),
                present::count(counts.duplicates),
                present::count(counts.quarantined),
                present::count(tenant.unfinished),
                present::count(tenant.lost),
                problem
                    .map(|problem| problem.message.clone())
                    .or_else(|| tenant.last_failure.clone())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    present::table(
        &["tenant", "label", "contents", "records", "new", "repeats", "quarantined", "unfinished", "lost", "problem"],
        &["contents", "records", "new", "repeats", "quarantined", "unfinished", "lost"],
        rows,
    )
}

fn to_json(report: &RunReport) -> serde_json::Value {
    let tenants: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| {
            let counts = &tenant.progress.counts;
            let problem = tenant.progress.problem.as_ref().or_else(|| tenant.progress.type_problems.values().next());
            json!({
                "tenant_id": tenant.progress.tenant,
                "label": tenant.progress.label,
                "complete": tenant.is_complete(),
                "contents": counts.archived,
                "records": counts.records,
                "duplicates": counts.duplicates,
                "variants": counts.variants,
                "quarantined": counts.quarantined,
                "damaged_segments": tenant.progress.damaged_segments,
                "bytes": counts.bytes,
                "lost": tenant.lost,
                "unfinished": tenant.unfinished,
                "last_failure": tenant.last_failure,
                "problem": problem.map(|problem| json!({ "kind": problem.kind, "message": problem.message })),
            })
        })
        .collect();
    json!({ "complete": report.is_complete(), "stopped": report.ended == Ended::Stopped, "tenants": tenants })
}

/// Draws progress on stderr while a terminal is watching; nothing otherwise.
pub(crate) struct Painter {
    task: Option<tokio::task::JoinHandle<()>>,
    bar: ProgressBar,
}

impl Painter {
    pub(crate) fn start(global: &Global, board: Board) -> Self {
        if global.quiet || global.json || !std::io::stderr().is_terminal() {
            return Self { task: None, bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(0);
        // There is nothing to be a part of before the first listing is in.
        let (looking, counting) = ("{spinner} {wide_msg}", "{spinner} {bar:24.cyan} {pos}/{len} contents, {wide_msg}");
        let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style(looking));
        logging::draw_around(Some(bar.clone()));
        let painted = bar.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(120));
            let mut has_contents = false;
            loop {
                tick.tick().await;
                let progress = board.snapshot();
                let total = progress.total();
                let contents = total.archived + total.lost + progress.pending();
                if contents > 0 && !has_contents {
                    painted.set_style(style(counting));
                    has_contents = true;
                }
                painted.set_length(contents);
                painted.set_position(total.archived + total.lost);
                painted.set_message(words(&progress));
            }
        });
        Self { task: Some(task), bar }
    }

    pub(crate) fn finish(self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
        logging::draw_around(None);
    }
}

/// What stands beside the bar.
fn words(progress: &Progress) -> String {
    let total = progress.total();
    let trouble = progress.tenants.iter().filter(|tenant| tenant.has_problem()).count();
    let trouble = if trouble > 0 { format!(", {trouble} tenant(s) with a problem") } else { String::new() };
    format!(
        "{} records{trouble}, {} repeats, {} retries, {} tenants",
        present::count(total.records),
        present::count(total.duplicates),
        present::count(total.failed_attempts),
        progress.tenants.len(),
    )
}
