//! Only files that can hold an answer are opened, and only the columns it is made of are read.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};

use archive::Segment;
use archive::sql::{Extent, Format, write_results};

use super::fixture::{ALPHA, BETA, Fixture, usual};

/// The files a query opened, each as `{date}/{file}` with the tenant's first letter before it.
async fn opened(fixture: &Fixture, sql: &str) -> Vec<String> {
    let (engine, store) = fixture.counting_engine();
    let rows = engine.query(fixture.manifest(), sql).await.unwrap();
    write_results(rows, Format::Csv, &mut Vec::new()).await.unwrap();
    let short = |path: String| {
        path.replace(&format!("tenant={ALPHA}"), "a").replace(&format!("tenant={BETA}"), "b").replace("date=2026-", "")
    };
    store.take().into_keys().map(short).collect()
}

#[tokio::test]
async fn files_are_ruled_out_by_tenant_time_and_commit_before_they_are_opened() {
    let fixture = usual();
    let all = [
        "a/03-04/1-0.parquet",
        "a/03-05/1-1.parquet",
        "a/03-06/2-0.parquet",
        "b/03-04/1-0.parquet",
        "b/03-06/1-1.parquet",
        "b/03-07/1-2.parquet",
    ];
    let tenants: Vec<String> = (0..40).map(|number| format!("'{number}'")).collect();
    let many = format!("tenant_id IN ({}, '{BETA}')", tenants.join(", "));
    let either =
        format!("(tenant_id = '{ALPHA}' AND creation_time < '2026-03-05') OR creation_time >= '2026-03-06T06:00:00'");
    for (filter, expected) in [
        ("true", all.to_vec()),
        (&format!("tenant_id = '{ALPHA}'"), all[..3].to_vec()),
        (&format!("tenant_id <> '{ALPHA}'"), all[3..].to_vec()),
        (&format!("tenant_id IN ('{ALPHA}', 'x')"), all[..3].to_vec()),
        (&many, all[3..].to_vec()),
        ("tenant_id = 'nobody'", vec![]),
        ("creation_time >= '2026-03-06'", vec![all[2], all[4]]),
        ("creation_time > '2026-03-06T00:00:00.999999'", vec![all[4]]),
        ("creation_time < '2026-03-04T12:00:00'", vec![all[0]]),
        ("creation_time <= '2026-03-04T12:00:00'", vec![all[0], all[3]]),
        ("creation_time BETWEEN '2026-03-05' AND '2026-03-05T23:59:59'", vec![all[1]]),
        ("creation_time::date = '2026-03-05'", vec![all[1]]),
        ("creation_time IS NULL", vec![all[5]]),
        ("creation_time > now()", vec![]),
        (&format!("tenant_id = '{BETA}' AND creation_time > '2026-03-05'"), vec![all[4]]),
        (&either, vec![all[0], all[4]]),
        ("commit > 1", vec![all[2]]),
        ("commit >= 3", vec![]),
    ] {
        // Of the files that are left, DataFusion may still leave out some by their own footers; but it has to open them.
        let sql = format!("SELECT id, user_id FROM audit WHERE {filter}");
        assert_eq!(opened(&fixture, &sql).await, expected, "{filter}");
    }
}

/// What the ledger is asked for by a statement, which is answered from what lies within and from nothing else.
async fn extent_of(fixture: &Fixture, sql: &str) -> (Option<Extent>, String) {
    let asked = Mutex::new(None);
    let load = |extent: Extent| {
        let within = |segment: &&Segment| {
            let of_tenant = extent.tenants.as_ref().is_none_or(|tenants| tenants.contains(&segment.tenant));
            let seconds = segment.second_min.zip(segment.second_max);
            let in_time = |(min, max): (i64, i64), seconds: &std::ops::RangeInclusive<i64>| {
                max >= *seconds.start() && min <= *seconds.end()
            };
            of_tenant
                && extent.seconds.as_ref().is_none_or(|wanted| seconds.is_some_and(|seconds| in_time(seconds, wanted)))
        };
        let manifest: Arc<[Segment]> = fixture.segments.iter().filter(within).cloned().collect();
        *asked.lock().unwrap() = Some(extent);
        ready(Ok::<_, Infallible>(manifest))
    };
    let rows = fixture.engine().run(load, sql).await.unwrap();
    let mut out = Vec::new();
    write_results(rows, Format::Csv, &mut out).await.unwrap();
    (asked.into_inner().unwrap(), String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_ledger_is_asked_for_no_more_than_a_statement_needs() {
    const DAY: i64 = 86_400;
    /// 2026-03-05T00:00:00Z
    const FIFTH: i64 = 1_772_668_800;
    let fixture = usual();
    let some = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>());
    let within = |tenants, seconds| Extent { tenants, seconds };
    let both = format!(
        "SELECT a.id FROM audit a JOIN audit b ON a.user_id = b.user_id \
         WHERE a.tenant_id = '{ALPHA}' AND b.tenant_id = '{BETA}' AND a.creation_time < '2026-03-05' \
         AND b.creation_time BETWEEN '2026-03-05' AND '2026-03-06'"
    );
    let union =
        format!("SELECT id FROM audit WHERE tenant_id = '{ALPHA}' UNION ALL SELECT id FROM audit WHERE commit = 1");
    for (sql, expected) in [
        (format!("SELECT id FROM audit WHERE tenant_id = '{ALPHA}'"), within(some(&[ALPHA]), None)),
        (format!("SELECT id FROM audit WHERE '{BETA}' = tenant_id AND id > 'a'"), within(some(&[BETA]), None)),
        (format!("SELECT id FROM audit WHERE tenant_id IN ('{ALPHA}', '{BETA}')"), within(some(&[ALPHA, BETA]), None)),
        (format!("SELECT id FROM audit WHERE tenant_id = '{ALPHA}' OR id = 'b1'"), Extent::EVERYTHING),
        (format!("SELECT id FROM audit WHERE tenant_id <> '{ALPHA}'"), Extent::EVERYTHING),
        (format!("SELECT id FROM audit WHERE NOT tenant_id IN ('{ALPHA}')"), Extent::EVERYTHING),
        (format!("SELECT id FROM audit WHERE upper(tenant_id) = '{ALPHA}'"), Extent::EVERYTHING),
        ("SELECT id FROM audit".to_owned(), Extent::EVERYTHING),
        ("SELECT count(*) FROM audit WHERE creation_time IS NULL".to_owned(), Extent::EVERYTHING),
        (
            "SELECT id FROM audit WHERE creation_time >= '2026-03-05' OR creation_time IS NULL".to_owned(),
            Extent::EVERYTHING,
        ),
        ("SELECT id FROM audit WHERE creation_time > '2026-03-05'".to_owned(), within(None, Some(FIFTH..=i64::MAX))),
        (
            "SELECT id FROM audit WHERE creation_time <= TIMESTAMP '2026-03-05T00:00:00.5'".to_owned(),
            within(None, Some(i64::MIN..=FIFTH)),
        ),
        (
            "SELECT id FROM audit WHERE creation_time::date = '2026-03-05'".to_owned(),
            within(None, Some(FIFTH..=FIFTH + DAY - 1)),
        ),
        (
            "SELECT id FROM audit WHERE creation_time >= '2026-03-05' AND creation_time < '2026-03-06'".to_owned(),
            within(None, Some(FIFTH..=FIFTH + DAY)),
        ),
        (
            "SELECT id FROM audit WHERE creation_time < '2026-03-05' AND user_id LIKE 'a%' \
             OR creation_time BETWEEN '2026-03-04' AND '2026-03-06'"
                .to_owned(),
            within(None, Some(i64::MIN..=FIFTH + DAY)),
        ),
        (both, within(some(&[ALPHA, BETA]), Some(i64::MIN..=FIFTH + DAY))),
        (union, Extent::EVERYTHING),
        (
            format!(
                "SELECT id FROM audit WHERE user_id IN (SELECT user_id FROM audit WHERE tenant_id = '{BETA}') \
                     AND tenant_id = '{ALPHA}'"
            ),
            within(some(&[ALPHA, BETA]), None),
        ),
        (
            format!("WITH x AS (SELECT * FROM audit WHERE tenant_id = '{BETA}') SELECT count(*) FROM x"),
            within(some(&[BETA]), None),
        ),
    ] {
        let (asked, rows) = extent_of(&fixture, &sql).await;
        assert_eq!(asked.as_ref(), Some(&expected), "{sql}");
        assert_eq!(
            rows.lines().skip(1).collect::<BTreeSet<_>>(),
            fixture.rows(&sql).await.iter().map(String::as_str).collect(),
            "{sql}"
        );
    }
    for sql in [
        "SELECT 1",
        "SHOW TABLES",
        "SELECT id FROM audit WHERE tenant_id = 'nobody'",
        "SELECT id FROM audit WHERE false",
    ] {
        assert_eq!(extent_of(&fixture, sql).await.0, None, "{sql}");
    }
    let (asked, _) =
        extent_of(&fixture, &format!("EXPLAIN ANALYZE SELECT id FROM audit WHERE tenant_id = '{BETA}'")).await;
    assert_eq!(asked, Some(within(some(&[BETA]), None)));
}

#[tokio::test]
async fn counting_rows_opens_nothing() {
    let fixture = usual();
    assert!(opened(&fixture, "SELECT count(*) FROM audit").await.is_empty());
    assert!(opened(&fixture, "SELECT count(*) - count(creation_time) FROM audit").await.is_empty());
    assert_eq!(fixture.rows("SELECT count(*) - count(creation_time) FROM audit").await, ["1"]);
}

#[tokio::test]
async fn a_limit_opens_no_more_files_than_it_needs() {
    let fixture = usual();
    assert_eq!(opened(&fixture, "SELECT id FROM audit LIMIT 2").await.len(), 1);
    assert_eq!(fixture.rows("SELECT id FROM audit LIMIT 2").await.len(), 2);
    assert_eq!(opened(&fixture, "SELECT id FROM audit LIMIT 3").await.len(), 2);
    assert_eq!(fixture.rows("SELECT id FROM audit LIMIT 3 OFFSET 3").await.len(), 3);
    assert_eq!(fixture.rows("SELECT id FROM audit WHERE workload = 'Exchange' LIMIT 2").await.len(), 2);
    assert_eq!(fixture.rows("SELECT id FROM audit LIMIT 100").await.len(), 7);
    assert!(opened(&fixture, "SELECT id FROM audit LIMIT 0").await.is_empty());
}

/// Records whose text does not compress well, so that reading it shows.
fn noisy_records(count: usize, bytes: usize) -> Vec<String> {
    let mut seed = 7_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{seed:016x}")
    };
    let record = |number: usize| {
        let noise: String = (0..bytes / 16).map(|_| noise()).collect();
        let operation = number % 7;
        format!(r#"{{"Id":"{number}","CreationTime":"2026-03-04T10:00:00","Operation":"o{operation}","X":"{noise}"}}"#)
    };
    (0..count).map(record).collect()
}

#[tokio::test]
async fn large_records_come_in_small_batches() {
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 1, &noisy_records(400, 12_000));
    let first = async |sql: &str| fixture.query(sql).await.unwrap().next_batch().await.unwrap().unwrap().num_rows();
    assert_eq!(first("SELECT id, operation FROM audit").await, 400);
    let rows = first("SELECT raw FROM audit").await;
    assert!((64..350).contains(&rows), "{rows}");
}

#[tokio::test]
async fn raw_is_not_read_unless_it_is_asked_for() {
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 1, &noisy_records(400, 1000));
    let (engine, store) = fixture.counting_engine();
    let bytes = async |sql: &str| {
        let rows = engine.query(fixture.manifest(), sql).await.unwrap();
        write_results(rows, Format::Csv, &mut Vec::new()).await.unwrap();
        store.take().into_values().sum::<u64>()
    };
    let footer = bytes("SELECT count(*) FROM audit WHERE operation = 'o1'").await;
    let narrow = bytes("SELECT operation, count(*) FROM audit GROUP BY 1").await;
    let wide = bytes("SELECT max(raw) FROM audit").await;
    assert!(wide > 100_000, "{wide}");
    // 64 KiB for the footer and a column, each from the beginning of its block to the end.
    assert!(narrow < 20_000 && footer < 120_000, "{narrow} {footer}");
}

#[tokio::test]
async fn one_record_or_user_or_address_is_ruled_out_of_a_merged_segment_without_reading_the_column() {
    const RECORDS: u64 = 20_000;
    let mixed =
        |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let record = |number: u64| {
        let (id, user, address) = (mixed(number), mixed(!number), mixed(number ^ 0x5555));
        format!(
            r#"{{"Id":"{id:016x}","CreationTime":"2026-03-04T10:00:00","UserId":"{user:016x}","ClientIP":"{address:016x}"}}"#
        )
    };
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 1, &(0..RECORDS).map(record).collect::<Vec<_>>());
    fixture.segments = fixture.archive.merge(&fixture.segments, 2, &|| false).unwrap();
    let (engine, store) = fixture.counting_engine();
    let asked = async |column: &str, value: u64| {
        let sql = format!("SELECT record_type, {column} FROM audit WHERE {column} = '{value:016x}'");
        let rows = engine.query(fixture.manifest(), &sql).await.unwrap();
        let rows = write_results(rows, Format::Csv, &mut Vec::new()).await.unwrap().rows;
        (rows, store.take().into_values().sum::<u64>())
    };
    // The footer stays in memory from here on.
    asked("id", 0).await;
    let columns: [(&str, &dyn Fn(u64) -> u64); 3] =
        [("id", &mixed), ("user_id", &|number| mixed(!number)), ("client_ip", &|number| mixed(number ^ 0x5555))];
    for (column, value_of) in columns {
        for number in [0, 777, RECORDS - 1] {
            let (rows, bytes) = asked(column, value_of(number)).await;
            assert_eq!(rows, 1, "{column} {number}");
            assert!(bytes > 150_000, "{column}: {bytes} bytes are not the column");
        }
        let mut in_vain = 0;
        for number in RECORDS..RECORDS + 10 {
            let (rows, bytes) = asked(column, value_of(number)).await;
            assert_eq!(rows, 0, "{column} {number}");
            in_vain += u32::from(bytes > 100_000);
        }
        // The values are fixed, and so is the answer: of ten one at most is taken for there.
        assert!(in_vain <= 1, "{column}: {in_vain} of 10 read the column");
    }
}

#[tokio::test]
async fn the_footers_of_the_next_query_come_from_memory() {
    let fixture = usual();
    let (engine, store) = fixture.counting_engine();
    let sql = "SELECT id FROM audit WHERE operation = 'nothing is called so'";
    let first = write_results(engine.query(fixture.manifest(), sql).await.unwrap(), Format::Csv, &mut Vec::new()).await;
    assert_eq!(first.unwrap().rows, 0);
    let first = store.take().into_values().sum::<u64>();
    let second =
        write_results(engine.query(fixture.manifest(), sql).await.unwrap(), Format::Csv, &mut Vec::new()).await;
    assert_eq!(second.unwrap().rows, 0);
    let second = store.take().into_values().sum::<u64>();
    assert!(second * 2 < first, "{second} of {first}");
}

#[tokio::test]
async fn the_newest_rows_are_found_without_opening_every_file() {
    let mut fixture = Fixture::empty();
    for day in 1..=20 {
        let record = format!(r#"{{"Id":"{day}","CreationTime":"2026-03-{day:02}T10:00:00"}}"#);
        fixture.commit(ALPHA, day, &[record]);
    }
    let files = opened(&fixture, "SELECT id, creation_time FROM audit ORDER BY creation_time DESC LIMIT 1").await;
    assert!(files.len() < 10, "{files:?}");
    assert_eq!(fixture.rows("SELECT id FROM audit ORDER BY creation_time DESC LIMIT 1").await, ["20"]);
}

#[tokio::test]
async fn the_caller_is_told_how_much_was_ruled_out() {
    let fixture = usual();
    let (_, written) = fixture.write(&format!("SELECT id FROM audit WHERE tenant_id = '{ALPHA}'"), Format::Csv).await;
    assert_eq!((written.rows, written.segments, written.candidate_segments), (4, 6, 3));
    let plan = fixture.rows("EXPLAIN SELECT id FROM audit WHERE creation_time >= '2026-03-06'").await;
    assert_eq!(plan.last().unwrap(), "segments,\"2 of 6 can hold matching rows by tenant, time and commit\"");
    assert!(plan.iter().any(|line| line.contains("DataSourceExec")), "{plan:?}");
    let plan = fixture.rows("EXPLAIN ANALYZE SELECT id FROM audit WHERE creation_time >= '2026-03-06'").await;
    assert!(plan.iter().any(|line| line.contains("output_rows=2")), "{plan:?}");
}
