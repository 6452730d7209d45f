//! `demo`: the emulator and the collector in one process, over loopback, and at the end what was collected against what
//! was published, record by record.
//!
//! Never needs a configuration, and never talks to anything but itself.

mod compare;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use emulator::world::{Lateness, WorldOptions};
use emulator::{DEFAULT_SECRET, Emulator, EmulatorOptions, Running, default_app};
use serde_json::json;
use server::archive::Archive;
use server::clock::SystemClock;
use server::engine::tile::collect_from;
use server::instance::InstanceLock;
use server::ledger::Ledger;
use server::metrics::Metrics;
use server::protocol::cloud::{Cloud, CustomCloud};
use server::protocol::ids::PublisherId;
use server::protocol::secret::ClientSecret;
use server::settings::{AppSettings, CollectSettings, Credential, Limits, Settings, TokenEndpoint};
use server::transport::{HttpTransport, Timeouts};
use server::{Collector, CollectorParts};

use super::collect::{Painter, stop_signal};
use super::{emulate, load, store};
use crate::cli::{DemoArgs, Global};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::present;
use compare::Comparison;

/// How soon late content appears: soon enough that nobody waits for it, late enough that the first pass misses it.
const LATE_WITHIN: Duration = Duration::from_secs(4);

/// Passes over everything before the demo gives up: with one request in ten failing, the third finds nothing to do.
const PASSES_MAX: u32 = 8;

pub(crate) async fn run(global: &Global, args: DemoArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut config = load(global)?;
    let temporary = Folder::choose(global, &mut config)?;
    let stage = Stage::set(&config, &args).await?;
    tell(global, &format!("Microsoft's side: {} tenants at http://{}", args.tenants, stage.running.addr()));
    tell(global, &format!("our side: ledger and archive in {}", config.data_dir.display()));

    let mut passes = 0;
    loop {
        passes += 1;
        let painter = Painter::start(global, stage.collector.board().clone());
        let mut stopped = false;
        let report = stage
            .collector
            .collect_once(&[], async {
                stop_signal().await;
                stopped = true;
            })
            .await;
        painter.finish();
        let report = report.map_err(|error| Failure::from_chain(Code::Storage, &error))?;
        if stopped {
            return Err(Failure::new(Code::Incomplete, "stopped before everything was collected"));
        }
        let total = report.total();
        tell(
            global,
            &format!(
                "pass {passes}: {} contents, {} records, {} repeats left out, {} failed attempts tried again",
                present::count(total.archived),
                present::count(total.records),
                present::count(total.duplicates),
                present::count(total.failed_attempts),
            ),
        );
        let summary = stage.emulator.world().truth();
        let settled = summary.complete_at.is_none_or(|at| at <= stage.emulator.world().now());
        if (settled && report.is_complete() && passes > 1) || passes == PASSES_MAX {
            break;
        }
        if let Some(wait) = summary.complete_at.and_then(|at| (at - stage.emulator.world().now()).to_std().ok()) {
            // What is late by design becomes listable at that time; nothing else is to be waited for.
            tokio::time::sleep(wait.min(LATE_WITHIN)).await;
        }
    }
    let comparison = compare::compare(&stage.emulator, stage.ledger.as_ref(), &stage.archive).await?;
    show(global, &config, &stage, &comparison, begun.elapsed(), temporary.is_some())?;
    if !args.once {
        go_on(global, &stage).await?;
    }
    stage.running.stop().await;
    drop(temporary);
    if comparison.is_exact() {
        return Ok(());
    }
    Err(Failure::new(Code::Incomplete, comparison.verdict()))
}

/// A folder that is removed at the end, unless the caller named one.
struct Folder(PathBuf);

impl Folder {
    fn choose(global: &Global, config: &mut Config) -> Result<Option<Self>, Failure> {
        if global.data_dir.is_some() {
            return Ok(None);
        }
        let path = std::env::temp_dir().join(format!("tenantry-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::new(
                Code::Storage,
                format!("cannot make {}: {error}; name a folder with --data-dir", path.display()),
            )
        })?;
        config.place_in(&path);
        Ok(Some(Self(path)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the demo's folder could not be removed");
        }
    }
}

/// Both sides, ready to begin.
struct Stage {
    emulator: Emulator,
    running: Running,
    collector: Collector,
    ledger: Arc<dyn Ledger>,
    archive: Archive,
    _lock: InstanceLock,
}

impl Stage {
    async fn set(config: &Config, args: &DemoArgs) -> Result<Self, Failure> {
        let lock = store::lock(config)?;
        let ledger = store::open_ledger(config)?;
        let archive = store::open_archive(config, ledger.as_ref()).await?;
        let known = store::selected_tenants(ledger.as_ref(), &[]).await?;
        if !known.is_empty() {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "{} is in use already: a demo wants a folder of its own, give another --data-dir",
                    config.data_dir.display()
                ),
            ));
        }
        let app = default_app(args.seed);
        let options = EmulatorOptions {
            world: world(args),
            apps: vec![app.clone()],
            faults: emulate::fault_plan(&args.faults, args.seed)?,
            ..EmulatorOptions::default()
        };
        let emulator = Emulator::new(options).map_err(emulate::failure)?;
        let running = emulator.start(([127, 0, 0, 1], 0).into(), None).await.map_err(emulate::failure)?;
        let about = emulator.about();
        let now = store::now();
        for tenant in about["tenants"].as_array().into_iter().flatten() {
            let id = tenant["id"]
                .as_str()
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| Failure::new(Code::Other, "the emulator named a tenant without an id"))?;
            let label = tenant["name"].as_str().unwrap_or_default().to_owned();
            ledger.add_tenant(id, label, collect_from(now), now).await.map_err(store::ledger_failure)?;
        }
        let settings = settings(config, &running, &app)?;
        let transport =
            HttpTransport::new(&Timeouts::default()).map_err(|error| Failure::from_chain(Code::Config, &error))?;
        let parts = CollectorParts {
            transport: Arc::new(transport),
            ledger: ledger.clone(),
            archive: archive.clone(),
            clock: Arc::new(SystemClock),
            metrics: Arc::new(Metrics::default()),
        };
        Ok(Self { emulator, running, collector: Collector::new(settings, &parts), ledger, archive, _lock: lock })
    }
}

fn world(args: &DemoArgs) -> WorldOptions {
    WorldOptions {
        seed: args.seed,
        tenants: usize::try_from(args.tenants).unwrap_or(usize::MAX),
        records_files: args.records.clone(),
        records_total: args.records.is_empty().then_some(u64::from(args.tenants) * 4_000),
        limits: emulator::world::Limits { requests_per_minute: None, ..emulator::world::Limits::default() },
        lateness: Lateness {
            share: 0.05,
            max: Duration::from_secs(3 * 86_400),
            after_start: Some(LATE_WITHIN),
            ..Lateness::default()
        },
        live_rate: if args.once { 0.0 } else { 60.0 * f64::from(args.tenants) },
        ..WorldOptions::default()
    }
}

fn settings(config: &Config, running: &Running, app: &emulator::app::AppRegistration) -> Result<Settings, Failure> {
    let root = format!("http://{}", running.addr());
    let cloud = Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None })
        .map_err(|error| Failure::from_chain(Code::Other, &error))?;
    Ok(Settings {
        data_dir: config.data_dir.clone(),
        app: AppSettings {
            client_id: app.client_id,
            publisher_id: PublisherId::from_uuid(*app.home_tenant.as_uuid()),
            credentials: vec![Credential::Secret(ClientSecret::new(DEFAULT_SECRET))],
            token_endpoint: TokenEndpoint::V2,
        },
        cloud,
        collect: CollectSettings {
            content_types: config.collect.content_types.clone(),
            poll_interval: Duration::from_secs(2),
            quiet_poll_interval: Duration::from_secs(2),
            commit_interval: Duration::from_secs(1),
            // A demo lists a week in a second; Microsoft's quota would make it wait a minute.
            requests_per_minute: 60_000,
            tile: config.collect.tile,
        },
        retention: None,
        tables: config.tables,
        limits: Limits { obsolete_grace: Duration::from_secs(5), ..Limits::default() },
    })
}

fn show(
    global: &Global,
    config: &Config,
    stage: &Stage,
    comparison: &Comparison,
    took: Duration,
    temporary: bool,
) -> Result<(), Failure> {
    if global.json {
        return present::print_json(&json!({
            "exact": comparison.is_exact(),
            "seconds": took.as_secs_f64(),
            "data_dir": (!temporary).then(|| config.data_dir.display().to_string()),
            "tenants": comparison.to_json(),
        }));
    }
    let faults: u64 = stage.emulator.world().faults_struck().iter().map(|(_, count)| count).sum();
    present::print(&comparison.to_table())?;
    present::print(&format!(
        "\n{}\n{}; {} faults struck on the way; {:.1} s in all.",
        comparison.verdict(),
        comparison.size(),
        present::count(faults),
        took.as_secs_f64()
    ))?;
    let program = std::env::args().next().unwrap_or_else(|| "tenantry".to_owned());
    if temporary {
        return present::print(&format!(
            "\nTo keep what a demo makes and ask it questions: {program} --data-dir demo-data demo --once"
        ));
    }
    let folder = config.data_dir.display();
    present::print(&format!(
        "\nNext:\n  \
         {program} --data-dir {folder} query \"SELECT workload, operation, count(*) AS n FROM audit GROUP BY 1, 2 ORDER BY n DESC LIMIT 10\"\n  \
         {program} --data-dir {folder} coverage\n  \
         {program} --data-dir {folder} archive verify"
    ))
}

/// Goes on with content as it is made, until Ctrl-C.
async fn go_on(global: &Global, stage: &Stage) -> Result<(), Failure> {
    tell(global, "\ngoing on with what is published from now on; Ctrl-C ends it");
    let painter = Painter::start(global, stage.collector.board().clone());
    let report = stage.collector.run(stop_signal()).await;
    painter.finish();
    let total = report.map_err(|error| Failure::from_chain(Code::Storage, &error))?.total();
    present::print(&format!("{} records collected", present::count(total.records.saturating_sub(total.duplicates))))
}

fn tell(global: &Global, text: &str) {
    use std::io::Write as _;
    if !global.quiet && (!global.json || std::io::stderr().is_terminal()) {
        // A closed stderr is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
