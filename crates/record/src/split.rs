//! Cuts one blob, a JSON array of records that arrives in chunks, into its records.
//!
//! Never copies a record that lies inside one chunk (the items are slices of the chunks, and keep them alive), never
//! changes or drops a byte of an element, never holds more than one element beside the chunks it was given, and never refuses
//! a record for what is inside it: an element is a [`Item::Record`] when it is a balanced object of valid UTF-8. One that is
//! larger than a record may be is handed on in parts. Commas between elements are not insisted on. Chunks come from the
//! transport; items go on to [`crate::view`] and the archive.

mod cut;
mod outcome;
mod salvage;

use std::collections::VecDeque;

use bytes::Bytes;

pub use self::outcome::{BodyKind, CutPlace, Ended, Item, NotARecordReason, Part, SplitError};
use crate::RecordText;
use crate::scan::{Nest, text_end_in_chunk};

/// How many bytes of a body that is no array, and of trailing bytes, are kept.
pub const HEAD_BYTES: usize = 4096;

/// From this size on, in bytes, what is kept of an element grows by a quarter at a time.
const GROW_GENTLY: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8; 3] = b"\xef\xbb\xbf";

/// What the splitter may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest element that is handed over whole, in bytes. One byte more and it comes as [`Item::Part`]s. Records of
    /// tens of kB are common, a few MB possible (audit-schema.md §10).
    pub record_bytes_max: usize,
}

impl Limits {
    /// 16 MiB: several times the largest record ever reported, and small beside the memory a worker has.
    pub const DEFAULT: Self = Self { record_bytes_max: 16 << 20 };
}

/// The incremental splitter of one blob. See the file's head for what it promises.
///
/// Feed it with [`Self::push`], then ask [`Self::next_item`] until it says `None`, and so on; at the end of the bytes call
/// [`Self::salvage`] and [`Self::finish`].
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    state: State,
    /// The unread part of the chunk being read.
    chunk: Bytes,
    /// Chunks pushed and not yet read.
    waiting: VecDeque<Bytes>,
    /// Where `chunk` starts in the blob.
    offset: u64,
    /// The element being read, as far as it lay in earlier chunks; nothing, once it is too large.
    kept: Vec<u8>,
    /// How many bytes of the element lay in earlier chunks, kept or handed on.
    earlier_bytes: u64,
    /// An object that a `]` closed. What comes next says whether that was the array's.
    suspect: Option<Suspect>,
    records: u64,
    not_records: u64,
}

#[derive(Debug)]
enum State {
    /// At the start; how many bytes of a byte order mark were seen.
    Start { mark: usize },
    /// In a body that is no array: its first bytes.
    Foreign { head: Vec<u8> },
    /// Inside the array, outside any element.
    Between,
    /// Inside an element.
    Inside(Element),
    /// Behind the array.
    Behind,
    /// Nothing more is read; every further call says the same.
    Failed(SplitError),
}

#[derive(Debug)]
struct Suspect {
    bytes: Bytes,
    offset: u64,
}

/// The element being read, its first byte read already.
#[derive(Debug)]
enum Element {
    Object(Nest),
    Array(Nest),
    Text {
        escaped: bool,
    },
    /// A number, a literal, or characters that have no business here.
    Scalar,
}

impl Element {
    /// The index just behind the element's end, if it ends in `bytes`.
    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Object(nest) | Self::Array(nest) => nest.advance(bytes),
            Self::Text { escaped } => text_end_in_chunk(bytes, escaped),
            Self::Scalar => bytes
                .iter()
                .position(|byte| matches!(byte, b',' | b']' | b'}' | b'{' | b'[' | b'"') || is_white_space(*byte)),
        }
    }
}

impl Splitter {
    /// At the start of a blob.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start { mark: 0 },
            chunk: Bytes::new(),
            waiting: VecDeque::new(),
            offset: 0,
            kept: Vec::new(),
            earlier_bytes: 0,
            suspect: None,
            records: 0,
            not_records: 0,
        }
    }

    /// Hands over the blob's next bytes. Ask [`Self::next_item`] until it says `None` before the next push, or chunks
    /// pile up here.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() && self.waiting.is_empty() {
            self.chunk = chunk;
        } else if !chunk.is_empty() {
            self.waiting.push_back(chunk);
        }
    }

    /// Whether the array's opening bracket has been read: what comes is a blob, however it ends.
    pub fn has_begun(&self) -> bool {
        !matches!(
            self.state,
            State::Start { .. } | State::Foreign { .. } | State::Failed(SplitError::NotAnArray { .. })
        )
    }

    /// The next element; `None` when more bytes are needed to tell.
    ///
    /// # Errors
    /// When the body is no array or goes on behind it. The splitter reads no further then, and says the same again.
    pub fn next_item(&mut self) -> Result<Option<Item>, SplitError> {
        loop {
            if self.chunk.is_empty() {
                match self.waiting.pop_front() {
                    Some(chunk) => self.chunk = chunk,
                    None => break,
                }
            }
            match &mut self.state {
                State::Start { .. } => self.read_start(),
                State::Foreign { .. } => self.read_foreign(),
                State::Between => {
                    if let Some(item) = self.read_between() {
                        return Ok(Some(item));
                    }
                }
                State::Inside(_) => {
                    if let Some(item) = self.read_element() {
                        return Ok(Some(item));
                    }
                }
                State::Behind => self.read_behind(),
                State::Failed(error) => return Err(error.clone()),
            }
        }
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(None),
        }
    }

    /// What can be saved when an element with an unbalanced quote or bracket has swallowed the rest of the array: the
    /// element itself as [`NotARecordReason::Unended`], and the records behind it. Empty when there is nothing to save, as
    /// in a blob that is good, or cut off.
    ///
    /// Call it when there are no more bytes and [`Self::next_item`] has said `None`, before [`Self::finish`], which then
    /// is content.
    pub fn salvage(&mut self) -> Vec<Item> {
        if !self.chunk.is_empty() || self.earlier_bytes > self.limits.record_bytes_max as u64 {
            return Vec::new();
        }
        let found = match (&self.state, &self.suspect) {
            (State::Between, Some(suspect)) => salvage::behind_broken(&suspect.bytes, suspect.offset, self.limits),
            (State::Inside(_), _) => {
                let element = Bytes::from(std::mem::take(&mut self.kept));
                let found = salvage::behind_broken(&element, self.offset - self.earlier_bytes, self.limits);
                if found.is_none() {
                    self.kept = Vec::from(element);
                }
                found
            }
            _ => None,
        };
        let Some(items) = found else { return Vec::new() };
        self.suspect = None;
        self.state = State::Behind;
        self.earlier_bytes = 0;
        self.not_records += 1;
        self.records += items.len() as u64 - 1;
        items
    }

    /// The element that has begun and not ended yet, as far as it is known: what is left to keep when [`Self::finish`]
    /// says [`SplitError::Truncated`]. Of an element that is too large, nothing: its parts were handed on.
    pub fn remainder(&self) -> &[u8] {
        match &self.suspect {
            Some(suspect) => &suspect.bytes,
            None => &self.kept,
        }
    }

    /// Says whether the blob ended where a blob may end. Call it when there are no more bytes and [`Self::next_item`] has
    /// said `None`.
    ///
    /// # Errors
    /// See [`SplitError`].
    pub fn finish(self) -> Result<Ended, SplitError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        let unread = self.chunk.len() + self.waiting.iter().map(Bytes::len).sum::<usize>();
        if unread > 0 {
            return Err(SplitError::Unread { bytes: unread as u64 });
        }
        let truncated = |place, offset| Err(SplitError::Truncated { place, offset, length: self.offset });
        match self.state {
            State::Start { mark: 0 | 3 } => Err(SplitError::Empty),
            State::Start { mark } => Err(not_an_array(BYTE_ORDER_MARK[..mark].to_vec())),
            State::Foreign { head } => Err(not_an_array(head)),
            State::Between => match self.suspect {
                Some(suspect) => truncated(CutPlace::Element, suspect.offset),
                None => truncated(CutPlace::BetweenElements, self.offset),
            },
            State::Inside(element) => {
                let in_text = match &element {
                    Element::Object(nest) | Element::Array(nest) => nest.in_text(),
                    Element::Text { .. } => true,
                    Element::Scalar => false,
                };
                let place = if in_text { CutPlace::Text } else { CutPlace::Element };
                truncated(place, self.offset - self.earlier_bytes)
            }
            State::Behind => Ok(Ended { records: self.records, not_records: self.not_records, bytes: self.offset }),
            State::Failed(error) => Err(error),
        }
    }

    fn advance(&mut self, count: usize) -> Bytes {
        self.offset += count as u64;
        if count == self.chunk.len() { std::mem::take(&mut self.chunk) } else { self.chunk.split_to(count) }
    }

    fn read_start(&mut self) {
        let State::Start { mark } = &mut self.state else { return };
        let mut at = 0;
        while *mark < BYTE_ORDER_MARK.len()
            // White space before the mark rules the mark out.
            && (*mark > 0 || self.offset == 0)
            && self.chunk.get(at) == Some(&BYTE_ORDER_MARK[*mark])
        {
            *mark += 1;
            at += 1;
        }
        let partial_mark = matches!(*mark, 1 | 2);
        if partial_mark && at == self.chunk.len() {
            self.advance(at);
            return;
        }
        if partial_mark {
            // What looked like a mark is the start of something else.
            let head = BYTE_ORDER_MARK[..*mark].to_vec();
            self.advance(at);
            self.state = State::Foreign { head };
            return;
        }
        at += white_space_bytes(&self.chunk[at..]);
        match self.chunk.get(at) {
            None => {}
            Some(b'[') => {
                at += 1;
                self.state = State::Between;
            }
            Some(_) => self.state = State::Foreign { head: Vec::new() },
        }
        self.advance(at);
    }

    fn read_foreign(&mut self) {
        let State::Foreign { head } = &mut self.state else { return };
        let count = self.chunk.len().min(HEAD_BYTES - head.len());
        head.extend_from_slice(&self.chunk[..count]);
        if head.len() == HEAD_BYTES {
            let head = std::mem::take(head);
            self.state = State::Failed(not_an_array(head));
        }
        self.advance(count);
    }

    fn read_between(&mut self) -> Option<Item> {
        let skipped = self.chunk.iter().take_while(|byte| is_white_space(**byte) || **byte == b',').count();
        self.advance(skipped);
        if !self.chunk.is_empty()
            && let Some(Suspect { bytes, offset }) = self.suspect.take()
        {
            // The array goes on, so it was not the array's bracket that closed the element.
            self.not_records += 1;
            return Some(Item::NotARecord { bytes, reason: NotARecordReason::Unbalanced, offset });
        }
        self.state = match self.chunk.first() {
            None => return None,
            Some(b']') => {
                self.advance(1);
                State::Behind
            }
            Some(b'{') => State::Inside(Element::Object(Nest::opened())),
            Some(b'[') => State::Inside(Element::Array(Nest::opened())),
            Some(b'"') => State::Inside(Element::Text { escaped: false }),
            Some(_) => State::Inside(Element::Scalar),
        };
        None
    }

    fn read_element(&mut self) -> Option<Item> {
        let State::Inside(element) = &mut self.state else { return None };
        // The first byte only said what kind of element it is.
        let read = usize::from(self.earlier_bytes == 0);
        match element.advance(&self.chunk[read..]) {
            Some(end) => {
                let is_object = matches!(element, Element::Object(_));
                self.end_element(read + end, is_object)
            }
            None => self.keep_chunk(),
        }
    }

    /// The chunk ends inside the element: keeps what there is of it, as long as it may still become a record.
    fn keep_chunk(&mut self) -> Option<Item> {
        let offset = self.offset - self.earlier_bytes;
        let chunk = self.advance(self.chunk.len());
        self.earlier_bytes += chunk.len() as u64;
        if self.earlier_bytes > self.limits.record_bytes_max as u64 {
            return Some(self.part(&chunk, offset, None));
        }
        // By a quarter and not, as usual, by doubling: what is kept may be large, and many blobs are read at a time.
        if self.kept.len() >= GROW_GENTLY && self.kept.capacity() - self.kept.len() < chunk.len() {
            self.kept.reserve_exact(chunk.len().max(self.kept.len() / 4));
        }
        self.kept.extend_from_slice(&chunk);
        None
    }

    /// What was kept of an element that is too large, and what comes behind it.
    fn part(&mut self, more: &Bytes, offset: u64, ended: Option<u64>) -> Item {
        let bytes = if self.kept.is_empty() {
            more.clone()
        } else {
            self.kept.extend_from_slice(more);
            Bytes::from(std::mem::take(&mut self.kept))
        };
        Item::Part(Part { bytes, offset, ended })
    }

    /// The element ends `end` bytes into the chunk.
    fn end_element(&mut self, end: usize, is_object: bool) -> Option<Item> {
        let offset = self.offset - self.earlier_bytes;
        let length = self.earlier_bytes + end as u64;
        self.state = State::Between;
        self.earlier_bytes = 0;
        let last = self.advance(end);
        if length > self.limits.record_bytes_max as u64 {
            self.not_records += 1;
            return Some(self.part(&last, offset, Some(length)));
        }
        let bytes = if self.kept.is_empty() {
            last
        } else {
            self.kept.extend_from_slice(&last);
            Bytes::from(std::mem::take(&mut self.kept))
        };
        if is_object && bytes.last() != Some(&b'}') {
            self.suspect = Some(Suspect { bytes, offset });
            return None;
        }
        let (bytes, reason) = if is_object {
            match RecordText::try_from(bytes) {
                Ok(record) => {
                    self.records += 1;
                    return Some(Item::Record(record));
                }
                Err((_, bytes)) => (bytes, NotARecordReason::NotUtf8),
            }
        } else {
            (bytes, NotARecordReason::NotAnObject)
        };
        self.not_records += 1;
        Some(Item::NotARecord { bytes, reason, offset })
    }

    fn read_behind(&mut self) {
        let skipped = white_space_bytes(&self.chunk);
        self.advance(skipped);
        if !self.chunk.is_empty() {
            let head = Bytes::copy_from_slice(&self.chunk[..self.chunk.len().min(HEAD_BYTES)]);
            self.state = State::Failed(SplitError::TrailingBytes { offset: self.offset, head });
        }
    }
}

/// Splits a blob that lies in memory as a whole: its items, and how it ended.
pub fn split_all(blob: Bytes, limits: Limits) -> (Vec<Item>, Result<Ended, SplitError>) {
    let mut splitter = Splitter::new(limits);
    splitter.push(blob);
    let mut items = Vec::new();
    loop {
        match splitter.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => {
                items.extend(splitter.salvage());
                return (items, splitter.finish());
            }
            Err(error) => return (items, Err(error)),
        }
    }
}

fn not_an_array(head: Vec<u8>) -> SplitError {
    let kind = match head.as_slice() {
        [b'{', ..] => BodyKind::Object,
        [b'<', ..] => BodyKind::Html,
        [0x1f, 0x8b, ..] => BodyKind::Gzip,
        _ => BodyKind::Other,
    };
    SplitError::NotAnArray { kind, head: Bytes::from(head) }
}

/// White space as JSON has it.
fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn white_space_bytes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_white_space(**byte)).count()
}
