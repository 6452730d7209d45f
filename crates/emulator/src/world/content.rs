//! One content of a feed: the pieces it aggregates, the records in them, its id, and when it can be listed.
//!
//! Never holds a record's bytes: a record is named by its number in the feed and made when somebody asks.
//! Contents come from [`super::feed::Feed`]; blobs are made from them in [`super::blob`].

use std::fmt::Write as _;

use chrono::DateTime;
use protocol::ids::ContentType;

use super::timeline::Millis;

/// A record of a feed by its number, and which of its bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRef {
    /// Its number in the feed. Numbers from [`RecordRef::HUGE`] on are those of the huge blob.
    pub number: u64,
    /// True: the other body under the same `Id`.
    pub variant: bool,
}

impl RecordRef {
    /// The first number of the huge blob's records.
    pub const HUGE: u64 = 1 << 62;

    pub(crate) fn original(number: u64) -> Self {
        Self { number, variant: false }
    }
}

/// A moment a piece was made at: milliseconds, and six more digits that make ids unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) at: Millis,
    /// 0 to 999,999: the digits of the id below the millisecond.
    pub(crate) digits: u32,
}

impl Stamp {
    const LENGTH: usize = 23;

    /// `yyyyMMddHHmmssfffffffff` (activity-api.md §2.4).
    fn write(self, out: &mut String) {
        if let Some(at) = DateTime::from_timestamp_millis(self.at) {
            let _ = write!(out, "{}{:06}", at.format("%Y%m%d%H%M%S%3f"), self.digits);
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::LENGTH || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (time, rest) = text.split_at_checked(14)?;
        let (fraction, digits) = rest.split_at_checked(3)?;
        let time = chrono::NaiveDateTime::parse_from_str(time, "%Y%m%d%H%M%S").ok()?;
        let at = time.and_utc().timestamp_millis() + fraction.parse::<Millis>().ok()?;
        Some(Self { at, digits: digits.parse().ok()? })
    }
}

/// What a content id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: Stamp,
    pub(crate) last: Stamp,
}

/// `{first}${last}$audit_x$Audit_X${region}`.
pub(crate) fn content_id(span: Span, kind: &ContentType, region: &str) -> String {
    let mut id = String::with_capacity(96);
    span.first.write(&mut id);
    id.push('$');
    span.last.write(&mut id);
    let name = id_name(kind);
    let _ = write!(id, "${}${name}${region}", name.to_ascii_lowercase());
    id
}

/// The content type and the span of an id of our own; `None` for anything else.
pub(crate) fn parse_content_id(id: &str, region: &str) -> Option<(ContentType, Span)> {
    let mut parts = id.split('$');
    let span = Span { first: Stamp::parse(parts.next()?)?, last: Stamp::parse(parts.next()?)? };
    let (lower, name, found_region) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || found_region != region || lower != name.to_ascii_lowercase() {
        return None;
    }
    let kind = ContentType::KNOWN.into_iter().find(|kind| id_name(kind) == name)?;
    Some((kind, span))
}

fn id_name(kind: &ContentType) -> String {
    kind.as_str().replace('.', "_")
}

/// A part of a content that was made at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) stamp: Stamp,
    /// Records made here for the first time: `records.0..records.1` of the feed.
    pub(crate) records: (u64, u64),
    /// Records that come again here.
    pub(crate) again: Vec<RecordRef>,
}

/// One listed blob.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) pieces: Vec<Piece>,
    /// From when it can be listed.
    pub(crate) available: Millis,
}

impl Content {
    pub(crate) const LIFETIME: Millis = 7 * 86_400_000;

    /// `contentCreated`: the moment of the latest piece.
    pub(crate) fn created(&self) -> Millis {
        self.pieces.last().map_or(0, |piece| piece.stamp.at)
    }

    /// Moves its latest piece, and when it can be listed, to a later moment of creation.
    pub(crate) fn create_at(&mut self, at: Millis) {
        self.available += (at - self.created()).max(0);
        if let Some(last) = self.pieces.last_mut() {
            last.stamp.at = last.stamp.at.max(at);
        }
    }

    /// `contentExpiration`: seven days after creation.
    pub(crate) fn expires(&self) -> Millis {
        self.created() + Self::LIFETIME
    }

    pub(crate) fn span(&self) -> Option<Span> {
        Some(Span { first: self.pieces.first()?.stamp, last: self.pieces.last()?.stamp })
    }

    /// What of it was made in `from..until`: the whole, a part of it under another id, or nothing.
    pub(crate) fn within(&self, from: Millis, until: Millis) -> Option<Content> {
        let inside = |piece: &&Piece| piece.stamp.at >= from && piece.stamp.at < until;
        let pieces: Vec<Piece> = self.pieces.iter().filter(inside).cloned().collect();
        (!pieces.is_empty()).then_some(Content { pieces, available: self.available })
    }

    /// The part (or whole) that `span` names, if it is a run of this content's pieces.
    pub(crate) fn part(&self, span: Span) -> Option<Content> {
        let first = self.pieces.iter().position(|piece| piece.stamp == span.first)?;
        let last = self.pieces.iter().position(|piece| piece.stamp == span.last)?;
        let pieces = self.pieces.get(first..=last)?.to_vec();
        Some(Content { pieces, available: self.available })
    }

    /// Every record in the blob, in its order, repeats included.
    pub(crate) fn records(&self) -> impl Iterator<Item = RecordRef> + '_ {
        self.pieces.iter().flat_map(|piece| {
            (piece.records.0..piece.records.1).map(RecordRef::original).chain(piece.again.iter().copied())
        })
    }

    /// How many records the blob holds, repeats included.
    pub(crate) fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.records.1 - piece.records.0 + piece.again.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(at: Millis, digits: u32) -> Stamp {
        Stamp { at, digits }
    }

    fn piece(at: Millis, records: (u64, u64)) -> Piece {
        Piece { stamp: stamp(at, 7), records, again: Vec::new() }
    }

    #[test]
    fn an_id_has_the_documented_shape_and_reads_back() {
        let span = Span { first: stamp(1_508_004_051_748, 5825), last: stamp(1_508_004_052_001, 999_999) };
        let id = content_id(span, &ContentType::SharePoint, "na0020");
        assert_eq!(id, "20171014180051748005825$20171014180052001999999$audit_sharepoint$Audit_SharePoint$na0020");
        assert_eq!(parse_content_id(&id, "na0020"), Some((ContentType::SharePoint, span)));
        assert_eq!(parse_content_id(&id, "emea9037"), None);
        for broken in ["", "$$$$", &id[1..], &format!("{id}$x"), &id.replace("audit_s", "Audit_s")] {
            assert_eq!(parse_content_id(broken, "na0020"), None, "{broken}");
        }
    }

    #[test]
    fn a_window_gets_the_pieces_made_inside_it() {
        let content = Content { pieces: vec![piece(10, (0, 5)), piece(20, (5, 7)), piece(30, (7, 9))], available: 31 };
        assert_eq!(content.within(0, 31).unwrap().len(), 9);
        assert_eq!(content.within(0, 30).unwrap().len(), 7, "the end is exclusive");
        assert_eq!(content.within(20, 99).unwrap().len(), 4, "the start is inclusive");
        assert!(content.within(31, 99).is_none());
        let part = content.within(20, 99).unwrap();
        assert_ne!(part.span(), content.span());
        assert_eq!(content.part(part.span().unwrap()).unwrap().len(), 4);
    }
}
