//! The record crate seen from outside: hand-made blobs, random ones, and recorded records when they are at hand.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in a test a panic is the finding, and a skip is told"
)]

mod properties;
mod recorded;
mod split;
mod traps;

use bytes::Bytes;
use record::{Ended, Item, Limits, Part, SplitError, Splitter};

/// Splits a blob that arrives in pieces which end at `cuts` (taken modulo its length, in any order).
pub(crate) fn split_in_chunks(
    blob: &Bytes,
    cuts: &[usize],
    limits: Limits,
) -> (Vec<Item>, Result<Ended, SplitError>, Vec<u8>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (blob.len() + 1)).chain([0, blob.len()]).collect();
    cuts.sort_unstable();
    let mut splitter = Splitter::new(limits);
    let mut items = Vec::new();
    for cut in cuts.windows(2) {
        splitter.push(blob.slice(cut[0]..cut[1]));
        loop {
            match splitter.next_item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(splitter.next_item(), Err(error.clone()), "an error is said again");
                    assert_eq!(splitter.finish(), Err(error.clone()));
                    return (items, Err(error), Vec::new());
                }
            }
        }
    }
    items.extend(splitter.salvage());
    let remainder = splitter.remainder().to_vec();
    (items, splitter.finish(), remainder)
}

/// Items with the parts of each element that came in parts put together: how it is cut depends on the chunks.
pub(crate) fn joined(items: Vec<Item>) -> Vec<Item> {
    let mut whole: Vec<Item> = Vec::new();
    for item in items {
        if let Some(Item::Part(Part { bytes, offset, ended: ended @ None })) = whole.last_mut() {
            let Item::Part(next) = item else { panic!("behind a part comes the next, not {item:?}") };
            assert_eq!(*offset, next.offset, "parts of one element");
            *bytes = [&bytes[..], &next.bytes].concat().into();
            *ended = next.ended;
            continue;
        }
        whole.push(item);
    }
    for item in &whole {
        let Item::Part(part) = item else { continue };
        assert!(part.ended.is_none_or(|length| length == part.bytes.len() as u64), "{part:?}");
    }
    whole
}
