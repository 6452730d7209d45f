//! Real servers of object storage on this machine, each started by the test that asks for it and ended with it.
//!
//! Never reaches anything but loopback. `cargo xtask test` installs the servers into the target folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use archive::RemoteOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;

/// The account and key that every Azurite has; Microsoft publishes them.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The bucket, or container, that every server here has.
pub(crate) const BUCKET: &str = "audit";

/// A server that is running.
pub(crate) struct Server {
    scheme: &'static str,
    settings: Vec<(String, String)>,
    _process: Option<Process>,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// What an archive with that prefix is reached by.
    pub(crate) fn options(&self, prefix: &str) -> RemoteOptions {
        self.options_in(BUCKET, prefix)
    }

    pub(crate) fn options_in(&self, bucket: &str, prefix: &str) -> RemoteOptions {
        let url = format!("{}://{bucket}/{prefix}", self.scheme).parse().unwrap();
        RemoteOptions { retry_for: Duration::from_secs(10), ..RemoteOptions::new(url, self.settings.clone()) }
    }

    /// The same with another value for a setting.
    pub(crate) fn options_with(&self, prefix: &str, name: &str, value: &str) -> RemoteOptions {
        let mut options = self.options(prefix);
        options.settings.push((name.to_owned(), value.to_owned()));
        options
    }

    /// Amazon S3 as moto has it; `None` when it is not installed.
    pub(crate) fn s3() -> Option<Self> {
        let mut command = tool("venv/bin/moto_server")?;
        let (process, endpoint) = start(command.args(["-H", "127.0.0.1", "-p", "0"]), "Running on ");
        let answer = ask(&endpoint, &format!("PUT /{BUCKET} HTTP/1.1"), &[]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let settings = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ];
        Some(Self { scheme: "s3", settings: owned(&settings), _process: Some(process) })
    }

    /// Google Cloud Storage as this crate has it.
    pub(crate) fn google() -> Self {
        let endpoint = crate::google::start(BUCKET);
        // An account that asks nobody for a token; without one the client would ask the machine's metadata service.
        let account = r#"{"private_key":"none","private_key_id":"none","client_email":"none","disable_oauth":true}"#;
        let settings = [("GOOGLE_BASE_URL", endpoint.as_str()), ("GOOGLE_SERVICE_ACCOUNT_KEY", account)];
        Self { scheme: "gs", settings: owned(&settings), _process: None }
    }

    /// Azure Blob Storage as Azurite has it; `None` when it is not installed.
    pub(crate) fn azure() -> Option<Self> {
        let mut command = tool("azurite/node_modules/.bin/azurite-blob")?;
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]);
        command.args(["--disableTelemetry", "--skipApiVersionCheck"]);
        let (process, endpoint) = start(&mut command, "successfully listens on ");
        let account = format!("{endpoint}/{AZURITE_ACCOUNT}");
        create_container(&endpoint, &account);
        let settings = [
            ("AZURE_STORAGE_ENDPOINT", account.as_str()),
            ("AZURE_STORAGE_ACCOUNT_NAME", AZURITE_ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY),
        ];
        Some(Self { scheme: "az", settings: owned(&settings), _process: Some(process) })
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The tool in the target folder, where this test lies in `debug/deps`.
fn tool(name: &str) -> Option<Command> {
    let test = std::env::current_exe().unwrap();
    let path: Option<PathBuf> =
        test.ancestors().map(|folder| folder.join("test-tools").join(name)).find(|path| path.exists());
    if path.is_none() {
        println!("skipped: {name} is not installed; `cargo xtask test` does it");
    }
    path.map(Command::new)
}

/// Starts a server on a free port, and waits until it says where it listens.
fn start(command: &mut Command, before_url: &str) -> (Process, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let process = Process(child);
    let (told, url) = std::sync::mpsc::channel();
    for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
        let (told, before_url) = (told.clone(), before_url.to_owned());
        // Reads on, so that the server never waits for somebody to listen.
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once(&before_url) {
                    let _ = told.send(url.trim().trim_end_matches('/').to_owned());
                }
            }
        });
    }
    drop(told);
    let url = url.recv().expect("the server ended before it listened");
    (process, url)
}

/// One request without a body on a connection of its own.
fn ask(endpoint: &str, request: &str, headers: &[(&str, &str)]) -> String {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{request}\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn create_container(endpoint: &str, account: &str) {
    let uri = format!("{account}/{BUCKET}?restype=container");
    let mut request = http::Request::put(&uri).header("content-length", "0").body(HttpRequestBody::empty()).unwrap();
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(AZURITE_KEY).unwrap());
    AzureAuthorizer::new(&credential, AZURITE_ACCOUNT).authorize(&mut request);
    let headers: Vec<_> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let path = uri.strip_prefix(endpoint).unwrap();
    let answer = ask(endpoint, &format!("PUT {path} HTTP/1.1"), &headers);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// What answers every request of S3's protocol in one way.
pub(crate) struct Answering {
    endpoint: String,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// `head` is a status line's end, such as `503 Slow Down`.
    pub(crate) fn with(head: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let accepting = listener.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            for stream in accepting.incoming().map_while(Result::ok) {
                if !answer(stream, head, body) {
                    return;
                }
            }
        });
        Self { endpoint, listener, thread: Some(thread) }
    }

    pub(crate) fn options(&self) -> RemoteOptions {
        let settings = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ];
        let options = RemoteOptions::new("s3://audit/x".parse().unwrap(), owned(&settings));
        RemoteOptions { retry_for: Duration::ZERO, ..options }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // A connection that asks for nothing ends it.
        drop(TcpStream::connect(self.listener.local_addr().unwrap()));
        let _ = self.thread.take().unwrap().join();
    }
}

/// Answers one request; `false` when there was none.
fn answer(stream: TcpStream, head: &str, body: &str) -> bool {
    let mut asked = BufReader::new(&stream);
    let (mut any, mut length) = (false, 0);
    let mut line = String::new();
    while matches!(asked.read_line(&mut line), Ok(1..)) && !line.trim().is_empty() {
        any = true;
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        line.clear();
    }
    let _ = std::io::copy(&mut asked.take(length), &mut std::io::sink());
    let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = (&stream).write_all(text.as_bytes());
    any
}
