//! Recorded records, where they are at hand: split byte for byte, and viewed as a naive reading views them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use protocol::time::parse_timestamp;
use record::view::address;
use record::{Item, Limits, View};
use serde_json::Value;

use crate::split_in_chunks;

fn recorded_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/records");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no recorded records at {}", folder.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".ndjson.zst"));
    files.sort();
    files
}

fn lines_of(path: &Path) -> Vec<String> {
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

/// Places to cut at, repeatable: a linear congruential generator.
fn cuts(mut seed: u64, count: usize) -> Vec<usize> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn recorded_records_are_split_byte_for_byte_in_any_chunks() {
    for path in recorded_files() {
        let lines = lines_of(&path);
        assert!(!lines.is_empty(), "{}", path.display());
        for (seed, per_blob) in [(1, 1), (2, 7), (3, 500), (4, usize::MAX)] {
            for part in lines.chunks(per_blob.min(lines.len())) {
                let blob = Bytes::from(format!("\u{feff}[{}\n]", part.join(",\r\n")));
                let (items, end, _) = split_in_chunks(&blob, &cuts(seed, part.len()), Limits::DEFAULT);
                assert!(end.is_ok(), "{}: {end:?}, seed {seed}", path.display());
                assert_eq!(items.len(), part.len(), "{}, seed {seed}", path.display());
                for (item, line) in items.iter().zip(part) {
                    let Item::Record(record) = item else { panic!("{item:?}, seed {seed}") };
                    assert_eq!(record.as_bytes(), line.as_bytes(), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn recorded_records_are_viewed_as_a_naive_reading_views_them() {
    for path in recorded_files() {
        for line in lines_of(&path) {
            let naive: Value = serde_json::from_str(&line).unwrap();
            let view = View::read(line.as_bytes());
            for (column, name) in [
                (&view.id, "Id"),
                (&view.operation, "Operation"),
                (&view.workload, "Workload"),
                (&view.user_id, "UserId"),
                (&view.user_key, "UserKey"),
                (&view.organization_id, "OrganizationId"),
                (&view.object_id, "ObjectId"),
                (&view.result_status, "ResultStatus"),
            ] {
                assert_eq!(column.as_deref(), naive_text(&naive, &[name]), "{name} of {line}");
            }
            let time = naive["CreationTime"].as_str().and_then(parse_timestamp);
            assert!(time.is_some(), "{line}");
            assert_eq!(view.creation_time, time, "{line}");
            assert_eq!(view.record_type.map(i64::from), naive["RecordType"].as_i64(), "{line}");
            assert_eq!(view.user_type.map(i64::from), naive["UserType"].as_i64(), "{line}");
            assert_eq!(view.client_ip.as_deref(), naive_address(&naive).as_deref(), "{line}");
            assert_eq!(view.app_id.as_deref(), naive_app(&naive), "{line}");
            assert_eq!(view.session_id.as_deref(), naive_session(&naive), "{line}");
        }
    }
}

fn naive_text<'v>(record: &'v Value, path: &[&str]) -> Option<&'v str> {
    path.iter().try_fold(record, |value, name| value.get(name))?.as_str()
}

fn naive_address(record: &Value) -> Option<String> {
    let texts = ["ClientIP", "ClientIPAddress", "ActorIpAddress"].map(|name| naive_text(record, &[name]));
    let address = texts.into_iter().flatten().find_map(|text| address::normalised(text.into()))?;
    // What the normalised text must be, said without the code under test.
    let kept: std::net::IpAddr = address.parse().expect("every recorded address can be read");
    assert_eq!(kept.to_string(), address);
    assert!(texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&*address)), "{address}");
    Some(address.into_owned())
}

fn naive_app(record: &Value) -> Option<&str> {
    filled_or_first([
        naive_text(record, &["AppId"]),
        naive_text(record, &["ApplicationId"]),
        naive_text(record, &["ClientAppId"]),
        naive_text(record, &["AppAccessContext", "ClientAppId"]),
    ])
}

fn naive_session(record: &Value) -> Option<&str> {
    let properties = record["DeviceProperties"].as_array().into_iter().flatten();
    let device = properties.filter(|entry| entry["Name"] == "SessionId").find_map(|entry| entry["Value"].as_str());
    filled_or_first([
        naive_text(record, &["SessionId"]),
        naive_text(record, &["AppAccessContext", "AADSessionId"]),
        device,
    ])
}

fn filled_or_first<const N: usize>(texts: [Option<&str>; N]) -> Option<&str> {
    let present = || texts.into_iter().flatten();
    present().find(|text| !text.is_empty()).or_else(|| present().next())
}
