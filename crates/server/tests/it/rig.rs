//! A whole collector with an emulator for its neighbour: no sockets, virtual time, real files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::{Archive, ArchiveOptions};
use axum::Router;
use bytes::Bytes;
use chrono::TimeDelta;
use emulator::world::RecordSet;
use emulator::{DEFAULT_SECRET, Emulator, EmulatorClock, EmulatorOptions, FaultPlan, WorldOptions, default_app};
use engine::tile::Grid;
use futures_util::StreamExt;
use http::Request;
use ledger::Ledger;
use ledger::sqlite::{OpenOptions, SqliteLedger};
use protocol::cloud::{Cloud, CustomCloud};
use protocol::ids::{ContentType, PublisherId, TenantId};
use protocol::secret::ClientSecret;
use protocol::time::Timestamp;
use server::clock::{Clock, TokioClock};
use server::collector::segments::segment_of;
use server::metrics::Metrics;
use server::settings::{AppSettings, CollectSettings, Credential, Limits, Settings, TokenEndpoint};
use server::transport::{Answer, Body, Transport, TransportError, TransportFuture};
use server::{Collector, CollectorParts, RunReport};
use tempfile::TempDir;
use tower::ServiceExt;

/// Calls a router in this process; its clock follows ours, and a cut connection is one.
pub(crate) struct RouterTransport {
    router: Router,
    emulator: Emulator,
    clock: Arc<TokioClock>,
    latency: Option<Mutex<(fastrand::Rng, Range<Duration>)>>,
}

impl Transport for RouterTransport {
    fn send(&self, request: Request<Vec<u8>>) -> TransportFuture<'_> {
        Box::pin(async move {
            if let Some(latency) = &self.latency {
                let time = {
                    let (rng, range) = &mut *latency.lock().unwrap();
                    range.start + (range.end - range.start).mul_f64(rng.f64())
                };
                tokio::time::sleep(time).await;
            }
            self.emulator.world().clock().set(self.clock.now());
            let host = request.uri().authority().unwrap().to_string();
            let (mut parts, body) = request.into_parts();
            parts.headers.insert("host", host.parse().unwrap());
            let request = Request::from_parts(parts, axum::body::Body::from(body));
            let response = self.router.clone().oneshot(request).await.unwrap();
            let broken = || TransportError::Broken { origin: "the emulator".into(), reason: "reset".into() };
            if response.extensions().get::<emulator::tls::Cut>().is_some() {
                return Err(broken());
            }
            let (parts, body) = response.into_parts();
            let stream = body.into_data_stream().map(move |chunk| chunk.map_err(|_| broken())).boxed();
            Ok(Answer { status: parts.status, headers: parts.headers, body: Body::new(stream) })
        })
    }
}

/// Records by tenant.
pub(crate) type ByTenant = BTreeMap<TenantId, BTreeSet<Bytes>>;

/// The world and the collector's folder; collectors come and go.
pub(crate) struct Rig {
    pub(crate) emulator: Emulator,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) ledger: SqliteLedger,
    pub(crate) archive: Archive,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    /// How long the network takes for an answer; no time unless told otherwise.
    pub(crate) latency: Option<Range<Duration>>,
    _dir: TempDir,
}

/// A clock that is so much ahead of the rig's.
struct Ahead(Arc<TokioClock>, TimeDelta);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }
}

pub(crate) fn start() -> Timestamp {
    protocol::time::parse_timestamp("2026-03-10T12:34:56Z").unwrap()
}

/// A world of `tenants` with about `records` records each in three days.
pub(crate) fn small_world(seed: u64, tenants: usize, records: u64) -> WorldOptions {
    let mut world = WorldOptions {
        seed,
        tenants,
        start: Some(start()),
        history: Duration::from_secs(3 * 86_400),
        records_total: Some(records * tenants as u64),
        ..WorldOptions::default()
    };
    // What comes after the run has listed its window is a test of its own.
    world.lateness.share = 0.0;
    world
}

impl Rig {
    pub(crate) async fn new(world: WorldOptions, faults: FaultPlan) -> Self {
        Self::notifying(world, faults, None).await
    }

    /// The same, with somewhere for the emulator's webhook posts to go.
    pub(crate) async fn notifying(
        world: WorldOptions,
        faults: FaultPlan,
        outbound: Option<Arc<dyn emulator::webhook::Outbound>>,
    ) -> Self {
        let clock = TokioClock::starting_at(start());
        let seed = world.seed;
        let emulator = Emulator::new(EmulatorOptions {
            world,
            clock: Some(EmulatorClock::frozen(start())),
            apps: vec![default_app(seed)],
            faults,
            outbound,
            ..EmulatorOptions::default()
        })
        .unwrap();
        let dir = folder();
        let app = default_app(seed);
        let root = "http://127.0.0.1:7000".to_owned();
        let cloud =
            Cloud::custom(&CustomCloud { login: root.clone(), activity: root, graph: None, resource: None }).unwrap();
        let settings = Settings {
            data_dir: dir.path().to_owned(),
            app: AppSettings {
                client_id: app.client_id,
                publisher_id: PublisherId::from_uuid(*app.home_tenant.as_uuid()),
                credentials: vec![Credential::Secret(ClientSecret::new(DEFAULT_SECRET))],
                token_endpoint: TokenEndpoint::V2,
            },
            cloud,
            collect: CollectSettings {
                content_types: ContentType::KNOWN.to_vec(),
                poll_interval: Duration::from_secs(60),
                quiet_poll_interval: Duration::from_secs(300),
                commit_interval: Duration::from_secs(5),
                requests_per_minute: 1500,
                // Listings cost most of a test's time; a quarter of a day makes them a sixth of the default.
                tile: Grid::new(Duration::from_secs(6 * 3600)).unwrap(),
            },
            retention: None,
            tables: None,
            limits: Limits::default(),
        };
        let rig = Self {
            ledger: open_ledger(&dir),
            archive: Archive::open(&ArchiveOptions::at(dir.path().join("archive"))).unwrap(),
            metrics: Arc::new(Metrics::new()),
            emulator,
            clock,
            settings,
            latency: None,
            _dir: dir,
        };
        for tenant in rig.tenants() {
            rig.add_tenant(tenant).await;
        }
        rig
    }

    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.emulator.world().tenant_ids()
    }

    pub(crate) async fn add_tenant(&self, tenant: TenantId) {
        let from = self.clock.now() - TimeDelta::days(7);
        self.ledger.add_tenant(tenant, String::new(), from, self.clock.now()).await.unwrap();
    }

    pub(crate) fn transport(&self) -> Arc<RouterTransport> {
        Arc::new(RouterTransport {
            router: self.emulator.router(),
            emulator: self.emulator.clone(),
            clock: Arc::clone(&self.clock),
            latency: self.latency.clone().map(|range| Mutex::new((fastrand::Rng::with_seed(1), range))),
        })
    }

    pub(crate) fn collector(&self) -> Collector {
        self.collector_over(self.transport())
    }

    pub(crate) fn collector_over(&self, transport: Arc<dyn Transport>) -> Collector {
        self.collector_of(transport, Arc::new(self.ledger.clone()))
    }

    /// One on a machine whose clock is ahead by so much.
    pub(crate) fn collector_ahead(&self, by: TimeDelta) -> Collector {
        let parts = self.parts(self.transport(), Arc::new(self.ledger.clone()));
        let clock = Arc::new(Ahead(Arc::clone(&self.clock), by));
        Collector::new(self.settings.clone(), &CollectorParts { clock, ..parts })
    }

    pub(crate) fn collector_with(&self, ledger: Arc<dyn Ledger>) -> Collector {
        self.collector_of(self.transport(), ledger)
    }

    fn collector_of(&self, transport: Arc<dyn Transport>, ledger: Arc<dyn Ledger>) -> Collector {
        Collector::new(self.settings.clone(), &self.parts(transport, ledger))
    }

    pub(crate) fn parts(&self, transport: Arc<dyn Transport>, ledger: Arc<dyn Ledger>) -> CollectorParts {
        CollectorParts {
            transport,
            ledger,
            archive: self.archive.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            metrics: Arc::clone(&self.metrics),
        }
    }

    pub(crate) async fn collect_once(&self) -> RunReport {
        self.collector().collect_once(&[], std::future::pending()).await.unwrap()
    }

    /// Everything in the archive, by tenant; fails when anything is there twice.
    pub(crate) async fn archived(&self) -> ByTenant {
        let mut all = BTreeMap::new();
        for (tenant, rows) in self.ledger.segments_within(None, None).await.unwrap() {
            let segments = rows.iter().map(|row| segment_of(tenant, row).unwrap()).collect();
            let records: &mut BTreeSet<Bytes> = all.entry(tenant).or_default();
            for record in self.archive.read_all(segments) {
                let raw = record.unwrap().raw;
                assert!(records.insert(raw.clone()), "twice in the archive: {}", String::from_utf8_lossy(&raw));
            }
        }
        all
    }

    /// Everything that was published by now and can be read, by tenant.
    pub(crate) fn published(&self) -> ByTenant {
        self.emulator.world().clock().set(self.clock.now());
        let mut all = BTreeMap::new();
        for tenant in self.tenants() {
            let records: &mut BTreeSet<Bytes> = all.entry(tenant).or_default();
            self.emulator.world().each_record(tenant, RecordSet::Readable, |_, raw| {
                records.insert(Bytes::copy_from_slice(raw));
                true
            });
        }
        all
    }

    /// The one question of most tests: is everything that was published there, and nothing else?
    pub(crate) async fn check_all_there(&self) {
        let (published, archived) = (self.published(), self.archived().await);
        self.compare(&published, &archived);
        for (tenant, published) in &published {
            let foreign = archived.get(tenant).map_or(0, |archived| archived.difference(published).count());
            assert_eq!(foreign, 0, "tenant {tenant} has records in the archive that were never published");
        }
    }

    /// Is everything that can be read there? Of blobs that break off, more may be.
    pub(crate) async fn check_readable_there(&self) {
        self.compare(&self.published(), &self.archived().await);
    }

    /// Collects what there is now, and looks whether it is there. Content that comes meanwhile may be there or not.
    pub(crate) async fn catch_up_and_check(&self) {
        self.catch_up_by(&self.collector()).await;
    }

    /// The same by another collector than the rig's own.
    pub(crate) async fn catch_up_by(&self, collector: &Collector) {
        let before = self.published();
        let report = collector.collect_once(&[], std::future::pending()).await.unwrap();
        assert!(report.is_complete(), "{report:#?}");
        self.compare(&before, &self.archived().await);
    }

    fn compare(&self, published: &ByTenant, archived: &ByTenant) {
        let seed = self.emulator.world().options().seed;
        for (tenant, published) in published {
            let empty = BTreeSet::new();
            let lost = published.difference(archived.get(tenant).unwrap_or(&empty)).count();
            assert_eq!(
                lost,
                0,
                "seed {seed}: of {} records of tenant {tenant}, {lost} are not archived",
                published.len()
            );
        }
        let total: usize = published.values().map(BTreeSet::len).sum();
        assert!(total > 0, "a world without records proves nothing");
    }

    /// Requests of one operation that the emulator has answered, by its own word for it.
    pub(crate) fn requests(&self, operation: &str) -> u64 {
        let counts = self.emulator.requests();
        counts.iter().filter(|count| count.operation == operation).map(|count| count.count).sum()
    }

    /// Token requests that were answered with an error.
    pub(crate) fn refused_token_requests(&self) -> u64 {
        let counts = self.emulator.requests();
        counts.iter().filter(|count| count.operation == "token" && count.status != 200).map(|count| count.count).sum()
    }

    /// Requests with one tenant in their path.
    pub(crate) fn requests_of(&self, tenant: TenantId) -> u64 {
        let counts = self.emulator.requests();
        counts.iter().filter(|count| count.tenant == Some(tenant)).map(|count| count.count).sum()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many Parquet files a tenant has in the archive.
    pub(crate) fn parquet_files(&self, tenant: TenantId) -> usize {
        let folder = self.archive.root().join(format!("tenant={tenant}"));
        let Ok(dates) = std::fs::read_dir(folder) else { return 0 };
        dates.map(|date| std::fs::read_dir(date.unwrap().path()).unwrap().count()).sum()
    }

    /// Is every Parquet file in the archive a visible segment?
    pub(crate) async fn check_no_orphans(&self) {
        let mut known = BTreeSet::new();
        for (tenant, rows) in self.ledger.segments_within(None, None).await.unwrap() {
            known.extend(rows.iter().map(|row| self.archive.segment_path(&segment_of(tenant, row).unwrap())));
        }
        // Those that stay for a while.
        for tenant in self.ledger.tenants_since(0).await.unwrap().1 {
            let obsolete = self.ledger.obsolete(tenant.id).await.unwrap();
            known.extend(
                obsolete.iter().map(|(row, _)| self.archive.segment_path(&segment_of(tenant.id, row).unwrap())),
            );
        }
        let mut found = BTreeSet::new();
        let mut folders = vec![self.archive.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                // What may not come again is kept there, and nobody reads it.
                if path.ends_with("_aside") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet" || extension == "tmp") {
                    found.insert(path);
                }
            }
        }
        assert_eq!(found, known);
    }

    /// As if the ledger had never known the tenant; its files stay as they are.
    pub(crate) fn forget(&self, tenant: TenantId) {
        let file = rusqlite::Connection::open(self.ledger.path()).unwrap();
        file.pragma_update(None, "foreign_keys", true).unwrap();
        let rows = file.execute("DELETE FROM tenant WHERE id = ?1", [*tenant.as_uuid().as_bytes()]).unwrap();
        assert_eq!(rows, 1);
    }

    pub(crate) async fn coverage(&self) -> Vec<engine::model::Coverage> {
        let mut rows = Vec::new();
        for tenant in self.tenants() {
            rows.extend(self.ledger.coverage(tenant).await.unwrap());
        }
        rows
    }
}

/// In memory where that is at hand: syncing files is what most of a test's time would go to.
fn folder() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

pub(crate) fn open_ledger(dir: &TempDir) -> SqliteLedger {
    let options = OpenOptions { in_place: true, ..OpenOptions::default() };
    SqliteLedger::open(dir.path().join("ledger.db"), options).unwrap()
}
