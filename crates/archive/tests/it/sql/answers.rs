//! Questions and their answers.

use archive::sql::{Format, QueryEngine, QueryError, QueryOptions, write_results};

use super::fixture::{ALPHA, BETA, Fixture, usual};
use crate::world::make_older;

#[tokio::test]
async fn what_sql_people_expect_is_answered() {
    let fixture = usual();
    for (sql, expected) in [
        ("SELECT count(*) FROM audit", vec!["7"]),
        (
            "SELECT workload, count(*) AS n FROM audit GROUP BY workload ORDER BY n DESC, workload",
            vec!["Exchange,3", "AzureActiveDirectory,2", "SharePoint,2"],
        ),
        (
            "SELECT workload, count(DISTINCT user_id) AS users FROM audit GROUP BY 1 HAVING count(*) > 2",
            vec!["Exchange,2"],
        ),
        ("SELECT count(*) FILTER (WHERE operation LIKE 'User%') AS logins, count(client_ip) FROM audit", vec!["2,2"]),
        // A join: who was active in both tenants.
        (
            "SELECT DISTINCT a.user_id FROM audit a JOIN audit b USING (user_id) WHERE a.tenant_id <> b.tenant_id",
            vec!["ann@alpha.example"],
        ),
        (
            "SELECT id FROM audit a WHERE NOT EXISTS (SELECT 1 FROM audit b WHERE b.user_id = a.user_id AND b.id <> a.id) ORDER BY id",
            vec!["b2", "b3"],
        ),
        // A window function: each user's previous record.
        (
            "SELECT id, lag(id) OVER (PARTITION BY user_id ORDER BY creation_time) AS before FROM audit WHERE user_id LIKE 'ann%' ORDER BY creation_time",
            vec!["a1,", "b1,a1", "a3,b1"],
        ),
        (
            "SELECT id, n FROM (SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY creation_time DESC NULLS LAST) AS n FROM audit) WHERE n = 1 ORDER BY id",
            vec!["a4,1", "b2,1"],
        ),
        ("SELECT id FROM audit QUALIFY row_number() OVER (ORDER BY id) = 2", vec!["a2"]),
        ("WITH users AS (SELECT DISTINCT user_id AS u FROM audit) SELECT count(*) FROM users", vec!["4"]),
        (
            "SELECT date_trunc('day', creation_time) AS day, count(*) FROM audit GROUP BY day ORDER BY day NULLS LAST",
            vec!["2026-03-04T00:00:00Z,3", "2026-03-05T00:00:00Z,1", "2026-03-06T00:00:00Z,2", ",1"],
        ),
        ("SELECT count(*) FROM audit WHERE regexp_like(operation, '^User.*(In|Failed)$')", vec!["2"]),
        (
            "SELECT split_part(user_id, '@', 2) AS domain, count(*) FROM audit GROUP BY 1 ORDER BY 1",
            vec!["alpha.example,5", "beta.example,1", ",1"],
        ),
        ("SELECT id FROM audit WHERE user_id IS NULL UNION ALL SELECT 'x' ORDER BY 1", vec!["b3", "x"]),
        ("SELECT record_type, record_type_name FROM audit WHERE id = 'a1'", vec!["15,AzureActiveDirectoryStsLogon"]),
        ("SELECT record_type IS NULL, creation_time IS NULL FROM audit WHERE id = 'b3'", vec!["true,true"]),
        ("SELECT min(creation_time), max(creation_time) FROM audit", vec!["2026-03-04T10:00:00Z,2026-03-06T06:00:00Z"]),
        (
            "SELECT arrow_typeof(creation_time), arrow_typeof(commit) FROM audit LIMIT 1",
            vec!["\"Timestamp(µs, \"\"UTC\"\")\",Int64"],
        ),
        ("SELECT id FROM audit WHERE \"commit\" > 1", vec!["a4"]),
        ("SELECT id FROM audit WHERE commit = 2", vec!["a4"]),
        ("FROM audit SELECT count(*)", vec!["7"]),
        ("SELECT 1 + 1;", vec!["2"]),
    ] {
        assert_eq!(fixture.rows(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn times_compare_with_what_people_write() {
    let fixture = usual();
    for (filter, expected) in [
        ("creation_time >= '2026-03-06'", vec!["a4", "b2"]),
        ("creation_time > '2026-03-06'", vec!["b2"]),
        ("creation_time < '2026-03-04T10:00:05Z'", vec!["a1"]),
        ("creation_time <= '2026-03-04 10:00:05'", vec!["a1", "a2"]),
        ("creation_time BETWEEN '2026-03-05' AND '2026-03-06'", vec!["a3", "a4"]),
        ("creation_time >= DATE '2026-03-06'", vec!["a4", "b2"]),
        ("creation_time >= TIMESTAMP '2026-03-06 01:00:00' - INTERVAL '1 hour'", vec!["a4", "b2"]),
        ("creation_time >= '2026-03-06T01:00:00+01:00'", vec!["a4", "b2"]),
        ("creation_time::date = '2026-03-05'", vec!["a3"]),
        ("extract(hour FROM creation_time) = 12", vec!["b1"]),
        ("creation_time > now()", vec![]),
        ("creation_time < now() - INTERVAL '1 day' AND commit = 2", vec!["a4"]),
        ("creation_time IS NULL", vec!["b3"]),
        ("ingested_at = '2026-03-07'", vec!["a1", "a2", "a3", "a4", "b1", "b2", "b3"]),
    ] {
        let sql = format!("SELECT id FROM audit WHERE {filter} ORDER BY id");
        assert_eq!(fixture.rows(&sql).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn every_record_comes_back_byte_for_byte() {
    let fixture = usual();
    let expected: Vec<String> = fixture
        .archive
        .read_all(fixture.segments.clone())
        .map(|record| String::from_utf8(record.unwrap().raw.to_vec()).unwrap())
        .collect();
    let (json, written) = fixture.write("SELECT raw FROM audit", Format::Ndjson).await;
    let mut found: Vec<String> = String::from_utf8(json)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["raw"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = expected;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(written.rows, 7);
}

#[tokio::test]
async fn variants_can_be_asked_for_beside_segments_older_than_their_mark() {
    let mut fixture = Fixture::empty();
    let body = |id: &str, note| format!(r#"{{"Id":"{id}","CreationTime":"2026-03-04T10:00:00","Operation":"{note}"}}"#);
    fixture.commit(ALPHA, 1, &[body("a", "first"), body("b", "first")]);
    make_older(&fixture.archive, &mut fixture.segments[0]);
    fixture.commit(ALPHA, 2, &[body("a", "second"), body("c", "first"), body("c", "second")]);
    let ask = async |filter: &str| {
        fixture.rows(&format!("SELECT id, operation FROM audit WHERE {filter} ORDER BY 1, 2")).await
    };
    assert_eq!(ask("variant").await, ["a,second", "c,second"]);
    assert_eq!(ask("variant IS NOT TRUE").await, ["a,first", "b,first", "c,first"]);
    assert_eq!(ask("variant IS NULL").await, ["a,first", "b,first"]);
    assert_eq!(fixture.rows("SELECT count(variant), count(*) FROM audit").await, ["3,5"]);
}

#[tokio::test]
async fn an_empty_archive_has_its_columns_and_no_rows() {
    let fixture = Fixture::empty();
    assert_eq!(fixture.rows("SELECT count(*), max(creation_time) FROM audit").await, ["0,"]);
    assert!(fixture.rows("SELECT user_id FROM audit WHERE tenant_id = 'x' ORDER BY creation_time").await.is_empty());
    let (csv, written) = fixture.write("SELECT * FROM audit", Format::Csv).await;
    assert_eq!(String::from_utf8(csv).unwrap().trim_end(), archive::COLUMNS.join(","));
    assert_eq!(written.rows, 0);
}

#[tokio::test]
async fn an_archive_whose_folder_does_not_exist_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let options = QueryOptions::with_spill_dir(folder.path().join("spill"));
    let engine = QueryEngine::open(&folder.path().join("none"), &options).unwrap();
    let mut rows = engine.query([].into(), "SELECT count(*) FROM audit").await.unwrap();
    assert_eq!(rows.next_batch().await.unwrap().unwrap().num_rows(), 1);
    assert!(rows.next_batch().await.unwrap().is_none());
    assert!(!folder.path().join("none").exists());
}

#[tokio::test]
async fn the_schema_can_be_asked_for() {
    let fixture = usual();
    let columns = fixture.rows("DESCRIBE audit").await;
    assert_eq!(columns.len(), archive::COLUMNS.len());
    assert!(columns[0].starts_with("tenant_id,"), "{columns:?}");
    assert_eq!(
        fixture.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'archive'").await,
        ["audit"]
    );
    assert!(fixture.rows("SHOW TABLES").await.iter().any(|table| table.contains("audit")));
    assert_eq!(fixture.rows("SHOW COLUMNS FROM audit").await.len(), archive::COLUMNS.len());
}

#[tokio::test]
async fn columns_can_be_left_out_of_a_star() {
    let fixture = usual();
    let (csv, _) = fixture.write("SELECT * EXCLUDE (raw) FROM audit LIMIT 0", Format::Csv).await;
    let header = String::from_utf8(csv).unwrap();
    assert_eq!(header.trim_end().split(',').count(), archive::COLUMNS.len() - 1);
}

#[tokio::test]
async fn queries_of_one_engine_run_side_by_side() {
    let fixture = usual();
    let engine = fixture.engine();
    let one = async |tenant: &str| {
        let sql = format!("SELECT count(*) FROM audit WHERE tenant_id = '{tenant}' AND user_id IS NOT NULL");
        let rows = engine.query(fixture.manifest(), &sql).await.unwrap();
        let mut out = Vec::new();
        write_results(rows, Format::Csv, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    };
    let (alpha, beta, alpha_again) = futures_util::join!(one(ALPHA), one(BETA), one(ALPHA));
    assert_eq!((alpha.lines().last(), beta.lines().last()), (Some("4"), Some("2")));
    assert_eq!(alpha, alpha_again);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_sorted_on_disk() {
    let mut fixture = Fixture::empty();
    let padding = "x".repeat(300);
    let records: Vec<String> = (0..30_000)
        .map(|number| {
            format!(
                r#"{{"Id":"{:05}","CreationTime":"2026-03-04T10:00:00","UserId":"{padding}"}}"#,
                (number * 7919) % 30_000
            )
        })
        .collect();
    fixture.commit(ALPHA, 1, &records);
    let mut options = fixture.options();
    options.partitions = 1;
    options.memory_bytes = 26 << 20;
    let engine = QueryEngine::open(fixture.archive.root(), &options).unwrap();
    // About 30 MB of rows through a pool of 26 MiB, of which sorting keeps 10 for merging.
    let rows = engine.query(fixture.manifest(), "SELECT id, raw, user_id || id FROM audit ORDER BY id").await.unwrap();
    let mut out = Vec::new();
    let written = write_results(rows, Format::Csv, &mut out).await.unwrap();
    assert_eq!(written.rows, 30_000);
    let text = String::from_utf8(out).unwrap();
    let ids: Vec<&str> = text.lines().skip(1).map(|line| &line[..5]).collect();
    assert!(ids.is_sorted());
    // The same without room on disk, or without memory for one batch, ends in a sentence.
    let sql = "SELECT id, raw, user_id || id FROM audit ORDER BY id";
    options.spill_bytes = 1 << 20;
    let engine = QueryEngine::open(fixture.archive.root(), &options).unwrap();
    let error = engine.query(fixture.manifest(), sql).await.err().unwrap();
    assert!(matches!(error, QueryError::OutOfSpill { limit_bytes: 1_048_576 }), "{error:?}");
    options.memory_bytes = 2 << 20;
    let engine = QueryEngine::open(fixture.archive.root(), &options).unwrap();
    let error = engine.query(fixture.manifest(), sql).await.err().unwrap();
    assert!(error.to_string().starts_with("the query needs more than its 2 MiB of memory: "), "{error:?}");
    assert!(!error.is_usage());
}
