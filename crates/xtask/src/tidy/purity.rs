//! Rule: the pure crates do no IO, read no clock, draw no random number and await nothing.

use super::Finding;
use super::source::word_places;
use super::tree::Tree;

const PURE_CRATES: [&str; 3] = ["protocol", "record", "engine"];

/// What a pure crate's product must not say, and what it does instead.
const BANNED: [(&str, &str); 23] = [
    ("async", "return what is to be done and let the caller await"),
    (".await", "return what is to be done and let the caller await"),
    ("tokio", "return what is to be done and let the caller await"),
    ("Utc::now", "take the time as an argument"),
    ("Local::now", "take the time as an argument"),
    ("Instant::now", "take the time as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("std::fs", "take bytes and return bytes"),
    ("std::env", "take the value as an argument"),
    ("std::process", "return an error"),
    ("std::thread", "leave threads to the caller"),
    ("TcpStream", "take bytes and return bytes"),
    ("TcpListener", "take bytes and return bytes"),
    ("UdpSocket", "take bytes and return bytes"),
    ("ToSocketAddrs", "leave names to the caller"),
    ("new_v4", "take the id as an argument"),
    ("new_v7", "take the id as an argument"),
    ("fastrand", "take the random number as an argument"),
    ("getrandom", "take the random number as an argument"),
    ("RandomState", "use BTreeMap, or a hasher with a fixed key"),
    ("println!", "return the text"),
    ("eprintln!", "return the text"),
    ("tracing", "return a typed outcome and let the caller log it"),
];

/// Dependencies that only IO, a clock or chance could want.
const BANNED_DEPENDENCIES: [&str; 12] = [
    "axum",
    "fastrand",
    "futures-util",
    "getrandom",
    "hyper",
    "hyper-util",
    "object_store",
    "rand",
    "reqwest",
    "rusqlite",
    "tokio",
    "tower",
];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (name, manifest) in tree.manifests() {
        if !PURE_CRATES.contains(&name) {
            continue;
        }
        for (table, dependency) in super::dependencies::of_manifest(&manifest.text) {
            if table != "dev-dependencies" && BANNED_DEPENDENCIES.contains(&dependency.as_str()) {
                let text =
                    format!("{name} is a pure crate and must not depend on {dependency}; move what needs it out");
                findings.push(manifest.finding(manifest.line_starting(&dependency), text));
            }
        }
    }
    for (file, source) in tree.rust() {
        let Some(name) = file.crate_name().filter(|name| PURE_CRATES.contains(name)) else { continue };
        if !file.is_product() {
            continue;
        }
        for (word, instead) in BANNED {
            for place in word_places(source.product(), word) {
                let text = format!("{name} is a pure crate and must not use {word}; {instead}");
                findings.push(file.finding(file.line_of(place), text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::findings_in;

    #[test]
    fn pure_crates_keep_clear_of_the_world() {
        let bad = "//! x\nasync fn f() { let t = Utc::now(); }\nuse std::fs;\n";
        assert_eq!(
            findings_in(check, &[("crates/engine/src/lib.rs", bad)]),
            [
                "crates/engine/src/lib.rs:2: engine is a pure crate and must not use Utc::now; take the time as an argument",
                "crates/engine/src/lib.rs:2: engine is a pure crate and must not use async; return what is to be done and let the caller await",
                "crates/engine/src/lib.rs:3: engine is a pure crate and must not use std::fs; take bytes and return bytes",
            ]
        );
        assert!(findings_in(check, &[("crates/server/src/lib.rs", bad)]).is_empty());
        let in_tests = "//! Utc::now is for others\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert!(findings_in(check, &[("crates/engine/src/lib.rs", in_tests)]).is_empty());
        assert!(findings_in(check, &[("crates/engine/tests/it/main.rs", bad)]).is_empty());
    }

    #[test]
    fn pure_crates_depend_on_nothing_that_reaches_out() {
        let manifest = "[dependencies]\nbytes.workspace = true\ntokio.workspace = true\n[dev-dependencies]\ntower.workspace = true\n";
        assert_eq!(
            findings_in(check, &[("crates/record/Cargo.toml", manifest)]),
            ["crates/record/Cargo.toml:3: record is a pure crate and must not depend on tokio; move what needs it out"]
        );
        assert!(findings_in(check, &[("crates/ledger/Cargo.toml", manifest)]).is_empty());
    }
}
