//! What is written can be read back, and is the same.

use archive::sql::Format;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::fixture::{ALPHA, Fixture, usual};

const ODD: &str = r#"{"Id":"q","CreationTime":"2026-03-04T10:00:00.250","UserId":"tab\tquote\" comma, line\nend","N":12345678901234567890123,"é":"😀"}"#;

fn odd() -> Fixture {
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 9_007_199_254_740_993, &[ODD]);
    fixture
}

const SQL: &str = "SELECT id, creation_time, user_id, user_key, raw, commit, ['a', NULL] AS list, 0.5 AS half, true AS yes, '' AS empty FROM audit";

fn expected() -> Value {
    json!({
        "id": "q",
        "creation_time": "2026-03-04T10:00:00.250Z",
        "user_id": "tab\tquote\" comma, line\nend",
        "user_key": null,
        "raw": ODD,
        "commit": 9_007_199_254_740_993_i64,
        "list": ["a", null],
        "half": 0.5,
        "yes": true,
        "empty": "",
    })
}

#[tokio::test]
async fn json_is_an_array_of_rows_with_every_column() {
    let (out, written) = odd().write(SQL, Format::Json).await;
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json!([expected()]));
    assert_eq!(written.rows, 1);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("[\n{") && text.ends_with("}\n]\n"), "{text}");
}

#[tokio::test]
async fn ndjson_is_one_row_a_line() {
    let (out, _) = odd().write(SQL, Format::Ndjson).await;
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected());
    let (out, _) = usual().write("SELECT id FROM audit", Format::Ndjson).await;
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 7);
}

#[tokio::test]
async fn csv_is_read_back_by_the_rules_of_rfc_4180() {
    let (out, _) = odd().write(SQL, Format::Csv).await;
    let rows = read_csv(&String::from_utf8(out).unwrap());
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0][..3], ["id", "creation_time", "user_id"]);
    let expected = [
        "q",
        "2026-03-04T10:00:00.250Z",
        "tab\tquote\" comma, line\nend",
        "",
        ODD,
        "9007199254740993",
        "[\"a\",null]",
        "0.5",
        "true",
        "",
    ];
    assert_eq!(rows[1], expected);
}

#[tokio::test]
async fn parquet_is_a_file_of_its_own() {
    let (out, _) = odd().write(SQL, Format::Parquet).await;
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(out)).unwrap();
    let schema = reader.schema().clone();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(*schema.field(1).data_type(), time);
    assert_eq!(*schema.field(4).data_type(), DataType::Utf8);
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 1);
    assert_eq!(batch.column(4).as_string::<i32>().value(0), ODD);
    assert_eq!(batch.column(5).as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
    assert!(batch.column(3).is_null(0));
    assert_eq!(batch.column(6).as_list::<i32>().value(0).as_string::<i32>().value(0), "a");
}

#[tokio::test]
async fn every_column_of_the_archive_can_be_written_in_every_format() {
    let fixture = usual();
    let sql = "SELECT *, NULL AS nothing, max(creation_time) OVER () - creation_time AS age, json_keys(raw) AS keys, count(*) OVER () AS n FROM audit";
    for format in [
        Format::Table { width: Some(80) },
        Format::Table { width: None },
        Format::Json,
        Format::Ndjson,
        Format::Csv,
        Format::Parquet,
    ] {
        let (out, written) = fixture.write(sql, format).await;
        assert_eq!(written.rows, 7, "{format:?}");
        assert!(!out.is_empty(), "{format:?}");
    }
}

#[tokio::test]
async fn columns_with_the_same_name_stay_apart() {
    let sql = "SELECT a.id, b.id FROM audit a JOIN audit b ON b.id = 'a2' WHERE a.id = 'a1'";
    let fixture = usual();
    let (out, _) = fixture.write(sql, Format::Ndjson).await;
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json!({"id": "a1", "id_2": "a2"}));
    let (out, _) = fixture.write(sql, Format::Csv).await;
    assert_eq!(out, b"id,id_2\na1,a2\n");
    let (out, _) = fixture.write(sql, Format::Parquet).await;
    assert_eq!(ParquetRecordBatchReaderBuilder::try_new(Bytes::from(out)).unwrap().schema().field(1).name(), "id_2");
}

#[tokio::test]
async fn a_result_without_rows_is_still_valid() {
    let fixture = usual();
    let sql = "SELECT id, commit FROM audit WHERE id = 'none'";
    for (format, expected) in [
        (Format::Json, "[\n]\n"),
        (Format::Ndjson, ""),
        (Format::Csv, "id,commit\n"),
        (Format::Table { width: Some(80) }, "id | commit\n---+-------\n"),
    ] {
        let (out, written) = fixture.write(sql, format).await;
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{format:?}");
        assert_eq!(written.rows, 0);
    }
    let (out, _) = fixture.write(sql, Format::Parquet).await;
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(out)).unwrap();
    assert_eq!(reader.schema().fields().len(), 2);
    assert_eq!(reader.build().unwrap().count(), 0);
}

#[test]
fn formats_are_known_by_name() {
    for (name, format) in [
        ("table", Format::Table { width: None }),
        ("json", Format::Json),
        ("ndjson", Format::Ndjson),
        ("csv", Format::Csv),
        ("parquet", Format::Parquet),
    ] {
        assert_eq!(name.parse::<Format>().unwrap(), format);
    }
    assert_eq!(
        "xml".parse::<Format>().unwrap_err().to_string(),
        "there is no format \"xml\": use table, json, ndjson, csv or parquet"
    );
}

/// A second reading of RFC 4180, by its grammar.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quoted, character) {
            (true, '"') if characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            (true, '"') => quoted = false,
            (true, other) => field.push(other),
            (false, '"') => quoted = true,
            (false, ',') => row.push(std::mem::take(&mut field)),
            (false, '\n') => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            (false, other) => field.push(other),
        }
    }
    assert!(!quoted && field.is_empty() && row.is_empty(), "the last line has no end");
    rows
}
