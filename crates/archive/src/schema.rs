//! The columns of the archive and how each is laid down in Parquet.
//!
//! Names, order and types are a contract with every reader (DESIGN §5): never changed, only appended to.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

/// The column names, in the order they lie in the file.
pub const COLUMNS: [&str; 22] = [
    "tenant_id",
    "content_type",
    "content_id",
    "id",
    "creation_time",
    "record_type",
    "record_type_name",
    "operation",
    "workload",
    "user_id",
    "user_key",
    "user_type",
    "organization_id",
    "object_id",
    "client_ip",
    "result_status",
    "app_id",
    "session_id",
    "raw",
    "ingested_at",
    "commit",
    "variant",
];

/// Position of a column in [`COLUMNS`], for readers that project.
pub(crate) mod position {
    pub(crate) const CONTENT_TYPE: usize = 1;
    pub(crate) const CONTENT_ID: usize = 2;
    pub(crate) const ID: usize = 3;
    pub(crate) const CREATION_TIME: usize = 4;
    pub(crate) const RAW: usize = 18;
    pub(crate) const COMMIT: usize = 20;
    /// Segments written before variants were marked end without it.
    pub(crate) const VARIANT: usize = 21;
}

/// Raw bytes after which a row group is closed: what a reader of whole row groups has to hold, and more than enough for
/// compression and statistics to work.
pub(crate) const ROW_GROUP_RAW_BYTES: usize = 16 << 20;

/// Columns of which a segment has some dozen different values at most.
const FEW_VALUES: [&str; 7] =
    ["record_type", "record_type_name", "operation", "workload", "user_type", "organization_id", "result_status"];

/// How hard zstd tries on `raw`: twice the time would buy a few per cent.
pub(crate) const ZSTD_LEVEL: i32 = 3;

/// The footer's name for the sum of the body digests of all rows (see [`crate::keys::Fingerprint`]).
pub(crate) const FINGERPRINT_KEY: &str = "tenantry.fingerprint";
/// The footer's mark of a file whose rows are in order of `creation_time`.
pub(crate) const SORTED_KEY: &str = "tenantry.sorted";

/// The Arrow schema of a segment. Times are microseconds in UTC; everything a record may lack is nullable.
pub fn arrow_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = COLUMNS.map(|name| match name {
            "tenant_id" | "content_type" | "content_id" | "raw" => Field::new(name, DataType::Utf8, false),
            "creation_time" => Field::new(name, time(), true),
            "ingested_at" => Field::new(name, time(), false),
            "record_type" | "user_type" => Field::new(name, DataType::Int32, true),
            "commit" => Field::new(name, DataType::Int64, false),
            // Null in rows that come from segments written before there was this column.
            "variant" => Field::new(name, DataType::Boolean, true),
            _ => Field::new(name, DataType::Utf8, true),
        });
        Arc::new(Schema::new(fields.to_vec()))
    });
    Arc::clone(&SCHEMA)
}

/// Columns by one value of which an investigation asks for weeks of records, most of whose row groups do not hold it.
const SOUGHT: [&str; 3] = ["id", "user_id", "client_ip"];

/// Different values of a row group that a filter is laid out for; what it does not need is folded away when the row group ends.
/// A row group of [`ROW_GROUP_RAW_BYTES`] has about ten thousand rows; where records are much smaller there are more of them,
/// and the filter errs more often.
const BLOOM_VALUES_MAX: u64 = 1 << 16;

/// Row groups read in vain, of those that do not hold the value. A filter takes 10 bits for each value then.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// How the columns beside `raw` are encoded: dictionaries except where values do not repeat, zstd where they leave something
/// over, statistics for each page. `raw` is encoded by [`crate::raw_column`]. `sought` adds bloom filters to the columns of
/// [`SOUGHT`].
pub(crate) fn writer_properties(metadata: Vec<KeyValue>, sought: bool) -> WriterProperties {
    // What dictionaries leave over does not get smaller by trying harder.
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let id = || ColumnPath::from("id");
    let mut properties = WriterProperties::builder();
    // One value for a whole content or segment, or few values, of which a dictionary leaves some bits a row; and the column
    // that is not written by this writer. A compressor each, made anew for every row group, would only cost.
    for name in ["tenant_id", "content_type", "raw", "ingested_at", "commit", "variant"].into_iter().chain(FEW_VALUES) {
        properties = properties.set_column_compression(ColumnPath::from(name), Compression::UNCOMPRESSED);
    }
    for name in SOUGHT.into_iter().filter(|_| sought) {
        properties = properties
            .set_column_bloom_filter_max_ndv(ColumnPath::from(name), BLOOM_VALUES_MAX)
            .set_column_bloom_filter_fpp(ColumnPath::from(name), BLOOM_FALSE_POSITIVES);
    }
    properties
        // Version 1 pages: the newer ones are still read wrongly or not at all by some engines.
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("tenantry ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_key_value_metadata(Some(metadata))
        .set_statistics_enabled(EnabledStatistics::Page)
        // Ids do not repeat.
        .set_column_dictionary_enabled(id(), false)
        .set_column_encoding(id(), Encoding::PLAIN)
        // Nor do they lie in any order: the least and the greatest of some thousand rule nothing out.
        .set_column_statistics_enabled(id(), EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from("session_id"), EnabledStatistics::None)
        // A dictionary that grows beyond this holds values that hardly repeat.
        .set_dictionary_page_size_limit(256 << 10)
        .set_data_page_size_limit(256 << 10)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_name_their_columns() {
        let named = [
            (position::CONTENT_TYPE, "content_type"),
            (position::CONTENT_ID, "content_id"),
            (position::ID, "id"),
            (position::CREATION_TIME, "creation_time"),
            (position::RAW, "raw"),
            (position::COMMIT, "commit"),
            (position::VARIANT, "variant"),
        ];
        for (position, name) in named {
            assert_eq!(COLUMNS[position], name);
            assert_eq!(arrow_schema().field(position).name(), name);
        }
    }
}
