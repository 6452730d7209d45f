//! The column `raw` of one row group, encoded by hand: a record is copied once, into the page it is compressed in.
//!
//! The general writer copies every value four times on its way through builder, page and buffer, and `raw` is nearly all
//! of a segment's bytes. What comes out is the plainest Parquet there is: PLAIN values in version 1 pages, zstd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::schema::ZSTD_LEVEL;

/// Bytes after which a page is closed. Larger pages compress better, but who reads one record decompresses one page.
const PAGE_BYTES: usize = 1 << 20;

/// The compressor, shared by all segments that one commit has open: its tables take more memory than a page, and making
/// them more time than a small commit. Dropped, it goes back to the idle ones.
pub(crate) struct RawCompressor {
    /// Taken by the drop only.
    tools: Option<Tools>,
    idle: Arc<IdleCompressors>,
}

struct Tools {
    zstd: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
    /// Pages of columns that have ended, for those that begin.
    pages: Vec<Vec<u8>>,
}

/// Pages kept by one compressor: as many as one commit commonly has segments open.
const PAGES_KEPT: usize = 2;

/// Compressors that nobody uses at the moment.
#[derive(Default)]
pub(crate) struct IdleCompressors(Mutex<Vec<Tools>>);

impl IdleCompressors {
    /// As many as commits commonly run side by side; each holds 4 to 6 MiB.
    const KEPT: usize = 4;

    pub(crate) fn take(self: &Arc<Self>) -> Result<RawCompressor> {
        let idle = self.lock().pop();
        let tools = match idle {
            Some(tools) => tools,
            None => {
                let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(external)?;
                Tools { zstd, compressed: Vec::new(), pages: Vec::new() }
            }
        };
        Ok(RawCompressor { tools: Some(tools), idle: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tools>> {
        // Whatever panicked while it was locked, the vector is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RawCompressor {
    fn compress(&mut self, page: &[u8]) -> Result<Bytes> {
        let Tools { zstd, compressed, .. } = self.tools();
        compressed.clear();
        compressed.reserve(zstd::zstd_safe::compress_bound(page.len()));
        zstd.compress_to_buffer(page, compressed).map_err(external)?;
        Ok(Bytes::from(std::mem::take(compressed)))
    }

    /// Takes the buffer of [`Self::compress`] back, if nobody else holds it.
    fn recycle(&mut self, compressed: Bytes) {
        let Ok(buffer) = compressed.try_into_mut() else { return };
        let mut buffer = Vec::from(buffer);
        // After a record of many MiB, back to what ordinary pages take.
        buffer.clear();
        buffer.shrink_to(2 * PAGE_BYTES);
        self.tools().compressed = buffer;
    }

    fn take_page(&mut self) -> Vec<u8> {
        self.tools().pages.pop().unwrap_or_default()
    }

    fn give_page(&mut self, mut page: Vec<u8>) {
        page.clear();
        let pages = &mut self.tools().pages;
        if pages.len() < PAGES_KEPT && (1..=2 * PAGE_BYTES).contains(&page.capacity()) {
            pages.push(page);
        }
    }

    fn tools(&mut self) -> &mut Tools {
        self.tools.as_mut().expect("taken by the drop only")
    }
}

impl Drop for RawCompressor {
    fn drop(&mut self) {
        let mut idle = self.idle.lock();
        if let Some(tools) = self.tools.take()
            && idle.len() < IdleCompressors::KEPT
        {
            idle.push(tools);
        }
    }
}

/// The column chunk under way.
pub(crate) struct RawColumn {
    column: ColumnDescPtr,
    page: Vec<u8>,
    page_rows: u32,
    page_raw_bytes: i64,
    chunk: TrackedWrite<Vec<u8>>,
    offsets: OffsetIndexBuilder,
    pages: i32,
    rows: u64,
    raw_bytes: i64,
    uncompressed_bytes: i64,
}

impl RawColumn {
    pub(crate) fn new(column: ColumnDescPtr) -> Self {
        Self {
            column,
            page: Vec::new(),
            page_rows: 0,
            page_raw_bytes: 0,
            chunk: TrackedWrite::new(Vec::new()),
            offsets: OffsetIndexBuilder::new(),
            pages: 0,
            rows: 0,
            raw_bytes: 0,
            uncompressed_bytes: 0,
        }
    }

    /// Adds a record, which is UTF-8.
    pub(crate) fn push(&mut self, raw: &[u8], compressor: &mut RawCompressor) -> Result<()> {
        let length = u32::try_from(raw.len()).map_err(external)?;
        if !self.page.is_empty() && self.page.len() + 4 + raw.len() > PAGE_BYTES {
            self.flush_page(compressor)?;
        }
        if self.page.capacity() == 0 {
            self.page = compressor.take_page();
        }
        self.reserve(4 + raw.len());
        self.page.extend_from_slice(&length.to_le_bytes());
        self.page.extend_from_slice(raw);
        self.page_rows += 1;
        self.page_raw_bytes += i64::from(length);
        Ok(())
    }

    /// Grows the page by doubling like any vector, but never beyond the size of a full page for less than that.
    fn reserve(&mut self, more: usize) {
        let needed = self.page.len() + more;
        if self.page.capacity() < needed {
            let wanted = (2 * self.page.capacity()).min(PAGE_BYTES).max(needed);
            self.page.reserve_exact(wanted - self.page.len());
        }
    }

    /// Bytes of records added.
    pub(crate) fn raw_bytes(&self) -> usize {
        usize::try_from(self.raw_bytes + self.page_raw_bytes).unwrap_or(usize::MAX)
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.page.capacity() + self.chunk.inner().capacity()
    }

    /// Completes the chunk: its bytes and what the row group has to know of them. The column is empty afterwards.
    pub(crate) fn finish(&mut self, compressor: &mut RawCompressor) -> Result<(Bytes, ColumnCloseResult)> {
        self.flush_page(compressor)?;
        compressor.give_page(std::mem::take(&mut self.page));
        let done = std::mem::replace(self, Self::new(self.column.clone()));
        let bytes_written = done.chunk.bytes_written() as u64;
        let statistics =
            PageEncodingStats { page_type: PageType::DATA_PAGE, encoding: Encoding::PLAIN, count: done.pages };
        let metadata = ColumnChunkMetaData::builder(done.column)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_encodings_mask(EncodingMask::new_from_encodings([Encoding::PLAIN, Encoding::RLE].iter()))
            .set_page_encoding_stats(vec![statistics])
            .set_total_compressed_size(i64::try_from(bytes_written).map_err(external)?)
            .set_total_uncompressed_size(done.uncompressed_bytes)
            .set_num_values(i64::try_from(done.rows).map_err(external)?)
            .set_data_page_offset(0)
            .set_unencoded_byte_array_data_bytes(Some(done.raw_bytes))
            .build()?;
        let close = ColumnCloseResult {
            bytes_written,
            rows_written: done.rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(done.offsets.build()),
        };
        Ok((Bytes::from(done.chunk.into_inner()?), close))
    }

    fn flush_page(&mut self, compressor: &mut RawCompressor) -> Result<()> {
        if self.page_rows == 0 {
            return Ok(());
        }
        let compressed = compressor.compress(&self.page)?;
        let page = Page::DataPage {
            buf: compressed.clone(),
            num_values: self.page_rows,
            encoding: Encoding::PLAIN,
            // Every record has bytes, so there are no levels; readers expect the name of an encoding all the same.
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, self.page.len());
        let written = SerializedPageWriter::new(&mut self.chunk).write_page(page)?;
        compressor.recycle(compressed);
        self.offsets.append_row_count(i64::from(self.page_rows));
        let length = i32::try_from(written.compressed_size).map_err(external)?;
        self.offsets.append_offset_and_size(i64::try_from(written.offset).map_err(external)?, length);
        self.offsets.append_unencoded_byte_array_data_bytes(Some(self.page_raw_bytes));
        self.uncompressed_bytes += i64::try_from(written.uncompressed_size).map_err(external)?;
        self.pages += 1;
        self.rows += u64::from(self.page_rows);
        self.raw_bytes += self.page_raw_bytes;
        (self.page_rows, self.page_raw_bytes) = (0, 0);
        self.page.clear();
        self.page.shrink_to(2 * PAGE_BYTES);
        Ok(())
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}
