//! The whole program with its archive on S3: killed at random moments, moved to another machine, asked and verified.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use server::archive::{Archive, ArchiveOptions, RemoteOptions};

use crate::replay::unruly;
use crate::support::{Home, Microsoft};

const KILLS: u32 = 6;
const KEYS: &str = "AWS_ACCESS_KEY_ID=AKIATEST\nAWS_SECRET_ACCESS_KEY=hunter2\n";

/// Amazon S3 as moto has it, for as long as the test lives.
struct S3 {
    process: Child,
    endpoint: String,
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl S3 {
    /// `None` when it is not installed.
    fn start() -> Option<Self> {
        let test = std::env::current_exe().unwrap();
        let mut folders = test.ancestors().map(|folder| folder.join("test-tools/venv/bin/moto_server"));
        let Some(program) = folders.find(|path| path.exists()) else {
            println!("skipped: moto is not installed; `cargo xtask test` does it");
            return None;
        };
        let mut process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url =
            lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once("Running on ")?.1.to_owned()));
        // Reads on, so that it never waits for somebody to listen.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let s3 = Self { process, endpoint: url.expect("moto says where it listens").trim().to_owned() };
        assert!(s3.ask("PUT", "/audit").starts_with("HTTP/1.1 200"));
        Some(s3)
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Names of segments below the archive's root.
    fn segments(&self) -> BTreeSet<String> {
        let listed = self.ask("GET", "/audit?list-type=2&prefix=company/tenant%3D");
        assert!(listed.contains("<IsTruncated>false"), "{listed}");
        let names =
            listed.split("<Key>company/").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
        names.collect()
    }

    fn archive(&self, workspace: &std::path::Path) -> Archive {
        let settings = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let remote = RemoteOptions::new("s3://audit/company".parse().unwrap(), settings);
        Archive::open_read_only(&ArchiveOptions::remote(workspace, remote)).unwrap()
    }

    fn configuration(&self) -> String {
        format!(
            "[archive]\nurl = \"s3://audit/company\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
             credentials_file = \"store.env\"\n",
            self.endpoint
        )
    }
}

#[test]
fn an_archive_on_s3_holds_what_was_published_whenever_it_is_killed() {
    let Some(s3) = S3::start() else { return };
    let seed = 2_104;
    let mut draw = fastrand::Rng::with_seed(seed);
    let microsoft = Microsoft::start(unruly(seed));
    let home = Home::new(&microsoft);
    home.write("store.env", KEYS);
    home.append("tenantry.toml", &s3.configuration());
    let mut killed = 0;
    for round in 0..KILLS * 4 {
        if killed == KILLS {
            break;
        }
        let enough = microsoft.requests() + draw.u64(0..200);
        let mut child = home.tenantry(&["collect", "--once", "--quiet"]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(matches!(status.code(), Some(0 | 5)), "seed {seed}, round {round}: {status}");
                break;
            }
            if microsoft.requests() >= enough {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                break;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // Another machine goes on now and then, with the ledger and nothing else.
        if draw.bool() {
            let _ = std::fs::remove_dir_all(home.data().join("archive-workspace"));
        }
    }
    assert_eq!(killed, KILLS, "seed {seed}: the runs ended before they could be killed");
    microsoft.wait_until_complete();
    home.succeed(&["collect", "--once"]);
    let workspace = tempfile::tempdir().unwrap();
    let sum = home.assert_held_in(&s3.archive(workspace.path()), &microsoft, seed);
    let known = microsoft.tenants().into_iter().flat_map(|tenant| home.segments(&microsoft, tenant));
    let known: BTreeSet<String> = known.map(|segment| segment.path().to_str().unwrap().to_owned()).collect();
    assert_eq!(s3.segments(), known, "seed {seed}: what other readers see is what lies there");
    let counted = home.succeed(&["query", "--format", "csv", "SELECT count(*) AS n FROM audit"]);
    assert_eq!(counted, format!("n\n{sum}\n"));
    std::fs::remove_dir_all(home.data().join("archive-workspace")).unwrap();
    home.succeed(&["archive", "verify"]);
    let shown = home.succeed(&["config", "show"]);
    assert!(shown.contains("s3://audit/company") && !shown.contains("hunter2"), "{shown}");
    println!("{killed} kills, {sum} records");
}

#[test]
fn a_store_that_cannot_be_used_is_told_in_a_sentence_and_nothing_is_collected() {
    let Some(s3) = S3::start() else { return };
    let microsoft = Microsoft::start(unruly(7));
    let home = Home::new(&microsoft);
    home.write("store.env", KEYS);
    home.append("tenantry.toml", &s3.configuration().replace("s3://audit/", "s3://other/"));
    let told = home.fail(&["collect", "--once"], 6);
    assert!(told.contains("create the bucket or container") && !told.contains("hunter2"), "{told}");
    assert_eq!(microsoft.fetches(), 0);
    home.write("store.env", "hunter2\n");
    let told = home.fail(&["collect", "--once"], 3);
    assert!(told.contains("line 1 of archive.credentials_file") && !told.contains("hunter2"), "{told}");
}
