//! Rows as RFC 4180 text.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::EncoderOptions;

use super::cells::Cells;
use super::{QueryError, io_error, output_error, unique_names};

/// See [`super::Format::Csv`].
pub(super) struct CsvWriter<'a> {
    out: &'a mut (dyn Write + Send),
    line: String,
}

impl<'a> CsvWriter<'a> {
    /// Writes the header at once, so that an empty result has one.
    pub(super) fn new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Self, QueryError> {
        let mut writer = Self { out, line: String::new() };
        let names = unique_names(schema);
        writer.write_line(names.fields().iter().map(|field| Some(field.name().as_str())))?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let options = EncoderOptions::default();
        let mut cells = Cells::of(batch, &options).map_err(output_error)?;
        for row in 0..batch.num_rows() {
            let row = cells.row(row).map_err(output_error)?;
            self.write_line(row.iter().map(Option::as_deref))?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), QueryError> {
        self.out.flush().map_err(io_error)
    }

    fn write_line<'b>(&mut self, cells: impl Iterator<Item = Option<&'b str>>) -> Result<(), QueryError> {
        self.line.clear();
        for (place, cell) in cells.enumerate() {
            if place > 0 {
                self.line.push(',');
            }
            if let Some(cell) = cell {
                push_quoted(&mut self.line, cell);
            }
        }
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes()).map_err(io_error)
    }
}

/// Quotes what needs it, and the empty text, which is thereby told from NULL.
fn push_quoted(line: &mut String, cell: &str) {
    let plain = !cell.is_empty()
        && !cell.contains([',', '"', '\n', '\r'])
        && !cell.starts_with(char::is_whitespace)
        && !cell.ends_with(char::is_whitespace);
    if plain {
        line.push_str(cell);
        return;
    }
    line.push('"');
    for (place, piece) in cell.split('"').enumerate() {
        if place > 0 {
            line.push_str("\"\"");
        }
        line.push_str(piece);
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_is_quoted() {
        for (cell, expected) in [
            ("plain", "plain"),
            ("", "\"\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("\"", "\"\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            (" edge", "\" edge\""),
            ("it's; fine", "it's; fine"),
        ] {
            let mut line = String::new();
            push_quoted(&mut line, cell);
            assert_eq!(line, expected);
        }
    }
}
