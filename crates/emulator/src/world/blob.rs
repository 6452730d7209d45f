//! Makes the body of a blob: the JSON array of a content's records, in chunks, plain or as gzip.
//!
//! Never holds a whole large blob: records are made one after the other while the client reads. Only gzip bodies of
//! ordinary blobs are kept, up to a limit of bytes, for clients that fetch them again.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::World;
use super::content::{Content, RecordRef};
use super::tenant::Tenant;
use crate::seed::Seed;

/// How much text is made before it is handed on.
const CHUNK: usize = 128 << 10;
/// A gzip body above this is not worth a place in the cache.
const CACHED_MAX: usize = 1 << 20;

/// Something in a blob that is no record, inserted between its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Garbage {
    /// How many records come before it.
    pub(crate) before: u64,
    /// Its text.
    pub(crate) text: &'static str,
}

/// The plain text of one blob, chunk by chunk.
pub(crate) struct BlobText {
    world: Arc<World>,
    tenant: Arc<Tenant>,
    feed: usize,
    records: Box<dyn Iterator<Item = RecordRef> + Send>,
    separator: &'static str,
    written: u64,
    garbage: Option<Garbage>,
    withheld: bool,
    state: Part,
}

#[derive(PartialEq, Eq)]
enum Part {
    Opening,
    Records,
    Done,
}

impl BlobText {
    /// `feed` is the place of the content's feed among the tenant's.
    pub(crate) fn new(world: Arc<World>, tenant: Arc<Tenant>, feed: usize, content: Content) -> Self {
        // White space between records is the service's to choose; one blob in eight has some.
        let separator = match Seed::new(content.created().unsigned_abs()).value() % 16 {
            0 => ",\r\n",
            1 => ", ",
            _ => ",",
        };
        let records = Box::new(into_records(content));
        Self {
            world,
            tenant,
            feed,
            records,
            separator,
            written: 0,
            garbage: None,
            withheld: false,
            state: Part::Opening,
        }
    }

    /// With something in it that is no record.
    pub(crate) fn with_garbage(self, garbage: Option<Garbage>) -> Self {
        Self { garbage, ..self }
    }

    /// Without the values that only `ActivityFeed.ReadDlp` may see.
    pub(crate) fn withheld(self, withheld: bool) -> Self {
        Self { withheld, ..self }
    }

    fn fill(&mut self, out: &mut Vec<u8>) {
        if self.state == Part::Opening {
            out.push(b'[');
            self.state = Part::Records;
        }
        let world = Arc::clone(&self.world);
        let tenant = Arc::clone(&self.tenant);
        let Some(feed) = tenant.feeds.get(self.feed) else { return };
        while out.len() < CHUNK {
            if let Some(garbage) = self.garbage.take_if(|garbage| garbage.before <= self.written) {
                self.separate(out);
                out.extend_from_slice(garbage.text.as_bytes());
                continue;
            }
            let Some(record) = self.records.next() else {
                // Garbage that was to come behind more records than there are comes last.
                if let Some(garbage) = self.garbage.take() {
                    self.separate(out);
                    out.extend_from_slice(garbage.text.as_bytes());
                }
                out.push(b']');
                self.state = Part::Done;
                return;
            };
            self.separate(out);
            world.render_for(&tenant, feed, record, self.withheld, out);
        }
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        if self.written > 0 {
            out.extend_from_slice(self.separator.as_bytes());
        }
        self.written += 1;
    }
}

impl Iterator for BlobText {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.state == Part::Done {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK + (16 << 10));
        self.fill(&mut chunk);
        Some(chunk)
    }
}

fn into_records(content: Content) -> impl Iterator<Item = RecordRef> + Send {
    content
        .pieces
        .into_iter()
        .flat_map(|piece| (piece.records.0..piece.records.1).map(RecordRef::original).chain(piece.again))
}

/// The same, compressed.
pub(crate) struct BlobGzip<T> {
    text: T,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<T: Iterator<Item = Vec<u8>>> BlobGzip<T> {
    pub(crate) fn new(text: T, level: u32) -> Self {
        Self { text, encoder: Some(GzEncoder::new(Vec::new(), Compression::new(level))) }
    }
}

impl<T: Iterator<Item = Vec<u8>>> Iterator for BlobGzip<T> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let encoder = self.encoder.as_mut()?;
        loop {
            // Writing to a Vec cannot fail.
            let Some(chunk) = self.text.next() else {
                return self.encoder.take().and_then(|encoder| encoder.finish().ok());
            };
            let _ = encoder.write_all(&chunk);
            if encoder.get_ref().len() >= CHUNK / 2 {
                return Some(std::mem::take(encoder.get_mut()));
            }
        }
    }
}

/// Gzip bodies that were asked for, oldest forgotten first.
#[derive(Debug)]
pub(crate) struct Cache {
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    bodies: HashMap<Arc<str>, Bytes>,
    order: VecDeque<Arc<str>>,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::default() }
    }

    pub(crate) fn find(&self, key: &str) -> Option<Bytes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).bodies.get(key).cloned()
    }

    /// `false` when it was too large to keep.
    pub(crate) fn keep(&self, key: &str, body: &Bytes) -> bool {
        if body.len() > CACHED_MAX || body.len() > self.limit {
            return false;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bodies.contains_key(key) {
            return true;
        }
        while held.bytes + body.len() > self.limit {
            let Some(oldest) = held.order.pop_front() else { break };
            let freed = held.bodies.remove(&oldest).map_or(0, |body| body.len());
            held.bytes -= freed;
        }
        let key: Arc<str> = Arc::from(key);
        held.bytes += body.len();
        held.bodies.insert(Arc::clone(&key), body.clone());
        held.order.push_back(key);
        true
    }

    pub(crate) fn clear(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_forgets_the_oldest_body_first_and_keeps_within_its_limit() {
        let cache = Cache::new(100);
        let body = |length: usize| Bytes::from(vec![0; length]);
        assert!(cache.keep("a", &body(60)));
        assert!(cache.keep("b", &body(40)));
        assert!(cache.find("a").is_some());
        assert!(cache.keep("c", &body(1)));
        assert!(cache.find("a").is_none(), "100 bytes are the limit, 101 are over it");
        assert!(cache.find("b").is_some() && cache.find("c").is_some());
        assert!(!cache.keep("d", &body(101)));
    }
}
