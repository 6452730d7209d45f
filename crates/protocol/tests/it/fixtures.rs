//! Reads the wire fixtures: several answers per file, each a title, what is expected of it, and the answer as sent.
//!
//! Never forgiving: a fixture that cannot be read, or lacks its expectation, fails the test that reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use protocol::response::Response;

/// One recorded answer.
pub(crate) struct Fixture {
    /// File and title, for messages.
    pub(crate) name: String,
    /// The `# key: value` lines.
    pub(crate) notes: BTreeMap<String, String>,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Fixture {
    pub(crate) fn response(&self) -> Response<'_> {
        Response::new(self.status, &self.headers, &self.body)
    }

    #[track_caller]
    pub(crate) fn note(&self, key: &str) -> &str {
        self.notes.get(key).unwrap_or_else(|| panic!("{}: has no `# {key}:` line", self.name))
    }
}

/// Every fixture of a folder under `tests/fixtures`.
pub(crate) fn all(folder: &str) -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "http"));
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files.iter().flat_map(|file| read_file(file)).collect()
}

fn read_file(file: &Path) -> Vec<Fixture> {
    let text = std::fs::read_to_string(file).unwrap();
    let short = file.file_name().unwrap().to_string_lossy();
    let rest = text.strip_prefix("### ").unwrap_or_else(|| panic!("{short}: must begin with ###"));
    rest.split("\n### ").map(|section| read_section(&short, section)).collect()
}

fn read_section(file: &str, section: &str) -> Fixture {
    let (title, mut rest) = section.split_once('\n').unwrap();
    let name = format!("{file}: {title}");
    let mut notes = BTreeMap::new();
    while let Some(line) = rest.strip_prefix("# ") {
        let (note, after) = line.split_once('\n').unwrap();
        let (key, value) = note.split_once(": ").unwrap_or_else(|| panic!("{name}: {note:?} is no note"));
        assert!(notes.insert(key.to_owned(), value.to_owned()).is_none(), "{name}: {key} twice");
        rest = after;
    }
    let (head, body) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
    let mut lines = head.lines();
    let status_line = lines.next().unwrap();
    let code = status_line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3));
    let code = code.unwrap_or_else(|| panic!("{name}: {status_line:?} is no status line"));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{name}: {line:?} is no header"));
        headers.append(key.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let mut bytes = notes.get("body-prefix").map(|hex| unhex(hex)).unwrap_or_default();
    bytes.extend_from_slice(body.trim_end().as_bytes());
    Fixture { name, notes, status: code.parse().unwrap(), headers, body: bytes }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
