//! Rows for a person at a terminal.
//!
//! Never lets a record's text move the cursor, change colours or turn the direction of writing: such characters are shown
//! as escapes.

use std::fmt::Write as _;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::json::writer::EncoderOptions;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::cells::Cells;
use super::{QueryError, io_error, is_nested, output_error};

/// Rows looked at before the first is shown, to size the columns. Wider cells that come later are cut, or stand out when
/// there is no width to keep to.
const LOOK_AHEAD_ROWS: usize = 1000;
/// Bytes of text in those rows beyond which no more are waited for.
const LOOK_AHEAD_BYTES: usize = 4 << 20;
/// A column narrower than this shows nothing worth reading; then rows are shown one column a line instead.
const COLUMN_WIDTH_MIN: usize = 8;
/// A terminal narrower than this is treated as if it were this wide.
const WIDTH_MIN: usize = 20;

type Row = Vec<String>;

/// See [`super::Format::Table`].
pub(super) struct TableWriter<'a> {
    out: &'a mut (dyn Write + Send),
    width: Option<usize>,
    columns: Vec<Column>,
    waiting: Vec<Row>,
    waiting_bytes: usize,
    layout: Option<Layout>,
    rows: u64,
}

struct Column {
    name: String,
    right_aligned: bool,
    is_text: bool,
}

enum Layout {
    /// One line a row; the widths of the columns.
    Lines(Vec<usize>),
    /// One line a cell; the width of the names.
    Cells(usize),
}

impl<'a> TableWriter<'a> {
    pub(super) fn new(schema: &SchemaRef, width: Option<usize>, out: &'a mut (dyn Write + Send)) -> Self {
        let column = |field: &FieldRef| Column {
            name: visible(field.name()),
            right_aligned: field.data_type().is_numeric(),
            is_text: field.data_type().is_string() || is_nested(field.data_type()),
        };
        Self {
            out,
            width: width.map(|width| width.max(WIDTH_MIN)),
            columns: schema.fields().iter().map(column).collect(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            layout: None,
            rows: 0,
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let options = EncoderOptions::default();
        let mut cells = Cells::of(batch, &options).map_err(output_error)?;
        for row in 0..batch.num_rows() {
            let row = cells.row(row).map_err(output_error)?;
            let row: Row = row.into_iter().map(|cell| self.shown(&cell.unwrap_or_default())).collect();
            if self.layout.is_some() {
                self.write_row(&row)?;
                continue;
            }
            self.waiting_bytes += row.iter().map(String::len).sum::<usize>();
            self.waiting.push(row);
            if self.waiting.len() >= LOOK_AHEAD_ROWS || self.waiting_bytes >= LOOK_AHEAD_BYTES {
                self.write_waiting()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), QueryError> {
        self.write_waiting()?;
        self.out.flush().map_err(io_error)
    }

    /// The cell with escapes, and no longer than a line can be: a record of a megabyte is not kept for showing 80 columns.
    fn shown(&self, cell: &str) -> String {
        match self.width {
            Some(width) => cut(&visible(cell.get(..cell.floor_char_boundary(width * 4 + 4)).unwrap_or(cell)), width),
            None => visible(cell),
        }
    }

    /// Settles the layout, if that is still to be done, and writes the rows that waited for it.
    fn write_waiting(&mut self) -> Result<(), QueryError> {
        if self.layout.is_none() {
            let layout = self.plan_layout();
            if let Layout::Lines(widths) = &layout {
                let header =
                    line(self.columns.iter().map(|column| (column.name.as_str(), false)), widths, self.width.is_some());
                let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("-+-");
                write!(self.out, "{header}\n{rule}\n").map_err(io_error)?;
            }
            self.layout = Some(layout);
        }
        for row in std::mem::take(&mut self.waiting) {
            self.write_row(&row)?;
        }
        Ok(())
    }

    fn plan_layout(&self) -> Layout {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.name.width()).collect();
        for row in &self.waiting {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let Some(total) = self.width else { return Layout::Lines(widths) };
        let available = total.saturating_sub(3 * widths.len().saturating_sub(1));
        let used = |cap: usize, all: bool| {
            let columns = widths.iter().zip(&self.columns);
            columns.map(|(width, column)| if all || column.is_text { (*width).min(cap) } else { *width }).sum::<usize>()
        };
        // The widest cap under which everything fits: narrow columns keep their width, wide ones share what is left.
        // Numbers and times are cut only when nothing else helps: half a time is worth less than half a text.
        let widest =
            |all| (COLUMN_WIDTH_MIN..=total).rev().find(|cap| used(*cap, all) <= available).map(|cap| (cap, all));
        let Some((cap, all)) = widest(false).or_else(|| widest(true)) else {
            let names = self.columns.iter().map(|column| column.name.width()).max().unwrap_or(0);
            return Layout::Cells(names.min(total / 2));
        };
        let columns = widths.into_iter().zip(&self.columns);
        Layout::Lines(
            columns.map(|(width, column)| if all || column.is_text { width.min(cap) } else { width }).collect(),
        )
    }

    fn write_row(&mut self, row: &Row) -> Result<(), QueryError> {
        self.rows += 1;
        let mut text = String::new();
        match &self.layout {
            Some(Layout::Cells(name_width)) => {
                let title = format!("-[ row {} ]", self.rows);
                let rule = "-".repeat(self.width.unwrap_or(0).saturating_sub(title.len()).min(60));
                let _ = writeln!(text, "{title}{rule}");
                let room = self.width.unwrap_or(usize::MAX).saturating_sub(name_width + 3);
                for (column, cell) in self.columns.iter().zip(row) {
                    let name = padded(&cut(&column.name, *name_width), *name_width, false);
                    let _ = writeln!(text, "{name} | {}", cut(cell, room));
                }
            }
            Some(Layout::Lines(widths)) => {
                let cells = row.iter().zip(&self.columns).map(|(cell, column)| (cell.as_str(), column.right_aligned));
                text = line(cells, widths, self.width.is_some());
                text.push('\n');
            }
            None => {}
        }
        self.out.write_all(text.as_bytes()).map_err(io_error)
    }
}

/// One line of cells, each with whether it is aligned to the right. Without trailing blanks.
fn line<'b>(cells: impl Iterator<Item = (&'b str, bool)>, widths: &[usize], cuts: bool) -> String {
    let mut line = String::new();
    for (place, ((cell, right_aligned), width)) in cells.zip(widths).enumerate() {
        if place > 0 {
            line.push_str(" | ");
        }
        let cell = if cuts { cut(cell, *width) } else { cell.to_owned() };
        line.push_str(&padded(&cell, *width, right_aligned));
    }
    line.truncate(line.trim_end().len());
    line
}

fn padded(text: &str, width: usize, right_aligned: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if right_aligned { blanks + text } else { text.to_owned() + &blanks }
}

/// The text, or as much of it as leaves room for `…`.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(character);
    }
    kept.push('…');
    kept
}

/// The text with whatever a terminal would obey instead of show written out.
fn visible(text: &str) -> String {
    let obeyed = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(obeyed) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if obeyed(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn table(columns: Vec<(&str, ArrayRef)>, width: Option<usize>) -> String {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut out = Vec::new();
        let mut writer = TableWriter::new(&batch.schema(), width, &mut out);
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn texts(texts: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(texts.to_vec()))
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(1234)]));
        let shown = table(vec![("operation", texts(&["Send", "世界", "x"])), ("n", numbers)], None);
        assert_eq!(shown, "operation | n\n----------+-----\nSend      |    7\n世界      |\nx         | 1234\n");
    }

    #[test]
    fn wide_cells_are_cut_to_the_terminal() {
        let shown = table(vec![("a", texts(&["short"])), ("b", texts(&[&"x".repeat(100)]))], Some(30));
        assert_eq!(shown.lines().last().unwrap(), format!("short | {}…", "x".repeat(21)));
        assert!(shown.lines().all(|line| line.width() <= 30), "{shown}");
        let exact = table(vec![("a", texts(&["short"])), ("b", texts(&[&"x".repeat(22)]))], Some(30));
        assert!(!exact.contains('…'), "{exact}");
    }

    #[test]
    fn numbers_are_cut_last() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1_234_567_890_123_456]));
        let columns =
            vec![("text", texts(&[&"x".repeat(100)])), ("n", numbers.clone()), ("other", texts(&[&"y".repeat(100)]))];
        let shown = table(columns, Some(40));
        assert_eq!(
            shown.lines().last().unwrap(),
            format!("{}… | 1234567890123456 | {}…", "x".repeat(8), "y".repeat(8))
        );
        let columns = vec![("text", texts(&[&"x".repeat(100)])), ("n", numbers.clone()), ("m", numbers)];
        let shown = table(columns, Some(40));
        assert_eq!(shown.lines().last().unwrap(), format!("{}… | 1234567890… | 1234567890…", "x".repeat(10)));
    }

    #[test]
    fn columns_that_cannot_stand_side_by_side_stand_below_each_other() {
        let columns = ["first", "second", "third", "fourth"].map(|name| (name, texts(&["a value that is long"])));
        let shown = table(columns.to_vec(), Some(40));
        assert!(shown.starts_with("-[ row 1 ]---"), "{shown}");
        assert!(shown.contains("\nsecond | a value that is long\n"), "{shown}");
        assert!(shown.lines().all(|line| line.width() <= 40), "{shown}");
    }

    #[test]
    fn terminal_codes_in_records_are_shown_and_not_obeyed() {
        let shown = table(vec![("a", texts(&["\u{1b}[31mred\u{7}\nline\u{202e}evil"]))], Some(80));
        assert_eq!(shown.lines().last().unwrap(), "\\u{1b}[31mred\\u{7}\\nline\\u{202e}evil");
    }

    #[test]
    fn rows_after_the_look_ahead_are_written_too() {
        let many: Vec<String> = (0..LOOK_AHEAD_ROWS * 2 + 1).map(|number| number.to_string()).collect();
        let cells: Vec<&str> = many.iter().map(String::as_str).collect();
        let shown = table(vec![("number", texts(&cells))], Some(80));
        assert_eq!(shown.lines().skip(2).collect::<Vec<_>>(), cells);
    }

    #[test]
    fn an_empty_result_has_its_header() {
        assert_eq!(table(vec![("number", texts(&[]))], Some(80)), "number\n------\n");
    }
}
