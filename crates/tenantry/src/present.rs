//! How results look: tables and JSON on stdout.
//!
//! Never anything but results: what a person should know besides goes to stderr.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

use crate::exit::{Code, Failure};

/// A line beneath the header and nothing else: rows are read, not boxed in.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Columns of sentences: the only ones that may be folded to fit a terminal. An id that is cut in two cannot be copied.
const SENTENCES: [&str; 2] = ["problem", "cause"];

/// No sentence is folded into less than this.
const SENTENCE_WIDTH_MIN: u16 = 30;

/// A table with a header; columns named in `right` are aligned to the right.
pub(crate) fn table(header: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    table_within(terminal_width(), header, right, rows)
}

/// A table whose cells are never folded, whatever the width: each row is one line.
pub(crate) fn unfolded_table(header: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    table_within(None, header, right, rows)
}

/// The columns of the terminal that shows the results; `None` when none does.
pub(crate) fn terminal_width() -> Option<u16> {
    // A terminal of no width is one that nobody looks at.
    std::io::stdout().is_terminal().then(|| Table::new().width()).flatten().filter(|width| *width > 0)
}

/// A sentence, indented, folded between words where it would not fit. A word is never cut: it may be an id or a path.
pub(crate) fn folded(sentence: &str, indent: usize, width: Option<u16>) -> String {
    let width = width.map_or(usize::MAX, usize::from);
    let blank = " ".repeat(indent);
    let mut text = blank.clone();
    let mut used = indent;
    for word in sentence.split(' ') {
        let length = word.chars().count();
        if used > indent && used + 1 + length > width {
            // What goes on stands a little further in, so that the next sentence is seen to be one.
            text.push('\n');
            text.push_str(&blank);
            text.push_str("  ");
            used = indent + 2;
        } else if used > indent {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text
}

fn table_within(width: Option<u16>, header: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.to_vec());
    match width {
        // In a pipe nobody wants lines folded at the width of a screen that is not there.
        None => table.set_content_arrangement(ContentArrangement::Disabled),
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
    };
    for row in rows {
        table.add_row(row);
    }
    for (index, name) in header.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        if right.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if width.is_some() {
            column.set_constraint(if SENTENCES.contains(name) {
                ColumnConstraint::LowerBoundary(Width::Fixed(SENTENCE_WIDTH_MIN))
            } else {
                ColumnConstraint::ContentWidth
            });
        }
    }
    table.to_string()
}

/// Prints a result and its newline; a reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Storage, format!("cannot write the result to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value as pretty JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).map_err(|error| Failure::new(Code::Other, error))?)
}

/// A count with its thousands parted by commas.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in bytes as a person reads it.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_parted_in_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn ids_are_never_folded_and_sentences_are() {
        let id = "fd93a738-73ca-4e3a-a036-3d05ea76b343";
        let sentence = "the tenant has not consented to this application: send its admin the consent link once more";
        for width in [None, Some(20), Some(80), Some(200)] {
            let row = vec![id.to_owned(), "12,345".to_owned(), sentence.to_owned()];
            let text = table_within(width, &["tenant", "records", "problem"], &["records"], vec![row]);
            assert!(text.contains(id) && text.contains("12,345"), "{width:?}\n{text}");
            assert_eq!(text.contains(sentence), width.is_none_or(|width| width > 150), "{width:?}\n{text}");
        }
    }

    #[test]
    fn sentences_are_folded_between_words_and_ids_stay_whole() {
        let id = "fd93a738-73ca-4e3a-a036-3d05ea76b343";
        let sentence = format!("lost {id} for ever");
        assert_eq!(folded(&sentence, 4, None), format!("    {sentence}"));
        assert_eq!(folded(&sentence, 4, Some(53)), format!("    lost {id} for\n      ever"));
        assert_eq!(folded(&sentence, 4, Some(54)), format!("    {sentence}"));
        assert_eq!(folded(id, 4, Some(10)), format!("    {id}"));
    }

    #[test]
    fn sizes_are_given_in_the_unit_that_fits() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (1 << 40, "1.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
