//! One suite for every store an archive can lie in: what holds of a local folder holds of them.
//!
//! Each case has a prefix of its own, and opens the archive again with an empty local folder wherever another machine would.

use archive::sql::{Format, QueryEngine, QueryOptions, write_results};
use archive::{
    Appended, Archive, ArchiveError, ArchiveOptions, ContentRef, Depth, NewCommit, Ownership, Purged, RemoteOptions,
    refuse_new_ledger,
};
use protocol::ids::{ContentType, TenantId};

use crate::servers::{Answering, Server};
use crate::world::{World, append, record, tenant, time};

const DAY: &str = "2026-03-04T05:06:07";

type Case = fn(&dyn Fn() -> RemoteOptions);

const CASES: [(&str, Case); 10] = [
    ("goes_on", what_was_stored_is_there_for_another_machine_and_is_not_stored_twice),
    ("orphans", what_a_crash_has_left_is_removed_and_what_may_not_come_again_is_set_aside),
    ("attempts", no_two_attempts_share_a_name_and_none_removes_what_another_wrote),
    ("epochs", whoever_lost_a_tenant_leaves_its_successors_segments_alone),
    ("large", a_large_segment_goes_in_parts_and_is_asked_without_being_fetched),
    ("damage", what_was_changed_or_removed_in_the_store_is_found_and_a_changed_copy_is_not_believed),
    ("purge", a_purge_leaves_nothing_of_a_tenant_and_all_of_others),
    ("quarantine", what_is_no_record_is_kept_and_checked),
    ("ledger", an_archive_belongs_to_the_ledger_that_came_first),
    ("small_cache", a_cache_that_is_too_small_costs_requests_and_nothing_else),
];

fn run(server: Option<Server>) {
    let Some(server) = server else { return };
    for (prefix, case) in CASES {
        println!("{prefix}");
        case(&|| server.options(prefix));
    }
    let missing = Archive::open(&options(server.options_in("no-such-bucket", "x")).1).err().unwrap().to_string();
    assert!(missing.contains("create the bucket or container"), "{missing}");
}

#[test]
fn an_archive_on_s3_is_as_good_as_a_folder() {
    run(Server::s3());
}

#[test]
fn an_archive_on_azure_blob_storage_is_as_good_as_a_folder() {
    run(Server::azure());
}

#[test]
fn an_archive_on_google_cloud_storage_is_as_good_as_a_folder() {
    run(Some(Server::google()));
}

fn options(remote: RemoteOptions) -> (tempfile::TempDir, ArchiveOptions) {
    let folder = tempfile::tempdir().unwrap();
    let options = ArchiveOptions::remote(folder.path().join("workspace"), remote);
    (folder, options)
}

fn world(remote: RemoteOptions) -> World {
    World::with(|options| options.remote = Some(remote))
}

/// The same archive and ledger, on a machine that has nothing of it.
fn elsewhere(world: &World, remote: RemoteOptions) -> World {
    let mut other = self::world(remote);
    other.visible = world.visible.clone();
    other.last_commit = world.last_commit;
    other
}

/// Names in the store, read past the archive.
fn names(remote: &RemoteOptions) -> Vec<String> {
    crate::look::names(remote)
}

fn what_was_stored_is_there_for_another_machine_and_is_not_stored_twice(remote: &dyn Fn() -> RemoteOptions) {
    let mut world = world(remote());
    let records: Vec<_> = (0..20).map(|n| record(&n.to_string(), DAY, "")).collect();
    assert!(world.store(&records).iter().all(|appended| *appended == Appended::New));
    let raw = world.raw();
    let mut other = elsewhere(&world, remote());
    assert_eq!(other.raw(), raw);
    assert!(other.store(&records).iter().all(|appended| *appended == Appended::Duplicate));
    other.store(&[record("20", DAY, "")]);
    other.merge("2026-03-04");
    let last = elsewhere(&other, remote());
    assert_eq!(last.records().len(), 21);
    let verified = last.archive.verify(&last.visible, Depth::Records, |_| ()).unwrap();
    assert_eq!((verified.segments, verified.damaged), (1, Vec::new()));
    let segments: Vec<_> = names(&remote()).into_iter().filter(|name| name.ends_with(".parquet")).collect();
    assert_eq!(segments, [last.visible[0].path().to_str().unwrap()], "what was merged away is gone");
    assert_eq!(last.archive.size_of(&last.visible[0]).unwrap(), Some(last.visible[0].bytes));
    assert_eq!(last.archive.size_of(&world.visible[0]).unwrap(), None);
    assert_eq!(ask(&last, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM audit"), "n,ids\n21,21\n");
}

fn what_a_crash_has_left_is_removed_and_what_may_not_come_again_is_set_aside(remote: &dyn Fn() -> RemoteOptions) {
    let mut world = world(remote());
    world.store(&[record("1", DAY, "")]);
    // Finished, and the ledger never heard of it.
    let mut writer = world.begin();
    append(&mut writer, record("2", DAY, "").as_bytes());
    writer.finish().unwrap();
    // Another tenant's is nobody's business here.
    let mut theirs = elsewhere(&world, remote());
    theirs.visible.clear();
    let other: TenantId = "b0000000-7c39-4f0b-9d6e-2f4f0e0c8a22".parse().unwrap();
    commit_of(&theirs.archive, other, 7);
    let restarted = elsewhere(&world, remote());
    let before = names(&remote()).len();
    let removed = restarted.clear(1);
    assert_eq!((removed.segments, removed.aside), (1, 0));
    assert_eq!(names(&remote()).len(), before - 1);
    assert_eq!(restarted.raw(), world.raw());
    // A ledger that was restored from an older copy: nothing says that these come again.
    let mut old = elsewhere(&world, remote());
    for n in 10..13 {
        old.store(&[record(&n.to_string(), DAY, "")]);
    }
    let restored = elsewhere(&world, remote());
    let removed = restored.clear(1);
    assert_eq!((removed.segments, removed.aside), (0, 3));
    let aside = names(&remote()).into_iter().filter(|name| name.starts_with("_aside/tenant="));
    assert_eq!(aside.count(), 3);
    let told = archive::set_aside(&restored.options).unwrap();
    assert_eq!(told.iter().map(|of| (of.tenant, of.files)).collect::<Vec<_>>(), [(tenant(), 3)]);
    assert_eq!(restored.clear(1), archive::Removed::default(), "nothing is left to clear");
    assert_eq!(restored.raw(), world.raw());
    assert!(names(&remote()).iter().any(|name| name.contains(&other.to_string())));
}

fn commit_of(archive: &Archive, tenant: TenantId, number: u64) {
    let now = time("2026-03-09T00:00:00Z");
    let commit = NewCommit { tenant, number, visible: std::sync::Arc::default(), ingested_at: now };
    let mut writer = archive.begin(commit).unwrap();
    let content_id = "x".parse().unwrap();
    let content = ContentRef { content_type: &ContentType::SharePoint, content_id: &content_id, created: now };
    writer.append(&content, record("1", DAY, "").as_bytes()).unwrap();
    writer.finish().unwrap();
}

fn no_two_attempts_share_a_name_and_none_removes_what_another_wrote(remote: &dyn Fn() -> RemoteOptions) {
    let (mut first, late) = (world(remote()), world(remote()));
    let large: Vec<_> = (0..12).map(|n| record(&format!("large-{n}"), DAY, &noise(n, 1 << 20))).collect();
    for records in [vec![record("1", DAY, "")], large] {
        // One who was paused before it wrote its commit of that number, and never heard that there is one.
        let mut writer = late.begin();
        append(&mut writer, record("late", DAY, "").as_bytes());
        let theirs = writer.finish().unwrap();
        let late_merge = late.archive.merge(&theirs.segments, 9, &|| false).unwrap();
        let before = names(&remote());
        first.store(&records);
        let added = names(&remote()).into_iter().filter(|name| !before.contains(name) && name.starts_with("tenant="));
        assert_eq!(added.count(), 1, "a name of its own");
        late.archive.discard(&theirs).unwrap();
        late.archive.delete_segments(&late_merge).unwrap();
        assert_eq!(elsewhere(&first, remote()).raw(), first.raw(), "what the other wrote is there");
    }
    assert_eq!(first.records().len(), 13);
    let kept = names(&remote()).into_iter().filter(|name| name.starts_with("tenant="));
    let mut visible: Vec<_> = first.visible.iter().map(|segment| segment.path().to_str().unwrap().to_owned()).collect();
    visible.sort();
    assert_eq!(kept.collect::<Vec<_>>(), visible, "and nothing besides");
}

fn whoever_lost_a_tenant_leaves_its_successors_segments_alone(remote: &dyn Fn() -> RemoteOptions) {
    let under = |world: &mut World, epoch| world.archive = world.archive.under(epoch);
    let mut owner = world(remote());
    under(&mut owner, 2);
    // It has asked the ledger what there is, and then was paused.
    let mut paused = world(remote());
    under(&mut paused, 1);
    owner.store(&[record("1", DAY, "")]);
    let before = names(&remote());
    let removed = paused.clear(0);
    assert_eq!((removed.segments, removed.aside, removed.left), (0, 0, 1));
    assert_eq!(paused.clear_at("2026-06-01T00:00:00Z", 0).left, 1, "nor are they set aside");
    assert_eq!(names(&remote()), before);
    // What it writes now is nobody's, and who has the tenant clears it away.
    paused.last_commit = 1;
    let mut writer = paused.begin();
    append(&mut writer, record("2", DAY, "").as_bytes());
    writer.finish().unwrap();
    let mut next = elsewhere(&owner, remote());
    under(&mut next, 2);
    assert_eq!((next.clear(1).segments, next.clear(1).left), (1, 0));
    assert_eq!(next.raw(), owner.raw());
    under(&mut next, 3);
    next.visible.clear();
    assert_eq!(next.clear(0).segments, 1, "so is what an earlier owner left");
}

/// Text that no compressor makes much smaller.
pub(crate) fn noise(seed: u64, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend((0..8).map(|n| LETTERS[(state >> (7 * n)) as usize % 64]));
    }
    String::from_utf8(text).unwrap()
}

fn a_large_segment_goes_in_parts_and_is_asked_without_being_fetched(remote: &dyn Fn() -> RemoteOptions) {
    let mut world = world(remote());
    let records: Vec<_> = (0..14).map(|n| record(&n.to_string(), DAY, &noise(n, 1 << 20))).collect();
    world.store(&records);
    assert!(world.visible[0].bytes > 8 << 20);
    let mut other = elsewhere(&world, remote());
    assert!(other.store(&records).iter().all(|appended| *appended == Appended::Duplicate));
    assert_eq!(other.segment_files(), Vec::<String>::new(), "its keys were enough");
    assert_eq!(ask(&other, "SELECT count(*) AS n FROM audit WHERE operation = 'FileAccessed'"), "n\n14\n");
    assert_eq!(other.segment_files(), Vec::<String>::new(), "a part of it was enough");
    // In a segment that cannot be asked by its keys any more, by its rows.
    other.archive.delete_sidecars(&other.visible.clone()).unwrap();
    assert!(!names(&remote()).iter().any(|name| name.starts_with("_dedup")));
    let mut last = elsewhere(&world, remote());
    assert!(last.store(&records).iter().all(|appended| *appended == Appended::Duplicate));
    assert_eq!(last.segment_files().len(), 1);
}

fn what_was_changed_or_removed_in_the_store_is_found_and_a_changed_copy_is_not_believed(
    remote: &dyn Fn() -> RemoteOptions,
) {
    let mut world = world(remote());
    for n in 0..3 {
        world.store(&[record(&n.to_string(), DAY, "")]);
    }
    let copy = world.archive.segment_path(&world.visible[0]);
    let mut bytes = std::fs::read(&copy).unwrap();
    bytes[100] ^= 1;
    let spoil = || std::fs::write(&copy, &bytes).unwrap();
    spoil();
    assert_eq!(world.records().len(), 3, "what counts is in the store");
    spoil();
    assert_eq!(ask(&world, "SELECT count(DISTINCT raw) AS n FROM audit"), "n\n3\n");
    spoil();
    world.archive.delete_sidecars(&world.visible.clone()).unwrap();
    assert_eq!(world.store(&[record("0", DAY, "")]), [Appended::Duplicate]);
    spoil();
    let verified = world.archive.verify(&world.visible, Depth::Records, |_| ()).unwrap();
    assert_eq!(verified.damaged, Vec::new());
    crate::look::put(&remote(), world.visible[0].path().to_str().unwrap(), bytes);
    crate::look::remove(&remote(), world.visible[1].path().to_str().unwrap());
    for depth in [Depth::Digest, Depth::Records] {
        let verified = world.archive.verify(&world.visible, depth, |_| ()).unwrap();
        let problems: Vec<_> = verified.damaged.iter().map(|damage| damage.problem.as_str()).collect();
        assert_eq!(problems, ["its bytes have changed since it was written", "the file is missing"]);
        let shown = verified.damaged[0].path.display().to_string();
        assert!(shown.contains("://audit/damage/tenant="), "{shown}");
    }
    // Its records are not there to be compared with: a repeat is stored again rather than lost.
    let mut other = elsewhere(&world, remote());
    assert_eq!(other.store(&[record("1", DAY, ""), record("2", DAY, "")]), [Appended::New, Appended::Duplicate]);
}

fn a_purge_leaves_nothing_of_a_tenant_and_all_of_others(remote: &dyn Fn() -> RemoteOptions) {
    let mut world = world(remote());
    world.store(&[record("1", DAY, "")]);
    let other: TenantId = "b0000000-7c39-4f0b-9d6e-2f4f0e0c8a22".parse().unwrap();
    commit_of(&world.archive, other, 1);
    let mut writer = world.begin();
    let content_id = "y".parse().unwrap();
    let created = time("2026-03-05T10:00:00Z");
    let content = ContentRef { content_type: &ContentType::SharePoint, content_id: &content_id, created };
    writer.quarantine(&content, b"no record", "cut off").unwrap();
    writer.finish().unwrap();
    let purged = world.purge(0);
    assert!(purged.files >= 3 && purged.bytes > 0 && purged.left + purged.later == 0, "{purged:?}");
    assert_eq!(world.purge(0), Purged::default(), "made again, it finds nothing");
    let left = names(&remote());
    assert!(!left.iter().any(|name| name.contains(&tenant().to_string())), "{left:?}");
    assert!(left.iter().any(|name| name.contains(&other.to_string())), "{left:?}");
    assert_eq!(world.segment_files().len(), 1, "the other tenant's copy");
}

fn what_is_no_record_is_kept_and_checked(remote: &dyn Fn() -> RemoteOptions) {
    let world = world(remote());
    let content_id = "y".parse().unwrap();
    let created = time("2026-03-05T10:00:00Z");
    let content = ContentRef { content_type: &ContentType::SharePoint, content_id: &content_id, created };
    let mut writer = world.begin();
    writer.quarantine(&content, b"no record", "cut off").unwrap();
    let kept = writer.finish().unwrap().quarantined.remove(0);
    let check = || world.archive.verify_quarantined(&kept.path, kept.bytes, &kept.digest).unwrap();
    assert_eq!(check(), None);
    // Another commit has it again, and one more, and is abandoned: what was there stays.
    let mut writer = world.begin();
    writer.quarantine(&content, b"no record", "cut off").unwrap();
    writer.quarantine(&content, b"nor this", "cut off").unwrap();
    let pieces = || names(&remote()).iter().filter(|name| name.ends_with(".bin")).count();
    assert_eq!(pieces(), 2);
    writer.abandon().unwrap();
    // Its name says all about it, and another may have come to rely on it.
    assert_eq!((pieces(), check()), (2, None));
    crate::look::put(&remote(), kept.path.to_str().unwrap(), b"something".to_vec());
    assert_eq!(check().unwrap(), "its bytes have changed since it was written");
    crate::look::remove(&remote(), kept.path.to_str().unwrap());
    assert_eq!(check().unwrap(), "the file is missing");
}

fn an_archive_belongs_to_the_ledger_that_came_first(remote: &dyn Fn() -> RemoteOptions) {
    let mut world = world(remote());
    assert_eq!(world.archive.ownership("one").unwrap(), Ownership::Vacant);
    refuse_new_ledger(&world.options).unwrap();
    world.archive.set_owner("one").unwrap();
    world.archive.set_owner("one").unwrap();
    world.store(&[record("1", DAY, "")]);
    let other = elsewhere(&world, remote());
    assert_eq!(other.archive.ownership("one").unwrap(), Ownership::Ours);
    let error = other.archive.ownership("two").unwrap_err().to_string();
    assert!(error.contains("://audit/ledger belongs to ledger one, and this is ledger two"), "{error}");
    assert!(matches!(refuse_new_ledger(&other.options), Err(ArchiveError::OtherLedger { .. })));
    crate::look::remove(&remote(), "_tenantry.json");
    assert_eq!(other.archive.ownership("two").unwrap(), Ownership::Unmarked);
}

fn a_cache_that_is_too_small_costs_requests_and_nothing_else(remote: &dyn Fn() -> RemoteOptions) {
    let mut world = world(RemoteOptions { cache_bytes: 1, ..remote() });
    let records: Vec<_> = (0..30).map(|n| record(&n.to_string(), DAY, "")).collect();
    for some in records.chunks(10) {
        world.store(some);
    }
    assert_eq!(world.segment_files().len(), 1, "the latest stays");
    assert!(world.store(&records).iter().all(|appended| *appended == Appended::Duplicate));
    world.merge("2026-03-04");
    assert_eq!(world.records().len(), 30);
}

fn ask(world: &World, sql: &str) -> String {
    let spill = world.archive.root().join("spill");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(64 << 20).build().unwrap();
    let (archive, manifest) = (world.archive.clone(), world.visible.clone());
    let sql = sql.to_owned();
    let asked = runtime.spawn(async move {
        let engine = QueryEngine::over(&archive, &QueryOptions::with_spill_dir(spill)).unwrap();
        let rows = engine.query(manifest.into(), &sql).await.unwrap();
        let mut out = Vec::new();
        write_results(rows, Format::Csv, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    });
    runtime.block_on(asked).unwrap()
}

#[test]
fn each_refusal_of_a_store_is_one_sentence_with_its_remedy_and_without_a_secret() {
    const DENIED: &str = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>";
    const SLOW: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    const KEY: &str = "<Error><Code>InvalidAccessKeyId</Code></Error>";
    const NONE: &str = "<Error><Code>NoSuchBucket</Code></Error>";
    for (head, body, told, remedy) in [
        ("503 Slow Down", SLOW, "503", "collection goes on by itself"),
        ("403 Forbidden", DENIED, "AccessDenied", "give the credentials in use read, write"),
        ("401 Unauthorized", KEY, "InvalidAccessKeyId", "check the store's credentials"),
        ("404 Not Found", NONE, "NoSuchBucket", "create the bucket"),
    ] {
        let answering = Answering::with(head, body);
        let (_folder, options) = options(answering.options());
        let error = Archive::open(&options).err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        let shown = error.to_string();
        assert!(shown.contains("s3://audit/x/_tenantry.json") && shown.contains(remedy), "{head}: {shown}");
        assert!(source.contains(told) && !source.contains('\n') && !source.contains("hunter2"), "{head}: {source}");
    }
}

#[test]
fn a_store_that_nobody_listens_for_is_not_reached() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let remote = Answering::options_at(&format!("http://{}", held.local_addr().unwrap()));
    let error = Archive::open(&options(remote).1).err().unwrap();
    let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(told.contains("it cannot be reached") && told.contains("check [archive] url and endpoint"), "{told}");
}

#[test]
fn wrong_keys_are_told_from_a_store_that_is_not_there() {
    let Some(server) = Server::azure() else { return };
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    let remote = server.options_with("x", "AZURE_STORAGE_ACCOUNT_KEY", key);
    let error = Archive::open(&options(remote).1).err().unwrap().to_string();
    assert!(error.contains("give the credentials in use read, write, delete and list access"), "{error}");
}
