//! A PostgreSQL server for tests: the real one, started in a folder of its own and ended with it.
//!
//! Never runs as root (the server refuses to), never listens where others could reach it, and never skips: without the
//! server's programs a test that needs them fails and says what to install. Knows nothing of ledgers, and uses nothing but
//! the standard library and `tempfile`, so that the tests of other rooms can take this file as it is.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The user the server runs as when the tests run as root; Debian's package makes it.
const USER: &str = "postgres";

/// A server, for as long as this lives.
pub(crate) struct PgServer {
    folder: tempfile::TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    port: u16,
    child: Option<Child>,
    databases: AtomicU32,
}

impl PgServer {
    /// Starts one that listens on a socket in its folder.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, such as `fsync=on`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let server = Self::prepared(settings.iter().map(|setting| (*setting).to_owned()).collect(), 5432);
        server.begun()
    }

    /// One that also listens on a port of the loopback, where it wants TLS and a password; the port comes along.
    pub(crate) fn start_encrypted(certificate: &Path, key: &Path) -> (Self, u16) {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut server = Self::prepared(vec!["listen_addresses=127.0.0.1".to_owned(), "ssl=on".to_owned()], free);
        for (setting, from, name) in [("ssl_cert_file", certificate, "server.crt"), ("ssl_key_file", key, "server.key")]
        {
            let to = server.folder.path().join(name);
            std::fs::copy(from, &to).unwrap();
            succeeds(Command::new("chmod").arg("600").arg(&to));
            if is_root() {
                succeeds(Command::new("chown").arg(format!("{USER}:")).arg(&to));
            }
            server.settings.push(format!("{setting}={}", to.display()));
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
        (server.begun(), free)
    }

    fn prepared(settings: Vec<String>, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let databases = AtomicU32::new(0);
        let server = Self { folder, programs: programs(), settings, port, child: None, databases };
        if is_root() {
            succeeds(Command::new("chown").arg(format!("{USER}:")).arg(server.folder.path()));
        }
        let mut initdb = server.command("initdb");
        initdb.args(["-U", USER, "--auth=trust", "-N", "-E", "UTF8", "--locale=C", "--no-instructions", "-D"]);
        succeeds(initdb.arg(server.data()).stdout(Stdio::null()));
        server
    }

    fn begun(mut self) -> Self {
        self.up();
        self
    }

    /// A database with nothing in it.
    pub(crate) fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name}"));
        name
    }

    /// The address of a database, through the socket.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?user={USER}&port={}&host={}", self.port, self.folder.path().display())
    }

    /// Carries out statements, and returns the rows of the last one, fields parted by `|`.
    pub(crate) fn psql(&self, text: &str) -> Vec<String> {
        self.psql_in("postgres", text)
    }

    /// The same in a database.
    pub(crate) fn psql_in(&self, database: &str, text: &str) -> Vec<String> {
        let output = self.client(database, text).output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Carries out statements in a session that lasts until they end, or this does.
    pub(crate) fn background(&self, database: &str, text: &str) -> Child {
        self.client(database, text).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn client(&self, database: &str, text: &str) -> Command {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-c", text, "-p"]);
        psql.arg(self.port.to_string()).arg("-h").arg(self.folder.path());
        psql
    }

    /// Ends the server as a crash would: no connection is closed in order, nothing is written that was not yet.
    pub(crate) fn crash(&mut self) {
        self.end("QUIT");
    }

    /// Ends the server in order.
    pub(crate) fn stop(&mut self) {
        self.end("INT");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let told = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            if !told.is_ok_and(|status| status.success()) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }

    /// Starts it (again), and returns once it takes connections.
    pub(crate) fn up(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let socket = format!("unix_socket_directories={}", self.folder.path().display());
        let port = format!("port={}", self.port);
        let fixed = ["listen_addresses=", &socket, &port, "fsync=off", "full_page_writes=off", "max_connections=200"];
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        let (mut line, mut said) = (String::new(), String::new());
        while log.read_line(&mut line).unwrap() > 0 {
            if line.contains("ready to accept connections") {
                // What it says from now on is read, so that it never waits for a reader.
                let mut kept = std::fs::File::create(self.log()).unwrap();
                std::thread::spawn(move || std::io::copy(&mut log, &mut kept));
                return;
            }
            said.push_str(&line);
            line.clear();
        }
        panic!("the PostgreSQL server did not start:\n{said}");
    }

    /// What it has said since it was started last.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of the server's programs, as a user it accepts, ended by the kernel if this process is killed.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if !cfg!(target_os = "linux") {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        command.args(["--pdeathsig", "INT", "--"]).arg(program).current_dir(self.folder.path());
        command
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn succeeds(command: &mut Command) {
    let status = command.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {status:?}");
}

/// Where the server's programs are: Debian keeps them out of the path, by version.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs.join("initdb").exists().then_some((version, programs))
        })
        .collect();
    found.sort();
    if let Some((_, programs)) = found.pop() {
        return programs;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|folder| folder.join("initdb").exists()).unwrap_or_else(|| {
        panic!("there is no PostgreSQL server on this machine: install it (Debian: apt-get install postgresql)")
    })
}
