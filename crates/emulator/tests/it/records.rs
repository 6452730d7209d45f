//! What records look like: sizes, families, oddities; and recorded ones played again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

use emulator::world::{Duplicates, RecordSet};
use emulator::{EmulatorClock, World, WorldOptions};
use protocol::ids::ContentType;
use serde_json::Value;

use crate::client::start;

fn world(options: WorldOptions) -> World {
    World::new(WorldOptions { tenants: 1, ..options }, EmulatorClock::frozen(start())).unwrap()
}

fn texts(world: &World) -> Vec<(ContentType, String)> {
    let mut texts = Vec::new();
    for tenant in world.tenant_ids() {
        world.each_record(tenant, RecordSet::Readable, |kind, text| {
            texts.push((kind.clone(), String::from_utf8(text.to_vec()).unwrap()));
            true
        });
    }
    texts
}

#[test]
fn generated_records_have_the_sizes_and_families_of_real_ones() {
    let world = world(WorldOptions { records_total: Some(6000), ..WorldOptions::default() });
    let texts = texts(&world);
    let mut sizes: Vec<usize> = texts.iter().map(|(_, text)| text.len()).collect();
    sizes.sort_unstable();
    let at = |share: usize| sizes[(sizes.len() - 1) * share / 1000];
    assert!((1000..1700).contains(&at(500)), "p50 {}", at(500));
    assert!((2500..6000).contains(&at(990)), "p99 {}", at(990));
    assert!(at(1000) > 20_000, "max {}", at(1000));
    let mut families = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (kind, text) in &texts {
        let record: Value = match serde_json::from_str(text) {
            Ok(record) => record,
            // A lone surrogate is JSON, and no Unicode.
            Err(error) => {
                assert!(text.contains("\\ud83d surrogate") || text.contains("1E400"), "{error}: {text}");
                continue;
            }
        };
        *families.entry((kind.clone(), record["RecordType"].as_i64().unwrap())).or_insert(0) += 1;
        assert_eq!(record["OrganizationId"], world.tenant_ids()[0].to_string());
        ids.insert(record["Id"].as_str().unwrap().to_owned());
        let time = record["CreationTime"].as_str().unwrap().trim_end_matches('Z');
        assert!(chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.f").is_ok(), "{time}");
    }
    assert!(families.len() >= 25, "{families:?}");
    let has = |needle: &str| texts.iter().any(|(_, text)| text.contains(needle));
    for oddity in [
        "\\/",
        "\\u003c",
        "é",
        "\"ClientIP\":\"[",
        "\"UserId\":\"\"",
        "\"ClientIP\":\"<null>\"",
        "\"Scope\":",
        "\\\\\\\"",
        "12345678901234567890123",
    ] {
        assert!(has(oddity), "no record has {oddity}");
    }
    let doubled = |text: &str| text.matches("\"Workload\":").count() > 1;
    assert!(texts.iter().any(|(_, text)| doubled(text)), "no record has a member twice");
}

#[test]
fn an_id_comes_again_only_with_another_body() {
    let duplicates = Duplicates { variant: 0.05, ..Duplicates::default() };
    let world = world(WorldOptions { records_total: Some(2000), duplicates, ..WorldOptions::default() });
    let texts = texts(&world);
    let id = |text: &str| {
        let from = text.find("\"Id\":\"").unwrap() + 6;
        text[from..from + 36].to_owned()
    };
    let distinct: BTreeSet<&String> = texts.iter().map(|(_, text)| text).collect();
    let ids: BTreeSet<String> = texts.iter().map(|(_, text)| id(text)).collect();
    assert_eq!(distinct.len(), texts.len());
    let variants = texts.iter().filter(|(_, text)| text.contains("\"IsUpdated\":true")).count();
    assert!(variants > 20);
    assert!(texts.len() - ids.len() <= variants && texts.len() > ids.len());
}

fn without_changed_values(text: &str) -> Value {
    let mut record: Value = serde_json::from_str(text).unwrap();
    let members = record.as_object_mut().unwrap();
    for name in ["Id", "CreationTime", "OrganizationId"] {
        members.remove(name);
    }
    record
}

#[test]
fn recorded_records_come_in_plain_gzip_and_zstd_files() {
    let folder = tempfile::tempdir().unwrap();
    let line = |n: usize, workload: &str| {
        format!(
            r#"{{"CreationTime":"2021-05-21T01:11:5{n}","Id":"{n}","Operation":"Op{n}","Workload":"{workload}","Path":"a\/b"}}"#
        )
    };
    let plain = folder.path().join("a.ndjson");
    std::fs::write(&plain, format!("{}\n{}\n", line(1, "Exchange"), line(2, "OneDrive"))).unwrap();
    let gz = folder.path().join("b.ndjson.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writeln!(encoder, "{}", line(3, "AzureActiveDirectory")).unwrap();
    std::fs::write(&gz, encoder.finish().unwrap()).unwrap();
    let zst = folder.path().join("c.ndjson.zst");
    std::fs::write(&zst, zstd::encode_all(line(4, "MicrosoftTeams").as_bytes(), 3).unwrap()).unwrap();
    let duplicates = Duplicates::none();
    let options = WorldOptions { records_files: vec![plain, gz, zst.clone()], duplicates, ..WorldOptions::default() };
    let world = world(options);
    let mut found: Vec<(String, String)> = texts(&world)
        .into_iter()
        .map(|(kind, text)| {
            assert!(text.contains(r"a\/b"), "{text}");
            (kind.to_string(), without_changed_values(&text)["Operation"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    let expected = [
        ("Audit.AzureActiveDirectory", "Op3"),
        ("Audit.Exchange", "Op1"),
        ("Audit.General", "Op4"),
        ("Audit.SharePoint", "Op2"),
    ];
    assert_eq!(found, expected.map(|(kind, operation)| (kind.to_owned(), operation.to_owned())));
    std::fs::write(&zst, "not zstd").unwrap();
    let broken = WorldOptions { records_files: vec![zst], ..WorldOptions::default() };
    let error = World::new(broken, EmulatorClock::frozen(start())).unwrap_err().to_string();
    assert!(error.contains("c.ndjson.zst"), "{error}");
}

#[test]
fn every_recorded_record_is_played_once_per_tenant_with_its_other_bytes_kept() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/records");
    let files: Vec<PathBuf> = ["elastic-beats.ndjson.zst", "plaso-test-data.ndjson.zst", "panther-analysis.ndjson.zst"]
        .iter()
        .map(|name| folder.join(name))
        .collect();
    if !files.iter().all(|file| file.is_file()) {
        println!("skipped: there are no recorded records in {}", folder.display());
        return;
    }
    let recorded: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
            String::from_utf8(text).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let options = WorldOptions { records_files: files, duplicates: Duplicates::none(), ..WorldOptions::default() };
    let world = world(options);
    world.clock().advance(std::time::Duration::from_secs(7 * 3600));
    let key = |text: &str| without_changed_values(text).to_string();
    let mut expected: Vec<String> = recorded.iter().map(|text| key(text)).collect();
    let mut played: Vec<String> = texts(&world).iter().map(|(_, text)| key(text)).collect();
    expected.sort();
    played.sort();
    assert_eq!(played.len(), expected.len());
    assert!(played == expected);
}
