//! A table's state as a Parquet file, so that nobody needs to read its log from the beginning: a classic checkpoint of V1.
//!
//! Never holds a file that the table does not name, nor one that it let go of longer ago than readers go on with a snapshot.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, MapArray, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};

use super::action::{self, Action, Add, DATE, Metadata, READER_VERSION, Txn, WRITER_VERSION};
use super::log::{Log, Name};
use super::table::Table;
use crate::ArchiveError;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;

/// Writes the checkpoint of a whole table, statistics and all.
pub(super) fn write(log: &Log<'_>, table: &Table) -> Result<(), ArchiveError> {
    let Some(version) = table.version() else { return Ok(()) };
    let rows = rows_of(table);
    let data = encode(&rows).map_err(ArchiveError::parquet("write a checkpoint in", &log.place()))?;
    log.write_checkpoint(version, data, rows.len())
}

/// The actions that a checkpoint stands for; an inner error says what is wrong with it.
pub(super) fn read(log: &Log<'_>, version: u64) -> Result<Result<Vec<Action>, String>, ArchiveError> {
    let Some(data) = log.read(&Name::of_checkpoint(version))? else { return Ok(Err("it is missing".to_owned())) };
    Ok(decode(data).map_err(|error| error.to_string()))
}

/// One action, a row of the file.
enum Row<'a> {
    Protocol,
    Metadata(&'a Metadata),
    Txn(&'a Txn),
    Add(&'a str, &'a Add),
    Remove(&'a str, i64),
}

fn rows_of(table: &Table) -> Vec<Row<'_>> {
    let mut rows = vec![Row::Protocol];
    rows.extend(table.metadata.as_ref().map(Row::Metadata));
    rows.extend(table.txn.as_ref().map(Row::Txn));
    rows.extend(table.files.iter().map(|(path, add)| Row::Add(path, add)));
    rows.extend(table.gone.iter().map(|(path, at)| Row::Remove(path, *at)));
    rows
}

fn encode(rows: &[Row<'_>]) -> Result<Bytes, ParquetError> {
    let columns = [
        ("protocol", protocol(rows)?),
        ("metaData", metadata(rows)?),
        ("txn", txn(rows)?),
        ("add", add(rows)?),
        ("remove", remove(rows)?),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, of)| Field::new(*name, of.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.map(|(_, of)| of).to_vec())?;
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("tenantry ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?.into())
}

fn protocol(rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    let version =
        |of: i64| numbers32(rows, move |row| matches!(row, Row::Protocol).then_some(i32::try_from(of).unwrap_or(1)));
    let columns = vec![("minReaderVersion", version(READER_VERSION)), ("minWriterVersion", version(WRITER_VERSION))];
    structs(rows, |row| matches!(row, Row::Protocol), columns)
}

fn metadata(rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    fn of<'a>(row: &Row<'a>) -> Option<&'a Metadata> {
        if let Row::Metadata(of) = row { Some(of) } else { None }
    }
    let format = vec![
        ("provider", texts(rows, |row| of(row).map(|_| "parquet"))),
        ("options", maps(rows, |row| of(row).map(|_| Vec::new()))?),
    ];
    let columns = vec![
        ("id", texts(rows, |row| of(row).map(|of| of.id.as_str()))),
        ("name", texts(rows, |row| of(row)?.name.as_deref())),
        ("description", texts(rows, |row| of(row)?.description.as_deref())),
        ("format", structs(rows, |row| of(row).is_some(), format)?),
        ("schemaString", texts(rows, |row| of(row).map(|of| of.schema.as_str()))),
        ("partitionColumns", lists(rows, |row| of(row).map(|of| of.partition_columns.as_slice()))),
        ("configuration", maps(rows, |row| of(row).map(|of| borrowed(&of.configuration)))?),
        ("createdTime", numbers(rows, |row| of(row)?.created)),
    ];
    structs(rows, |row| of(row).is_some(), columns)
}

fn txn(rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    fn of<'a>(row: &Row<'a>) -> Option<&'a Txn> {
        if let Row::Txn(of) = row { Some(of) } else { None }
    }
    let columns = vec![
        ("appId", texts(rows, |row| of(row).map(|of| of.publisher.as_str()))),
        ("version", numbers(rows, |row| of(row).map(|of| of.version))),
        ("lastUpdated", numbers(rows, |row| of(row)?.at)),
    ];
    structs(rows, |row| of(row).is_some(), columns)
}

fn add(rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    fn of<'a>(row: &Row<'a>) -> Option<(&'a str, &'a Add)> {
        if let Row::Add(path, add) = row { Some((path, add)) } else { None }
    }
    let date =
        |row: &Row<'_>| of(row).map(|(_, add)| add.date.iter().map(|date| (DATE.to_owned(), date.clone())).collect());
    let columns = vec![
        ("path", texts(rows, |row| of(row).map(|(path, _)| path))),
        ("partitionValues", owned_maps(rows, date)?),
        ("size", numbers(rows, |row| of(row).map(|(_, add)| i64::try_from(add.bytes).unwrap_or(i64::MAX)))),
        ("modificationTime", numbers(rows, |row| of(row).map(|(_, add)| add.modified))),
        // A state changes nothing.
        ("dataChange", flags(rows, |row| of(row).map(|_| false))),
        ("stats", texts(rows, |row| of(row)?.1.stats.as_deref())),
    ];
    structs(rows, |row| of(row).is_some(), columns)
}

fn remove(rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    fn of<'a>(row: &Row<'a>) -> Option<(&'a str, i64)> {
        if let Row::Remove(path, at) = row { Some((path, *at)) } else { None }
    }
    let columns = vec![
        ("path", texts(rows, |row| of(row).map(|(path, _)| path))),
        ("deletionTimestamp", numbers(rows, |row| of(row).map(|(_, at)| at))),
        ("dataChange", flags(rows, |row| of(row).map(|_| false))),
    ];
    structs(rows, |row| of(row).is_some(), columns)
}

fn structs(
    rows: &[Row<'_>],
    is: impl Fn(&Row<'_>) -> bool,
    columns: Vec<(&str, ArrayRef)>,
) -> Result<ArrayRef, ArrowError> {
    let fields: Fields =
        columns.iter().map(|(name, of)| Field::new(*name, of.data_type().clone(), true)).collect::<Vec<_>>().into();
    let valid: NullBuffer = rows.iter().map(is).collect::<Vec<bool>>().into();
    let columns = columns.into_iter().map(|(_, of)| of).collect();
    Ok(Arc::new(StructArray::try_new(fields, columns, Some(valid))?))
}

fn texts<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<StringArray>())
}

fn numbers<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Int64Array>())
}

fn numbers32(rows: &[Row<'_>], of: impl Fn(&Row<'_>) -> Option<i32>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Int32Array>())
}

fn flags<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> Option<bool>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<BooleanArray>())
}

fn lists<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> Option<&'a [String]>) -> ArrayRef {
    let field = Field::new("element", DataType::Utf8, true);
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(field);
    for row in rows {
        let list = of(row);
        list.into_iter().flatten().for_each(|text| lists.values().append_value(text));
        lists.append(list.is_some());
    }
    Arc::new(lists.finish())
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn owned_maps(
    rows: &[Row<'_>],
    of: impl Fn(&Row<'_>) -> Option<Vec<(String, String)>>,
) -> Result<ArrayRef, ArrowError> {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        let map = of(row);
        for (key, value) in map.iter().flatten() {
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
        maps.append(map.is_some())?;
    }
    Ok(Arc::new(maps.finish()))
}

fn maps<'a>(
    rows: &[Row<'a>],
    of: impl Fn(&Row<'a>) -> Option<Vec<(&'a str, &'a str)>>,
) -> Result<ArrayRef, ArrowError> {
    // Of these there is one in a file.
    let own =
        |pairs: Vec<(&str, &str)>| pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let all: Vec<Option<Vec<(String, String)>>> = rows.iter().map(|row| of(row).map(own)).collect();
    let mut all = all.into_iter();
    let next = std::cell::RefCell::new(&mut all);
    owned_maps(rows, |_| next.borrow_mut().next().flatten())
}

fn decode(data: Bytes) -> Result<Vec<Action>, ParquetError> {
    // As the file's own schema has the types, whatever the writer had.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(data, options)?;
    let mut actions = Vec::new();
    for batch in reader.with_batch_size(BATCH_ROWS).build()? {
        let batch = batch?;
        let column = |name: &str| Columns::of(batch.column_by_name(name));
        let (protocol, metadata, txn) = (column("protocol"), column("metaData"), column("txn"));
        let (add, remove) = (column("add"), column("remove"));
        for row in 0..batch.num_rows() {
            actions.extend(protocol.at(row).and_then(|of| {
                let version = |name: &str| of.number32(name, row).map(i64::from);
                Some(Action::Protocol { reader: version("minReaderVersion")?, writer: version("minWriterVersion")? })
            }));
            actions.extend(metadata.at(row).and_then(|of| read_metadata(&of, row)));
            actions.extend(txn.at(row).and_then(|of| {
                let (publisher, version) = (of.text("appId", row)?, of.number("version", row)?);
                Some(Action::Txn(Txn { publisher, version, at: of.number("lastUpdated", row) }))
            }));
            actions.extend(add.at(row).and_then(|of| read_add(&of, row)));
            actions.extend(remove.at(row).and_then(|of| {
                let at = of.number("deletionTimestamp", row).unwrap_or_default();
                Some(Action::Remove { path: of.text("path", row)?, at, data_change: false })
            }));
        }
    }
    Ok(actions)
}

fn read_metadata(of: &Columns<'_>, row: usize) -> Option<Action> {
    let mut configuration = of.pairs("configuration", row);
    configuration.sort();
    Some(Action::Metadata(Metadata {
        id: of.text("id", row)?,
        name: of.text("name", row),
        description: of.text("description", row),
        schema: of.text("schemaString", row)?,
        partition_columns: of.list("partitionColumns", row),
        configuration,
        created: of.number("createdTime", row),
    }))
}

fn read_add(of: &Columns<'_>, row: usize) -> Option<Action> {
    let stats = of.text("stats", row).map(String::into_boxed_str);
    let add = Add {
        date: of.pairs("partitionValues", row).into_iter().find(|(key, _)| key == DATE).map(|(_, value)| value),
        bytes: of.number("size", row).and_then(|bytes| u64::try_from(bytes).ok())?,
        modified: of.number("modificationTime", row).unwrap_or_default(),
        data_change: false,
        rows: stats.as_deref().and_then(action::rows_of),
        stats,
    };
    Some(Action::Add { path: of.text("path", row)?, add })
}

/// The fields of one kind of action; none when the file has no such kind.
#[derive(Clone, Copy)]
struct Columns<'a>(Option<&'a StructArray>);

impl<'a> Columns<'a> {
    fn of(column: Option<&'a ArrayRef>) -> Self {
        Self(column.and_then(|column| column.as_struct_opt()))
    }

    /// Itself, if the row is an action of this kind.
    fn at(self, row: usize) -> Option<Self> {
        self.0.is_some_and(|of| of.is_valid(row)).then_some(self)
    }

    fn field(&self, name: &str, row: usize) -> Option<&'a ArrayRef> {
        self.0?.column_by_name(name).filter(|column| column.is_valid(row))
    }

    fn text(&self, name: &str, row: usize) -> Option<String> {
        Some(self.field(name, row)?.as_string_opt::<i32>()?.value(row).to_owned())
    }

    fn number(&self, name: &str, row: usize) -> Option<i64> {
        Some(self.field(name, row)?.as_primitive_opt::<Int64Type>()?.value(row))
    }

    fn number32(&self, name: &str, row: usize) -> Option<i32> {
        Some(self.field(name, row)?.as_primitive_opt::<Int32Type>()?.value(row))
    }

    fn list(&self, name: &str, row: usize) -> Vec<String> {
        let list = self.field(name, row).and_then(|column| Some(column.as_list_opt::<i32>()?.value(row)));
        let texts = list.as_ref().and_then(|list| list.as_string_opt::<i32>());
        texts.into_iter().flatten().flatten().map(str::to_owned).collect()
    }

    fn pairs(&self, name: &str, row: usize) -> Vec<(String, String)> {
        let map = self.field(name, row).and_then(|column| column.as_any().downcast_ref::<MapArray>());
        let Some(entries) = map.map(|map| map.value(row)) else { return Vec::new() };
        let column = |at: usize| entries.columns().get(at).and_then(|column| column.as_string_opt::<i32>());
        let (Some(keys), Some(values)) = (column(0), column(1)) else { return Vec::new() };
        let pairs = keys.iter().zip(values.iter());
        pairs.filter_map(|(key, value)| Some((key?.to_owned(), value?.to_owned()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_table_is_read_back_as_it_was_written() {
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let now = protocol::time::parse_timestamp("2026-03-04T05:06:07Z").unwrap();
        let add = |n: u64| Add {
            date: (n > 0).then(|| format!("2026-03-{n:02}")),
            bytes: n,
            modified: 7,
            data_change: false,
            rows: (n > 1).then_some(n),
            stats: (n > 1).then(|| format!(r#"{{"numRecords":{n}}}"#).into()),
        };
        let mut table = Table::new(tenant);
        let mut actions = vec![
            Action::Protocol { reader: READER_VERSION, writer: WRITER_VERSION },
            Action::Metadata(Metadata::of(tenant, "ledger", Duration::from_secs(60), now)),
            Action::Txn(Txn { publisher: "ledger".to_owned(), version: 7, at: Some(8) }),
        ];
        actions.extend((0..20).map(|n| Action::Add { path: format!("a{n:02}"), add: add(n) }));
        actions.extend((0..20).map(|n| Action::Remove { path: format!("r{n:02}"), at: n, data_change: false }));
        table.apply_whole(3, &actions);
        assert_eq!(decode(encode(&rows_of(&table)).unwrap()).unwrap(), actions);
    }

    #[test]
    fn a_file_takes_few_bytes_in_a_large_checkpoint() {
        const FILES: u64 = 20_000;
        let mut draw = fastrand::Rng::with_seed(1);
        let mut table = Table::new("6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap());
        let adds = (0..FILES).map(|n| {
            let date = format!("20{:02}-{:02}-{:02}", 10 + n / 3000, 1 + n / 250 % 12, 1 + n / 9 % 28);
            let mut bounds = || {
                let mut time = || format!("{date}T{:02}:{:02}:{:02}.{:03}Z", draw.u8(..24), draw.u8(..60), draw.u8(..60), draw.u16(..1000));
                let (created, ingested) = (time(), time());
                format!(
                    r#"{{"commit":{},"content_type":"Audit.{}","creation_time":"{created}","ingested_at":"{ingested}","operation":"Operation{}","record_type":{},"workload":"Workload{}"}}"#,
                    n * 10 + draw.u64(..500), draw.u8(..5), draw.u16(..400), draw.u8(..200), draw.u8(..20),
                )
            };
            let (min, max, rows) = (bounds(), bounds(), draw.u64(1..1_000_000));
            let stats = format!(r#"{{"maxValues":{max},"minValues":{min},"nullCount":{{"commit":0,"creation_time":0,"workload":{}}},"numRecords":{rows}}}"#, draw.u8(..));
            let add = Add {
                bytes: draw.u64(1..128 << 20),
                modified: 1_795_443_077_464 + draw.i64(..86_400_000),
                data_change: false,
                rows: Some(rows),
                stats: Some(stats.into()),
                date: Some(date.clone()),
            };
            Action::Add { path: format!("date={date}/{}-{}.parquet", n * 10, draw.u32(..)), add }
        });
        table.apply_whole(3, &adds.collect::<Vec<_>>());
        let each = encode(&rows_of(&table)).unwrap().len() as u64 / FILES;
        eprintln!("{each} bytes a file");
        // What is read whole has 64 MiB at most: more than 400,000 files.
        assert!(each < 150, "{each} bytes a file");
    }

    #[test]
    fn what_is_no_checkpoint_is_an_error() {
        assert!(decode(Bytes::from_static(b"PAR1 and so on PAR1")).is_err());
    }
}
