//! Reading into `raw`.

use std::fmt::Write as _;

use super::fixture::{ALPHA, Fixture, usual};

/// Runs `SELECT expression` over one record and gives the cell; NULL is the empty text.
async fn cell(raw: &str, expression: &str) -> String {
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 1, &[raw]);
    let rows = fixture.rows(&format!("SELECT {expression} FROM audit")).await;
    rows.join("|")
}

const RECORD: &str = r#"{"CreationTime":"2026-03-04T10:00:00","Id":"x","Size":"42","Big":12345678901234567890123,"Float":1024.0,"Half":0.5,"Ok":"True","No":0,"Nothing":null,"Huge":1e400,"ModifiedProperties":[{"Name":"Role","NewValue":"Admin","OldValue":"User"},{"Name":"Other","NewValue":""},"odd",null],"ExtendedProperties":[{"Name":"UserAgent","Value":"curl, \"8\""},{"Key":"k","Value":7},{"Name":"object","Value":{"deep":[1,2]}}],"Data":"{\"f3u\":\"ann\",\"n\":[1,{\"x\":2}]}","odd.name":{"Job ID":1},"Actor":{"ID":"u"},"Twice":1,"Twice":2}"#;

#[tokio::test]
async fn functions_read_what_is_there_and_give_null_for_what_is_not() {
    for (expression, expected) in [
        ("json_text(raw, 'Id')", "x"),
        ("json_get_str(raw, 'id')", "x"),
        ("json_text(raw, '$.ModifiedProperties[0].Name')", "Role"),
        ("json_text(raw, 'ModifiedProperties', 0, 'Name')", "Role"),
        ("json_text(raw, 'ModifiedProperties', -4, 'Name')", "Role"),
        ("json_text(raw, 'ModifiedProperties[9].Name')", ""),
        ("json_text(raw, 'Big')", "12345678901234567890123"),
        ("json_text(raw, 'Nothing')", ""),
        ("json_text(raw, '[''odd.name''].Job ID')", "1"),
        ("json_text(raw, 'Twice')", "2"),
        ("json_text(raw, 'Actor')", "\"{\"\"ID\"\":\"\"u\"\"}\""),
        ("raw ->> 'Id'", "x"),
        ("raw -> 'Id'", "\"\"\"x\"\"\""),
        ("raw -> 'ModifiedProperties' -> 0 ->> 'Name'", "Role"),
        ("raw ->> 'Size'::int + 1", "43"),
        ("raw ->> 'Id' = 'x' AND raw ->> 'Id' || 'y' = 'xy'", "true"),
        ("raw ->> 'Id' IN ('x', 'z')", "true"),
        ("raw ->> 'Id' LIKE 'X'", "false"),
        ("raw ->> 'Missing' IS NULL", "true"),
        ("json_get_int(raw, 'Size')", "42"),
        ("json_get_int(raw, 'Float')", "1024"),
        ("json_get_int(raw, 'Half')", ""),
        ("json_get_int(raw, 'Big')", ""),
        ("json_get_int(raw, 'Actor')", ""),
        ("json_get_float(raw, 'Half')", "0.5"),
        ("json_get_float(raw, 'Size')", "42.0"),
        ("json_get_float(raw, 'Huge')", ""),
        ("json_get_bool(raw, 'Ok')", "true"),
        ("json_get_bool(raw, 'No')", "false"),
        ("json_get_bool(raw, 'Size')", ""),
        ("json_length(raw, 'ModifiedProperties')", "4"),
        ("json_length(raw, 'Actor')", "1"),
        ("json_length(raw, 'Id')", ""),
        ("json_has(raw, 'Nothing')", "true"),
        ("json_contains(raw, 'Missing')", "false"),
        ("json_type(raw, 'Nothing')", "null"),
        ("json_type(raw, 'ModifiedProperties[2]')", "string"),
        ("json_type(raw)", "object"),
        ("json_keys(raw, 'odd.name')", ""),
        ("array_to_string(json_keys(raw, '[''odd.name'']'), ';')", "Job ID"),
        ("array_to_string(json_elements(raw, 'ModifiedProperties'), ';') LIKE '%;\"odd\";null'", "true"),
        ("json_nv(raw, 'ExtendedProperties', 'UserAgent')", "\"curl, \"\"8\"\"\""),
        ("json_nv(raw, 'ExtendedProperties', 'useragent')", "\"curl, \"\"8\"\"\""),
        ("json_nv(raw, 'ExtendedProperties', 'k')", "7"),
        ("json_nv(raw, 'ExtendedProperties', 'object') ->> 'deep[1]'", "2"),
        ("json_nv(raw, 'ExtendedProperties', 'missing')", ""),
        ("json_nv(raw, 'ModifiedProperties', 'Role')", "Admin"),
        ("json_nv(raw, 'ModifiedProperties', 'Role', 'OldValue')", "User"),
        ("json_nv(raw, 'ModifiedProperties', 'Other')", "\"\""),
        ("json_nv(raw, 'Id', 'Role')", ""),
        ("json_nv(raw, 'Actor', 'ID')", "u"),
        ("json_text(json_parse(raw ->> 'Data'), 'f3u')", "ann"),
        ("raw ->> 'Data' ->> 'n[1].x'", "2"),
        ("json_parse('{\"a\":') IS NULL AND json_parse('[1]') = '[1]'", "true"),
        ("json_text(NULL, 'a')", ""),
        ("json_text(raw, NULL)", ""),
        ("json_text(user_id, 'a')", ""),
        ("json_text(id, id)", ""),
        // A path that is data.
        ("json_text(raw, concat('Actor', '.', 'ID'))", "u"),
        ("json_text('{\"x\":5}', id)", "5"),
        ("json_text('{\"x\":5}', id || '[')", ""),
    ] {
        assert_eq!(cell(RECORD, expression).await, expected, "{expression}");
    }
}

#[tokio::test]
async fn the_elements_of_a_list_become_rows() {
    let mut fixture = Fixture::empty();
    fixture.commit(ALPHA, 1, &[RECORD]);
    let sql = "SELECT property ->> 'Name' AS name FROM (SELECT unnest(json_elements(raw, 'ModifiedProperties')) AS property FROM audit) WHERE property -> 'Name' IS NOT NULL";
    assert_eq!(fixture.rows(sql).await, ["Role", "Other"]);
}

#[tokio::test]
async fn one_odd_record_fails_no_query() {
    let mut fixture = usual();
    // Shapes that have been met, and some that have not.
    let odd = [
        r#"{"Id":"o1","ExtendedProperties":"text"}"#,
        r#"{"Id":"o2","ExtendedProperties":[[],1,null,{"Name":5,"Value":null}]}"#,
        r#"{"Id":"o3","ExtendedProperties":{"UserAgent":"object"}}"#,
        "{\"Id\":\"o4\",\"ExtendedProperties\":[{\"Name\":\"UserAgent\",\"Value\":\"\\ud83d\"}]}",
        "{\"Id\":\"o5\",\"Odd\":\"a\tb\u{1}\"}",
        r#"{"Id":"o6"}"#,
    ];
    fixture.commit(ALPHA, 9, &odd);
    let sql = "SELECT json_nv(raw, 'ExtendedProperties', 'UserAgent') AS agent, count(*), count(json_get_int(raw, 'RecordType')), count(json_get_bool(raw, 'ExtendedProperties[0].Value')) FROM audit GROUP BY 1 ORDER BY 1 NULLS LAST";
    assert_eq!(fixture.rows(sql).await, ["curl/8,1,1,0", "object,1,0,0", "\u{fffd},1,0,0", ",10,5,0"]);
}

#[tokio::test]
async fn a_path_written_wrongly_is_told_before_anything_is_read() {
    let fixture = usual();
    for (sql, expected) in [
        ("SELECT json_text(raw, 'a[x]') FROM audit", "a bracket that holds neither a number nor a quoted name"),
        ("SELECT raw ->> 'a..b' FROM audit", "an empty name"),
        ("SELECT json_text(commit, 'a') FROM audit", "reads JSON text such as raw, not Int64"),
        ("SELECT json_nv(raw, 'a') FROM audit", "json_nv does not take 2 arguments"),
        ("SELECT json_text(raw, 1.5) FROM audit", "does not take Float64 as argument 2"),
        ("SELECT json_text() FROM audit", "json_text"),
    ] {
        let error = fixture.error(sql).await;
        assert!(error.to_string().contains(expected), "{sql}: {error}");
        assert!(error.is_usage(), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn every_described_function_exists_and_its_example_runs() {
    let fixture = usual();
    for function in archive::sql::describe() {
        let sql = if function.example.starts_with("SELECT") {
            function.example.to_owned()
        } else {
            format!("SELECT {} FROM audit", function.example)
        };
        fixture.rows(&sql).await;
        let name = function.usage.split('(').next().unwrap();
        let sql = format!("SELECT count(*) FROM information_schema.routines WHERE routine_name = '{name}'");
        assert_ne!(fixture.rows(&sql).await, ["0"], "{name}");
    }
}

#[tokio::test]
async fn recorded_records_are_read_as_serde_json_reads_them() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/records/elastic-beats.ndjson.zst");
    let Ok(file) = std::fs::File::open(folder) else {
        println!("skipped: {folder} is not there");
        return;
    };
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    let mut fixture = Fixture::empty();
    let records: Vec<&str> = text.lines().collect();
    fixture.commit(ALPHA, 1, &records);
    let mut expected: Vec<String> = records
        .iter()
        .map(|record| {
            let value: serde_json::Value = serde_json::from_str(record).unwrap();
            let text = |value: &serde_json::Value| match value {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let agent = value["ExtendedProperties"].as_array().and_then(|list| {
                list.iter().find(|element| element["Name"] == "UserAgent").map(|element| text(&element["Value"]))
            });
            let mut line = String::new();
            write!(line, "{}|{}|{}", text(&value["Id"]), text(&value["Actor"][0]["ID"]), agent.unwrap_or_default())
                .unwrap();
            line
        })
        .collect();
    let sql = "SELECT concat_ws('|', coalesce(raw ->> 'Id', ''), coalesce(raw ->> 'Actor[0].ID', ''), coalesce(json_nv(raw, 'ExtendedProperties', 'UserAgent'), '')) AS line FROM audit";
    let (json, _) = fixture.write(sql, archive::sql::Format::Ndjson).await;
    let mut found: Vec<String> = String::from_utf8(json)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["line"].as_str().unwrap().to_owned())
        .collect();
    expected.sort();
    expected.dedup();
    found.sort();
    found.dedup();
    assert!(expected.len() > 200, "{}", expected.len());
    assert_eq!(found, expected);
}
