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

/// A blob that somebody asks for.
pub(crate) struct Blob {
    pub(crate) tenant: Arc<Tenant>,
    /// The place of its feed among the tenant's.
    pub(crate) feed: usize,
    pub(crate) content: Content,
    /// Whether that is a whole content. Parts hold nothing but records.
    pub(crate) whole: bool,
    /// Without the values that only `ActivityFeed.ReadDlp` may see.
    pub(crate) withheld: bool,
}

impl Blob {
    /// Blobs of more records are streamed; fewer are made at once, and kept.
    pub(crate) const AT_ONCE_MAX: u64 = 1500;

    pub(crate) fn text(self, world: &Arc<World>) -> BlobText {
        let garbage = match self.tenant.feeds.get(self.feed) {
            Some(feed) if self.whole => {
                let id = world.content_id(&self.tenant, &feed.kind, &self.content);
                world.garbage(&self.tenant, &feed.kind, &id)
            }
            _ => None,
        };
        BlobText::new(Arc::clone(world), self, garbage)
    }

    pub(crate) fn gzip(self, world: &Arc<World>) -> BlobGzip<BlobText> {
        let level = world.options().gzip_level;
        BlobGzip::new(self.text(world), level)
    }

    fn key(&self, world: &World) -> String {
        let kind = self.tenant.feeds.get(self.feed).map(|feed| &feed.kind);
        let id = kind.map(|kind| world.content_id(&self.tenant, kind, &self.content)).unwrap_or_default();
        format!("{}/{}/{id}", self.withheld, self.tenant.profile.id_text)
    }
}

impl World {
    /// The gzip body of a blob of ordinary size, made now or kept from before.
    pub(crate) fn gzip_body(self: &Arc<Self>, blob: Blob) -> Bytes {
        let key = blob.key(self);
        if let Some(body) = self.bodies.find(&key) {
            return body;
        }
        let body = Bytes::from(blob.gzip(self).collect::<Vec<_>>().concat());
        self.bodies.keep(&key, &body);
        body
    }

    /// Makes and keeps the gzip bodies of everything that can be listed now, as far as `gzip_cache` has room, and gives
    /// back how many contents that were. For measurements that are to see the client's work and not the emulator's.
    pub fn pre_render(self: &Arc<Self>) -> usize {
        let now = self.now_millis();
        let mut made = 0;
        for tenant in self.tenants() {
            for (place, feed) in tenant.feeds.iter().enumerate() {
                for slot in 0..=feed.slot_of(&self.timeline, now) {
                    for content in self.slot_contents(feed, slot) {
                        if content.available > now || content.len() > Blob::AT_ONCE_MAX {
                            continue;
                        }
                        if !self.bodies.has_room() {
                            return made;
                        }
                        self.gzip_body(Blob {
                            tenant: Arc::clone(&tenant),
                            feed: place,
                            content,
                            whole: true,
                            withheld: false,
                        });
                        made += 1;
                    }
                }
            }
        }
        made
    }
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
    fn new(world: Arc<World>, blob: Blob, garbage: Option<Garbage>) -> Self {
        // White space between records is the service's to choose; one blob in eight has some.
        let separator = match Seed::new(blob.content.created().unsigned_abs()).value() % 16 {
            0 => ",\r\n",
            1 => ", ",
            _ => ",",
        };
        Self {
            world,
            tenant: blob.tenant,
            feed: blob.feed,
            records: Box::new(into_records(blob.content)),
            withheld: blob.withheld,
            separator,
            written: 0,
            garbage,
            state: Part::Opening,
        }
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

    /// Whether one more body surely fits without forgetting another.
    fn has_room(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).bytes + CACHED_MAX <= self.limit
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
