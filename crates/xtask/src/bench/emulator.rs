//! The emulator as a process of its own, and the few things the bench asks of it.
//!
//! Never faulty, never late, without a quota: what is measured is what the client takes. Ended with the value.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::child;
use super::figures::Published;
use super::options::Options;

/// Longer than any answer takes: counting what a million contents hold is the longest.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) struct Emulator {
    child: Child,
    about: Value,
    about_file: PathBuf,
    tenants: Vec<String>,
}

impl Emulator {
    /// Starts it, and returns when it listens.
    pub(super) fn start(program: &Path, options: &Options, folder: &Path) -> anyhow::Result<Self> {
        let world_file = folder.join("world.toml");
        std::fs::write(&world_file, world(options))?;
        let mut command = child::command(program, folder);
        command.args(["--json", "--quiet", "emulate", "--listen", "127.0.0.1:0", "--world"]).arg(&world_file);
        let mut child = command.stdout(Stdio::piped()).spawn().context("the emulator cannot be started")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let about_file = folder.join("emulator.json");
        std::fs::write(&about_file, &line)?;
        let mut started = Self { child, about: Value::Null, about_file, tenants: Vec::new() };
        started.about = serde_json::from_str(&line).context("the emulator did not say where it listens")?;
        let tenants = started.about["tenants"].as_array().into_iter().flatten();
        started.tenants = tenants.filter_map(|tenant| tenant["id"].as_str().map(str::to_owned)).collect();
        Ok(started)
    }

    /// A file with the line it began with.
    pub(super) fn about_file(&self) -> &Path {
        &self.about_file
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(String::as_str)
    }

    /// `tenantry.toml` of a collector that collects from it.
    pub(super) fn collector_config(&self) -> String {
        let text = |key: &str| self.about[key].as_str().unwrap_or_default();
        // The greatest rate that can be set. It shapes how long a run takes, not what it costs.
        format!(
            "data_dir = \"data\"\n[app]\nclient_id = {:?}\npublisher_id = {:?}\n\
             [[app.credential]]\nkind = \"secret\"\npath = \"secret.txt\"\n\
             [cloud]\nname = \"custom\"\nlogin = {:?}\nactivity = {:?}\n[collect]\nrequests_per_minute = 60000\n",
            text("client_id"),
            text("publisher_id"),
            text("login"),
            text("activity"),
        )
    }

    /// The secret that the configuration points to.
    pub(super) fn client_secret(&self) -> &str {
        self.about["client_secret"].as_str().unwrap_or_default()
    }

    /// What it has published, by its own account.
    pub(super) fn published(&self) -> anyhow::Result<Published> {
        let truth = self.ask("GET", "truth/summary")?;
        Published::read(&truth)
    }

    /// Starts counting requests anew.
    pub(super) fn forget_requests(&self) -> anyhow::Result<()> {
        self.ask("DELETE", "requests").map(|_| ())
    }

    /// Blobs served since then.
    pub(super) fn blobs_served(&self) -> anyhow::Result<u64> {
        let answer = self.ask("GET", "requests")?;
        let counts = answer["requests"].as_array().into_iter().flatten();
        Ok(counts.filter(|count| count["operation"] == "retrieve").filter_map(|count| count["count"].as_u64()).sum())
    }

    /// One request to the control paths, the plainest there is: HTTP/1.0, and the answer ends with the connection.
    fn ask(&self, method: &str, path: &str) -> anyhow::Result<Value> {
        let listen = self.about["listen"].as_str().context("the emulator says no address")?;
        let mut stream = TcpStream::connect(listen)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} /_emulator/{path} HTTP/1.0\r\nHost: {listen}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        body_of(&answer).with_context(|| format!("{method} /_emulator/{path}"))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Nothing of it is worth keeping, so it need not be asked.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything there at the start, on time, whole, and small enough to be kept as the bytes that go out.
fn world(options: &Options) -> String {
    format!(
        "seed = {}\ntenants = {}\nrecords_total = {}\nskew = 0.0\nlive_rate = 0.0\ngzip_cache = \"8GiB\"\n\
         [lateness]\nshare = 0.0\n[blobs]\nmax = 1500\naggregated = 0.0\n[limits]\nrequests_per_minute = 0\n",
        options.seed, options.tenants, options.records
    )
}

fn body_of(answer: &[u8]) -> anyhow::Result<Value> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("no HTTP answer: {text:?}") };
    if head.split_ascii_whitespace().nth(1) != Some("200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).context("the answer is no JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_body_and_only_200_is_good() {
        let good = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"a\":1}";
        assert_eq!(body_of(good).unwrap()["a"], 1);
        for bad in ["HTTP/1.0 404 Not Found\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\n{", "HTTP/1.0 200 OK\r\n"] {
            assert!(body_of(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
