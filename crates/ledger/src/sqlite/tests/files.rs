//! Files that are missing, foreign, newer, damaged, locked or full: one clear sentence each, and nothing is touched.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use engine::model::LedgerId;
use rusqlite::Connection;

use super::Folder;
use crate::conformance::{GENERAL, all_pending, block_on, content, hours, noon, tenant};
use crate::sqlite::schema::{APPLICATION_ID, MIGRATIONS, VERSION};
use crate::sqlite::{OpenOptions, SqliteLedger};
use crate::{Ledger, LedgerError};

fn open(path: &Path) -> Result<SqliteLedger, LedgerError> {
    SqliteLedger::open(path, OpenOptions { busy_timeout: Duration::from_millis(50), ..OpenOptions::default() })
}

fn open_read_only(path: &Path) -> Result<SqliteLedger, LedgerError> {
    SqliteLedger::open(path, OpenOptions { read_only: true, ..OpenOptions::default() })
}

/// The error names the file and a step, and is one sentence without its source.
#[track_caller]
fn assert_clear(error: &LedgerError, path: &Path, remedy: &str) {
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains(remedy), "{text}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
    assert!(!error.is_refusal());
}

#[test]
fn a_missing_ledger_is_made_for_a_writer_and_missed_by_a_reader() {
    let folder = Folder::new();
    let error = open_read_only(&folder.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { .. }), "{error:?}");
    assert_clear(&error, &folder.path(), "tenantry serve");
    assert!(!folder.path().exists());
    open(&folder.path()).unwrap();
    open_read_only(&folder.path()).unwrap();
}

#[test]
fn what_is_no_ledger_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = "[app]\nclient_id = \"a6099727-6b7b-482c-b509-1df309acc563\"\n".repeat(100);
    fs::write(&path, &text).unwrap();
    for error in [open(&path).unwrap_err(), open_read_only(&path).unwrap_err()] {
        assert!(matches!(error, LedgerError::NotALedger { .. }), "{error:?}");
        assert_clear(&error, &path, "not a Tenantry ledger");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    fs::remove_file(&path).unwrap();
    let foreign = Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    foreign.close().unwrap();
    let before = fs::read(&path).unwrap();
    for error in [open(&path).unwrap_err(), open_read_only(&path).unwrap_err()] {
        assert!(matches!(error, LedgerError::NotALedger { .. }), "{error:?}");
        assert_clear(&error, &path, "another program");
    }
    assert_eq!(fs::read(&path).unwrap(), before, "not even its journal mode is changed");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn two_ledgers_have_two_ids_and_a_copy_has_the_same() {
    let (one, other) = (Folder::new(), Folder::new());
    let ids = [&one, &other].map(|folder| block_on(open(&folder.path()).unwrap().id()).unwrap());
    assert_ne!(ids[0], ids[1]);
    fs::copy(one.path(), other.path()).unwrap();
    assert_eq!(block_on(open(&other.path()).unwrap().id()).unwrap(), ids[0]);
}

#[test]
fn an_empty_file_becomes_a_ledger_for_a_writer_only() {
    let folder = Folder::new();
    let path = folder.path();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    assert!(matches!(open_read_only(&path).unwrap_err(), LedgerError::NotALedger { .. }));
    open(&path).unwrap();
}

#[test]
fn a_path_that_cannot_be_opened_is_named_with_the_systems_reason() {
    let folder = Folder::new();
    let path = folder.path();
    fs::create_dir_all(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, LedgerError::CannotOpen { .. }), "{error:?}");
    assert_clear(&error, &path, "check that its folder exists");
    assert!(error.source().unwrap().to_string().contains("directory"), "{:?}", error.source());
    // A file where the folder should be.
    let blocked = folder.path().with_file_name("file");
    fs::write(&blocked, "x").unwrap();
    let error = open(&blocked.join("ledger.db")).unwrap_err();
    assert!(matches!(error, LedgerError::CannotOpen { .. }), "{error:?}");
}

#[test]
fn a_newer_ledger_is_refused_and_says_both_versions() {
    let folder = Folder::new();
    drop(open(&folder.path()).unwrap());
    let connection = Connection::open(folder.path()).unwrap();
    connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
    connection.close().unwrap();
    for error in [open(&folder.path()).unwrap_err(), open_read_only(&folder.path()).unwrap_err()] {
        assert!(matches!(error, LedgerError::NewerVersion { .. }), "{error:?}");
        assert_clear(
            &error,
            &folder.path(),
            &format!("of version {}, this program knows up to {VERSION}", VERSION + 1),
        );
    }
}

#[test]
fn a_ledger_of_every_earlier_version_is_brought_up_to_date_with_all_it_holds() {
    for version in 1..VERSION {
        let folder = Folder::new();
        fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
        let old = Connection::open(folder.path()).unwrap();
        for migration in MIGRATIONS.iter().take(usize::try_from(version).unwrap()) {
            old.execute_batch(migration).unwrap();
        }
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
        // As the first version wrote them.
        old.execute_batch(
            "INSERT INTO tenant (tenant, id, label, state, added_at, collect_from, last_commit, revision)
             VALUES (1, x'6a1c4f0e7c394f0b9d6e000000000001', 'Contoso', 0, 0, 0, 1, 1);
             INSERT INTO segment (tenant, date, number, part, rows, bytes, untimed_rows, digest)
             VALUES (1, '2026-03-04', 1, 0, 10, 100, 0, zeroblob(32));
             UPDATE revision SET greatest = 1;",
        )
        .unwrap();
        old.close().unwrap();
        let refused = open_read_only(&folder.path()).unwrap_err();
        assert!(matches!(refused, LedgerError::OlderVersion { .. }), "{version}: {refused:?}");
        let ledger = open(&folder.path()).unwrap();
        assert_eq!(block_on(ledger.tenant(tenant(1))).unwrap().unwrap().label, "Contoso", "{version}");
        assert_eq!(block_on(ledger.segments(tenant(1))).unwrap().len(), 1, "{version}");
        assert_eq!(block_on(ledger.damaged_segments(tenant(1))).unwrap(), [], "{version}");
        assert_ne!(block_on(ledger.id()).unwrap(), LedgerId([0; 16]), "{version}");
        assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new(), "{version}");
        open_read_only(&folder.path()).unwrap();
    }
}

#[test]
fn a_new_ledger_carries_our_mark_and_is_synced_at_every_commit() {
    let folder = Folder::new();
    let ledger = open(&folder.path()).unwrap();
    let read = |name: &'static str| {
        block_on(
            ledger.write(move |connection| Ok(connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))?)),
        )
        .unwrap()
    };
    assert_eq!(read("application_id"), APPLICATION_ID);
    assert_eq!(read("user_version"), VERSION);
    assert_eq!(read("synchronous"), 2, "FULL");
    assert_eq!(read("foreign_keys"), 1);
    let mode: String =
        block_on(ledger.write(|connection| Ok(connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?)))
            .unwrap();
    assert_eq!(mode, "wal");
    let strict: i64 = block_on(ledger.read(|connection| {
        let lax =
            "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite%'";
        Ok(connection.query_row(lax, [], |row| row.get(0))?)
    }))
    .unwrap();
    assert_eq!(strict, 0, "every table is STRICT");
}

#[test]
fn two_that_create_the_same_ledger_at_once_both_get_it() {
    for _ in 0..5 {
        let folder = Folder::new();
        let opened = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| folder.ledger())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (number, ledger) in (1..).zip(&opened) {
            assert!(block_on(ledger.add_tenant(tenant(number), String::new(), noon(), noon())).unwrap());
        }
        assert_eq!(block_on(opened[0].tenants_since(0)).unwrap().1.len(), 4);
    }
}

#[test]
fn a_ledger_locked_by_another_process_says_so_and_works_again_after() {
    let folder = Folder::new();
    let ledger = open(&folder.path()).unwrap();
    let other = Connection::open(folder.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap_err();
    assert!(error.is_busy() && error.is_passing(), "{error:?}");
    assert_clear(&error, &folder.path(), "locked by another process");
    assert_eq!(block_on(ledger.tenant(tenant(1))).unwrap(), None, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap());
}

#[test]
fn a_full_disk_fails_the_call_and_the_next_one_succeeds_when_there_is_room() {
    let folder = Folder::new();
    let ledger = open(&folder.path()).unwrap();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let limit = |pages: i64| {
        block_on(ledger.write(move |connection| {
            Ok(connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))?)
        }))
        .unwrap()
    };
    let now = limit(1);
    let mut listed = 0;
    let error = loop {
        let contents =
            (0..50).map(|number| content(&format!("{}-{listed}-{number}", "x".repeat(500)), hours(1))).collect();
        match block_on(ledger.contents_listed(tenant(1), contents, noon())) {
            Ok(50) => listed += 50,
            Ok(other) => panic!("{other} of 50"),
            Err(error) => break error,
        }
        assert!(listed < 1_000_000, "the limit has no effect");
    };
    assert!(error.is_full_disk() && error.is_passing(), "{error:?}");
    assert_clear(&error, &folder.path(), "free some");
    assert_eq!(block_on(all_pending(&ledger, tenant(1))).len(), listed, "nothing of the failed call is there");
    limit(now + 10_000);
    assert_eq!(block_on(ledger.contents_listed(tenant(1), vec![content("a", hours(1))], noon())).unwrap(), 1);
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_damaged_ledger_is_reported_by_the_check_and_by_whatever_meets_the_damage() {
    let folder = Folder::new();
    let ledger = open(&folder.path()).unwrap();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    for page in 0..20 {
        let contents = (0..100).map(|number| content(&format!("{page}-{number}"), hours(1))).collect();
        block_on(ledger.contents_listed(tenant(1), contents, noon())).unwrap();
    }
    drop(ledger);
    let mut bytes = fs::read(folder.path()).unwrap();
    let length = bytes.len();
    for byte in &mut bytes[length / 2..length / 2 + 40_000] {
        *byte = 0xa5;
    }
    fs::write(folder.path(), bytes).unwrap();
    let ledger = open(&folder.path()).unwrap();
    let found = block_on(ledger.check());
    match found {
        Ok(lines) => assert!(!lines.is_empty() && lines.len() <= 100),
        Err(error) => assert!(matches!(error, LedgerError::Corrupt { .. }), "{error:?}"),
    }
    let error = block_on(ledger.pending(tenant(1), noon(), u32::MAX, vec![])).unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error:?}");
    assert_clear(&error, &folder.path(), "restore it from a backup");
    assert!(!error.is_passing());
}

#[test]
fn the_check_finds_sums_that_are_not_what_a_count_gives() {
    let folder = Folder::new();
    let ledger = open(&folder.path()).unwrap();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    block_on(ledger.contents_listed(tenant(1), vec![content("a", hours(1))], noon())).unwrap();
    assert_eq!(block_on(ledger.check()).unwrap(), Vec::<String>::new());
    let spoil = |statement: &'static str| {
        block_on(ledger.write(move |connection| Ok(connection.execute_batch(statement)?))).unwrap();
        block_on(ledger.check()).unwrap()
    };
    let lines = spoil("UPDATE feed SET pending = 7, failing = 1, archived = 0");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("counts 7 pending contents but has 1"), "{lines:?}");
    let lines = spoil("DELETE FROM pending; UPDATE feed SET pending = 0, failing = 0");
    assert_eq!(lines, ["content 1 waits but has nothing to wait with"]);
}

#[test]
fn what_is_archived_takes_little_room() {
    let folder = Folder::new();
    let ledger = open(&folder.path()).unwrap();
    block_on(ledger.add_tenant(tenant(1), String::new(), noon(), noon())).unwrap();
    let id =
        |number: i64| format!("2026030412{number:013}$2026030412{number:013}$audit_general$Audit_General$emea0036");
    for (commit, page) in (1..).zip(0..50) {
        let contents = (0..200).map(|number| content(&id(page * 200 + number), hours(1))).collect();
        block_on(ledger.contents_listed(tenant(1), contents, noon())).unwrap();
        let rows = block_on(all_pending(&ledger, tenant(1)));
        let contents = rows.iter().map(|pending| crate::conformance::archived(pending.row, 1000)).collect();
        block_on(ledger.commit(engine::model::Commit { contents, ..crate::conformance::commit(commit) })).unwrap();
    }
    let said = block_on(ledger.coverage(tenant(1))).unwrap().remove(0);
    assert_eq!((said.content_type, said.archived, said.records), (GENERAL, 10_000, 10_000_000));
    drop(ledger);
    let each = fs::metadata(folder.path()).unwrap().len() / 10_000;
    assert!(each < 250, "{each} bytes for an archived content");
}

/// A place where SQLite can make no shared-memory file, whoever runs the test.
#[cfg(unix)]
fn forbid_shared_memory(path: &Path) {
    let name = format!("{}-shm", path.display());
    std::os::unix::fs::symlink("/nonexistent/folder/shm", name).unwrap();
}

#[cfg(unix)]
#[test]
fn a_copy_that_cannot_be_written_is_read_as_it_lies_unless_its_log_holds_changes() {
    let (folder, copy) = (Folder::new(), Folder::new());
    let ledger = open(&folder.path()).unwrap();
    block_on(ledger.add_tenant(tenant(1), "Contoso".to_owned(), noon(), noon())).unwrap();
    let wal = |folder: &Folder| format!("{}-wal", folder.path().display());
    // Copied while the collector runs, its last changes are in the log.
    fs::create_dir_all(copy.path().parent().unwrap()).unwrap();
    fs::copy(folder.path(), copy.path()).unwrap();
    fs::copy(wal(&folder), wal(&copy)).unwrap();
    forbid_shared_memory(&copy.path());
    let error = open_read_only(&copy.path()).unwrap_err();
    assert!(matches!(error, LedgerError::LogUnreadable { .. }), "{error:?}");
    assert_clear(&error, &copy.path(), "after the collector has stopped");
    // Copied after it stopped, with an empty log beside it and with none.
    drop(ledger);
    fs::copy(folder.path(), copy.path()).unwrap();
    fs::write(wal(&copy), "").unwrap();
    for _ in 0..2 {
        let ledger = open_read_only(&copy.path()).unwrap();
        assert_eq!(block_on(ledger.tenant(tenant(1))).unwrap().unwrap().label, "Contoso");
        let refused = block_on(ledger.add_tenant(tenant(2), String::new(), noon(), noon())).unwrap_err();
        assert!(matches!(refused, LedgerError::ReadOnly { .. }), "{refused:?}");
        let _ = fs::remove_file(wal(&copy));
    }
}
