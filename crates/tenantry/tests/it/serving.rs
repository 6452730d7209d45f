//! A `serve` under way: its addresses are read from its log, and it is gone when the test ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::support::Home;

/// The program, serving.
pub(crate) struct Serving {
    child: Child,
    /// Taken by whoever reads it to the end.
    log: Option<BufReader<ChildStderr>>,
}

impl Serving {
    pub(crate) fn start(home: &Home) -> Self {
        Self::start_as(home.tenantry(&["--json", "serve"]))
    }

    /// The same with these variables.
    pub(crate) fn start_with(home: &Home, variables: &[(&str, &str)]) -> Self {
        let mut program = home.tenantry(&["--json", "serve"]);
        program.envs(variables.iter().copied());
        Self::start_as(program)
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The same where whoever starts it has SIGHUP ignored, as `nohup` does.
    pub(crate) fn start_without_hang_up(home: &Home) -> Self {
        let program = home.tenantry(&["--json", "serve"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
        shell.current_dir(home.path()).env_clear().stdin(Stdio::null());
        for (name, value) in program.get_envs() {
            shell.envs(value.map(|value| (name, value)));
        }
        Self::start_as(shell)
    }

    fn start_as(mut command: Command) -> Self {
        let mut child = command
            .env("TENANTRY_LOG", "tenantry=info,server::tls=info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log: Some(log) }
    }

    /// Sends it a signal, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Whether a hang-up (signal 1) does nothing to it, as the kernel has it.
    pub(crate) fn ignores_hang_up(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
    }

    /// Waits for its end.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Reads the log up to the first line with this field, and returns its value.
    pub(crate) fn logged(&mut self, field: &str) -> String {
        let mut said = String::new();
        let log = self.log.as_mut().expect("the log has not been given away");
        loop {
            let begun = said.len();
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "it ended before it said {field}:\n{said}");
            let line: Value = serde_json::from_str(&said[begun..]).unwrap();
            if let Some(value) = line["fields"][field].as_str() {
                return value.to_owned();
            }
        }
    }
}

impl Serving {
    /// What it says from now on is read and forgotten, so that it never waits for a reader.
    pub(crate) fn forget_the_log(&mut self) {
        let mut log = self.log.take().expect("the log has not been given away");
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
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
