//! A Microsoft in this process, a home folder for the program, and the comparison of what the one published with what the
//! other archived.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use emulator::tls::{CertificateAuthority, default_names};
use emulator::world::{Lateness, RecordSet};
use emulator::{DEFAULT_SECRET, Emulator, EmulatorOptions, Running, default_app};
use server::archive::{Archive, ArchiveOptions, Segment};
use server::collector::segments::segment_of;
use server::ledger::Ledger as _;
use server::ledger::sqlite::{OpenOptions, SqliteLedger};
use server::protocol::ids::TenantId;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The emulator, listening on loopback for as long as the test lives.
pub(crate) struct Microsoft {
    pub(crate) emulator: Emulator,
    running: Option<Running>,
    runtime: Runtime,
}

impl Microsoft {
    pub(crate) fn start(options: EmulatorOptions) -> Self {
        Self::start_with(options, None)
    }

    /// With Microsoft's host names over TLS as well, signed by this authority.
    pub(crate) fn start_over_tls(options: EmulatorOptions, authority: &CertificateAuthority) -> Self {
        Self::start_with(options, Some(authority))
    }

    fn start_with(mut options: EmulatorOptions, authority: Option<&CertificateAuthority>) -> Self {
        options.apps = vec![default_app(options.world.seed)];
        let runtime = Runtime::new().unwrap();
        let emulator = Emulator::new(options).unwrap();
        let tls =
            authority.map(|authority| (([127, 0, 0, 1], 0).into(), authority.acceptor(&default_names()).unwrap()));
        let running = runtime.block_on(emulator.start(([127, 0, 0, 1], 0).into(), tls)).unwrap();
        // Listings are asked for up to the last whole second, so what was created in the present one is not listed yet.
        while emulator.world().now().timestamp() <= emulator.world().start().timestamp() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Self { emulator, running: Some(running), runtime }
    }

    pub(crate) fn root(&self) -> String {
        format!("http://{}", self.running.as_ref().unwrap().addr())
    }

    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().tls_addr().unwrap()
    }

    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.emulator.world().tenant_ids()
    }

    /// Requests answered so far, whatever the answer.
    pub(crate) fn requests(&self) -> u64 {
        self.emulator.requests().iter().map(|count| count.count).sum()
    }

    /// Blobs asked for so far.
    pub(crate) fn fetches(&self) -> u64 {
        let requests = self.emulator.requests();
        requests.iter().filter(|count| count.operation == "retrieve").map(|count| count.count).sum()
    }

    /// Waits for late content; everything there will ever be can be listed afterwards.
    pub(crate) fn wait_until_complete(&self) {
        while !self.emulator.world().truth().complete {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Microsoft {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

/// A folder with a configuration that points at a Microsoft, and the program run in it.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new(microsoft: &Microsoft) -> Self {
        let home = Self::without_tenants(microsoft);
        for tenant in microsoft.tenants() {
            home.succeed(&["tenant", "add", &tenant.to_string()]);
        }
        home
    }

    /// The same before any tenant is added.
    pub(crate) fn without_tenants(microsoft: &Microsoft) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.write("secret.txt", DEFAULT_SECRET);
        home.write("tenantry.toml", &home.config(&microsoft.root(), microsoft.emulator.world().options().seed));
        home
    }

    /// An empty folder: no configuration, no tenants.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn config(&self, root: &str, seed: u64) -> String {
        let app = default_app(seed);
        format!(
            "data_dir = \"data\"\n[app]\nclient_id = \"{}\"\npublisher_id = \"{}\"\n\
             [[app.credential]]\nkind = \"secret\"\npath = \"secret.txt\"\n\
             [cloud]\nname = \"custom\"\nlogin = \"{root}\"\nactivity = \"{root}\"\n\
             [collect]\nrequests_per_minute = 60000\n[console]\nlisten = \"127.0.0.1:0\"\n",
            app.client_id, app.home_tenant
        )
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Writes a file that only its owner can read: most of them hold a secret.
    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        self.write(name, &(self.text(name) + text));
    }

    /// Runs `collect --once`, and kills it when Microsoft has been asked for so much in all; `false` when it has ended by
    /// itself before, caught up or not. `look` is called all the while, and `which` names the run.
    pub(crate) fn collect_killed_at(
        &self,
        microsoft: &Microsoft,
        requests: u64,
        which: &str,
        mut look: impl FnMut(),
    ) -> bool {
        let mut child = self.tenantry(&["collect", "--once", "--quiet"]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            look();
            if let Some(status) = child.try_wait().unwrap() {
                assert!(matches!(status.code(), Some(0 | 5)), "{which}: {status}");
                return false;
            }
            if microsoft.requests() >= requests {
                child.kill().unwrap();
                child.wait().unwrap();
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The program, not started yet; it sees no variable of ours but the path.
    pub(crate) fn tenantry(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.tenantry(arguments).output().unwrap()
    }

    /// Runs it and returns stdout; anything but success ends the test with what it said.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "tenantry {arguments:?}: {}\n{}", output.status, said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it and returns stderr; anything but this exit code ends the test.
    pub(crate) fn fail(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "tenantry {arguments:?}\n{}", said(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    fn ledger(&self) -> SqliteLedger {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        SqliteLedger::open(self.data().join("ledger.db"), options).unwrap()
    }

    pub(crate) fn segments(&self, microsoft: &Microsoft, tenant: TenantId) -> Vec<Segment> {
        let rows = microsoft.runtime.block_on(self.ledger().segments(tenant)).unwrap();
        rows.iter().map(|row| segment_of(tenant, row).unwrap()).collect()
    }

    /// Segments that nobody sees any more and whose files may be there still: where several share a ledger, they stay for who
    /// may be reading on another machine.
    pub(crate) fn obsolete(&self, microsoft: &Microsoft, tenant: TenantId) -> Vec<Segment> {
        let rows = microsoft.runtime.block_on(self.ledger().obsolete(tenant)).unwrap();
        rows.iter().map(|(row, _)| segment_of(tenant, row).unwrap()).collect()
    }

    /// Ends the test unless the archive holds what was published: every record once, byte for byte, and no file besides but
    /// those that stay for a while.
    pub(crate) fn assert_holds_what_was_published(&self, microsoft: &Microsoft, seed: u64) -> u64 {
        let archive = Archive::open_read_only(&ArchiveOptions::at(self.data().join("archive"))).unwrap();
        let sum = self.assert_held_in(&archive, microsoft, seed);
        for tenant in microsoft.tenants() {
            self.assert_no_file_but(&self.segments(microsoft, tenant), &self.obsolete(microsoft, tenant), tenant, seed);
        }
        sum
    }

    /// The same of an archive that lies somewhere else, but for files besides.
    pub(crate) fn assert_held_in(&self, archive: &Archive, microsoft: &Microsoft, seed: u64) -> u64 {
        let mut sum = 0;
        for tenant in microsoft.tenants() {
            let mut published: HashMap<Vec<u8>, u32> = HashMap::new();
            microsoft.emulator.world().each_record(tenant, RecordSet::Readable, |_, raw| {
                published.insert(raw.to_vec(), 0);
                true
            });
            let segments = self.segments(microsoft, tenant);
            for record in archive.read_all(segments) {
                let record = record.unwrap();
                let count = published.get_mut(&*record.raw);
                *count
                    .unwrap_or_else(|| panic!("seed {seed}: the archive has a record nobody published: {record:?}")) +=
                    1;
                sum += 1;
            }
            let lost = published.values().filter(|count| **count == 0).count();
            let twice = published.values().filter(|count| **count > 1).count();
            assert_eq!((lost, twice), (0, 0), "seed {seed}: lost and twice of {} records of {tenant}", published.len());
        }
        sum
    }

    /// What other readers see is what lies there, so an orphan left behind would be records twice.
    fn assert_no_file_but(&self, segments: &[Segment], staying: &[Segment], tenant: TenantId, seed: u64) {
        let folder = self.data().join("archive").join(format!("tenant={tenant}"));
        let mut found = Vec::new();
        for date in std::fs::read_dir(folder).into_iter().flatten() {
            for file in std::fs::read_dir(date.unwrap().path()).unwrap() {
                found.push(file.unwrap().path());
            }
        }
        let path = |segment: &Segment| self.data().join("archive").join(segment.path());
        let mut expected: Vec<PathBuf> = segments.iter().map(path).collect();
        found.retain(|file| !staying.iter().any(|segment| path(segment) == *file));
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "seed {seed}");
    }
}

/// Content that is listed as soon as it is created, so that nothing is published while a test looks.
pub(crate) fn on_time() -> Lateness {
    Lateness { share: 0.0, ..Lateness::default() }
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The recorded records, where the project has them beside it.
pub(crate) fn recorded() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/records");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".ndjson.zst"))
        .collect();
    files.sort();
    (!files.is_empty()).then_some(files)
}
