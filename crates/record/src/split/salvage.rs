//! Finds the good records behind a broken one that has swallowed them.
//!
//! A record with an unbalanced quote or bracket does not end where it should, and takes the rest of the array with it.
//! Never guesses lightly: a place is taken for the start of the next record only if the element cannot be what is left of one
//! that was cut off, and everything from there to the very end of the blob is whole records and the array's closing bracket.
//! The second alone is not enough: a blob cut off behind a list of objects inside a record ends in just that way.

use bytes::Bytes;

use super::cut::may_be_cut_off;
use super::{Item, Limits, NotARecordReason, Splitter};

/// How many times the element's length may be read in search of the place; what is broken on purpose must not cost more.
const PASSES_MAX: usize = 4;

/// The broken element's own bytes as [`NotARecordReason::Unended`], and the records behind it. `element` goes up to the end
/// of the blob; `offset` is where it starts there. `None` when no place fits.
pub(super) fn behind_broken(element: &Bytes, offset: u64, limits: Limits) -> Option<Vec<Item>> {
    if may_be_cut_off(element) {
        return None;
    }
    let mut budget = element.len().saturating_mul(PASSES_MAX);
    for border in borders(element) {
        let (records, bytes_read) = whole_records(element.slice(border.next_start..), limits);
        if let Some(records) = records {
            let broken =
                Item::NotARecord { bytes: element.slice(..border.end), reason: NotARecordReason::Unended, offset };
            return Some([vec![broken], records].concat());
        }
        budget = budget.checked_sub(bytes_read)?;
    }
    None
}

/// A place that looks like the border of two objects: `}`, a comma, `{"`, with any white space.
struct Border {
    /// Just behind the first one's bracket.
    end: usize,
    /// At the second one's bracket.
    next_start: usize,
}

fn borders(bytes: &[u8]) -> impl Iterator<Item = Border> {
    let trimmed_end = |until: usize| bytes[..until].trim_ascii_end();
    memchr::memchr_iter(b'{', bytes).filter_map(move |next_start| {
        let behind = bytes[next_start + 1..].trim_ascii_start();
        let before = trimmed_end(trimmed_end(next_start).strip_suffix(b",")?.len());
        let fits = behind.first() == Some(&b'"') && before.last() == Some(&b'}');
        fits.then_some(Border { end: before.len(), next_start })
    })
}

/// The elements up to the array's closing bracket, if they are records all and nothing follows; and how many bytes it took
/// to tell.
fn whole_records(rest: Bytes, limits: Limits) -> (Option<Vec<Item>>, usize) {
    let mut splitter = Splitter::new(limits);
    splitter.push(Bytes::from_static(b"["));
    splitter.push(rest);
    let mut records = Vec::new();
    while let Ok(Some(item @ Item::Record(_))) = splitter.next_item() {
        records.push(item);
    }
    let bytes_read = usize::try_from(splitter.offset).unwrap_or(usize::MAX);
    (splitter.finish().is_ok().then_some(records), bytes_read)
}
