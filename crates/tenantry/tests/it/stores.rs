//! Servers of object storage on this machine, each for as long as a test lives, and a door before one that can be shut.
//!
//! Never reaches anything but loopback.

use std::collections::BTreeSet;
use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use server::archive::RemoteOptions;

#[path = "../../../archive/tests/it/emulated.rs"]
mod emulated;

/// May do everything with what every Azurite has, until 2100: signed with the account's key, which Microsoft publishes.
const AZURITE_SIGNATURE: &str = "sv=2020-10-02&ss=b&srt=sco&sp=rwdlac&se=2100-01-01T00%3A00%3A00Z&\
                                 sig=OxpfVagnC5oU09qMfZs7M6U5tYABaFRP9HU5lhzRzPY%3D";

/// A server with one bucket, `audit`, in which the archive lies below `company`.
pub(crate) struct Store {
    _process: emulated::Process,
    endpoint: String,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    S3,
    Azure,
}

impl Store {
    /// Amazon S3 as moto has it; `None` when it is not installed.
    pub(crate) fn s3() -> Option<Self> {
        let (process, endpoint) = emulated::moto()?;
        let store = Self { _process: process, endpoint, kind: Kind::S3 };
        assert!(store.ask("PUT", "/audit").starts_with("HTTP/1.1 200"));
        Some(store)
    }

    /// Azure Blob Storage as Azurite has it; `None` when it is not installed.
    pub(crate) fn azure() -> Option<Self> {
        let (process, url) = emulated::azurite()?;
        let store = Self { _process: process, endpoint: format!("{url}/devstoreaccount1"), kind: Kind::Azure };
        let path = format!("/devstoreaccount1/audit?restype=container&{AZURITE_SIGNATURE}");
        let answer = store.ask("PUT", &path);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        Some(store)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What stands in a file of credentials.
    pub(crate) fn keys(&self) -> &'static str {
        match self.kind {
            Kind::S3 => "AWS_ACCESS_KEY_ID=AKIATEST\nAWS_SECRET_ACCESS_KEY=hunter2\n",
            Kind::Azure => concat!(
                "AZURE_STORAGE_ACCOUNT_KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr",
                "/KBHBeksoGMGw==\n"
            ),
        }
    }

    /// `[archive]` for a store that is reached at `endpoint`.
    pub(crate) fn configuration(&self, endpoint: &str) -> String {
        let rest = format!("endpoint = \"{endpoint}\"\ncredentials_file = \"store.env\"\n");
        match self.kind {
            Kind::S3 => format!("[archive]\nurl = \"s3://audit/company\"\nregion = \"us-east-1\"\n{rest}"),
            Kind::Azure => format!("[archive]\nurl = \"az://audit/company\"\naccount = \"devstoreaccount1\"\n{rest}"),
        }
    }

    /// The same for whoever opens the archive without the program.
    pub(crate) fn options(&self) -> RemoteOptions {
        let keys = self.keys().lines().map(|line| line.split_once('=').unwrap());
        let mut settings: Vec<_> = keys.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (url, more) = match self.kind {
            Kind::S3 => ("s3://audit/company", [("AWS_ENDPOINT_URL", &*self.endpoint), ("AWS_REGION", "us-east-1")]),
            Kind::Azure => (
                "az://audit/company",
                [("AZURE_STORAGE_ENDPOINT", &*self.endpoint), ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")],
            ),
        };
        settings.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        RemoteOptions::new(url.parse().unwrap(), settings)
    }

    /// Names of segments below the archive's root.
    pub(crate) fn segments(&self) -> BTreeSet<String> {
        self.segments_of("")
    }

    /// The same of one tenant, or of all whose id begins so.
    pub(crate) fn segments_of(&self, tenant: &str) -> BTreeSet<String> {
        let (path, tag) = match self.kind {
            Kind::S3 => (format!("/audit?list-type=2&prefix=company/tenant%3D{tenant}"), "Key"),
            Kind::Azure => {
                let list = format!("restype=container&comp=list&prefix=company/tenant%3D{tenant}");
                (format!("/devstoreaccount1/audit?{list}&{AZURITE_SIGNATURE}"), "Name")
            }
        };
        let listed = self.ask("GET", &path);
        assert!(listed.contains("<IsTruncated>false") || listed.contains("<NextMarker/>"), "{listed}");
        let (begin, end) = (format!("<{tag}>company/"), format!("</{tag}>"));
        let names = listed.split(&begin).skip(1).filter_map(|rest| Some(rest.split_once(&end)?.0.to_owned()));
        names.collect()
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let address = address_of(&self.endpoint);
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn address_of(endpoint: &str) -> SocketAddr {
    let rest = endpoint.strip_prefix("http://").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// What becomes of whoever comes to the door.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// He is led through.
    Open,
    /// He is told to slow down, whatever he asks.
    Busy,
    /// The door is slammed.
    Closed,
}

/// Stands before a store. Runs as long as the process; its threads end with their connections.
pub(crate) struct Door {
    address: SocketAddr,
    /// What the store's endpoint has after its address.
    path: String,
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    passage: Passage,
    connections: u64,
    /// Of those that are led through.
    open: Vec<TcpStream>,
}

impl Door {
    pub(crate) fn to(endpoint: &str) -> Self {
        let target = address_of(endpoint);
        let path =
            endpoint.split_once("://").unwrap().1.split_once('/').map_or(String::new(), |(_, path)| format!("/{path}"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::new(Mutex::new(Inside { passage: Passage::Open, connections: 0, open: Vec::new() }));
        let hall = Arc::clone(&inside);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let hall = Arc::clone(&hall);
                std::thread::spawn(move || enter(client, target, &hall));
            }
        });
        Self { address, path, inside }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.inside.lock().unwrap().connections
    }

    /// Whoever has been led through is thrown out.
    pub(crate) fn set(&self, passage: Passage) {
        let mut inside = self.inside.lock().unwrap();
        inside.passage = passage;
        for stream in inside.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn enter(mut client: TcpStream, target: SocketAddr, hall: &Mutex<Inside>) -> Option<()> {
    let passage = {
        let mut inside = hall.lock().unwrap();
        inside.connections += 1;
        if inside.passage == Passage::Open {
            inside.open.push(client.try_clone().ok()?);
        }
        inside.passage
    };
    match passage {
        Passage::Open => {
            let server = TcpStream::connect(target).ok()?;
            let (from_client, to_client) = (client.try_clone().ok()?, client);
            let (from_server, to_server) = (server.try_clone().ok()?, server);
            let up = std::thread::spawn(move || pour(from_client, to_server));
            pour(from_server, to_client);
            up.join().ok()
        }
        Passage::Busy => {
            let mut head = [0; 4096];
            let _ = client.read(&mut head).ok()?;
            let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            let length = body.len();
            let head = format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            client.write_all((head + body).as_bytes()).ok()?;
            // What is left unread would make the kernel take the answer back.
            client.shutdown(Shutdown::Write).ok()?;
            std::io::copy(&mut client, &mut std::io::sink()).ok().map(drop)
        }
        Passage::Closed => None,
    }
}

fn pour(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
