//! As much of Google Cloud Storage's XML API as an archive asks for, in this process: objects with generations, ranges,
//! listings, uploads in parts, and writes on the condition of a generation.
//!
//! Never keeps anything on disk. No emulator that could be had answers this API as its client speaks it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const MODIFIED: &str = "Wed, 04 Mar 2026 05:06:07 GMT";

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    generation: u64,
}

struct Request {
    method: String,
    /// Of the object, without the bucket; empty for the bucket itself.
    name: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Listens on loopback for as long as the process lives; the endpoint. It has one bucket.
pub(crate) fn start(bucket: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::<Mutex<State>>::default();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let state = Arc::clone(&state);
            std::thread::spawn(move || serve(&stream, bucket, &state));
        }
    });
    endpoint
}

fn serve(stream: &TcpStream, bucket: &str, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader, bucket) {
        let is_head = request.as_ref().is_some_and(|request| request.method == "HEAD");
        let answer = match request {
            Some(request) => state.lock().unwrap().answer(&request),
            None => refuse("404 Not Found", "NoSuchBucket"),
        };
        let mut head = format!("HTTP/1.1 {}\r\n", answer.status);
        if !answer.headers.iter().any(|(name, _)| *name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", answer.body.len());
        }
        answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let body: &[u8] = if is_head { &[] } else { &answer.body };
        let mut writer = stream;
        if writer.write_all((head + "\r\n").as_bytes()).and_then(|()| writer.write_all(body)).is_err() {
            return;
        }
    }
}

/// The next request of the connection, `Some(None)` when it is for another bucket.
fn read(reader: &mut BufReader<&TcpStream>, bucket: &str) -> Option<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = unescaped(path);
    let (of, name) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), unescaped(value))
    });
    let request = Request { method, name: name.to_owned(), query: query.collect(), headers, body };
    Some((of == bucket).then_some(request))
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = if byte == b'%' { rest.next().zip(rest.next()) } else { None };
        bytes.push(match digits {
            Some((high, low)) => u8::from_str_radix(&String::from_utf8(vec![high, low]).unwrap(), 16).unwrap(),
            None => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn refuse(status: &'static str, code: &str) -> Answer {
    let body = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
    Answer { status, headers: Vec::new(), body: body.into_bytes() }
}

fn xml(body: String) -> Answer {
    Answer { status: "200 OK", headers: Vec::new(), body: body.into_bytes() }
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        let asked = |name: &str| request.query.contains_key(name);
        match request.method.as_str() {
            "GET" if request.name.is_empty() => self.list(&request.query),
            "GET" | "HEAD" => self.read(request),
            "PUT" if asked("uploadId") => self.part(request),
            "POST" if asked("uploads") => self.begin(),
            "POST" if asked("uploadId") => self.complete(request),
            "PUT" => self.write(request),
            "DELETE" if asked("uploadId") => {
                self.uploads.remove(&request.query["uploadId"]);
                Answer { status: "204 No Content", headers: Vec::new(), body: Vec::new() }
            }
            "DELETE" if self.objects.remove(&request.name).is_some() => {
                Answer { status: "204 No Content", headers: Vec::new(), body: Vec::new() }
            }
            "DELETE" => refuse("404 Not Found", "NoSuchKey"),
            _ => refuse("405 Method Not Allowed", "MethodNotAllowed"),
        }
    }

    fn put(&mut self, name: &str, data: Vec<u8>) -> Vec<(&'static str, String)> {
        self.generation += 1;
        self.objects.insert(name.to_owned(), (data, self.generation));
        vec![("ETag", format!("\"{}\"", self.generation)), ("x-goog-generation", self.generation.to_string())]
    }

    fn write(&mut self, request: &Request) -> Answer {
        if let Some(wanted) = request.headers.get("x-goog-if-generation-match") {
            let there = self.objects.get(&request.name).map_or(0, |(_, generation)| *generation);
            if wanted != &there.to_string() {
                return refuse("412 Precondition Failed", "PreconditionFailed");
            }
        }
        let headers = self.put(&request.name, request.body.clone());
        Answer { status: "200 OK", headers, body: Vec::new() }
    }

    fn read(&self, request: &Request) -> Answer {
        let Some((data, generation)) = self.objects.get(&request.name) else {
            return refuse("404 Not Found", "NoSuchKey");
        };
        let mut headers = vec![
            ("ETag", format!("\"{generation}\"")),
            ("x-goog-generation", generation.to_string()),
            ("Last-Modified", MODIFIED.to_owned()),
        ];
        if request.method == "HEAD" {
            headers.push(("Content-Length", data.len().to_string()));
            return Answer { status: "200 OK", headers, body: Vec::new() };
        }
        let Some(range) = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) else {
            return Answer { status: "200 OK", headers, body: data.clone() };
        };
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = match from.parse::<usize>() {
            Ok(from) => (from, to.parse().map_or(data.len(), |to: usize| (to + 1).min(data.len()))),
            Err(_) => (data.len().saturating_sub(to.parse().unwrap()), data.len()),
        };
        if from >= data.len() {
            return refuse("416 Range Not Satisfiable", "InvalidRange");
        }
        headers.push(("Content-Range", format!("bytes {from}-{}/{}", to - 1, data.len())));
        Answer { status: "206 Partial Content", headers, body: data[from..to].to_vec() }
    }

    /// In pages of three, so that every listing of some length has several.
    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let prefix = query.get("prefix").map_or("", String::as_str);
        let after = query.get("continuation-token").map_or("", String::as_str);
        let (mut contents, mut folders, mut last, mut more) = (String::new(), Vec::<String>::new(), "", false);
        let found = self.objects.iter().filter(|(name, _)| name.starts_with(prefix) && name.as_str() > after);
        for (count, (name, (data, generation))) in found.enumerate() {
            if count == 3 {
                more = true;
                break;
            }
            last = name;
            let folder =
                query.get("delimiter").and_then(|delimiter| name[prefix.len()..].split_once(delimiter.as_str()));
            if let Some((folder, _)) = folder {
                folders.push(format!("{prefix}{folder}/"));
                continue;
            }
            contents += &format!(
                "<Contents><Key>{name}</Key><Size>{}</Size><LastModified>2026-03-04T05:06:07.000Z</LastModified>\
                 <ETag>\"{generation}\"</ETag></Contents>",
                data.len()
            );
        }
        folders.dedup();
        let folders: String = folders
            .iter()
            .map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"))
            .collect();
        let next = if more { format!("<NextContinuationToken>{last}</NextContinuationToken>") } else { String::new() };
        xml(format!("<ListBucketResult>{next}{contents}{folders}</ListBucketResult>"))
    }

    fn begin(&mut self) -> Answer {
        self.generation += 1;
        let id = format!("upload-{}", self.generation);
        self.uploads.insert(id.clone(), BTreeMap::new());
        xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn part(&mut self, request: &Request) -> Answer {
        let number: u32 = request.query["partNumber"].parse().unwrap();
        let Some(parts) = self.uploads.get_mut(&request.query["uploadId"]) else {
            return refuse("404 Not Found", "NoSuchUpload");
        };
        parts.insert(number, request.body.clone());
        Answer { status: "200 OK", headers: vec![("ETag", format!("\"part-{number}\""))], body: Vec::new() }
    }

    fn complete(&mut self, request: &Request) -> Answer {
        let Some(parts) = self.uploads.remove(&request.query["uploadId"]) else {
            return refuse("404 Not Found", "NoSuchUpload");
        };
        let headers = self.put(&request.name, parts.into_values().flatten().collect());
        let body =
            format!("<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>", headers[0].1);
        Answer { status: "200 OK", headers, body: body.into_bytes() }
    }
}
