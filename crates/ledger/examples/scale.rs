//! What the shared ledger's statements cost with 10,000 tenants and 90 days of history: fills a database of a server of its
//! own, makes the calls that workers make all day, and prints each statement's plan and each call's time.
//!
//! Ends with 1 when one of them reads a large table from end to end. `cargo run --release -p ledger --example scale -- [TENANTS]`
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool for builders")]

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::lease::{LEASE_TIME, WorkerId};
use engine::model::{ArchivedContent, Commit, CommitNumber, Listed, SegmentRow, Tile};
use ledger::postgres::{PgAddress, PgLedger, PgOptions};
use ledger::{Ledger, LedgerError, Workers};
use protocol::ids::{ContentType, TenantId};
use protocol::time::Timestamp;

use self::server::PgServer;

#[path = "../src/conformance/server.rs"]
#[expect(dead_code, reason = "the tests use what this does not")]
mod server;

/// How often each call is made, each time for another tenant.
const ROUNDS: u64 = 200;
/// Noon of the last day of the history, in milliseconds.
const NOW: i64 = 1_772_625_600_000;
/// Tables that are small however many tenants there are.
const SMALL: [&str; 3] = ["revision", "content_type", "worker"];
/// Who takes tenants.
const WORKER: WorkerId = WorkerId([1; 16]);

fn fill(server: &PgServer, database: &str, tenants: u64) {
    let day = 86_400_000;
    let statements = [
        "INSERT INTO content_type (name) VALUES ('Audit.AzureActiveDirectory'), ('Audit.Exchange'), ('Audit.SharePoint'),
         ('Audit.General'), ('DLP.All')"
            .to_owned(),
        format!(
            "INSERT INTO tenant (id, label, state, added_at, collect_from, last_commit, revision)
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(t), 12, '0'))::uuid, 'Tenant ' || t, 0, {NOW} - 90 * {day}::bigint,
             {NOW} - 90 * {day}::bigint, 9000, t FROM generate_series(1, {tenants}) AS t"
        ),
        format!("UPDATE revision SET greatest = {tenants}"),
        format!(
            "INSERT INTO feed (tenant, type, first_seen_at, began, settled_through, enabled, listed_at, archived, records)
             SELECT tenant, type, {NOW}, {NOW} - 90 * {day}::bigint, {NOW} - 8 * {day}::bigint, true, {NOW}, 9000, 900000
             FROM tenant, content_type"
        ),
        // Windows of four hours, until they are folded away.
        format!(
            "INSERT INTO tile (feed, start, until, listed_until, listed_at, closed_listings, late_contents)
             SELECT feed, {NOW} - n * 14400000::bigint, {NOW} - (n - 1) * 14400000::bigint,
             {NOW} - (n - 1) * 14400000::bigint, {NOW}, 3, 0 FROM feed, generate_series(1, 48) AS n"
        ),
        // Ten contents a day and feed for the seven days that Microsoft keeps them; the last ones wait.
        format!(
            "INSERT INTO content (feed, key, id, state, created, expires)
             SELECT feed, decode(md5(feed || '-' || n), 'hex'), feed || '-' || n, CASE WHEN n = 1 AND feed % 10 = 0 THEN 0 WHEN n = 2 AND feed % 50 = 0 THEN 2 ELSE 1 END,
             {NOW} - n * 8640000::bigint, {NOW} - n * 8640000::bigint + 7 * {day}::bigint FROM feed, generate_series(1, 70) AS n"
        ),
        format!(
            "INSERT INTO pending (content, tenant, feed, uri, created, expires, seen_at, attempts, next_attempt_at)
             SELECT content, tenant, feed, 'https://manage.office.com/' || id, created, expires, {NOW}, 0, {NOW}
             FROM content JOIN feed USING (feed) WHERE content.state = 0"
        ),
        "UPDATE feed SET pending = 1 WHERE feed % 10 = 0".to_owned(),
        format!(
            "INSERT INTO loss (content, tenant, kind, message, uri, lost_at)
             SELECT content, tenant, 1, 'gone', 'https://manage.office.com/' || id, {NOW} FROM content JOIN feed USING (feed)
             WHERE content.state = 2"
        ),
        format!("INSERT INTO gap (feed, start, until) SELECT feed, {NOW} - n * {day}::bigint, {NOW} - n * {day}::bigint + 1 FROM feed, generate_series(1, 2) AS n"),
        // Five segments a day, for ninety days.
        format!(
            "INSERT INTO segment (tenant, date, number, part, rows, bytes, second_min, second_max, untimed_rows, digest, stored_at)
             SELECT tenant, to_char(to_timestamp({NOW} / 1000) - d * interval '1 day', 'YYYY-MM-DD'), d * 5 + p, p, 1000, 100000, 0, 1, 0,
             decode(repeat('00', 32), 'hex'), {NOW} - d * {day}::bigint
             FROM tenant, generate_series(0, 89) AS d, generate_series(1, 5) AS p"
        ),
        format!("INSERT INTO heard (feed, hour, first, last) SELECT feed, {NOW} - h * 3600000::bigint, {NOW}, {NOW} FROM feed, generate_series(0, 9) AS h"),
        format!("INSERT INTO rhythm (feed, longest, hours, through) SELECT feed, decode(repeat('00', 336), 'hex'), 2000, {NOW} FROM feed"),
        format!(
            "INSERT INTO webhook (feed, path_key, address, state, since, failures, drifts)
             SELECT feed, decode(md5('w' || feed), 'hex'), 'https://audit.example.com/webhook/' || feed, 1, {NOW}, 0, 0 FROM feed"
        ),
    ];
    for statement in statements {
        let started = Instant::now();
        // Rows that belong together are made together: nothing has to be looked up for each.
        server.psql_in(database, &format!("SET session_replication_role = replica; {statement}"));
        let table = statement.split_whitespace().nth(2).unwrap_or_default();
        println!("{:>7.1} s  {table}", started.elapsed().as_secs_f64());
    }
    server.psql_in(database, "VACUUM (ANALYZE)");
    for line in server.psql_in(
        database,
        "SELECT relname || ': ' || reltuples::bigint || ' rows, ' || pg_size_pretty(pg_total_relation_size(oid)) FROM pg_class
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > 1000 ORDER BY pg_total_relation_size(oid) DESC",
    ) {
        println!("  {line}");
    }
}

/// The server's log, as far as it has not been read.
struct Log {
    path: PathBuf,
    read: u64,
}

impl Log {
    fn news(&mut self) -> String {
        let mut file = std::fs::File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        self.read += file.read_to_string(&mut text).unwrap() as u64;
        text
    }
}

/// Statements of a log with the scans of their plans.
fn plans(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in log.split("plan:\n").skip(1) {
        let (mut query, mut scans) = (String::new(), Vec::new());
        for line in entry.lines().take_while(|line| line.starts_with('\t')) {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("Query Text: ") {
                query = text.to_owned();
            } else if line.contains(" Scan ") || line.contains("Sort ") || line.starts_with("Sort") {
                scans.push(line.trim_start_matches("->").trim().to_owned());
            } else if scans.is_empty() && !line.contains("cost=") {
                query = format!("{query} {line}");
            }
        }
        found.entry(query.chars().take(110).collect()).or_insert(scans);
    }
    found
}

/// The tenant, its number, and what it is given to work on.
struct Round {
    id: TenantId,
    number: u64,
}

type Call = (&'static str, fn(&PgLedger, &Round) -> Result<(), LedgerError>);

fn calls() -> Vec<Call> {
    fn done<T>(call: ledger::LedgerFuture<'_, T>) -> Result<T, LedgerError> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(call)
    }
    vec![
        ("tenants_since (nothing new)", |l, _| done(l.tenants_since(u64::from(u32::MAX))).map(drop)),
        ("tenant", |l, r| done(l.tenant(r.id)).map(drop)),
        ("subscriptions", |l, r| done(l.subscriptions(r.id)).map(drop)),
        ("webhooks", |l, r| done(l.webhooks(r.id)).map(drop)),
        ("tiles", |l, r| done(l.tiles(r.id, ContentType::General)).map(drop)),
        ("contents_listed (20 known)", |l, r| done(l.contents_listed(r.id, page(r, 0..20), now())).map(drop)),
        ("contents_listed (20 new)", |l, r| done(l.contents_listed(r.id, page(r, 100..120), now())).map(drop)),
        ("tile_listed", |l, r| done(l.tile_listed(r.id, ContentType::General, tile())).map(drop)),
        ("pending", |l, r| done(l.pending(r.id, now(), 20, vec![1, 2, 3])).map(drop)),
        ("next_attempt_at", |l, r| done(l.next_attempt_at(r.id)).map(drop)),
        ("commit (20 contents, 2 segments)", |l, r| {
            let rows = done(l.pending(r.id, now(), 20, Vec::new()))?;
            done(l.commit(commit(r, rows.iter().map(|pending| pending.row))))
        }),
        ("alive", |l, _| done(l.alive(WORKER, String::new(), LEASE_TIME)).map(drop)),
        ("take (100)", |l, _| done(l.take(WORKER, 100)).map(drop)),
        ("commit under a lease (empty)", |l, r| {
            let held = done(l.held(WORKER))?;
            let Some(lease) = held.get(usize::try_from(r.number).unwrap() % held.len().max(1)) else { return Ok(()) };
            let number = done(l.tenant(lease.tenant))?.map_or(0, |tenant| tenant.last_commit.0) + 1;
            let commit = Commit { tenant: lease.tenant, number: CommitNumber(number), ..empty_commit() };
            done(l.under(*lease).commit(commit))
        }),
        ("give_back (1)", |l, _| {
            let held = done(l.held(WORKER))?;
            done(l.give_back(held.into_iter().take(1).collect())).map(drop)
        }),
        ("coverage", |l, r| done(l.coverage(r.id)).map(drop)),
        ("feed_notes", |l, r| done(l.feed_notes(r.id)).map(drop)),
        ("failing", |l, r| done(l.failing(r.id, 10)).map(drop)),
        ("losses", |l, r| done(l.losses(r.id, 10)).map(drop)),
        ("obsolete", |l, r| done(l.obsolete(r.id)).map(drop)),
        ("damaged_segments", |l, r| done(l.damaged_segments(r.id)).map(drop)),
        ("segments", |l, r| done(l.segments(r.id)).map(drop)),
        ("fold (a day)", |l, r| done(l.fold(r.id, now() - chrono::TimeDelta::hours(1), 500)).map(drop)),
    ]
}

fn now() -> Timestamp {
    Timestamp::from_timestamp_millis(NOW).unwrap()
}

fn page(round: &Round, numbers: std::ops::Range<u64>) -> Vec<Listed> {
    numbers
        .map(|number| Listed {
            content_type: ContentType::General,
            content_id: format!("{}${number}", round.number).parse().unwrap(),
            content_uri: format!("https://manage.office.com/{}/{number}", round.number).parse().unwrap(),
            created: now(),
            expires: now() + chrono::TimeDelta::days(7),
        })
        .collect()
}

fn tile() -> Tile {
    let until = now() + chrono::TimeDelta::hours(4);
    Tile {
        start: now(),
        until,
        listed_until: Some(now()),
        listed_at: Some(now()),
        closed_listings: 0,
        next_listing_at: Some(until),
        late_contents: 0,
    }
}

fn commit(round: &Round, rows: impl Iterator<Item = i64>) -> Commit {
    let number = CommitNumber(9001);
    let contents = rows
        .map(|row| ArchivedContent { row, records: 100, duplicates: 0, variants: 0, quarantined: 0, bytes: 1000 })
        .collect();
    let segments = (0..2)
        .map(|part| SegmentRow {
            date: "2026-03-04".to_owned(),
            commit: number,
            part,
            rows: 1000,
            bytes: 100_000,
            second_min: None,
            second_max: None,
            untimed_rows: 0,
            digest: [0; 32],
        })
        .collect();
    Commit { tenant: round.id, number, contents, segments, ..empty_commit() }
}

fn empty_commit() -> Commit {
    Commit {
        tenant: TenantId::from_uuid(uuid::Uuid::nil()),
        number: CommitNumber(0),
        at: now(),
        contents: Vec::new(),
        lost: Vec::new(),
        segments: Vec::new(),
        quarantined: Vec::new(),
    }
}

fn main() -> std::process::ExitCode {
    let tenants: u64 = std::env::args().nth(1).map_or(10_000, |text| text.parse().unwrap());
    let settings = [
        "shared_buffers=512MB",
        "max_wal_size=4GB",
        "shared_preload_libraries=auto_explain",
        "auto_explain.log_analyze=on",
    ];
    let server = PgServer::start_with(&settings);
    let database = server.database();
    let (address, _) = PgAddress::parse(&server.url(&database)).unwrap();
    drop(PgLedger::open(PgOptions::at(address.clone())).unwrap());
    fill(&server, &database, tenants);
    let ledger = PgLedger::open(PgOptions { connections: 1, ..PgOptions::at(address) }).unwrap();
    let mut log = Log { path: server.log(), read: 0 };
    let mut costly = Vec::new();
    for (name, call) in calls() {
        let mut times = Vec::new();
        log.news();
        for round in 0..ROUNDS {
            // The last one shows its plans.
            let shows = round + 1 == ROUNDS;
            if shows {
                server.psql("ALTER SYSTEM SET auto_explain.log_min_duration = 0");
                server.psql("SELECT pg_reload_conf(), pg_sleep(0.3)");
            }
            let number = 1 + round * (tenants / ROUNDS).max(1) % tenants;
            let id = format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap();
            let started = Instant::now();
            call(&ledger, &Round { id, number }).unwrap();
            times.push(started.elapsed());
            if shows {
                server.psql("ALTER SYSTEM RESET auto_explain.log_min_duration");
                server.psql("SELECT pg_reload_conf()");
            }
        }
        times.sort();
        let at =
            |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(Duration::ZERO).as_secs_f64() * 1e3;
        println!("\n{name}: median {:.2} ms, 95 of 100 within {:.2} ms", at(50), at(95));
        for (query, scans) in plans(&log.news()) {
            println!("  {query}");
            for scan in scans {
                println!("      {scan}");
                if scan.starts_with("Seq Scan") && !SMALL.iter().any(|small| scan.contains(&format!("on {small} "))) {
                    costly.push(format!("{name}: {query}: {scan}"));
                }
            }
        }
    }
    println!("\nread from end to end: {costly:#?}");
    if costly.is_empty() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
