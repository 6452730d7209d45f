//! Bad input of every kind ends in one sentence that names the thing and the remedy, with the documented exit code, and
//! loses nothing.

use std::process::Command;

use emulator::{EmulatorOptions, WorldOptions};
use server::instance::InstanceLock;

use crate::support::{Home, Microsoft, on_time};

fn small(seed: u64) -> Microsoft {
    let world =
        WorldOptions { seed, tenants: 1, records_total: Some(300), lateness: on_time(), ..WorldOptions::default() };
    Microsoft::start(EmulatorOptions { world, ..EmulatorOptions::default() })
}

fn edit(home: &Home, from: &str, to: &str) {
    let text = std::fs::read_to_string(home.path().join("tenantry.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    home.write("tenantry.toml", &text.replace(from, to));
}

/// One line that holds each of these words.
fn assert_says(stderr: &str, words: &[&str]) {
    let line = stderr
        .lines()
        .rfind(|line| line.starts_with("tenantry: "))
        .unwrap_or_else(|| panic!("no sentence in {stderr:?}"));
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
}

#[test]
fn a_wrong_secret_is_named_and_nothing_is_lost() {
    let microsoft = small(2_301);
    let home = Home::new(&microsoft);
    home.write("secret.txt", "not.the~secret");
    let stderr = home.fail(&["collect", "--once"], 4);
    assert_says(&stderr, &["secret"]);
    assert!(!stderr.contains("not.the~secret"), "{stderr}");
    home.write("secret.txt", emulator::DEFAULT_SECRET);
    home.succeed(&["collect", "--once"]);
    home.assert_holds_what_was_published(&microsoft, 2_301);
}

#[test]
fn a_tenant_that_never_consented_is_refused_and_the_others_are_collected() {
    let microsoft = small(2_302);
    let home = Home::new(&microsoft);
    let said = home.run(&["tenant", "add", "00000000-0000-4000-8000-00000000beef"]);
    // It is said at once, and a tenant that is not known yet may be by tomorrow.
    assert!(said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("check its id"), "{}", crate::support::said(&said));
    let stderr = home.fail(&["collect", "--once"], 4);
    assert_says(&stderr, &["00000000-0000-4000-8000-00000000beef"]);
    home.assert_holds_what_was_published(&microsoft, 2_302);
}

#[test]
fn auditing_switched_off_is_told_with_the_mend() {
    let microsoft = small(2_303);
    let home = Home::new(&microsoft);
    microsoft.emulator.world().set_auditing(microsoft.tenants()[0], false);
    let stderr = home.fail(&["collect", "--once"], 4);
    assert_says(&stderr, &["audit"]);
}

#[test]
fn a_wrong_configuration_is_refused_with_the_key() {
    let microsoft = small(2_304);
    for (from, to, words) in [
        ("client_id", "clientid", ["app.clientid", "app.client_id"]),
        ("secret.txt", "absent.txt", ["absent.txt", "path"]),
        ("kind = \"secret\"", "kind = \"certificate\"", ["secret.txt", "certificate"]),
        ("requests_per_minute = 60000", "requests_per_minute = 1", ["collect.requests_per_minute", "10 to 60000"]),
        ("http://127.0.0.1", "http://192.0.2.1", ["https", "loopback"]),
    ] {
        let home = Home::new(&microsoft);
        edit(&home, from, to);
        assert_says(&home.fail(&["config", "check"], 3), &words);
        assert_says(&home.fail(&["collect", "--once"], 3), &words);
    }
    let home = Home::new(&microsoft);
    assert_says(&home.fail(&["--config", "elsewhere.toml", "config", "check"], 3), &["elsewhere.toml", "--config"]);
}

#[test]
fn how_tables_are_published_is_shown_and_what_makes_no_sense_is_refused() {
    let home = Home::without_tenants(&small(2_309));
    let rest = std::fs::read_to_string(home.path().join("tenantry.toml")).unwrap();
    let archive = |lines: &str| home.write("tenantry.toml", &format!("{rest}[archive]\n{lines}\n"));
    archive("tables = \"delta\"");
    let shown = home.succeed(&["config", "show"]);
    for line in ["archive.tables", "delta", "archive.snapshots_kept", "1d", "archive.publish_interval", "1m"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    archive("tables = \"delta\"\nsnapshots_kept = \"100000s\"\npublish_interval = \"1s\"");
    home.succeed(&["config", "check"]);
    for (lines, words) in [
        ("tables = \"iceberg\"", ["archive.tables", "\"delta\" or \"none\""]),
        ("snapshots_kept = \"1d\"", ["archive.snapshots_kept", "archive.tables = \"delta\""]),
        ("tables = \"none\"\npublish_interval = \"1s\"", ["archive.publish_interval", "archive.tables = \"delta\""]),
        ("tables = \"delta\"\nsnapshots_kept = \"599s\"", ["archive.snapshots_kept", "10m"]),
        ("tables = \"delta\"\npublish_interval = \"3601s\"", ["archive.publish_interval", "1h"]),
        (
            "tables = \"delta\"\nsnapshots_kept = \"100001s\"\npublish_interval = \"1s\"",
            ["archive.snapshots_kept", "archive.publish_interval"],
        ),
    ] {
        archive(lines);
        assert_says(&home.fail(&["config", "check"], 3), &words);
    }
}

#[test]
fn encryption_that_a_store_does_not_know_or_that_does_not_fit_together_is_refused() {
    let home = Home::without_tenants(&small(2_310));
    let rest = std::fs::read_to_string(home.path().join("tenantry.toml")).unwrap();
    let archive = |lines: &str| home.write("tenantry.toml", &format!("{rest}[archive]\n{lines}\n"));
    for lines in [
        "url = \"s3://audit\"\nencryption = \"AES256\"",
        "url = \"s3://audit\"\nencryption = \"aws:kms\"",
        "url = \"s3://audit\"\nencryption = \"aws:kms:dsse\"\nkms_key = \"alias/audit\"",
        "url = \"s3://audit\"\nencryption = \"sse-c\"\nencryption_key_file = \"archive.key\"",
        "url = \"s3://audit\"\nencryption = \"sse-c\"\ncredentials_file = \"store.env\"",
        "url = \"az://audit\"\naccount = \"contoso\"\nencryption_scope = \"contoso1\"",
    ] {
        archive(lines);
        home.succeed(&["config", "check"]);
        let (key, value) = lines.lines().last().unwrap().split_once(" = ").unwrap();
        let shown = home.succeed(&["config", "show"]);
        assert!(
            shown.contains(&format!("archive.{key}")) && shown.contains(value.trim_matches('"')),
            "{lines}: {shown}"
        );
    }
    for (lines, words) in [
        ("url = \"s3://audit\"\nencryption = \"aes\"", ["archive.encryption", "AES256, aws:kms, aws:kms:dsse, sse-c"]),
        ("url = \"s3://audit\"\nencryption = \"sse-c\"", ["archive.encryption", "archive.encryption_key_file"]),
        ("url = \"s3://audit\"\nkms_key = \"k\"", ["archive.kms_key", "aws:kms"]),
        ("url = \"s3://audit\"\nencryption = \"AES256\"\nkms_key = \"k\"", ["archive.kms_key", "aws:kms"]),
        ("url = \"s3://audit\"\nencryption_key_file = \"k\"", ["archive.encryption_key_file", "sse-c"]),
        (
            "url = \"s3://audit\"\nencryption_scope = \"contoso1\"",
            ["archive.encryption_scope", "means nothing to s3://audit"],
        ),
        ("url = \"az://audit\"\nencryption = \"AES256\"", ["archive.encryption", "means nothing to az://audit"]),
        (
            "url = \"az://audit\"\nencryption_key_file = \"k\"",
            ["archive.encryption_key_file", "means nothing to az://audit"],
        ),
        (
            "url = \"gs://audit\"\nencryption_scope = \"contoso1\"",
            ["archive.encryption_scope", "means nothing to gs://audit"],
        ),
        ("encryption_key_file = \"k\"", ["archive.encryption_key_file", "set archive.url to one"]),
    ] {
        archive(lines);
        assert_says(&home.fail(&["config", "check"], 3), &words);
    }
}

#[test]
fn a_malformed_guid_is_refused_on_the_command_line() {
    let microsoft = small(2_305);
    let home = Home::new(&microsoft);
    let stderr = home.fail(&["tenant", "add", "contoso.onmicrosoft.com"], 2);
    assert!(stderr.contains("must be a GUID") && stderr.contains("contoso.onmicrosoft.com"), "{stderr}");
}

#[test]
fn a_second_instance_is_refused() {
    let microsoft = small(2_306);
    let home = Home::new(&microsoft);
    let lock = InstanceLock::acquire(&home.data()).unwrap();
    assert_says(&home.fail(&["collect", "--once"], 7), &["another instance", "--data-dir"]);
    // Reading goes on beside it.
    home.succeed(&["tenant", "list"]);
    home.succeed(&["coverage"]);
    drop(lock);
    home.succeed(&["collect", "--once"]);
}

#[test]
fn a_data_folder_that_is_a_file_is_named() {
    let microsoft = small(2_307);
    let home = Home::new(&microsoft);
    home.write("file", "not a folder");
    assert_says(&home.fail(&["--data-dir", "file", "collect", "--once"], 6), &["file"]);
}

#[test]
fn a_corrupt_ledger_is_named_and_left_as_it_is() {
    let microsoft = small(2_308);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    let ledger = home.data().join("ledger.db");
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(home.data().join(name));
    }
    let garbage = b"this is no ledger at all; ".repeat(400);
    std::fs::write(&ledger, &garbage).unwrap();
    for command in [&["collect", "--once"][..], &["coverage"], &["tenant", "list"]] {
        assert_says(&home.fail(command, 6), &["ledger.db"]);
    }
    assert_eq!(std::fs::read(&ledger).unwrap(), garbage);
}

#[test]
fn a_bad_query_is_told_what_is_wrong() {
    let microsoft = small(2_309);
    let home = Home::new(&microsoft);
    home.succeed(&["collect", "--once"]);
    assert_says(&home.fail(&["query", "SELECT operatoin FROM audit"], 2), &["operation"]);
    assert_says(&home.fail(&["query", "SELECT * FROM records"], 2), &["audit"]);
    assert_says(&home.fail(&["query", "DROP TABLE audit"], 2), &["DROP"]);
    assert_says(&home.fail(&["query", "SELEC 1"], 2), &[]);
}

#[test]
fn a_full_disk_is_waited_out_or_reported_and_loses_nothing() {
    let microsoft = small(2_310);
    let home = Home::new(&microsoft);
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: a small file system cannot be mounted here");
        return;
    }
    let archive = disk.join("archive").display().to_string();
    edit(&home, "[console]", &format!("[archive]\nurl = \"file:{archive}\"\n[console]"));
    // Nearly everything is taken.
    std::fs::write(disk.join("ballast"), vec![0_u8; 380 << 10]).unwrap();
    let output = home.run(&["collect", "--once"]);
    let told = crate::support::said(&output);
    std::fs::remove_file(disk.join("ballast")).unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk).status().unwrap();
    let again = home.run(&["collect", "--once"]);
    let count = home.run(&["query", "--format", "csv", "SELECT count(*) FROM audit"]);
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(remounted.success() && unmounted.success());
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("full") || told.contains("space"), "{told}");
    assert!(again.status.success(), "{}", crate::support::said(&again));
    let published = microsoft.emulator.world().truth().records;
    assert_eq!(String::from_utf8_lossy(&count.stdout).lines().nth(1), Some(published.to_string().as_str()));
}

#[test]
fn a_variable_that_names_no_proxy_is_refused_and_a_proxy_that_is_not_there_is_named_without_its_password() {
    let microsoft = small(2_310);
    let home = Home::new(&microsoft);
    let tenant = microsoft.tenants()[0].to_string();
    let run = |arguments: &[&str], proxy: &str| {
        let output = home.tenantry(arguments).env("http_proxy", proxy).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = run(&["collect", "--once"], "nonsense://x");
    assert_eq!(code, Some(3), "{stderr}");
    assert_says(&stderr, &["http_proxy names no proxy", "http_proxy=http://proxy.example:3128"]);
    // Nobody listens on port 1.
    let asks = ["subscription", "list", "--tenant", &tenant];
    let (_, stderr) = run(&asks, "http://user:hidden@127.0.0.1:1");
    assert_says(&stderr, &["no connection to http://127.0.0.1:", "through the proxy http://127.0.0.1:1"]);
    assert!(!stderr.contains("hidden"), "{stderr}");
}

#[test]
fn a_fault_plan_with_an_unknown_key_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, "[[rule]]\nefect = \"reset\"\n").unwrap();
    let plan = plan.to_str().unwrap();
    let stderr = Home::empty().fail(&["emulate", "--faults", plan], 3);
    assert_says(&stderr, &["plan.toml", "line 2", "unknown field `efect`", "correct or remove it"]);
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
}

#[test]
fn a_folder_that_takes_no_ca_is_a_matter_of_storage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("ca");
    let listen = ["emulate", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--ca-dir"];
    let stderr = Home::empty().fail(&[&listen[..], &[below.to_str().unwrap()]].concat(), 6);
    assert_says(&stderr, &["file/ca", "choose another folder"]);
}
