//! What a blob turns out to hold: its elements, how it ended, and each way it can fail to end.
//!
//! Never holds more of a body than its head. Made by [`super::Splitter`]; read by whoever stores records, quarantines
//! what is none, and reports what could not be read.

use std::fmt;

use bytes::Bytes;

use crate::RecordText;

/// One element of the blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record: its bytes as delivered, from `{` to `}`.
    Record(RecordText),
    /// Some bytes of an element that is too large to be handed over whole: all of them follow each other, part by part.
    Part(Part),
    /// An element that is no record.
    NotARecord {
        /// Its bytes as delivered.
        bytes: Bytes,
        /// What is wrong with it.
        reason: NotARecordReason,
        /// Where it starts in the blob, in bytes.
        offset: u64,
    },
}

/// Bytes of an element that is too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What follows the part before.
    pub bytes: Bytes,
    /// Where the element starts in the blob, in bytes.
    pub offset: u64,
    /// The whole element's length in bytes, if it ends with this part.
    pub ended: Option<u64>,
}

/// Why an element is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARecordReason {
    /// A text, number, literal, array, or stray characters between elements.
    #[error("the element is no JSON object")]
    NotAnObject,
    /// An object with bytes that are no UTF-8.
    #[error("the element is not valid UTF-8")]
    NotUtf8,
    /// Opened by `{` and closed by `]`.
    #[error("the element's brackets do not match")]
    Unbalanced,
    /// Opened and never closed: what [`Splitter::salvage`](super::Splitter::salvage) cut off before the next record.
    #[error("the element does not end before the next one starts")]
    Unended,
    /// Larger than [`Limits::record_bytes_max`](super::Limits::record_bytes_max): it comes as [`Item::Part`]s.
    #[error("the element has {length} bytes, more than a record may have")]
    TooLarge {
        /// Its length in bytes.
        length: u64,
    },
}

/// What a blob held, once it ended as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How many records were handed over.
    pub records: u64,
    /// How many elements were no record.
    pub not_records: u64,
    /// The blob's length in bytes.
    pub bytes: u64,
}

/// Why a blob could not be read to its end. Items handed over before stay good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No bytes, or white space only.
    #[error("the body is empty")]
    Empty,
    /// Something other than a JSON array.
    #[error("the body is {kind} and not a JSON array of records")]
    NotAnArray {
        /// What it looks like.
        kind: BodyKind,
        /// Its first bytes, at most [`HEAD_BYTES`](super::HEAD_BYTES).
        head: Bytes,
    },
    /// The bytes ended before the array did, or an unbalanced quote or bracket swallowed the rest of it.
    #[error("the array of records is cut off {place} at byte {offset} of {length}")]
    Truncated {
        /// What the bytes ended in.
        place: CutPlace,
        /// Where the element that never ended starts; the blob's length when it ended between elements.
        offset: u64,
        /// The blob's length in bytes.
        length: u64,
    },
    /// Something follows the array's closing bracket.
    #[error("bytes that are no white space follow the array of records at byte {offset}")]
    TrailingBytes {
        /// Where they start.
        offset: u64,
        /// The first of them, at most [`HEAD_BYTES`](super::HEAD_BYTES).
        head: Bytes,
    },
    /// [`Splitter::finish`](super::Splitter::finish) was called before [`Splitter::next_item`](super::Splitter::next_item) had said `None`: a mistake in the caller, told so
    /// that it cannot lose records in silence.
    #[error("the splitter was finished with {bytes} bytes unread")]
    Unread {
        /// How many.
        bytes: u64,
    },
}

/// What a body that is no array looks like by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// Starts with `{`: most likely an error object.
    Object,
    /// Starts with `<`: most likely a proxy's HTML page.
    Html,
    /// Starts with the magic of gzip: it was compressed once more than its headers said.
    Gzip,
    /// Anything else.
    Other,
}

impl fmt::Display for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "a JSON object",
            Self::Html => "HTML or XML",
            Self::Gzip => "gzip data",
            Self::Other => "something else",
        })
    }
}

/// What a truncated blob ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutPlace {
    /// Behind an element or a comma.
    BetweenElements,
    /// In an element, outside any text.
    Element,
    /// In a text: what an unbalanced quote looks like.
    Text,
}

impl fmt::Display for CutPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BetweenElements => "between elements",
            Self::Element => "in the element",
            Self::Text => "in a text of the element",
        })
    }
}
