//! A line to a database server that can be cut: nothing passes any more, and nobody is told. What was on the way arrives when
//! it is mended.
//!
//! Never loses a byte, and never looks at one.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use tempfile::TempDir;

/// A socket in a folder of its own that leads to the server's.
pub(super) struct Line {
    url: String,
    _folder: TempDir,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_cut: Mutex<bool>,
    changed: Condvar,
}

impl Line {
    /// To a ledger at this address, which names the folder of a socket.
    pub(super) fn to(url: &str) -> Self {
        let (folder, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
        let named = |name: &str| url.split(['?', '&']).find_map(|word| word.strip_prefix(name)).unwrap();
        let file = format!(".s.PGSQL.{}", named("port="));
        let socket = PathBuf::from(named("host=")).join(&file);
        let listener = UnixListener::bind(folder.path().join(&file)).unwrap();
        let url = url.replace(named("host="), &folder.path().display().to_string());
        let passing = Arc::clone(&gate);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                // While the server is away, nobody is there at this end either.
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, gate) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&passing));
                    std::thread::spawn(move || gate.pass(from, to));
                }
            }
        });
        Self { url, _folder: folder, gate }
    }

    /// The ledger's address at this end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn cut(&self) {
        self.gate.set(true);
    }

    pub(super) fn mend(&self) {
        self.gate.set(false);
    }
}

impl Gate {
    fn set(&self, is_cut: bool) {
        *self.is_cut.lock().unwrap() = is_cut;
        self.changed.notify_all();
    }

    fn pass(&self, mut from: UnixStream, mut to: UnixStream) {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let is_cut = self.is_cut.lock().unwrap();
            drop(self.changed.wait_while(is_cut, |is_cut| *is_cut).unwrap());
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // The end of it is no news before the line is mended either.
        let is_cut = self.is_cut.lock().unwrap();
        drop(self.changed.wait_while(is_cut, |is_cut| *is_cut).unwrap());
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
