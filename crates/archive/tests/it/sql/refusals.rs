//! What is not answered, and what is said instead.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use archive::Segment;
use archive::sql::{Extent, Format, OPERATORS_MAX, QUERY_STACK_BYTES, QueryError, write_results};

use super::fixture::{ALPHA, Fixture, usual};

#[tokio::test]
async fn whatever_is_no_question_is_refused_by_name() {
    let fixture = usual();
    let target = fixture.archive.root().join("out.csv");
    let target = target.display();
    for (sql, name) in [
        ("INSERT INTO audit SELECT * FROM audit".to_owned(), "INSERT INTO"),
        ("DELETE FROM audit".to_owned(), "DELETE FROM"),
        ("UPDATE audit SET id = 'x'".to_owned(), "UPDATE is"),
        ("DROP TABLE audit".to_owned(), "DROP TABLE"),
        ("CREATE TABLE x AS SELECT * FROM audit".to_owned(), "CREATE TABLE"),
        ("CREATE VIEW x AS SELECT * FROM audit".to_owned(), "CREATE VIEW"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'".to_owned(), "CREATE EXTERNAL TABLE is"),
        (format!("COPY audit TO '{target}'"), "COPY is"),
        (format!("COPY (SELECT 1) TO '{target}' STORED AS CSV"), "COPY is"),
        ("SET datafusion.execution.batch_size = 1".to_owned(), "SET is"),
        ("RESET datafusion.execution.batch_size".to_owned(), "RESET is"),
        ("EXPLAIN INSERT INTO audit SELECT * FROM audit".to_owned(), "EXPLAIN INSERT INTO is"),
        ("BEGIN".to_owned(), "BEGIN is"),
        ("PREPARE x AS SELECT 1".to_owned(), "PREPARE is"),
        ("TRUNCATE TABLE audit".to_owned(), "TRUNCATE TABLE"),
    ] {
        let error = fixture.error(&sql).await;
        assert!(matches!(error, QueryError::Refused { .. }), "{sql}: {error:?}");
        assert!(error.to_string().starts_with(name), "{sql}: {error}");
        assert!(error.to_string().contains("read-only"), "{sql}: {error}");
    }
    assert!(!fixture.archive.root().join("out.csv").exists());
    assert_eq!(fixture.rows("SELECT count(*) FROM audit").await, ["7"]);
}

#[test]
fn a_statement_as_deep_as_allowed_is_answered_and_a_deeper_one_is_refused() {
    let ask = || async {
        let fixture = usual();
        let chain = |operators: usize| format!("SELECT 1{}", "+1".repeat(operators));
        assert_eq!(fixture.rows(&chain(OPERATORS_MAX)).await, [(OPERATORS_MAX + 1).to_string()]);
        let error = fixture.error(&chain(OPERATORS_MAX + 1)).await;
        assert!(matches!(error, QueryError::TooManyOperators { .. }) && error.is_usage(), "{error:?}");
        // Far beyond what any stack bears; what is in strings and lists does not count.
        let ors = vec!["id = 'x'"; 100_000].join(" OR ");
        let error = fixture.error(&format!("SELECT id FROM audit WHERE {ors}")).await;
        assert_eq!(
            error.to_string(),
            "the query has 199999 operators, and 1000 are the most: write many comparisons as column IN ('a', 'b', …), or \
             split the query"
        );
        let list = vec!["'a+b'"; 5000].join(", ");
        assert_eq!(fixture.rows(&format!("SELECT count(*) FROM audit WHERE id IN ({list})")).await, ["0"]);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_stack_size(QUERY_STACK_BYTES).build().unwrap();
    let first = std::thread::Builder::new().stack_size(QUERY_STACK_BYTES);
    first.spawn(move || runtime.block_on(ask())).unwrap().join().unwrap();
}

#[tokio::test]
async fn other_files_cannot_be_read() {
    let fixture = usual();
    let own = fixture.path(0);
    for table in
        ["'/etc/passwd'", "\"/etc/passwd\"", "'x.csv'", &format!("'{}'", own.display()), "read_csv('/etc/passwd')"]
    {
        let error = fixture.error(&format!("SELECT * FROM {table}")).await;
        assert!(error.is_usage(), "{table}: {error:?}");
    }
}

#[tokio::test]
async fn mistakes_are_told_in_one_sentence() {
    let fixture = usual();
    for (sql, expected) in [
        (
            "SELECT user FROM audit",
            "there is no column \"user\": the nearest are user_id, user_key, user_type; what else a record holds is in raw",
        ),
        (
            "SELECT client_pi FROM audit",
            "there is no column \"client_pi\": the nearest are client_ip; what else a record holds is in raw",
        ),
        (
            "SELECT a.nothing_like_it FROM audit a",
            "there is no column \"nothing_like_it\": the columns are app_id, client_ip,",
        ),
        ("SELECT 1 FROM audit WHERE ClientIp = 'x'", "there is no column \"clientip\": the nearest are client_ip"),
        ("SELECT * FROM audits", "there is no table \"audits\": the table is called audit"),
        ("SELECT * FROM other.audit", "there is no table \"tenantry.other.audit\": the table is called audit"),
        ("SELECT cuont(*) FROM audit", "there is no function \"cuont\": did you mean \"count\""),
        ("SELECT gibberish_of_mine(1)", "there is no function \"gibberish_of_mine\": SHOW FUNCTIONS lists"),
        ("SELECT FROM WHERE", "cannot read the SQL: "),
        ("SELEC 1", "cannot read the SQL: Expected: an SQL statement, found: SELEC at Line: 1, Column: 1"),
        ("SELECT 'open", "cannot read the SQL: Unterminated string literal at Line: 1, Column: 8"),
        ("", "one SQL statement is wanted, not 0"),
        (" ; ", "one SQL statement is wanted, not 0"),
        ("SELECT 1; SELECT 2", "one SQL statement is wanted, not 2"),
        ("SELECT id FROM audit GROUP BY workload", "the query cannot be planned: "),
        ("SELECT id, id FROM audit a, audit b", "the query cannot be planned: "),
        ("SELECT sum(user_id) FROM audit", "the query cannot be planned: "),
        ("SELECT 1 / (commit - commit) FROM audit", "the query failed: Divide by zero"),
        (
            "SELECT CAST(user_id AS int) FROM audit",
            "the query failed: Cast error: Cannot cast string 'ann@alpha.example' to value of Int32 type",
        ),
    ] {
        let error = fixture.error(sql).await;
        let text = error.to_string();
        assert!(text.starts_with(expected), "{sql}: {text}");
        assert!(!text.contains('\n') && !text.ends_with('.') && !text.contains("DataFusion"), "{sql}: {text}");
        assert!(error.is_usage(), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn a_segment_that_went_away_is_told_and_a_new_manifest_is_tried() {
    let fixture = usual();
    fs::remove_file(fixture.path(0)).unwrap();
    let sql = "SELECT count(user_id) FROM audit";
    match fixture.error(sql).await {
        QueryError::SegmentGone { path } => assert!(path.ends_with("/1-0.parquet"), "{path}"),
        other => panic!("{other:?}"),
    }
    let loads = AtomicUsize::new(0);
    // The merge that deleted the file shows in the second manifest.
    let load = |_: Extent| {
        let skip = loads.fetch_add(1, Ordering::SeqCst).min(1);
        let manifest: Arc<[Segment]> = fixture.segments[skip..].into();
        std::future::ready(Ok::<_, std::io::Error>(manifest))
    };
    let rows = fixture.engine().run(load, sql).await.unwrap();
    let mut out = Vec::new();
    write_results(rows, Format::Csv, &mut out).await.unwrap();
    assert!(out.ends_with(b"\n4\n"), "{}", String::from_utf8_lossy(&out));
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_segment_that_the_ledger_still_names_is_missing_and_not_asked_for_again() {
    let fixture = usual();
    fs::remove_file(fixture.path(0)).unwrap();
    let loads = AtomicUsize::new(0);
    let load = |_: Extent| {
        loads.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, std::io::Error>(fixture.manifest()))
    };
    let error = fixture.engine().run(load, "SELECT count(user_id) FROM audit").await.err().unwrap();
    assert!(matches!(&error, QueryError::SegmentMissing { path } if path.ends_with("/1-0.parquet")), "{error:?}");
    assert!(error.to_string().contains("restore it from a backup") && !error.is_usage(), "{error}");
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn segments_that_keep_going_away_are_given_up_after_the_third_try() {
    let fixture = usual();
    (0..3).for_each(|segment| fs::remove_file(fixture.path(segment)).unwrap());
    let loads = AtomicUsize::new(0);
    let load = |_: Extent| {
        let only = loads.fetch_add(1, Ordering::SeqCst);
        let manifest: Arc<[Segment]> = fixture.segments[only..=only].into();
        std::future::ready(Ok::<_, std::io::Error>(manifest))
    };
    let error = fixture.engine().run(load, "SELECT count(user_id) FROM audit").await.err().unwrap();
    assert!(matches!(error, QueryError::SegmentGone { .. }), "{error:?}");
    assert_eq!(loads.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_manifest_that_cannot_be_loaded_is_the_callers_error() {
    let fixture = usual();
    let load = |_: Extent| std::future::ready(Err::<Arc<[Segment]>, _>(std::io::Error::other("ledger locked")));
    let error = fixture.engine().run(load, "SELECT id FROM audit").await.err().unwrap();
    assert!(matches!(&error, QueryError::Manifest { source } if source.to_string() == "ledger locked"), "{error:?}");
}

const EVERYTHING: &str = "SELECT * FROM audit ORDER BY id";

/// The refusal of everything that touches the segment, with its path and what is wrong.
async fn damage(fixture: &Fixture) -> (String, String) {
    match fixture.error(EVERYTHING).await {
        QueryError::SegmentDamaged { path, problem } => (path, problem),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_damaged_segment_is_named() {
    let fixture = usual();
    let path = fixture.path(1);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, vec![0; whole.len()]).unwrap();
    let (named, problem) = damage(&fixture).await;
    assert!(named.ends_with("date=2026-03-05/1-1.parquet"), "{named}");
    assert!(problem.contains("have changed since it was written"), "{problem}");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(damage(&fixture).await.1.contains(&format!("instead of {}", whole.len())));
    // Another sound segment in its place.
    fs::copy(fixture.path(0), &path).unwrap();
    damage(&fixture).await;
    let error = fixture.error(EVERYTHING).await;
    assert!(error.to_string().contains("tenantry archive verify") && !error.is_usage(), "{error}");
}

#[tokio::test]
async fn no_changed_byte_of_a_segment_is_ever_answered_from() {
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 1, &[r#"{"Id":"a1","CreationTime":"2026-03-04T10:00:00","Operation":"UserLoggedIn"}"#]);
    let (path, answer) = (fixture.path(0), fixture.rows(EVERYTHING).await);
    let whole = fs::read(&path).unwrap();
    // With its checksums, and without any, as an earlier version left it.
    for keep in [true, false] {
        if !keep {
            fs::remove_dir_all(fixture.archive.root().join("_sums")).unwrap();
        }
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            fs::write(&path, bytes).unwrap();
            damage(&fixture).await;
        }
        assert_eq!(fixture.archive.root().join("_sums").exists(), keep, "damage is never blessed");
        fs::write(&path, &whole).unwrap();
        assert_eq!(fixture.rows(EVERYTHING).await, answer);
    }
    let sums = fixture.archive.root().join("_sums").join(fixture.segments[0].path()).with_extension("sums");
    let made = fs::read(&sums).unwrap();
    // Made again as they were written; and damaged themselves, they are made again too.
    fs::write(&sums, b"damaged").unwrap();
    assert_eq!(fixture.rows(EVERYTHING).await, answer);
    assert_eq!(fs::read(&sums).unwrap(), made);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_told_from_a_full_disk() {
    struct Refusing(std::io::ErrorKind);
    impl std::io::Write for Refusing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(self.0.into())
        }
    }
    let fixture = usual();
    for format in [Format::Table { width: None }, Format::Json, Format::Ndjson, Format::Csv, Format::Parquet] {
        for (kind, pipe) in [(std::io::ErrorKind::BrokenPipe, true), (std::io::ErrorKind::StorageFull, false)] {
            let rows = fixture.query("SELECT * FROM audit").await.unwrap();
            let error = write_results(rows, format, &mut Refusing(kind)).await.err().unwrap();
            assert!(matches!(error, QueryError::Output { .. }), "{format:?}: {error:?}");
            assert_eq!(error.is_broken_pipe(), pipe, "{format:?}");
        }
    }
}
