//! A `serve` under way: its addresses are read from its log, and it is gone when the test ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::Value;

use crate::support::Home;

/// The program, serving.
pub(crate) struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Serving {
    pub(crate) fn start(home: &Home) -> Self {
        let mut child = home
            .tenantry(&["--json", "serve"])
            .env("TENANTRY_LOG", "tenantry=info,server::tls=info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log up to the first line with this field, and returns its value.
    pub(crate) fn logged(&mut self, field: &str) -> String {
        let mut said = String::new();
        loop {
            let begun = said.len();
            assert_ne!(self.log.read_line(&mut said).unwrap(), 0, "it ended before it said {field}:\n{said}");
            let line: Value = serde_json::from_str(&said[begun..]).unwrap();
            if let Some(value) = line["fields"][field].as_str() {
                return value.to_owned();
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One GET over a fresh connection; the whole answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
