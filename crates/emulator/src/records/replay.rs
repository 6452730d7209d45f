//! Recorded records, played again with a fresh `Id`, time and organisation, every other byte as it was.
//!
//! Never parses a record into a document and prints it back: the values are replaced in the text where they stand, so
//! order, escapes, number forms and doubled members stay those of the recording.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use protocol::ids::ContentType;

use super::Wanted;
use super::draw::timestamp;
use super::scan::{Members, Span};
use crate::seed::Seed;

/// The longest line that is taken for a record, in bytes.
const LINE_MAX: usize = 64 << 20;

/// Why recorded records cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened or read, or is not in the compression its name says.
    #[error("the file cannot be read")]
    Unreadable(#[from] io::Error),
    /// A line is no JSON object.
    #[error("line {line} is no JSON object; the file must hold one record per line")]
    NotARecord {
        /// Counted from 1.
        line: usize,
    },
    /// More text than may be held in memory.
    #[error("the records take more than {limit} bytes; replay fewer files or raise records_memory")]
    TooMuch {
        /// `records_memory`, in bytes.
        limit: u64,
    },
    /// Not one record.
    #[error("the file holds no record")]
    Empty,
}

/// Recorded records by content type.
#[derive(Debug, Default)]
pub struct Corpus {
    text: Vec<u8>,
    /// By the place of the type in [`ContentType::KNOWN`].
    kinds: [Lines; 5],
}

/// The records of one content type.
#[derive(Debug, Default)]
struct Lines {
    all: Vec<Line>,
    /// Those with an `Id`, as places in `all`: only they can be played more than once and stay different records.
    numbered: Vec<usize>,
}

#[derive(Debug)]
struct Line {
    text: Span,
    /// By place in the line.
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    /// The value with its quotes, counted from the line's begin.
    value: Span,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Id,
    Organization,
    /// With what stands between date and time, and whether a `Z` follows.
    Time {
        blank: bool,
        zulu: bool,
    },
}

impl Corpus {
    /// Reads files of one record per line: plain, `.gz` or `.zst` by their names.
    ///
    /// # Errors
    /// The file at fault, and what is wrong with it.
    pub fn load<'p>(
        files: impl IntoIterator<Item = &'p Path>,
        memory: u64,
    ) -> Result<Self, (std::path::PathBuf, ReplayError)> {
        let mut corpus = Self::default();
        for path in files {
            corpus.load_file(path, memory).map_err(|error| (path.to_owned(), error))?;
        }
        Ok(corpus)
    }

    fn load_file(&mut self, path: &Path, memory: u64) -> Result<(), ReplayError> {
        let file = File::open(path)?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let reader: Box<dyn Read> = match extension {
            "gz" => Box::new(flate2::read::MultiGzDecoder::new(file)),
            "zst" => Box::new(zstd::stream::read::Decoder::new(file)?),
            _ => Box::new(file),
        };
        let before = self.records();
        self.read(&mut BufReader::new(reader), memory)?;
        if self.records() == before { Err(ReplayError::Empty) } else { Ok(()) }
    }

    /// Adds the records of a text.
    fn read(&mut self, reader: &mut impl BufRead, memory: u64) -> Result<(), ReplayError> {
        let mut buffer = Vec::new();
        for line in 1.. {
            buffer.clear();
            let taken = reader.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut buffer)?;
            if taken == 0 {
                return Ok(());
            }
            let text = buffer.trim_ascii();
            if text.is_empty() {
                continue;
            }
            if taken > LINE_MAX {
                return Err(ReplayError::NotARecord { line });
            }
            if (self.text.len() + text.len()) as u64 > memory {
                return Err(ReplayError::TooMuch { limit: memory });
            }
            self.add(text).ok_or(ReplayError::NotARecord { line })?;
        }
        Ok(())
    }

    fn add(&mut self, text: &[u8]) -> Option<()> {
        let mut edits = Vec::new();
        let (mut workload, mut record_type) = (None, None);
        for member in Members::of(text)? {
            let (name, value) = member?;
            let value_text = text.get(value.0..value.1)?;
            match text.get(name.0..name.1)? {
                b"\"Id\"" if value_text.starts_with(b"\"") => edits.push(Edit { value, what: What::Id }),
                b"\"OrganizationId\"" if value_text.starts_with(b"\"") => {
                    edits.push(Edit { value, what: What::Organization })
                }
                b"\"CreationTime\"" => {
                    if let Some(what) = time_form(value_text) {
                        edits.push(Edit { value, what });
                    }
                }
                b"\"Workload\"" => workload = Some(value_text),
                b"\"RecordType\"" => record_type = Some(value_text),
                _ => {}
            }
        }
        let start = self.text.len();
        self.text.extend_from_slice(text);
        let numbered = edits.iter().any(|edit| edit.what == What::Id);
        let lines = &mut self.kinds[kind_of(workload.unwrap_or_default(), record_type.unwrap_or_default())];
        if numbered {
            lines.numbered.push(lines.all.len());
        } else if lines.all.iter().any(|line| self.text.get(line.text.0..line.text.1) == Some(text)) {
            // Without an id to make them differ, two equal lines are one record.
            self.text.truncate(start);
            return Some(());
        }
        lines.all.push(Line { text: (start, self.text.len()), edits });
        Some(())
    }

    /// How many records of a type there are.
    pub fn len(&self, kind: &ContentType) -> u64 {
        self.lines(kind).map_or(0, |lines| lines.all.len() as u64)
    }

    /// How many records there are in all.
    pub fn records(&self) -> u64 {
        self.kinds.iter().map(|lines| lines.all.len() as u64).sum()
    }

    /// Whether records of a type can be played more often than they were recorded.
    pub(crate) fn repeatable(&self, kind: &ContentType) -> bool {
        self.lines(kind).is_some_and(|lines| !lines.numbered.is_empty())
    }

    fn lines(&self, kind: &ContentType) -> Option<&Lines> {
        let place = ContentType::KNOWN.iter().position(|known| known == kind)?;
        self.kinds.get(place)
    }

    /// Appends a record. The first round plays every recorded record once, further rounds those with an `Id`.
    pub(crate) fn render(&self, wanted: &Wanted<'_>, seed: Seed, event: i64, out: &mut Vec<u8>) {
        let Some(line) = self.line(wanted) else { return };
        let Some(text) = self.text.get(line.text.0..line.text.1) else { return };
        let mut copied = 0;
        for edit in &line.edits {
            out.extend_from_slice(text.get(copied..edit.value.0).unwrap_or_default());
            copied = edit.value.1;
            out.push(b'"');
            match edit.what {
                What::Id => out.extend_from_slice(seed.guid().to_string().as_bytes()),
                What::Organization => out.extend_from_slice(wanted.tenant.id_text.as_bytes()),
                What::Time { blank, zulu } => {
                    let mut time = timestamp(event);
                    if blank {
                        time = time.replace('T', " ");
                    }
                    out.extend_from_slice(time.as_bytes());
                    if zulu {
                        out.push(b'Z');
                    }
                }
            }
            out.push(b'"');
        }
        out.extend_from_slice(text.get(copied..).unwrap_or_default());
    }

    fn line(&self, wanted: &Wanted<'_>) -> Option<&Line> {
        let lines = self.lines(wanted.kind)?;
        let number = usize::try_from(wanted.number & !crate::world::content::RecordRef::HUGE).ok()?;
        let huge = wanted.number >= crate::world::content::RecordRef::HUGE;
        if let Some(line) = lines.all.get(number).filter(|_| !huge) {
            return Some(line);
        }
        let round = number.checked_rem(lines.numbered.len())?;
        lines.all.get(*lines.numbered.get(round)?)
    }
}

/// `"2021-05-06T07:08:09"` in one of the forms the feed has.
fn time_form(value: &[u8]) -> Option<What> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let zulu = inner.ends_with(b"Z");
    let shape = inner.len() >= 19 && inner.get(4) == Some(&b'-') && inner.get(13) == Some(&b':');
    shape.then_some(What::Time { blank: inner.get(10) == Some(&b' '), zulu })
}

/// Which content type carries a record, by the place in [`ContentType::KNOWN`]. No official mapping exists
/// (audit-schema.md §2), so this goes by workload, and by record type for data loss prevention.
fn kind_of(workload: &[u8], record_type: &[u8]) -> usize {
    const DLP: [&[u8]; 7] = [b"11", b"13", b"33", b"63", b"99", b"100", b"107"];
    if DLP.contains(&record_type) {
        return 4;
    }
    match workload {
        b"\"AzureActiveDirectory\"" => 0,
        b"\"Exchange\"" => 1,
        b"\"SharePoint\"" | b"\"OneDrive\"" => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Profile;

    const LINE: &str = r#"{"CreationTime":"2021-05-21 01:11:55Z","Nested":{"Id":"stays","x":[1,"}"]},"Id":"old\"id","OrganizationId":"o","Workload":"Exchange","Path":"a\/b\u003c","N":1.50,"Id":"twice"}"#;

    fn corpus(text: &str) -> Result<Corpus, ReplayError> {
        let mut corpus = Corpus::default();
        corpus.read(&mut text.as_bytes(), 1 << 20)?;
        Ok(corpus)
    }

    fn played(corpus: &Corpus, kind: &ContentType, number: u64) -> String {
        let tenant = Profile {
            id: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap(),
            id_text: "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".to_owned(),
            name: "x".to_owned(),
            domain: "x.onmicrosoft.com".to_owned(),
            seats: 5,
            seed: Seed::new(1),
        };
        let wanted =
            Wanted { tenant: &tenant, kind, feed: Seed::new(2), number, variant: false, withheld: false, made_at: 0 };
        let mut out = Vec::new();
        corpus.render(&wanted, Seed::new(3).child(number), 1_800_000_000, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_id_time_and_organisation_change_and_each_where_it_stands() {
        let corpus = corpus(LINE).unwrap();
        let id = Seed::new(3).child(0).guid().to_string();
        let expected = LINE
            .replace("2021-05-21 01:11:55Z", "2027-01-15 08:00:00Z")
            .replace(r#"old\"id"#, &id)
            .replace("\"twice\"", &format!("\"{id}\""))
            .replace(r#""OrganizationId":"o""#, r#""OrganizationId":"6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11""#);
        assert_eq!(played(&corpus, &ContentType::Exchange, 0), expected);
    }

    #[test]
    fn a_second_round_plays_only_records_that_can_get_a_fresh_id() {
        let text = format!("{LINE}\n\n{{\"Workload\":\"Exchange\",\"a\":1}}\n{{\"Workload\":\"Exchange\",\"a\":1}}\n");
        let corpus = corpus(&text).unwrap();
        assert_eq!(corpus.len(&ContentType::Exchange), 2);
        assert_eq!(played(&corpus, &ContentType::Exchange, 1), r#"{"Workload":"Exchange","a":1}"#);
        let (second, third) = (played(&corpus, &ContentType::Exchange, 2), played(&corpus, &ContentType::Exchange, 3));
        assert!(second.starts_with(r#"{"CreationTime""#) && third.starts_with(r#"{"CreationTime""#));
        assert_ne!(second, third);
    }

    #[test]
    fn a_line_that_is_no_object_is_named() {
        assert!(matches!(corpus("{}\n[1]\n"), Err(ReplayError::NotARecord { line: 2 })));
        assert!(matches!(corpus("{\"a\":\"unfinished}\n"), Err(ReplayError::NotARecord { line: 1 })));
        assert!(matches!(corpus(&format!("{LINE}\n").repeat(10_000)), Err(ReplayError::TooMuch { limit: 1_048_576 })));
    }

    #[test]
    fn content_types_follow_workload_and_record_type() {
        assert_eq!(kind_of(b"\"OneDrive\"", b"6"), 2);
        assert_eq!(kind_of(b"\"OneDrive\"", b"11"), 4);
        assert_eq!(kind_of(b"", b""), 3);
    }
}
