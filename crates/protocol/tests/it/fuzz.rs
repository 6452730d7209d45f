//! What strangers can send, mutated from a corpus: the webhook's body and the callback's query.
//!
//! Runs some seconds with every test run; `TENANTRY_FUZZ_ROUNDS=20000000 TENANTRY_FUZZ_SEED=7 cargo nextest run -p protocol
//! fuzz` as long as one likes. A finding prints seed and round, which repeat it, and its input becomes a file of the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use http::HeaderMap;
use protocol::activity::{
    MAX_NOTIFIED_CONTENTS, MAX_UNREADABLE_RAW, MAX_VALIDATION_CODE, WEBHOOK_VALIDATION_CODE_HEADER, WebhookCall,
    parse_webhook_call,
};
use protocol::cloud::{Cloud, CloudName};
use protocol::consent::parse_callback;

/// Rounds of each target unless said otherwise: some seconds of a debug build.
const ROUNDS: u64 = 20_000;

/// What parsers trip over.
const WORDS: [&[u8]; 32] = [
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"1e400",
    b"-0",
    b"99999999999999999999",
    b"\xEF\xBB\xBF",
    b"\xFF",
    b"\xC3",
    b"\xED\xA0\x80",
    b"\0",
    b"\r\n",
    b"contentUri",
    b"tenantId",
    b"https://",
    b"manage.office.com",
    b"@",
    b"..",
    b"%2F",
    b"%00",
    b"&",
    b"=",
    b"state",
];

/// SplitMix64: the same everywhere for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap()
    }
}

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus in {}", folder.display());
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn mutate(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let until = (at + dice.below(40)).min(bytes.len());
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..until)),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            3 => {
                let word = WORDS[dice.below(WORDS.len())];
                drop(bytes.splice(at..at, word.iter().copied()));
            }
            4 => {
                let word = WORDS[dice.below(WORDS.len())];
                drop(bytes.splice(at..until, word.iter().copied()));
            }
            5 => {
                let piece = bytes[at..until].to_vec();
                let to = dice.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            6 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                // Much of the same: depth and length.
                let word = WORDS[dice.below(WORDS.len())];
                let many = word.repeat(1 + dice.below(300));
                drop(bytes.splice(at..at, many));
            }
        }
    }
    bytes
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Holds `check` to every input of the corpus, and to mutations of it.
fn fuzz(folder: &str, check: impl Fn(&[u8])) {
    let corpus = corpus(folder);
    let (rounds, seed) = (number("TENANTRY_FUZZ_ROUNDS", ROUNDS), number("TENANTRY_FUZZ_SEED", 1));
    for input in &corpus {
        check(input);
    }
    for round in 0..rounds {
        let mut dice = Dice(seed ^ round.wrapping_mul(0xd134_2543_de82_ef95));
        let input = mutate(&mut dice, &corpus);
        // What failed is printed already; this says how to repeat it.
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            panic!("{folder}, seed {seed}, round {round}: {}", input.escape_ascii());
        }
    }
}

#[test]
fn fuzz_webhook_bodies() {
    let cloud = Cloud::preset(CloudName::Commercial).unwrap();
    let plain = HeaderMap::new();
    let mut validating = HeaderMap::new();
    validating.insert(WEBHOOK_VALIDATION_CODE_HEADER, "e1f6a3b0-77c1-4b1e-9f0a-2f6f6a0b9c11".parse().unwrap());
    let (notified, validated) = (std::cell::Cell::new(0_u64), std::cell::Cell::new(0_u64));
    fuzz("webhook", |body| {
        for headers in [&plain, &validating] {
            match parse_webhook_call(&cloud, headers, body) {
                Ok(WebhookCall::Notification { contents, unreadable }) => {
                    assert!(std::ptr::eq(headers, &plain), "a notification with the header of a validation");
                    assert!(contents.len() + unreadable.len() <= MAX_NOTIFIED_CONTENTS);
                    for content in &contents {
                        // The one thing that must never get through: a URI that is not this tenant's on this cloud.
                        let uri = content.content.content_uri.as_str();
                        assert!(cloud.check_activity_url(content.tenant, uri).is_ok(), "{uri}");
                        notified.set(notified.get() + 1);
                    }
                    for entry in &unreadable {
                        assert!(entry.raw.chars().count() <= MAX_UNREADABLE_RAW);
                        let _ = entry.problem.to_string();
                    }
                }
                Ok(WebhookCall::Validation { code }) => {
                    assert!(!code.is_empty() && code.len() <= MAX_VALIDATION_CODE);
                    assert!(std::ptr::eq(headers, &validating), "a validation without its header");
                    validated.set(validated.get() + 1);
                }
                Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
            }
        }
    });
    assert!(notified.get() > 100 && validated.get() > 5, "{} and {}", notified.get(), validated.get());
}

#[test]
fn fuzz_callback_queries() {
    let read = std::cell::Cell::new(0_u64);
    fuzz("callback", |query| {
        let query = String::from_utf8_lossy(query);
        match parse_callback(&query) {
            Ok(callback) => {
                assert_eq!(callback.state.as_str().len(), 43, "a state of ours has 43 letters");
                read.set(read.get() + 1);
            }
            Err(fault) => assert!(fault.to_string().len() < 300),
        }
    });
    assert!(read.get() > 100, "{}", read.get());
}
