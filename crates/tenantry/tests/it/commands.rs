//! Every command does what its help says, in the form its flags ask for.

use emulator::{EmulatorOptions, WorldOptions};
use serde_json::{Value, json};

use crate::support::{Home, Microsoft, on_time};

fn small(seed: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 2, records_total: Some(600), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn tenants_are_added_listed_paused_resumed_and_removed() {
    let microsoft = small(2_201);
    let home = Home::new(&microsoft);
    let [first, second] = microsoft.tenants()[..] else { panic!("two tenants") };
    let (first, second) = (first.to_string(), second.to_string());
    assert_eq!(json(&home.succeed(&["--json", "tenant", "add", &first]))["added"], false);
    assert_eq!(json(&home.succeed(&["--json", "tenant", "list"])).as_array().unwrap().len(), 2);

    home.succeed(&["tenant", "pause", &first]);
    home.succeed(&["collect", "--once"]);
    let rows = json(&home.succeed(&["query", "--format", "json", "SELECT DISTINCT tenant_id FROM audit"]));
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["tenant_id"], second.as_str());

    home.succeed(&["tenant", "resume", &first]);
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 2_201);

    let removed = json(&home.succeed(&["--json", "tenant", "remove", &first]));
    assert_eq!((&removed["state"], &removed["subscriptions_stopped"]), (&"removed".into(), &5.into()));
    let listed = json(&home.succeed(&["--json", "subscription", "list", "--tenant", &first]));
    assert!(listed.as_array().unwrap().iter().all(|row| row["status"] != "enabled"), "{listed}");
    assert_eq!(json(&home.succeed(&["--json", "tenant", "list"])).as_array().unwrap().len(), 1);
    let would = home.succeed(&["tenant", "remove", &first, "--purge"]);
    assert!(would.contains("would delete"), "{would}");
    let gone = json(&home.succeed(&["--json", "tenant", "remove", &first, "--purge", "--yes"]));
    assert!(gone["deleted_files"].as_u64().unwrap() > 0 && gone["deleted_bytes"].as_u64().unwrap() > 0, "{gone}");
    let rows = json(&home.succeed(&["query", "--format", "json", "SELECT DISTINCT tenant_id FROM audit"]));
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert!(!home.data().join("archive").join(format!("tenant={first}")).exists());
    home.fail(&["tenant", "show", &first], 2);
    home.succeed(&["tenant", "show", &second]);

    // Repeated, it looks once more, takes what a straggler has left, and tells what went.
    let folder = home.data().join("archive").join(format!("tenant={first}/date=2026-03-04"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("1-0.parquet"), b"late").unwrap();
    let again = json(&home.succeed(&["--json", "tenant", "remove", &first, "--purge", "--yes"]));
    assert!(!folder.exists());
    assert_eq!(again["purged_records"], gone["purged_records"]);
    assert_eq!(again["deleted_files"].as_u64(), gone["deleted_files"].as_u64().map(|files| files + 1));
    let log = json(&home.succeed(&["--json", "activity", "--tenant", &first]));
    let told: Vec<_> = log.as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    let expected =
        ["purged", "purged", "purge_ordered", "tenant_removed", "tenant_resumed", "tenant_paused", "tenant_added"];
    assert_eq!(told, expected);
    assert_eq!(log[0]["details"]["files"], again["deleted_files"]);
    assert_eq!(log[2]["details"]["records"], gone["purged_records"]);
    assert!(log[0]["by"].as_str().unwrap().contains(" on "), "{log}");
    let text = home.succeed(&["activity", "--kind", "purged", "--limit", "1", "--since", "1d"]);
    assert!(text.contains(&first) && text.contains("files ") && text.lines().count() <= 3, "{text}");
}

#[test]
fn files_of_tenants_that_nobody_knows_are_named_and_go_only_when_told_to() {
    let microsoft = small(2_206);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    assert!(home.succeed(&["archive", "vacuum"]).contains("the ledger knows every tenant"));
    let known = microsoft.tenants()[0].to_string();
    let stranger = "9f1c6a5e-0000-4000-8000-000000000001";
    let archive = home.data().join("archive");
    for folder in [format!("tenant={stranger}/date=2026-03-04"), format!("_dedup/tenant={stranger}")] {
        std::fs::create_dir_all(archive.join(&folder)).unwrap();
        std::fs::write(archive.join(&folder).join("1-0.parquet"), b"12345").unwrap();
    }
    let found = json(&home.succeed(&["--json", "archive", "vacuum"]));
    assert_eq!(found, json!([{ "tenant_id": stranger, "files": 2, "bytes": 10, "deleted": false }]));
    assert!(home.succeed(&["archive", "vacuum"]).contains("--yes"));
    assert_eq!(json(&home.succeed(&["--json", "archive", "vacuum", "--tenant", &known, "--yes"])), json!([]));
    let gone = json(&home.succeed(&["--json", "archive", "vacuum", "--yes"]));
    assert_eq!(gone, json!([{ "tenant_id": stranger, "files": 2, "bytes": 10, "deleted": true }]));
    assert!(!archive.join(format!("tenant={stranger}")).exists());
    assert!(archive.join(format!("tenant={known}")).exists());
    home.succeed(&["archive", "verify"]);
    let log = json(&home.succeed(&["--json", "activity", "--kind", "vacuumed"]));
    assert_eq!((&log[0]["tenant_id"], &log[0]["details"]["files"]), (&json!(stranger), &json!(2)), "{log}");
}

#[test]
fn a_held_tenant_is_not_purged_until_it_is_released() {
    let microsoft = small(2_204);
    let home = Home::new(&microsoft);
    let tenant = microsoft.tenants()[0].to_string();
    home.succeed(&["collect", "--once"]);
    home.fail(&["tenant", "hold", &tenant, "--reason", " "], 2);
    home.succeed(&["tenant", "hold", &tenant, "--reason", "case 17"]);
    let listed = json(&home.succeed(&["--json", "tenant", "list"]));
    let of = |list: &Value| list.as_array().unwrap().iter().find(|row| row["tenant_id"] == tenant.as_str()).cloned();
    assert_eq!(of(&listed).unwrap()["hold"]["reason"], "case 17");
    assert!(home.succeed(&["tenant", "list"]).contains("active, held"));
    assert!(home.succeed(&["tenant", "show", &tenant]).contains("held     case 17"));
    let refused = home.fail(&["tenant", "remove", &tenant, "--purge", "--yes"], 2);
    assert!(refused.contains("case 17") && refused.contains("tenant release"), "{refused}");
    assert_eq!(
        of(&json(&home.succeed(&["--json", "tenant", "list"]))).unwrap()["state"],
        "active",
        "nothing has begun"
    );
    home.succeed(&["tenant", "release", &tenant]);
    assert!(home.succeed(&["tenant", "release", &tenant]).contains("was not held"));
    home.succeed(&["tenant", "remove", &tenant, "--purge", "--yes"]);
    assert!(!home.data().join("archive").join(format!("tenant={tenant}")).exists());
}

#[test]
fn coverage_says_through_when_and_checks_a_requirement() {
    let microsoft = small(2_202);
    let home = Home::new(&microsoft);
    home.fail(&["coverage", "--require", "complete within 2h"], 5);
    home.succeed(&["collect", "--once"]);
    let report = json(&home.succeed(&["--json", "coverage"]));
    assert_eq!(report["damaged_segments"], serde_json::json!([]));
    let rows = report["items"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 5);
    for row in rows {
        assert!(row["complete_through"].is_string(), "{row}");
        assert_eq!(row["pending"], 0, "{row}");
        assert_eq!((&row["gaps"], &row["losses"]), (&serde_json::json!([]), &serde_json::json!([])), "{row}");
    }
    home.succeed(&["coverage", "--require", "complete within 2h"]);
    let refused = home.fail(&["coverage", "--require", "complete within 1ms"], 5);
    assert!(refused.contains("not complete within 1ms"), "{refused}");
}

#[test]
fn queries_answer_in_every_format() {
    let microsoft = small(2_203);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let sql = "SELECT operation, count(*) AS n, rank() OVER (ORDER BY count(*) DESC) AS place FROM audit GROUP BY operation ORDER BY 2 DESC, 1";
    let rows = json(&home.succeed(&["query", "--format", "json", sql]));
    let count = rows.as_array().unwrap().len();
    assert!(count > 3, "{count}");
    assert_eq!(home.succeed(&["query", "--format", "ndjson", sql]).lines().count(), count);
    assert_eq!(home.succeed(&["query", "--format", "csv", sql]).lines().count(), count + 1);
    assert!(home.succeed(&["query", sql]).contains("operation"));
    home.succeed(&["query", "--format", "parquet", "--out", "result.parquet", sql]);
    assert_eq!(&std::fs::read(home.path().join("result.parquet")).unwrap()[..4], b"PAR1");

    let ids = json(&home.succeed(&[
        "query",
        "--format",
        "json",
        "SELECT id, raw ->> 'Id' AS again FROM audit WHERE id IS NOT NULL LIMIT 20",
    ]));
    for row in ids.as_array().unwrap() {
        assert_eq!(row["id"], row["again"]);
    }
    assert!(home.succeed(&["query", "--functions"]).contains("json_"));
}

#[test]
fn subscriptions_are_listed_started_and_stopped() {
    let microsoft = small(2_204);
    let home = Home::new(&microsoft);
    let tenant = microsoft.tenants()[0].to_string();
    let one = ["--tenant", tenant.as_str(), "--content-type", "Audit.Exchange"];
    let list = |home: &Home| {
        let rows = json(&home.succeed(&["--json", "subscription", "list", "--tenant", &tenant]));
        rows.as_array().unwrap().iter().filter(|row| row["status"] == "enabled").count()
    };
    assert_eq!(list(&home), 0);
    home.succeed(&[&["subscription", "start"][..], &one].concat());
    assert_eq!(list(&home), 1);
    let would = home.succeed(&[&["subscription", "stop"][..], &one].concat());
    assert!(would.contains("would stop"), "{would}");
    assert_eq!(list(&home), 1);
    home.succeed(&[&["subscription", "stop", "--yes"][..], &one].concat());
    assert_eq!(list(&home), 0);
}

#[test]
fn the_configuration_in_force_is_shown_with_its_origin() {
    let microsoft = small(2_205);
    let home = Home::new(&microsoft);
    let shown = json(&home.succeed(&["--json", "config", "show"]));
    assert_eq!(shown["cloud.name"]["value"], "custom");
    assert_eq!(shown["cloud.name"]["from"], "file");
    assert_eq!(shown["collect.poll_interval"]["from"], "default");
    let checked = home.succeed(&["config", "check"]);
    assert!(checked.contains("good"), "{checked}");
    assert!(!home.succeed(&["config", "show"]).contains(emulator::DEFAULT_SECRET));
}

#[test]
fn the_demo_ends_with_what_was_collected_against_what_was_published() {
    let microsoft = small(2_206);
    let home = Home::new(&microsoft);
    let result =
        json(&home.succeed(&["--json", "--data-dir", "demo", "demo", "--once", "--tenants", "2", "--seed", "7"]));
    assert_eq!(result["exact"], true, "{result}");
    let tenants = result["tenants"].as_array().unwrap();
    assert_eq!(tenants.len(), 2);
    for tenant in tenants {
        assert_eq!(tenant["published"], tenant["archived"], "{tenant}");
        assert!(tenant["delivered_again"].as_u64().unwrap() > 0, "{tenant}");
    }
    let count = home.succeed(&["--data-dir", "demo", "query", "--format", "csv", "SELECT count(*) FROM audit"]);
    let published: u64 = tenants.iter().map(|tenant| tenant["published"].as_u64().unwrap()).sum();
    assert_eq!(count.lines().nth(1), Some(published.to_string().as_str()));
    home.fail(&["--data-dir", "demo", "demo", "--once"], 2);
}

#[test]
fn the_archive_is_verified_and_compacted() {
    let microsoft = small(2_207);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let verified = json(&home.succeed(&["--json", "archive", "verify"]));
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 0);
    home.succeed(&["archive", "compact"]);
    home.assert_holds_what_was_published(&microsoft, 2_207);

    let segment = home.segments(&microsoft, microsoft.tenants()[0]).remove(0);
    let file = home.data().join("archive").join(segment.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    let whole = bytes.clone();
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let found = home.run(&["archive", "verify"]);
    assert_eq!(found.status.code(), Some(6));
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(String::from_utf8_lossy(&found.stdout).contains(&name), "{}", crate::support::said(&found));
    let coverage = || json(&home.succeed(&["--json", "coverage"]))["damaged_segments"].clone();
    assert_eq!(coverage()[0]["path"], segment.path().display().to_string(), "what was found is told from now on");
    assert!(home.succeed(&["coverage"]).contains(&name));
    std::fs::write(&file, whole).unwrap();
    home.succeed(&["archive", "verify"]);
    assert_eq!(coverage(), serde_json::json!([]), "and is told no more once it is restored");
}
