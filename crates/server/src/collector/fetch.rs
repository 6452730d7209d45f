//! One attempt at one blob: opened, cut into elements as it arrives, handed to the committer in pieces.
//!
//! Never holds more of a blob than some pieces and one element, never calls a blob whole that is not, never hands anything of
//! a blob over whose checksum does not fit, and never counts: what was handed over of a blob that breaks off stays good,
//! since a record that comes twice is stored once.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine::model::Pending;
use protocol::activity::{check_blob_response, error_in_blob, list_content_next, retrieve_content};
use protocol::response::{MAX_ERROR_BODY, Response};
use record::{Item, Part, SplitError, Splitter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::batch::Piece;
use super::feed::{Client, Failure};
use super::spool::{Spool, SpoolError};
use crate::tokens::HeldToken;
use crate::transport::{Answer, Body, TransportError};

/// Bytes of elements that are handed over together: fewer means more wake-ups of the writing thread, more means more
/// memory for each blob under way.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Beyond this, an element that has not ended needs a place of its own: it is not counted by the bytes of its chunks any more.
/// Fewer bytes mean that ordinary blobs wait for each other; the blobs under way may keep this much each.
const LARGE_ELEMENT: usize = 512 << 10;

/// Elements larger than [`LARGE_ELEMENT`] that may be under way at a time, one for each tenant at most. Each may grow to the
/// largest record, so these are half of the memory that blobs take.
pub(super) const LARGE_ELEMENTS: usize = 3;

/// Further pages of one blob. None has ever been seen (activity-api.md §2.4).
const FURTHER_PAGES_MAX: usize = 1000;

/// After this long, a blob has to have come at [`SLOWEST`] bytes a second on average, or it is tried again later: it would
/// hold one of few places for hours.
const SLOW_AFTER: Duration = Duration::from_secs(120);
const SLOWEST: u64 = 4 << 10;

/// Why an attempt at a blob failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFailure {
    /// The request failed, or the body broke off.
    #[error(transparent)]
    Request(#[from] Failure),
    /// What came is not a whole array of records.
    #[error("{error}")]
    NotABlob {
        /// What the splitter says.
        error: SplitError,
        /// What of it was not handed over: the element that broke off, or the first bytes of what came instead of an
        /// array, at most [`MAX_ERROR_BODY`].
        kept: Bytes,
    },
    /// More bytes than any blob has.
    #[error("the blob is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It came too slowly, or for too long.
    #[error("the blob came too slowly: {bytes} bytes in {seconds} s")]
    TooSlow {
        /// What had come.
        bytes: u64,
        /// In how long.
        seconds: u64,
    },
    /// It cannot be put aside until it is proven: our own trouble.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The committer has ended; its own error says why.
    #[error("the commit that this blob was for has failed")]
    CommitterGone,
}

impl From<TransportError> for FetchFailure {
    fn from(error: TransportError) -> Self {
        Self::Request(Failure::Transport(error))
    }
}

/// One attempt.
pub(super) struct Fetch<'a> {
    pub(super) client: Client<'a>,
    pub(super) content: Arc<Pending>,
    /// Bytes that may be under way, over all tenants.
    pub(super) memory: &'a Arc<Semaphore>,
    /// How many permits [`Self::memory`] has in all.
    pub(super) memory_total: usize,
    /// Places for large elements, over all tenants, and the tenant's own: whoever delays one delays his own tenant first.
    pub(super) large: &'a Semaphore,
    pub(super) large_of_tenant: &'a Semaphore,
    pub(super) pieces: &'a mpsc::Sender<Piece>,
}

/// A blob's bytes in their order.
enum Source {
    /// As they arrive; what is proven by its end only is put aside first.
    Arriving(Arriving),
    /// All that came.
    Spooled(Box<Spooled>),
}

/// A body that was put aside.
struct Spooled {
    spool: Spool,
    /// For what of it is in memory.
    permit: Option<OwnedSemaphorePermit>,
    /// How it ended, if not as it should.
    end: Option<FetchFailure>,
}

/// A body on its way, and how it has come so far.
struct Arriving {
    body: Body,
    started: Instant,
    bytes: u64,
}

/// Elements not yet handed over.
#[derive(Default)]
struct Gathered {
    items: Vec<Item>,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes that arrived since the last hand-over; what the permit stands for.
    arrived: usize,
}

/// An element that is too large for memory, as far as it has come.
type Oversized = Option<Spool>;

impl Fetch<'_> {
    /// Fetches the blob. Returns its size once all of it was handed over and is an array of records from end to end.
    pub(super) async fn run(&self) -> Result<u64, FetchFailure> {
        let feed = self.client.feed();
        let mut request = retrieve_content(&feed, &self.content.content.content_uri).map_err(Failure::from)?;
        let mut bytes = 0;
        let mut seen = Vec::new();
        loop {
            let (answer, held) = self.client.open(request).await?;
            let next = check_blob_response(answer.status, &answer.headers).ok().and_then(|head| head.next);
            bytes += self.read(answer, &held).await?;
            let Some(next) = next else { break };
            if seen.contains(&next) || seen.len() >= FURTHER_PAGES_MAX {
                tracing::warn!(tenant = %self.client.tenant, content_id = %self.content.content.content_id, "a blob's pages repeat");
                break;
            }
            request = list_content_next(&feed, &next).map_err(Failure::from)?;
            seen.push(next);
        }
        let ended = Piece::Ended { content: Arc::clone(&self.content), bytes };
        self.pieces.send(ended).await.map_err(|_| FetchFailure::CommitterGone)?;
        Ok(bytes)
    }

    async fn read(&self, answer: Answer, held: &HeldToken) -> Result<u64, FetchFailure> {
        let Answer { status, headers, body } = answer;
        let limits = &self.client.shared.settings.limits;
        let mut source = self.source(body).await?;
        let mut splitter = Splitter::new(record::Limits { record_bytes_max: limits.record_bytes });
        let mut gathered = Gathered::default();
        let mut head = BytesMut::new();
        let mut large = None;
        let mut oversized: Oversized = None;
        while let Some((chunk, permit)) = self.next_chunk(&mut source).await? {
            // Only what is no array may turn out to be an error in disguise, and has to be looked at once more.
            let first = (!splitter.has_begun()).then(|| chunk.clone());
            gathered.add_permit(permit, chunk.len());
            splitter.push(chunk);
            let taken = self.take_items(&mut splitter, &mut gathered, &mut oversized).await?;
            if let Some(first) = first.filter(|_| !splitter.has_begun()) {
                head.extend_from_slice(&first[..first.len().min(MAX_ERROR_BODY.saturating_sub(head.len()))]);
            }
            if let Err(error) = taken {
                self.hand_over(&mut gathered).await?;
                return self.not_a_blob(error, held, Response::new(status, &headers, &head), source).await;
            }
            let is_large = splitter.remainder().len() > LARGE_ELEMENT;
            if is_large && large.is_none() {
                // With nothing in hand, so that those who have the places do not wait for us.
                self.hand_over(&mut gathered).await?;
                large = Some(self.place_for_large().await);
            } else if !is_large {
                large = None;
            }
            // Nobody may keep much memory while waiting for more of it, or all could wait for each other.
            if gathered.arrived >= PIECE_BYTES {
                self.hand_over(&mut gathered).await?;
            }
        }
        for item in splitter.salvage() {
            gathered.add(item);
        }
        if !gathered.items.is_empty() && gathered.permit.is_none() {
            gathered.add_permit(self.reserve(gathered.bytes).await, 0);
        }
        self.hand_over(&mut gathered).await?;
        let remainder = match oversized {
            // Of an element that broke off, its beginning tells what it was; the rest was never all there.
            Some(mut spool) => {
                spool.rewind().await?;
                spool.chunk().await?.unwrap_or_default()
            }
            None => Bytes::copy_from_slice(splitter.remainder()),
        };
        match splitter.finish() {
            Ok(ended) => Ok(ended.bytes),
            // All before it was handed over, so this is what there is left to keep.
            Err(error @ SplitError::Truncated { .. }) => Err(FetchFailure::NotABlob { error, kept: remainder }),
            Err(error) => self.not_a_blob(error, held, Response::new(status, &headers, &head), source).await,
        }
    }

    /// Where to read the body: from the network, or, when only its end proves it, from where it was put aside until then.
    async fn source(&self, body: Body) -> Result<Source, FetchFailure> {
        let is_proven_at_end = body.is_proven_at_end();
        let mut arriving = Arriving { body, started: Instant::now(), bytes: 0 };
        if !is_proven_at_end {
            return Ok(Source::Arriving(arriving));
        }
        let mut spool = Spool::new(&self.client.shared.settings.data_dir);
        let mut permit: Option<OwnedSemaphorePermit> = None;
        let end = loop {
            let chunk = match self.arrive(&mut arriving).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break None,
                Err(failure) if failure.is_break() => break Some(failure),
                Err(failure) => return Err(failure),
            };
            merge(&mut permit, self.reserve(chunk.len()).await);
            if spool.gather(chunk) >= PIECE_BYTES {
                spool.write_out().await?;
                permit = None;
            }
        };
        if spool.rewind().await? {
            permit = None;
        }
        Ok(Source::Spooled(Box::new(Spooled { spool, permit, end })))
    }

    /// The blob's next bytes, with their share of the memory.
    async fn next_chunk(&self, source: &mut Source) -> Result<Option<(Bytes, OwnedSemaphorePermit)>, FetchFailure> {
        let (chunk, held) = match source {
            Source::Arriving(arriving) => (self.arrive(arriving).await?, None),
            Source::Spooled(spooled) => match spooled.spool.chunk().await? {
                Some(chunk) => {
                    let share = spooled.permit.as_mut().and_then(|permit| permit.split(chunk.len()));
                    (Some(chunk), share)
                }
                None => return spooled.end.take().map_or(Ok(None), Err),
            },
        };
        let Some(chunk) = chunk else { return Ok(None) };
        let permit = match held {
            Some(permit) => permit,
            None => self.reserve(chunk.len()).await,
        };
        Ok(Some((chunk, permit)))
    }

    /// The next bytes from the network.
    async fn arrive(&self, arriving: &mut Arriving) -> Result<Option<Bytes>, FetchFailure> {
        let limits = &self.client.shared.settings.limits;
        let elapsed = arriving.started.elapsed();
        let too_slow = FetchFailure::TooSlow { bytes: arriving.bytes, seconds: elapsed.as_secs() };
        if elapsed > SLOW_AFTER && arriving.bytes / elapsed.as_secs().max(1) < SLOWEST {
            return Err(too_slow);
        }
        let chunk = match tokio::time::timeout(limits.blob_time.saturating_sub(elapsed), arriving.body.chunk()).await {
            Ok(chunk) => chunk?,
            Err(_) => return Err(too_slow),
        };
        arriving.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if arriving.bytes > limits.blob_bytes {
            return Err(FetchFailure::TooLarge { limit: limits.blob_bytes });
        }
        Ok(chunk)
    }

    /// Takes what the splitter has; the inner error is the splitter's.
    async fn take_items(
        &self,
        splitter: &mut Splitter,
        gathered: &mut Gathered,
        oversized: &mut Oversized,
    ) -> Result<Result<(), SplitError>, FetchFailure> {
        loop {
            match splitter.next_item() {
                Ok(Some(Item::Part(part))) => self.take_part(part, gathered, oversized).await?,
                Ok(Some(item)) => {
                    gathered.add(item);
                    if gathered.bytes >= PIECE_BYTES {
                        self.hand_over(gathered).await?;
                    }
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Puts aside what has come of an element that is too large, and hands it over when it has ended.
    async fn take_part(
        &self,
        part: Part,
        gathered: &mut Gathered,
        oversized: &mut Oversized,
    ) -> Result<(), FetchFailure> {
        let folder = &self.client.shared.settings.data_dir;
        oversized.get_or_insert_with(|| Spool::new(folder)).put(part.bytes).await?;
        let (Some(length), offset) = (part.ended, part.offset) else { return Ok(()) };
        let Some(spool) = oversized.take() else { return Ok(()) };
        // What came before it first, so that nobody waits for us with much in hand.
        self.hand_over(gathered).await?;
        let piece = Piece::Large { content: Arc::clone(&self.content), file: spool.into_file().await?, length, offset };
        self.pieces.send(piece).await.map_err(|_| FetchFailure::CommitterGone)
    }

    /// Waits until so many more bytes may be under way.
    async fn reserve(&self, bytes: usize) -> OwnedSemaphorePermit {
        // A chunk larger than all there is takes all there is: it is in memory already.
        let permits = u32::try_from(bytes.min(self.memory_total)).unwrap_or(u32::MAX);
        Arc::clone(self.memory).acquire_many_owned(permits).await.expect("the semaphore is never closed")
    }

    /// Waits until an element may grow large.
    async fn place_for_large(&self) -> [SemaphorePermit<'_>; 2] {
        let closed = "the semaphore is never closed";
        let of_tenant = self.large_of_tenant.acquire().await.expect(closed);
        [of_tenant, self.large.acquire().await.expect(closed)]
    }

    async fn hand_over(&self, gathered: &mut Gathered) -> Result<(), FetchFailure> {
        let Gathered { items, bytes, mut permit, .. } = std::mem::take(gathered);
        // What the splitter keeps of an element that is not complete is its own copy, so the chunk's share can go.
        if items.is_empty() {
            return Ok(());
        }
        if bytes > permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) + PIECE_BYTES {
            // Of an element from many chunks, only the last is counted. Let go first: nobody waits with much in hand.
            drop(permit.take());
            permit = Some(self.reserve(bytes).await);
        }
        let Some(permit) = permit else { return Ok(()) };
        let piece = Piece::Items { content: Arc::clone(&self.content), items, permit };
        self.pieces.send(piece).await.map_err(|_| FetchFailure::CommitterGone)
    }

    /// The body is no array, or not a whole one: an error in disguise, a lone record, or nothing we know.
    async fn not_a_blob(
        &self,
        error: SplitError,
        held: &HeldToken,
        begun: Response<'_>,
        mut rest: Source,
    ) -> Result<u64, FetchFailure> {
        if !matches!(error, SplitError::NotAnArray { .. }) {
            return Err(FetchFailure::NotABlob { kept: trailing(&error), error });
        }
        let mut head = begun.body.to_vec();
        while head.len() < MAX_ERROR_BODY
            && let Ok(Some((chunk, _))) = self.next_chunk(&mut rest).await
        {
            head.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BODY - head.len())]);
        }
        // No record of anybody, so it need not be kept with our token in it.
        let head = Bytes::from(held.token.scrub(&head).into_owned());
        if let Some(error) = error_in_blob(&Response::new(begun.status, begun.headers, &head)) {
            return Err(Failure::Api { error, refused_again: None }.into());
        }
        match self.lone_record(&head).await? {
            Some(bytes) => Ok(bytes),
            None => Err(FetchFailure::NotABlob { error, kept: head }),
        }
    }

    /// One record without the array around it is content all the same.
    async fn lone_record(&self, body: &Bytes) -> Result<Option<u64>, FetchFailure> {
        if body.len() >= MAX_ERROR_BODY {
            return Ok(None);
        }
        let limits = record::Limits { record_bytes_max: self.client.shared.settings.limits.record_bytes };
        let mut splitter = Splitter::new(limits);
        splitter.push(Bytes::from_static(b"["));
        splitter.push(body.clone());
        splitter.push(Bytes::from_static(b"]"));
        let mut gathered = Gathered::default();
        while let Ok(Some(item)) = splitter.next_item() {
            gathered.add(item);
        }
        let [Item::Record(_)] = gathered.items.as_slice() else { return Ok(None) };
        if splitter.finish().is_err() {
            return Ok(None);
        }
        gathered.add_permit(self.reserve(body.len()).await, body.len());
        self.hand_over(&mut gathered).await?;
        Ok(Some(body.len() as u64))
    }
}

impl FetchFailure {
    /// Whether all of it came, and not as it was sent.
    pub(super) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Request(Failure::Transport(TransportError::Corrupt { .. })))
    }

    /// Whether it says nothing against what had come before.
    fn is_break(&self) -> bool {
        matches!(
            self,
            Self::TooSlow { .. }
                | Self::Request(Failure::Transport(TransportError::Broken { .. } | TransportError::Timeout { .. }))
        )
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

fn trailing(error: &SplitError) -> Bytes {
    match error {
        SplitError::TrailingBytes { head, .. } => head.clone(),
        _ => Bytes::new(),
    }
}

impl Gathered {
    fn add(&mut self, item: Item) {
        self.bytes += match &item {
            Item::Record(record) => record.len(),
            Item::NotARecord { bytes, .. } | Item::Part(Part { bytes, .. }) => bytes.len(),
        };
        self.items.push(item);
    }

    fn add_permit(&mut self, permit: OwnedSemaphorePermit, arrived: usize) {
        self.arrived += arrived;
        merge(&mut self.permit, permit);
    }
}
