//! Stores on this machine with one bucket each, as an archive reaches them, for as long as a test lives.
//!
//! Never reaches anything but loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use archive::RemoteOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;

use crate::emulated::{self, Process};

/// The account and key that every Azurite has; Microsoft publishes them.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// May do everything with the container [`BUCKET`] of every Azurite, until 2100: a service SAS signed with the account's key.
pub(crate) const AZURITE_SIGNATURE: &str = "sv=2020-10-02&sr=c&sp=racwdl&se=2100-01-01T00%3A00%3A00Z&\
                                            sig=eo95wPD4tlDK4tnWa%2F8cKs9a2PFbX72RS8BUA1jYeyI%3D";

/// The bucket, or container, that every server here has.
pub(crate) const BUCKET: &str = "audit";

/// A server that is running.
pub(crate) struct Server {
    scheme: &'static str,
    settings: Vec<(String, String)>,
    _process: Option<Process>,
}

impl Server {
    /// What an archive with that prefix is reached by.
    pub(crate) fn options(&self, prefix: &str) -> RemoteOptions {
        self.options_in(BUCKET, prefix)
    }

    pub(crate) fn options_in(&self, bucket: &str, prefix: &str) -> RemoteOptions {
        let url = format!("{}://{bucket}/{prefix}", self.scheme).parse().unwrap();
        RemoteOptions { retry_for: Duration::from_secs(60), ..RemoteOptions::new(url, self.settings.clone()) }
    }

    /// The same with another value for a setting.
    pub(crate) fn options_with(&self, prefix: &str, name: &str, value: &str) -> RemoteOptions {
        let mut options = self.options(prefix);
        options.settings.push((name.to_owned(), value.to_owned()));
        options
    }

    /// What it is set up with under that name.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.settings.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Amazon S3 as moto has it; `None` when it is not installed.
    pub(crate) fn s3() -> Option<Self> {
        let (process, endpoint) = emulated::moto()?;
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
        let (process, endpoint) = emulated::azurite()?;
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

/// One request without a body on a connection of its own.
pub(crate) fn ask(endpoint: &str, request: &str, headers: &[(&str, &str)]) -> String {
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

/// Stands before a server, and remembers the heads of the requests that go in.
pub(crate) struct Witness {
    endpoint: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    /// Runs as long as the process; its threads end with their connections.
    pub(crate) fn before(endpoint: &str) -> Self {
        let (_, address) = endpoint.split_once("http://").unwrap();
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/{path}", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (host, seen) = (host.to_owned(), Arc::clone(&heads));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, seen) = (TcpStream::connect(&host).unwrap(), Arc::clone(&seen));
                let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    let _ = to_client.shutdown(std::net::Shutdown::Both);
                });
                std::thread::spawn(move || {
                    let see = |head| seen.lock().unwrap().push(head);
                    while pass(&mut BufReader::with_capacity(1, &client), &server, see).is_some() {}
                    let _ = server.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), heads }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What was asked for, each with its headers' names in small letters.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Leads one request through, whose head is seen before the server has any of it; `None` when none comes any more.
fn pass(from: &mut BufReader<&TcpStream>, mut to: &TcpStream, see: impl FnOnce(String)) -> Option<()> {
    let (mut head, mut whole, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        whole.push_str(&line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        // The first line has a URL, which is as it is.
        let is_first = head.is_empty();
        head.push_str(&if is_first { line.clone() } else { format!("{}:{value}", name.to_ascii_lowercase()) });
    }
    see(head);
    to.write_all(whole.as_bytes()).ok()?;
    std::io::copy(&mut from.take(length), &mut to).ok()?;
    Some(())
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
        Self::options_at(&self.endpoint)
    }

    /// The same for what may answer there or not.
    pub(crate) fn options_at(endpoint: &str) -> RemoteOptions {
        let settings =
            [("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
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
