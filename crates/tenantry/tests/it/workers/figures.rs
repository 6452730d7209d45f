//! What workers that share the tenants cost, and what their database does for them: CPU time by the kernel's word, transactions
//! and the log it writes by PostgreSQL's own.
//!
//! Never judges: how fast a machine is, is its own affair.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use emulator::world::RecordSet;

use super::{PATIENCE, Shared};
use crate::serving::Serving;
use crate::support::Microsoft;

/// Linux counts CPU time in ticks of 10 ms (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// How long the workers are watched when there is nothing left to collect.
const IDLE: Duration = Duration::from_secs(120);

/// What had been spent at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    at: Instant,
    workers: Duration,
    database: Duration,
    transactions: u64,
    rows: u64,
    log_bytes: u64,
    requests: u64,
}

impl Spent {
    pub(super) fn by_now(shared: &Shared, workers: &[Serving], microsoft: &Microsoft) -> Self {
        // Backends report when they come to rest, once a second at most.
        std::thread::park_timeout(Duration::from_secs(2));
        let database = &shared.database;
        let of =
            |what: &str| shared.number(&format!("SELECT {what} FROM pg_stat_database WHERE datname = '{database}'"));
        Self {
            at: Instant::now(),
            workers: workers.iter().map(|worker| cpu_of(worker.process(), false)).sum(),
            database: cpu_of_tree(first_process(shared)),
            transactions: of("xact_commit + xact_rollback"),
            rows: of("tup_inserted + tup_updated + tup_deleted"),
            log_bytes: shared.number("SELECT wal_bytes::bigint FROM pg_stat_wal"),
            requests: microsoft.requests(),
        }
    }
}

/// The fields of `/proc/PID/stat` behind the name; none of a process that is gone.
fn fields_of(process: u32) -> Vec<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect()
}

/// User and system time (the 14th and 15th field of the line), and where asked that of children that are gone (16th, 17th).
fn cpu_of(process: u32, with_children: bool) -> Duration {
    let ticks: u64 = fields_of(process).iter().skip(10).take(if with_children { 4 } else { 2 }).sum();
    TICK * u32::try_from(ticks).unwrap()
}

/// The server's first process, of which all others are children.
fn first_process(shared: &Shared) -> u32 {
    let child = shared.number("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    let parent = fields_of(u32::try_from(child).unwrap()).first().copied();
    parent.and_then(|parent| u32::try_from(parent).ok()).unwrap_or(0)
}

/// Of the process, its children, and theirs: of a server that is a process for each connection.
fn cpu_of_tree(root: u32) -> Duration {
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children = processes.filter(|process: &u32| fields_of(*process).first() == Some(&u64::from(root)));
    cpu_of(root, true) + children.map(|child| cpu_of(child, true)).sum::<Duration>()
}

/// How many records the archive holds when it holds everything.
fn published(microsoft: &Microsoft) -> u64 {
    let of_tenant = |tenant| {
        let mut distinct = HashSet::new();
        microsoft.emulator.world().each_record(tenant, RecordSet::Readable, |_, raw| {
            distinct.insert(raw.to_vec());
            true
        });
        distinct.len() as u64
    };
    microsoft.tenants().into_iter().map(of_tenant).sum()
}

/// Waits until everything is collected, then watches the workers be idle; says what both cost. `nothing` had been spent
/// when the workers were started.
pub(super) fn figures(shared: &Shared, workers: &[Serving], microsoft: &Microsoft, nothing: Spent) -> String {
    microsoft.wait_until_complete();
    let records = published(microsoft);
    let collected = "SELECT coalesce(sum(rows), 0)::bigint FROM segment WHERE obsolete_since IS NULL";
    while shared.number(collected) < records {
        assert!(nothing.at.elapsed() < 10 * PATIENCE, "not everything was ever collected");
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let collected = Spent::by_now(shared, workers, microsoft);
    let per_second = |time: Duration| records as f64 / time.as_secs_f64().max(0.001);
    let wall = collected.at - nothing.at;
    let (of_workers, of_database) = (collected.workers - nothing.workers, collected.database - nothing.database);
    let collecting = format!(
        "{} workers: {records} records in {:.1} s, {:.0} a second; workers {:.1} CPU s, {:.0} records each; database {:.1} \
         CPU s, {:.1} % of both",
        workers.len(),
        wall.as_secs_f64(),
        per_second(wall),
        of_workers.as_secs_f64(),
        per_second(of_workers),
        of_database.as_secs_f64(),
        100.0 * of_database.as_secs_f64() / (of_workers + of_database).as_secs_f64().max(0.001),
    );
    let per_million = |count: u64| count as f64 * 1e6 / records.max(1) as f64;
    let of_ledger = format!(
        "database per million records: {:.0} transactions, {:.0} rows written, {:.1} MiB of log, {:.1} CPU s",
        per_million(collected.transactions - nothing.transactions),
        per_million(collected.rows - nothing.rows),
        per_million(collected.log_bytes - nothing.log_bytes) / f64::from(1 << 20),
        of_database.as_secs_f64() * 1e6 / records.max(1) as f64,
    );
    let begun = Spent::by_now(shared, workers, microsoft);
    std::thread::park_timeout(IDLE);
    let ended = Spent::by_now(shared, workers, microsoft);
    let minutes = microsoft.tenants().len() as f64 * (ended.at - begun.at).as_secs_f64() / 60.0;
    let idle = format!(
        "with nothing to collect, per tenant and minute: {:.2} requests, {:.2} transactions, {:.2} rows written, {:.0} bytes of \
         log, {:.2} ms of CPU of the database and {:.2} of workers",
        (ended.requests - begun.requests) as f64 / minutes,
        (ended.transactions - begun.transactions) as f64 / minutes,
        (ended.rows - begun.rows) as f64 / minutes,
        (ended.log_bytes - begun.log_bytes) as f64 / minutes,
        (ended.database - begun.database).as_secs_f64() * 1e3 / minutes,
        (ended.workers - begun.workers).as_secs_f64() * 1e3 / minutes,
    );
    format!("{collecting}\n{of_ledger}\n{idle}")
}
