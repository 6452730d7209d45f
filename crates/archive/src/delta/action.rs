//! The actions of a log: what each says, as a line of JSON, and back. Pure.
//!
//! Never refuses what it does not know: other writers may add fields and actions, and readers pass over them.

use std::time::Duration;

use arrow::datatypes::DataType;
use protocol::ids::TenantId;
use protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::arrow_schema;

/// The version of the protocol that a reader must know.
pub(super) const READER_VERSION: i64 = 1;
/// The version of the protocol that another writer must know. With 2, files cannot be but what we write.
pub(super) const WRITER_VERSION: i64 = 2;

/// The partition column.
pub(super) const DATE: &str = "date";

/// One change of a table's state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Who did what, for a person.
    Info { operation: &'static str, at: i64 },
    /// What readers and writers must know.
    Protocol { reader: i64, writer: i64 },
    /// Schema, partition columns, id.
    Metadata(Metadata),
    /// How far a publisher has come.
    Txn(Txn),
    /// A file is part of the table.
    Add { path: String, add: Add },
    /// A file is so no more.
    Remove { path: String, at: i64, data_change: bool },
}

/// What a table is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metadata {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) schema: String,
    pub(super) partition_columns: Vec<String>,
    pub(super) configuration: Vec<(String, String)>,
    pub(super) created: Option<i64>,
}

/// How far a publisher has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Txn {
    pub(super) publisher: String,
    pub(super) version: i64,
    pub(super) at: Option<i64>,
}

/// A file that is part of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Add {
    /// The value of the partition column.
    pub(super) date: Option<String>,
    pub(super) bytes: u64,
    pub(super) modified: i64,
    pub(super) data_change: bool,
    /// From its statistics.
    pub(super) rows: Option<u64>,
    /// JSON text, as it was written; not kept in memory for long.
    pub(super) stats: Option<Box<str>>,
}

/// Milliseconds of the Unix epoch, in which logs count.
pub(super) fn milliseconds(time: Timestamp) -> i64 {
    time.timestamp_millis()
}

/// A whole entry: a line for each action.
pub(super) fn lines(actions: &[Action]) -> String {
    let mut text = String::new();
    for action in actions {
        text.push_str(&action.to_json().to_string());
        text.push('\n');
    }
    text
}

/// The actions of an entry, without those that say nothing about the state.
///
/// # Errors
/// A fragment that says what is wrong.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Action>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut actions = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let json: Value = serde_json::from_str(line).map_err(|_| format!("its line {number} is not JSON"))?;
        actions.extend(Action::of_json(&json).map_err(|field| format!("its line {number} lacks {field}"))?);
    }
    Ok(actions)
}

impl Action {
    fn to_json(&self) -> Value {
        match self {
            Self::Info { operation, at } => json!({ "commitInfo": {
                "timestamp": at, "operation": operation, "operationParameters": {},
                "engineInfo": concat!("tenantry/", env!("CARGO_PKG_VERSION")),
            }}),
            Self::Protocol { reader, writer } => {
                json!({ "protocol": { "minReaderVersion": reader, "minWriterVersion": writer } })
            }
            Self::Metadata(of) => {
                let configuration: Map<String, Value> =
                    of.configuration.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
                json!({ "metaData": {
                    "id": of.id, "name": of.name, "description": of.description,
                    "format": { "provider": "parquet", "options": {} },
                    "schemaString": of.schema, "partitionColumns": of.partition_columns,
                    "configuration": configuration, "createdTime": of.created,
                }})
            }
            Self::Txn(Txn { publisher, version, at }) => {
                json!({ "txn": { "appId": publisher, "version": version, "lastUpdated": at } })
            }
            Self::Add { path, add } => json!({ "add": {
                "path": path, "partitionValues": { DATE: add.date }, "size": add.bytes,
                "modificationTime": add.modified, "dataChange": add.data_change, "stats": add.stats,
            }}),
            Self::Remove { path, at, data_change } => json!({ "remove": {
                "path": path, "deletionTimestamp": at, "dataChange": data_change,
            }}),
        }
    }

    /// `None` for one that says nothing about the state.
    fn of_json(json: &Value) -> Result<Option<Self>, &'static str> {
        let Some((kind, of)) = json.as_object().and_then(|object| object.iter().next()) else {
            return Err("an action");
        };
        let text = |key| of.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key| of.get(key).and_then(Value::as_i64);
        Ok(Some(match kind.as_str() {
            "protocol" => Self::Protocol {
                reader: number("minReaderVersion").ok_or("minReaderVersion")?,
                writer: number("minWriterVersion").ok_or("minWriterVersion")?,
            },
            "metaData" => Self::Metadata(Metadata {
                id: text("id").ok_or("id")?,
                name: text("name"),
                description: text("description"),
                schema: text("schemaString").ok_or("schemaString")?,
                partition_columns: texts(of.get("partitionColumns")),
                configuration: pairs(of.get("configuration")),
                created: number("createdTime"),
            }),
            "txn" => Self::Txn(Txn {
                publisher: text("appId").ok_or("appId")?,
                version: number("version").ok_or("version")?,
                at: number("lastUpdated"),
            }),
            "add" => {
                let stats = text("stats").map(String::into_boxed_str);
                let values = pairs(of.get("partitionValues"));
                let add = Add {
                    date: values.into_iter().find(|(key, _)| key == DATE).map(|(_, value)| value),
                    bytes: of.get("size").and_then(Value::as_u64).ok_or("size")?,
                    modified: number("modificationTime").unwrap_or_default(),
                    data_change: of.get("dataChange").and_then(Value::as_bool).unwrap_or(true),
                    rows: stats.as_deref().and_then(rows_of),
                    stats,
                };
                Self::Add { path: text("path").ok_or("path")?, add }
            }
            "remove" => Self::Remove {
                path: text("path").ok_or("path")?,
                at: number("deletionTimestamp").unwrap_or_default(),
                data_change: of.get("dataChange").and_then(Value::as_bool).unwrap_or(true),
            },
            _ => return Ok(None),
        }))
    }
}

/// When an entry was written, as its first line says: ours begin so, and an entry may be long. What comes after that line may
/// be cut off anywhere.
pub(super) fn written_at(text: &[u8]) -> Option<i64> {
    let first = text.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice::<Value>(first).ok()?.get("commitInfo")?.get("timestamp")?.as_i64()
}

/// How many records a file has by its statistics.
pub(super) fn rows_of(stats: &str) -> Option<u64> {
    serde_json::from_str::<Value>(stats).ok()?.get("numRecords")?.as_u64()
}

fn texts(json: Option<&Value>) -> Vec<String> {
    let items = json.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn pairs(json: Option<&Value>) -> Vec<(String, String)> {
    let items = json.and_then(Value::as_object).into_iter().flatten();
    items.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl Metadata {
    /// What the table of a tenant is. The id follows from whose it is, so that a log that was made again is the same table's.
    pub(super) fn of(tenant: TenantId, publisher: &str, kept: Duration, now: Timestamp) -> Self {
        let kept = format!("interval {} seconds", kept.as_secs());
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(format!("{publisher} {tenant}").as_bytes()).as_bytes()[..16]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        // Version 8 of RFC 9562: a digest of one's own.
        let id = format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
        Self {
            id,
            name: Some("audit".to_owned()),
            description: Some(format!("Microsoft 365 audit records of tenant {tenant}")),
            schema: schema().to_string(),
            partition_columns: vec![DATE.to_owned()],
            configuration: vec![
                ("delta.deletedFileRetentionDuration".to_owned(), kept.clone()),
                ("delta.logRetentionDuration".to_owned(), kept),
            ],
            created: Some(milliseconds(now)),
        }
    }

    /// Whether it says the same about what is in the table.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.id == other.id
            && self.schema == other.schema
            && self.partition_columns == other.partition_columns
            && self.configuration == other.configuration
    }
}

/// The columns of the archive and the partition column, in Delta's words.
fn schema() -> Value {
    let field = |name: &str, kind: &str, nullable: bool| json!({ "name": name, "type": kind, "nullable": nullable, "metadata": {} });
    let schema = arrow_schema();
    let mut fields: Vec<Value> =
        schema.fields().iter().map(|of| field(of.name(), kind_of(of.data_type()), of.is_nullable())).collect();
    fields.push(field(DATE, "date", true));
    json!({ "type": "struct", "fields": fields })
}

/// Delta's word for a type of the archive's.
fn kind_of(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "boolean",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Timestamp(..) => "timestamp",
        // The archive has no other types; a test says so.
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add() -> Action {
        let stats = r#"{"numRecords":3}"#;
        let add = Add {
            date: Some("2017-12-10".to_owned()),
            bytes: 841_454,
            modified: 1_512_909_768_000,
            data_change: true,
            rows: Some(3),
            stats: Some(stats.into()),
        };
        Action::Add { path: "date=2017-12-10/part-000.gz.parquet".to_owned(), add }
    }

    #[test]
    fn what_the_specification_shows_is_understood() {
        // PROTOCOL.md, "Add File and Remove File", "Transaction Identifiers", "Protocol Evolution", "Change Metadata".
        let text = br#"{"commitInfo":{"timestamp":1515491537026,"userId":"100121","operation":"INSERT","operationParameters":{"mode":"Append","partitionBy":"[]"}}}
{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"af23c9d7-fff1-4a5a-a2c8-55c59bd782aa","format":{"provider":"parquet","options":{}},"schemaString":"...","partitionColumns":[],"configuration":{"appendOnly":"true"}}}
{"txn":{"appId":"3ba13872-2d47-4e17-86a0-21afd2a22395","version":364475}}
{"add":{"path":"date=2017-12-10/part-000.gz.parquet","partitionValues":{"date":"2017-12-10"},"size":841454,"modificationTime":1512909768000,"dataChange":true,"baseRowId":4071,"defaultRowCommitVersion":41,"stats":"{\"numRecords\":3}"}}
{"remove":{"path":"part-00001-9.snappy.parquet","deletionTimestamp":1515488792485,"baseRowId":4071,"defaultRowCommitVersion":41,"dataChange":true}}
{"somethingNew":{"path":"x"}}
"#;
        let actions = parse(text).unwrap();
        let [protocol, metadata, txn, added, removed] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(*protocol, Action::Protocol { reader: 1, writer: 2 });
        let Action::Metadata(metadata) = metadata else { panic!("{metadata:?}") };
        assert_eq!(metadata.configuration, [("appendOnly".to_owned(), "true".to_owned())]);
        let publisher = "3ba13872-2d47-4e17-86a0-21afd2a22395".to_owned();
        assert_eq!(*txn, Action::Txn(Txn { publisher, version: 364_475, at: None }));
        assert_eq!(*added, add());
        let path = "part-00001-9.snappy.parquet".to_owned();
        assert_eq!(*removed, Action::Remove { path, at: 1_515_488_792_485, data_change: true });
        assert_eq!(written_at(text), Some(1_515_491_537_026));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let now = protocol::time::parse_timestamp("2026-03-04T05:06:07Z").unwrap();
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let actions = vec![
            Action::Protocol { reader: READER_VERSION, writer: WRITER_VERSION },
            Action::Metadata(Metadata::of(tenant, "ledger", Duration::from_secs(60), now)),
            Action::Txn(Txn { publisher: "ledger".to_owned(), version: 7, at: Some(8) }),
            add(),
            Action::Remove { path: "x".to_owned(), at: 9, data_change: false },
        ];
        let text = lines(&actions);
        assert_eq!(text.lines().count(), actions.len());
        assert_eq!(parse(text.as_bytes()).unwrap(), actions);
    }

    #[test]
    fn a_torn_entry_is_told_from_a_whole_one() {
        let text = lines(&[add()]);
        assert_eq!(parse(&text.as_bytes()[..text.len() / 2]).unwrap_err(), "its line 1 is not JSON");
        assert_eq!(parse(br#"{"add":{"size":1}}"#).unwrap_err(), "its line 1 lacks path");
    }

    #[test]
    fn every_column_of_the_archive_has_its_type_and_the_date_is_the_partition() {
        let schema = schema();
        let fields = schema["fields"].as_array().unwrap();
        assert_eq!(fields.len(), crate::COLUMNS.len() + 1);
        let kind = |name: &str| fields.iter().find(|field| field["name"] == name).unwrap()["type"].clone();
        assert_eq!(kind("creation_time"), "timestamp");
        assert_eq!(kind("record_type"), "integer");
        assert_eq!(kind("commit"), "long");
        assert_eq!(kind("variant"), "boolean");
        assert_eq!(kind("raw"), "string");
        assert_eq!(kind("date"), "date");
        for field in arrow_schema().fields() {
            let is_text = matches!(field.data_type(), DataType::Utf8);
            assert_eq!(is_text, kind(field.name()) == "string", "{field}");
        }
    }

    #[test]
    fn a_table_has_an_id_of_its_own_that_is_a_guid() {
        let now = protocol::time::parse_timestamp("2026-03-04T05:06:07Z").unwrap();
        let id = |tenant: &str, ledger: &str| Metadata::of(tenant.parse().unwrap(), ledger, Duration::ZERO, now).id;
        let (one, other) = ("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11", "b0000000-7c39-4f0b-9d6e-2f4f0e0c8a22");
        assert_eq!(id(one, "l"), id(one, "l"));
        assert_ne!(id(one, "l"), id(other, "l"));
        assert_ne!(id(one, "l"), id(one, "m"));
        // As strict a reader of GUIDs as any.
        assert!(id(one, "l").parse::<TenantId>().is_ok());
    }
}
