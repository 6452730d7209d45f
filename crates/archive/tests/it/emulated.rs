//! Servers of object storage as others have rebuilt them, each started by the test that asks for it and ended with it.
//!
//! Never reaches anything but loopback, and makes no bucket. `cargo xtask test` installs the servers into the target folder.
//! Uses nothing but the standard library, so that the tests of other rooms can take this file as it is.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// A server that is running.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Amazon S3 as moto has it, and its URL; `None` when it is not installed.
pub(crate) fn moto() -> Option<(Process, String)> {
    let mut command = tool("venv/bin/moto_server")?;
    Some(start(command.args(["-H", "127.0.0.1", "-p", "0"]), "Running on "))
}

/// Azure Blob Storage as Azurite has it, and its URL; `None` when it is not installed.
pub(crate) fn azurite() -> Option<(Process, String)> {
    let mut command = tool("azurite/node_modules/.bin/azurite-blob")?;
    command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]);
    command.args(["--disableTelemetry", "--skipApiVersionCheck"]);
    Some(start(&mut command, "successfully listens on "))
}

/// The tool in the target folder, where this test lies in `debug/deps`.
fn tool(name: &str) -> Option<Command> {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().map(|folder| folder.join("test-tools").join(name)).find(|path| path.exists());
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
